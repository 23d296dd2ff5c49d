//! The command line: what can be asked, and one file for each command that answers.
//!
//! A command gets its arguments and a [`World`], writes its answer there and says how it went. It
//! is the only place of the crate that talks to a terminal, and the only one where an error is an
//! `anyhow::Error`. A secret never comes in through an argument, where every user of the machine
//! could read it; and no type of an argument has `Debug`, since a token may be in it.

mod access_log;
mod admin_client;
mod argument;
mod check;
mod completions;
mod configuration;
mod document;
mod figure;
mod health;
mod inspect;
mod jwt;
mod key;
mod leak;
mod mint;
mod openapi;
mod operations;
mod outcome;
mod policy;
mod sandbox;
mod serve;
mod show;
mod status;
mod usage;
mod world;

use std::io;

use clap::{CommandFactory as _, Parser, Subcommand};

use key::KeyCommand;
use policy::PolicyCommand;

pub use outcome::{CommandOutcome, FAILED};
pub use world::World;

/// The version, the commit and the kind of build, as `--version` says them.
const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WBG_COMMIT"),
    ", ",
    env!("WBG_BUILD"),
    " build)"
);

/// An authenticating reverse proxy and API gateway in front of Agora's Interactive Whiteboard
/// RESTful API.
#[derive(Parser)]
#[command(name = "whiteboard-gateway", version = BUILD, max_term_width = 100)]
#[command(after_long_help = concat!(
    "Example:\n  whiteboard-gateway serve --sandbox\n\n",
    "Exit codes: 0 done, 1 the answer is no, 2 wrong usage or an error, 3 something ends soon (check \
     --ending)",
))]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Serve: the gateway in front of the whiteboard service, or of the embedded sandbox.
    #[command(after_long_help = "Example:\n  whiteboard-gateway serve --config gateway.toml")]
    Serve(serve::ServeArgs),
    /// Check a configuration without starting: exit code 0 good, 1 with warnings, 2 with errors.
    #[command(after_long_help = concat!(
        "With --online it also asks, all at once and each for five seconds at most: the keys of\n",
        "each issuer, the store for a write and a script, the service for GET /v5/rooms?limit=1 with\n",
        "a token of each project, the collector to take an empty report, and the upstream for its\n",
        "certificate. A line says each question, of whom, the answer and the time; the exit code is\n",
        "2 when one fails.\n\n",
        "With --ending 14d it lists what ends within 14 days, or has ended: API keys, SDK tokens,\n",
        "certificates, authorities, lists of revoked certificates. The exit code is then 3, unless\n",
        "there are errors.\n\n",
        "Example:\n  whiteboard-gateway check --online --config gateway.toml",
    ))]
    Check(check::CheckArgs),
    /// Say what a configuration comes to.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway config show --changed")]
    Config(show::ConfigCommand),
    /// Serve the sandbox alone: a stand-in for api.netless.link to develop against.
    #[command(after_long_help = "Example:\n  whiteboard-gateway sandbox --listen 127.0.0.1:8081")]
    Sandbox(sandbox::SandboxArgs),
    /// Ask a gateway on this machine whether it is well: exit code 0 when it is, 1 when not.
    #[command(after_long_help = concat!(
        "For the health checks of containers, which have neither a shell nor curl.\n\n",
        "Example:\n  whiteboard-gateway health http://127.0.0.1:9090/readyz",
    ))]
    Health(health::HealthArgs),
    /// Show what a gateway does, and whether it is well: exit code 0 when it is ready, 1 when not.
    #[command(after_long_help = concat!(
        "It asks the admin listener, as an operator: --key FILE or WBG_ADMIN_KEY has the key.\n\n",
        "Example:\n  whiteboard-gateway status --watch --admin https://gateway.example.org:9443",
    ))]
    Status(status::StatusArgs),
    /// Have a gateway read its configuration again: exit code 0 when that counts, 1 when not.
    #[command(after_long_help = concat!(
        "It asks the admin listener, as an operator; who and why is in the audit.\n\n",
        "Example:\n  whiteboard-gateway reload --why new-profile",
    ))]
    Reload(status::ReloadArgs),
    /// Say why a caller may do something or not, and test that it stays so.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway policy test expectations.toml")]
    Policy(PolicyCommand),
    /// Add up who did what how often, from access lines.
    #[command(after_long_help = concat!(
        "Each row is exact: every request of the lines is counted once, over as many files as are\n",
        "named, and none is kept in memory. Beyond 100,000 rows the rest is one row. The exit code is\n",
        "1 when there were lines that could not be read, which are counted.\n\n",
        "Example:\n  whiteboard-gateway usage --log access.jsonl access.jsonl.1.gz --month 2026-11",
    ))]
    Usage(usage::UsageArgs),
    /// Make keys for callers and operators.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway key new --name lessons")]
    Key(KeyCommand),
    /// Mint and inspect whiteboard tokens.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway token inspect < token.txt")]
    Token(TokenCommand),
    /// Inspect JWTs of identity providers.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway jwt inspect token.jwt")]
    Jwt(jwt::JwtCommand),
    /// Print the OpenAPI 3.1 document of what the gateway serves.
    #[command(after_long_help = "Example:\n  whiteboard-gateway openapi --output openapi.json")]
    Openapi(openapi::OpenapiArgs),
    /// Print the JSON Schema of the configuration, which editors check a file by.
    #[command(after_long_help = concat!(
        "An editor that knows TOML finds it by the first line of the file:\n\n",
        "  #:schema ./gateway.schema.json\n\n",
        "Example:\n  whiteboard-gateway schema --output gateway.schema.json",
    ))]
    Schema(document::DocumentFile),
    /// Print the table of operations: method, path, whiteboard token, least role, body, success.
    #[command(after_long_help = "Example:\n  whiteboard-gateway operations")]
    Operations(operations::OperationsArgs),
    /// Print what a shell reads to complete the command line.
    #[command(after_long_help = concat!(
        "Where a shell looks for it:\n",
        "  bash  /etc/bash_completion.d/whiteboard-gateway\n",
        "  zsh   _whiteboard-gateway in a directory of $fpath\n",
        "  fish  /etc/fish/completions/whiteboard-gateway.fish\n",
        "For this shell alone: source <(whiteboard-gateway completions bash)\n\n",
        "Example:\n  whiteboard-gateway completions bash",
    ))]
    Completions(completions::CompletionsArgs),
    /// Print the manual, or write a page for each command.
    #[command(
        after_long_help = "Example:\n  whiteboard-gateway man --directory /usr/local/share/man/man1"
    )]
    Man(completions::ManArgs),
}

