//! The end of the process, which comes whatever hangs.
//!
//! A thread of its own hears the signals as well. Once one says to stop, the process ends when its
//! time is over: threads that a disk, a pipe or the kernel holds are left behind, and it is said
//! what was not finished. What it takes is there from the start, since a process that stops may not
//! be able to start a thread.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config;
use crate::server::{LOOK, Liveness};
use crate::telemetry::Logs;
use crate::text;

/// What is left after the drain may take so long.
const AFTER_DRAIN: Duration = Duration::from_secs(2);

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The steps of a stop, in their order.
const STEPS: [&str; 6] = [
    "what was under way before the stop",
    "requests in flight",
    "what is sent to the collector",
    "the admin listener and the sandbox",
    "the file of the budgets",
    "access lines, audit records and the log",
];

/// Watches over the end of the process, and meanwhile over the workers.
pub(super) struct End {
    /// That of a process that did not end in order.
    exit_code: i32,
    step: AtomicUsize,
    watched: Mutex<Watched>,
    /// What is as good as SIGINT.
    interrupted: Notify,
}

/// What it looks at: there is none of it before the process serves.
#[derive(Default)]
struct Watched {
    workers: Option<Arc<Liveness>>,
    logs: Option<Arc<Logs>>,
    /// When it began to serve.
    serving: Option<Instant>,
    pre_drain: Duration,
    drain: Duration,
}

impl Watched {
    /// When the process ends that was asked to at this moment, with so many parts of its life left.
    /// One that was asked before it served does all of that then.
    fn end_of(&self, (asked, parts): (Instant, u8)) -> Instant {
        let most = match parts {
            2 => self.pre_drain + self.drain,
            1 => self.drain,
            _ => Duration::ZERO,
        };
        self.serving.map_or(asked, |serving| serving.max(asked)) + most + AFTER_DRAIN
    }
}

impl End {
    /// Starts the thread; the exit code is that of a process that did not end in order.
    ///
    /// # Errors
    /// When there can be no more threads, or signals cannot be heard.
    pub(super) fn watch(exit_code: u8) -> io::Result<Arc<Self>> {
        let (step, watched) = (AtomicUsize::new(0), Mutex::default());
        let interrupted = Notify::new();
        let end = Arc::new(Self { exit_code: exit_code.into(), step, watched, interrupted });
        // The first runtime takes five descriptors, and tokio panics where signals get none of them.
        drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { StopSignals::catch() })?;
        let watching = Arc::clone(&end);
        let run = move || runtime.block_on(watching.run(signals));
        thread::Builder::new().name("end".to_owned()).spawn(run)?;
        Ok(end)
    }

    /// The log is written from now on.
    pub(super) fn logs_to(&self, logs: &Arc<Logs>) {
        self.lock().logs = Some(Arc::clone(logs));
    }

    /// What counts from now on.
    pub(super) fn serves(&self, workers: &Arc<Liveness>, pre_drain: Duration, drain: Duration) {
        let mut watched = self.lock();
        watched.workers = Some(Arc::clone(workers));
        watched.serving = Some(Instant::now());
        (watched.pre_drain, watched.drain) = (pre_drain, drain);
    }

    /// The next step of the stop begins.
    pub(super) fn next_step(&self) {
        self.step.fetch_add(1, Relaxed);
    }

    /// The stop begins as after SIGINT, though another signal says so.
    pub(super) fn interrupted(&self) {
        self.interrupted.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>, mut signals: StopSignals) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Serving, serving while load balancers learn of the stop, and the drain.
        let mut parts = 3_u8;
        let mut asked: Vec<(Instant, u8)> = Vec::new();
        loop {
            let end = asked.iter().map(|asked| self.lock().end_of(*asked)).min();
            if end.is_some_and(|end| end <= Instant::now()) {
                break;
            }
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                _ = looks.tick() => if let Some(workers) = &self.lock().workers { workers.look() },
                signal = signals.next(&self.interrupted) => {
                    if signal == StopSignal::Interrupt {
                        parts = parts.min(2);
                    }
                    // Each signal skips what is left of a part.
                    if parts > 0 {
                        parts -= 1;
                        asked.push((Instant::now(), parts));
                    }
                }
            }
        }
        self.end();
    }

    /// Ends the process at once.
    fn end(&self) {
        let step = self.step.load(Relaxed).min(STEPS.len() - 1);
        let logs = self.lock().logs.clone();
        tracing::error!(
            unfinished = STEPS[step],
            threads = threads(),
            "the time to stop is over: the process ends with what is left unfinished"
        );
        // No one may be there to read it.
        _ = match logs {
            Some(logs) => logs.flush(LAST_WORDS),
            None => writeln!(io::stderr(), "error: the start was left unfinished").is_ok(),
        };
        config::end_commands();
        process::exit(self.exit_code);
    }
}

/// The signals that say to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    Terminate,
    Interrupt,
}

impl StopSignals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next of them; `interrupted` is as good as SIGINT.
    async fn next(&mut self, interrupted: &Notify) -> StopSignal {
        tokio::select! {
            () = interrupted.notified() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

/// The names of the threads that there are, where the system tells them.
fn threads() -> String {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return String::new() };
    let name = |entry: io::Result<fs::DirEntry>| {
        text::of_kernel(entry.ok()?.path().join("comm")).map(|name| name.trim().to_owned())
    };
    let names: Vec<_> = threads.filter_map(name).collect();
    names.join(", ")
}
