//! How a command went, and the exit code that says so.

use std::process::ExitCode;

/// The exit code of a usage error, or of a command that could not do its work.
pub const FAILED: u8 = 2;

/// How a command went that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// As asked: exit code 0.
    Done,
    /// The command was a question, and the answer is no: exit code 1.
    No,
    /// Something ends within the time that was asked about: exit code 3.
    Ending,
    /// What it looked at is wrong, and it has said so: exit code 2.
    Wrong,
    /// It was told twice to stop, and did not wait: exit code 130, as after SIGINT.
    CutShort,
}

impl From<CommandOutcome> for ExitCode {
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Done => Self::SUCCESS,
            CommandOutcome::No => Self::FAILURE,
            CommandOutcome::Ending => Self::from(3),
            CommandOutcome::Wrong => Self::from(FAILED),
            CommandOutcome::CutShort => Self::from(130),
        }
    }
}
