//! `completions` and `man`: what shells and `man` read, made of the command line itself.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// The name under which the binary is installed.
const BINARY: &str = "whiteboard-gateway";

/// The arguments of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that reads it.
    #[arg(value_name = "SHELL", value_parser = clap::value_parser!(Shell))]
    pub shell: Shell,
}

/// The arguments of `man`.
#[derive(Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory; without it, the first page is printed.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Prints what a shell reads to complete the command line.
pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: Command,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, BINARY, &mut text);
    // clap_complete 4.6.12 writes the labels of bash for a name with a hyphen in another way than it
    // looks for them, so that nothing behind the first word is completed.
    let text =
        String::from_utf8(text)?.replace("whiteboard__subcmd__gateway", "whiteboard__gateway");
    output.write_all(text.as_bytes())?;
    Ok(())
}

/// Prints the first page of the manual, or writes every page.
pub(super) fn man(args: &ManArgs, command: Command, output: &mut dyn Write) -> anyhow::Result<()> {
    // `help` has no page: it shows the pages of others.
    let mut command = command.disable_help_subcommand(true);
    // Subcommands get the name and the version of the whole command line.
    command.build();
    match &args.directory {
        None => clap_mangen::Man::new(command).render(output)?,
        Some(directory) => {
            fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory))
                .with_context(|| format!("{} cannot be written to", directory.display()))?;
        }
    }
    Ok(())
}
