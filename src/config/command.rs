//! Secrets that a command prints: run without a shell, bounded in time and in bytes, its words and
//! what it prints never shown.
//!
//! It is the leader of a process group of its own, and that group is killed when its time is over, when
//! it ends, and when this process does.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use schemars::{Schema, SchemaGenerator, json_schema};
use zeroize::Zeroizing;

use super::file::{FromTree, Node, Notation, Report, any_of};

/// How long a command may take, and how much it may print.
pub(super) const TIME: Duration = Duration::from_secs(10);
const MOST: usize = 64 * 1024;

/// How often it is looked whether a command has ended whose output someone else holds open.
const LOOK: Duration = Duration::from_millis(20);

/// What a service manager says to this process alone.
const OURS: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The groups that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A program and its arguments. No `Debug`: a secret may stand there by mistake.
pub(super) struct SecretCommand {
    program: String,
    arguments: Vec<String>,
}

/// Why a command gave no secret. Holds nothing of its words or of what it printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretCommandError {
    #[error("cannot be run: {0}")]
    Start(io::Error),
    #[error("did not end within {} s and was killed", TIME.as_secs())]
    Late,
    #[error("prints more than {MOST} bytes and was killed")]
    TooLong,
    #[error("failed with {0}; run it by hand, for what it says is not kept")]
    Failed(ExitStatus),
    #[error("could not be waited for: {0}")]
    Wait(io::Error),
}

impl FromTree for SecretCommand {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str = "a command such as [\"/usr/local/bin/secret\", \"classroom\"], or its \
                               words in one string with blanks between";
        let words = match node.form() {
            Notation::List(_) => Vec::<String>::read(node, report)?,
            Notation::Text(text) => match words(text) {
                Some(words) => words,
                None => return node.refuse(ALLOWED, "a quotation mark in it has no end", report),
            },
            other => return node.refuse(ALLOWED, other.found(), report),
        };
        if words.iter().any(|word| word.contains('\0')) {
            return node.refuse(ALLOWED, "a NUL is in it", report);
        }
        match words.split_first() {
            Some((program, arguments)) if !program.is_empty() => {
                Some(Self { program: program.clone(), arguments: arguments.to_vec() })
            }
            _ => node.refuse(ALLOWED, "it names no program", report),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string", "pattern": "[^\\s]" });
        any_of([text, Vec::<String>::schema(generator)])
    }
}

/// The words of a text. What stands between two quotation marks of a kind is of one word, as it is;
/// nothing else has a meaning: no backslash, no variable, no pattern. `None` where a mark is alone.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match (letter, quote) {
            (mark, Some(open)) if mark == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            (mark @ ('"' | '\''), None) => {
                quote = Some(mark);
                word.get_or_insert_default();
            }
            (blank, None) if blank.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

impl SecretCommand {
    /// Runs it in this directory for so long at most, and gives what it printed.
    pub(super) fn run(
        &self,
        directory: &Path,
        time: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, SecretCommandError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        if !directory.as_os_str().is_empty() {
            command.current_dir(directory);
        }
        for name in OURS {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = CommandGroup::start(command)?;
        let printed = running.output(Instant::now() + time);
        let status = running.end().map_err(SecretCommandError::Wait)?;
        let printed = printed?;
        if status.success() { Ok(printed) } else { Err(SecretCommandError::Failed(status)) }
    }
}

/// A command that runs, and whatever it has started.
struct CommandGroup {
    child: Child,
    /// Of its process and its group.
    id: Pid,
    stdout: ChildStdout,
}

impl CommandGroup {
    fn start(mut command: Command) -> Result<Self, SecretCommandError> {
        // Held meanwhile, so that the end of the process finds it or keeps it from starting.
        let mut groups = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = command.spawn().map_err(SecretCommandError::Start)?;
        let id = Pid::from_child(&child);
        groups.push(id);
        drop(groups);
        let none = || SecretCommandError::Wait(io::ErrorKind::BrokenPipe.into());
        let stdout = child.stdout.take().ok_or_else(none)?;
        Ok(Self { child, id, stdout })
    }

