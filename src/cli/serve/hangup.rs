//! What SIGHUP means: to a server a reload, and to what runs in a terminal that the terminal is gone.
//!
//! A kernel that closes a terminal takes it from all processes that it controls and sends them
//! SIGHUP. So a process that had a terminal when it started, and has none any more when the signal
//! comes, ends. One that was to outlive it (`nohup`), or has lost it without a signal (`disown`), is a
//! server. A sandbox is never one: no one has a file to reload.

use std::fs::File;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::text;

/// The signal may come a moment before the terminal is taken, or be seen a moment after.
const MOMENT: Duration = Duration::from_millis(50);

/// What the signal means to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The configuration is read again.
    Reload,
    /// The process ends, without a wait for load balancers.
    End,
    /// Nothing.
    Nothing,
}

/// The terminal that controls this process, and what follows when it closes.
pub(super) struct Hangup {
    sandbox: bool,
    /// Whether the process was started so that SIGHUP does not end it.
    ignored: bool,
    terminal: Terminal,
}

enum Terminal {
    /// It was there when it was last looked for.
    There,
    /// It was found missing then, before a signal came.
    Gone(Instant),
    /// There was none from the beginning.
    None,
}

impl Hangup {
    /// As the process begins, before it catches the signal.
    pub(super) fn at_start(sandbox: bool) -> Self {
        let terminal = if has_terminal() { Terminal::There } else { Terminal::None };
        Self { sandbox, ignored: is_ignored(), terminal }
    }

    /// Looks whether the terminal is there, when no signal says otherwise.
    pub(super) fn look(&mut self) {
        if matches!(self.terminal, Terminal::There) && !has_terminal() {
            self.terminal = Terminal::Gone(Instant::now());
        }
    }

    /// What a signal means that has just come.
    pub(super) async fn meaning(&self) -> Meaning {
        let gone = async {
            match self.terminal {
                Terminal::None => false,
                Terminal::Gone(since) => since.elapsed() < MOMENT,
                Terminal::There => {
                    sleep(MOMENT).await;
                    !has_terminal()
                }
            }
        };
        match (self.sandbox, self.ignored) {
            (true, true) => Meaning::Nothing,
            (true, false) => Meaning::End,
            (false, true) => Meaning::Reload,
            (false, false) if gone.await => Meaning::End,
            (false, false) => Meaning::Reload,
        }
    }
}

/// Whether whoever started this process has it ignore SIGHUP. Only Linux tells.
fn is_ignored() -> bool {
    let status = text::of_kernel("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// Whether a terminal controls this process, whatever its streams are.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