/// The commands about whiteboard tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Mint a whiteboard token from an access key and its secret key, without any server.
    #[command(after_long_help = concat!(
        "The secret key comes from an environment variable, a file, or standard input.\n\n",
        "Example:\n  whiteboard-gateway token mint --kind room --role reader --lifespan 2h \\\n",
        "    --uuid faed3130727911ebaea37759ee91947c \\\n",
        "    --access-key MmWsWx4s --secret-key-env CLASSROOM_SK",
    ))]
    Mint(mint::MintArgs),
    /// Say what a whiteboard token holds, whether it is good, and why not.
    #[command(after_long_help = concat!(
        "Without a secret key the signature is not checked, and what is printed is only what\n",
        "the token claims. The exit code is 1 when anything is wrong with it.\n\n",
        "With --audit the question is who got it: the exit code is 1 when the files do not tell.\n\n",
        "Example:\n  whiteboard-gateway token inspect --secret-key-env SK < token.txt",
    ))]
    Inspect(inspect::InspectArgs),
}

/// Runs a command on the streams, the environment and the clock of this process.
///
/// # Errors
/// Whatever kept the command from its work, with what the user can do about it.
pub fn run(command_line: CommandLine) -> anyhow::Result<CommandOutcome> {
    World::with_process(|world| command_line.command.run(world))
}

impl Command {
    fn run(self, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
        match self {
            Self::Serve(args) => serve::run(&args),
            Self::Check(args) => check::run(&args, world),
            Self::Config(show::ConfigCommand::Show(args)) => show::run(&args, world),
            Self::Sandbox(args) => sandbox::run(&args, world),
            Self::Health(args) => health::run(&args, world),
            Self::Status(args) => status::run(&args, world),
            Self::Reload(args) => status::reload(&args, world),
            Self::Policy(command) => command.run(world),
            Self::Usage(args) => usage::run(&args, world),
            Self::Key(KeyCommand::New(args)) => key::new(&args, world),
            Self::Key(KeyCommand::Hash(args)) => key::hash(&args, world),
            Self::Token(TokenCommand::Mint(args)) => mint::run(&args, world),
            Self::Token(TokenCommand::Inspect(args)) => inspect::run(&args, world),
            Self::Jwt(jwt::JwtCommand::Inspect(args)) => jwt::inspect(&args, world),
            Self::Openapi(args) => openapi::run(&args, world),
            Self::Schema(file) => {
                file.write(&crate::config::schema(), world.output)?;
                Ok(CommandOutcome::Done)
            }
            Self::Operations(args) => operations::run(&args, world),
            Self::Completions(args) => {
                completions::completions(&args, CommandLine::command(), world.output)?;
                Ok(CommandOutcome::Done)
            }
            Self::Man(args) => {
                completions::man(&args, CommandLine::command(), world.output)?;
                Ok(CommandOutcome::Done)
            }
        }
    }
}

/// Whether an error says that nobody reads the output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