    /// What it prints until it ends.
    fn output(&mut self, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, SecretCommandError> {
        // Never moved to a larger place, which would leave a copy behind.
        let mut printed = Zeroizing::new(Vec::with_capacity(MOST + 1));
        loop {
            let ended = self.has_ended();
            let left = deadline.saturating_duration_since(Instant::now());
            if !ended && left.is_zero() {
                return Err(SecretCommandError::Late);
            }
            // What it has printed is there once it has ended, whoever else holds the pipe.
            let wait = if ended { Duration::ZERO } else { left.min(LOOK) };
            if !self.is_readable(wait)? {
                if ended {
                    return Ok(printed);
                }
                continue;
            }
            let room = MOST + 1 - printed.len();
            let mut part = Zeroizing::new(vec![0; room.min(4096)]);
            match self.stdout.read(&mut part) {
                // It may have closed its output and go on.
                Ok(0) if ended => return Ok(printed),
                Ok(0) => std::thread::sleep(LOOK.min(left)),
                Ok(read) => printed.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SecretCommandError::Wait(error)),
            }
            if printed.len() > MOST {
                return Err(SecretCommandError::TooLong);
            }
        }
    }

    fn is_readable(&self, wait: Duration) -> Result<bool, SecretCommandError> {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(SecretCommandError::Wait(error.into())),
        }
    }

    /// Whether it has ended; it stays there to be waited for, and so its number is no one else's.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.id), options), Ok(None))
    }

    /// Ends it and whatever it has started, and waits for it.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // While it is not waited for, the group is its own.
        let mut groups = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        _ = kill_process_group(self.id, Signal::KILL);
        groups.retain(|id| *id != self.id);
        drop(groups);
        self.child.wait()
    }
}

/// One that was left early, by a panic above all.
impl Drop for CommandGroup {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            _ = self.end();
        }
    }
}

/// Kills the commands that run, for a process that ends.
pub fn end_commands() {
    for id in &*RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
        _ = kill_process_group(*id, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<String, String> {
        run_for(script, TIME)
    }

    fn run_for(script: &str, time: Duration) -> Result<String, String> {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let command = SecretCommand { program: "/bin/sh".to_owned(), arguments };
        let printed = command.run(Path::new("/"), time).map_err(|why| why.to_string())?;
        Ok(String::from_utf8(printed.to_vec()).unwrap())
    }

    #[test]
    fn a_command_in_a_string_has_words_and_quotation_marks_and_no_shell() {
        for (text, expected) in [
            ("a", &["a"][..]),
            ("  a  b\tc ", &["a", "b", "c"]),
            ("a 'b c' \"d 'e\"", &["a", "b c", "d 'e"]),
            ("a b'c d'e", &["a", "bc de"]),
            ("a '' \"\"", &["a", "", ""]),
            (r"a \b $HOME `c` * ; d", &["a", r"\b", "$HOME", "`c`", "*", ";", "d"]),
            ("", &[]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        assert_eq!((words("a 'b"), words("a \"b'")), (None, None));
    }

    #[test]
    fn what_a_command_prints_is_given_and_its_end_is_told_without_its_words() {
        assert_eq!(run("printf 'a secret\\n'; echo noise >&2"), Ok("a secret\n".to_owned()));
        assert_eq!(run("pwd"), Ok("/\n".to_owned()));
        assert_eq!(run("cat"), Ok(String::new()), "there is nothing to read");
        assert_eq!(run("echo \"$NOTIFY_SOCKET$LISTEN_FDS\""), Ok("\n".to_owned()));
        for (script, said) in [
            ("echo secret; echo secret >&2; exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("yes secret", "more than 65536 bytes"),
        ] {
            let why = run(script).unwrap_err();
            assert!(why.contains(said) && !why.contains("secret"), "{script}: {why}");
        }
        let absent = SecretCommand { program: "/no/such/secret".to_owned(), arguments: Vec::new() };
        let why = absent.run(Path::new("/"), TIME).unwrap_err().to_string();
        assert!(why.contains("cannot be run: No such file") && !why.contains("secret"), "{why}");
    }

    #[test]
    fn whatever_a_command_leaves_behind_is_killed_with_it_and_not_waited_for() {
        let begun = Instant::now();
        let printed = run("sleep 1000 & echo $!").unwrap();
        assert!(begun.elapsed() < TIME / 2, "the pipe is still open in the one behind");
        let id = Pid::from_raw(printed.trim().parse().unwrap()).unwrap();
        let gone = || {
            // As one that no one has waited for, it may be there for a moment.
            let path = format!("/proc/{}/stat", id.as_raw_nonzero());
            std::fs::read_to_string(path).map_or(true, |stat| stat.contains(") Z"))
        };
        while !gone() {
            assert!(begun.elapsed() < TIME, "it runs on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let (begun, time) = (Instant::now(), Duration::from_millis(200));
        // Whether or not it has closed its output.
        for script in ["sleep 1000", "exec >&-; sleep 1000"] {
            assert!(run_for(script, time).unwrap_err().contains("and was killed"), "{script}");
        }
        assert!(begun.elapsed() >= 2 * time && begun.elapsed() < TIME);
    }
}
