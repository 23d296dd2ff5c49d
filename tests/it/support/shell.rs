//! Shells into which people paste what the pages and the greeting show.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{binary, wait_until};

/// A shell, and how it is started for a paste.
#[derive(Clone, Copy)]
pub(crate) struct Shell {
    pub(crate) name: &'static str,
    /// Reads commands from standard input, and stops at the first that fails.
    strict: &'static [&'static str],
    /// With a prompt and without the files of whoever runs the test.
    interactive: &'static str,
}

/// What Linux has for people and for scripts, and what every Mac has. Only an interactive zsh has
/// its own idea of comments, so it is one in every test.
pub(crate) const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        strict: &["-eu", "-o", "pipefail", "-s"],
        interactive: "bash --noprofile --norc -i",
    },
    Shell { name: "dash", strict: &["-eu", "-s"], interactive: "dash -i" },
    Shell {
        name: "zsh",
        strict: &["-f", "-i", "-eu", "-o", "pipefail", "-s"],
        interactive: "zsh -f -i",
    },
];

impl Shell {
    /// The shell with commands on its standard input, the binary in its path and this folder.
    pub(crate) fn command(self, folder: &Path) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let own = Path::new(binary()).parent().unwrap().display();
        let mut command = Command::new(self.name);
        command.args(self.strict).current_dir(folder);
        command.env("PATH", format!("{own}:{path}")).env("NO_PROXY", "*").env("PS1", "");
        command
    }

    /// Whether it takes commands without running them.
    pub(crate) fn reads(self, commands: &str) -> Output {
        pasted(Command::new(self.name).args(["-n", "-s"]), commands)
    }
}

/// Runs a shell with these commands on its standard input.
pub(crate) fn pasted(shell: &mut Command, commands: &str) -> Output {
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let commands = commands.to_owned();
    let writing = thread::spawn(move || _ = input.write_all(commands.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

/// A terminal, and what runs in it: `script` of util-linux holds the other end.
pub(crate) struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

/// What an interactive shell of a test prints when it waits.
pub(crate) const PROMPT: &str = "ready>";

impl Terminal {
    /// Opens one with a command of `sh`.
    pub(crate) fn running(command: &str, folder: &Path) -> Self {
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--command", command, "/dev/null"]);
        script.current_dir(folder).env("SHELL", "/bin/sh").env("TERM", "dumb");
        script.env("NO_PROXY", "*").env("PS1", PROMPT).env_remove("ENV");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = script.spawn().unwrap();
        let keyboard = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Self { script, keyboard, screen }
    }

    /// Opens one with a shell that waits for its first command.
    pub(crate) fn with(shell: Shell, folder: &Path) -> Self {
        let terminal = Self::running(&format!("exec {}", shell.interactive), folder);
        wait_until("the shell waits", || terminal.screen().contains(PROMPT));
        terminal
    }

    /// Types, or pastes.
    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// All that was shown on it so far.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Closes it under whatever runs in it.
    pub(crate) fn close(mut self) {
        self.script.kill().unwrap();
        self.script.wait().unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = self.script.kill();
        _ = self.script.wait();
    }
}
