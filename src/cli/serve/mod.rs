//! `serve`: start everything, keep it as the configuration says, stop it in order.
//!
//! Requests are answered on the workers; what happens here, on the control thread, is signals, the
//! timer that forgets idle callers, what fetches keys and what reports to a collector, and what a
//! service manager is told. Once it serves, it never waits for a disk: reloads (`reload.rs`) and the
//! stop have threads of their own, and `end.rs` ends the process whatever hangs.

mod adjustment;
mod admin;
mod arguments;
mod end;
mod exporting;
mod hangup;
mod keys;
mod minutes;
mod play;
mod reload;
mod systemd;
mod watch;
mod widened;

use std::future::pending;
use std::io::{self, Write as _};
use std::panic;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::check::few_descriptors;
use super::configuration::source;
use super::outcome::{CommandOutcome, FAILED};
use crate::admin::{AdminTransport, OperatorAccess, ProcessStatus, StartedWith};
use crate::caller::jwt::Fetcher;
use crate::config::{self, Diagnostic, Loaded, Source};
use crate::gateway::{self, Gateway, Snapshot};
use crate::server::{self, Bounds, Running};
use crate::telemetry::{self, Logs, Metrics, Recorder, Sink};
use admin::AdminStart;
use end::End;
use exporting::Exporting;
use hangup::{Hangup, Meaning};
use minutes::Minutes;
use play::Play;
use reload::{Reloader, Reloading};
use systemd::{Inherited, Manager, Sockets};
use widened::PresentRights;

pub(super) use arguments::ServeArgs;

/// How often callers are forgotten that have not called for a while.
const FORGET: Duration = Duration::from_secs(10);

/// How long the last lines and records may take, each, when the process stops.
const FLUSH: Duration = Duration::from_millis(500);

/// Everything that runs.
struct Process {
    gateway: Running,
    admin: Option<Running>,
    play: Option<Play>,
    status: Arc<ProcessStatus>,
    reloading: Reloading,
    fetching: Fetcher,
    exporting: Exporting,
    manager: Arc<Manager>,
    pre_drain: Duration,
    sink: Arc<Sink>,
    logs: Arc<Logs>,
    end: Arc<End>,
    stopper: Stopper,
}

/// The thread on which the process stops: draining blocks, and a second signal must still be heard.
/// It is there from the start, since a process that may have no more threads must stop as well.
struct Stopper(Sender<(Box<Process>, oneshot::Sender<()>)>);

impl Stopper {
    fn start() -> io::Result<Self> {
        let (stop, asked) = channel::<(Box<Process>, oneshot::Sender<()>)>();
        thread::Builder::new().name("drain".to_owned()).spawn(move || {
            if let Ok((process, finished)) = asked.recv() {
                process.stop();
                // No one waits any more when a second signal came.
                _ = finished.send(());
            }
        })?;
        Ok(Self(stop))
    }
}

/// The control thread reads the configuration as well.
const CONTROL_STACK: usize = 8 * 1024 * 1024;

/// Serves until a signal says to stop.
///
/// The kernel gives the signals of a process to its main thread, also while a disk holds that one in
/// a call that nothing interrupts, and then nobody hears them. So that thread touches nothing.
///
/// # Errors
/// Whatever keeps it from serving: the configuration, an address that is taken, a certificate.
pub(super) fn run(arguments: &ServeArgs) -> anyhow::Result<CommandOutcome> {
    let control = thread::Builder::new().name("control".to_owned()).stack_size(CONTROL_STACK);
    thread::scope(|scope| {
        let served = control.spawn_scoped(scope, || serve(arguments))?.join();
        served.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

fn serve(arguments: &ServeArgs) -> anyhow::Result<CommandOutcome> {
    let end = End::watch(FAILED)?;
    let hangup = Hangup::at_start(arguments.sandbox);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anyone can know that it serves: a signal must not find its default action.
    let signals = runtime.block_on(async { Signals::catch() })?;
    let inherited = Inherited::take()?;
    let (source, play) = if arguments.sandbox {
        (config::SANDBOX, Some(Play::new(arguments)?))
    } else {
        (source(arguments.config.as_deref())?, None)
    };
    let environment = config::environment();
    let loaded = config::load(&source, &environment)?;
    let process = Start { loaded, source, environment, inherited, play, end }.run()?;
    let outcome = runtime.block_on(process.run(signals, hangup));
    // A reload may wait for one.
    config::end_commands();
    Ok(outcome)
}

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// A file would have grown beyond what the process may write: the write fails, and the process
    /// does not end.
    _file_too_large: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }
}

/// What a process starts with.
struct Start {
    loaded: Loaded,
    source: Source,
    environment: Vec<(String, String)>,
    inherited: Inherited,
    play: Option<Play>,
    end: Arc<End>,
}

impl Start {
    fn run(self) -> anyhow::Result<Process> {
        let Self { loaded, source, environment, inherited, mut play, end } = self;
        let Loaded { mut settings, warnings, files, version } = loaded;
        play.as_mut().map_or(Ok(()), |play| play.start(&mut settings))?;
        let server = settings.server;
        let metrics = Arc::new(Metrics::new(server.worker_count()));
        let logs = Arc::new(telemetry::init(&settings.log, &metrics)?);
        end.logs_to(&logs);
        log_panics();
        announce(&source, &settings.gateway);
        warn_of(&warnings, &server);
        let manager = Arc::new(Manager::of_environment());
        let listeners = server.open()?;
        let admin = AdminStart::read(&settings.admin.listener)?;
        let certificates = admin.certificates_with(&listeners);
        let mut sockets = inherited.divide(listeners, settings.admin.listener.address.clone())?;
        play.iter_mut().for_each(|play| play.lend(&mut sockets));
        let transport = admin.transport(&sockets)?;
        let sink = Arc::new(Sink::open(&settings.log, &metrics)?);
        let rights = PresentRights::of(&settings.gateway)?;
        let snapshots = Arc::new(ArcSwap::from_pointee(open(settings.gateway, &metrics)?));
        let Bounds { pre_drain, drain, .. } = server.bounds;
        let status = Arc::new(ProcessStatus::new(StartedWith {
            snapshots: Arc::clone(&snapshots),
            metrics: Arc::clone(&metrics),
            certificates: certificates.clone().into_boxed_slice(),
            shown: admin::shown(&settings.admin.access, (&source, &environment), &version),
            configuration: (source.name(), version),
            access: OperatorAccess::new(settings.admin.access, &transport)?,
        }));
        let context = StartContext { status: &status, sink: &sink, play: play.as_ref() };
        let (gateway, admin) = listen(sockets, &server, (admin, transport.clone()), &context)?;
        end.serves(gateway.liveness(), pre_drain, drain);
        let reloader = Reloader {
            source,
            environment,
            adjustment: play.as_ref().map(|play| play.adjustment.clone()),
            snapshots,
            rights,
            status: Arc::clone(&status),
            metrics,
            certificates,
            sink: Arc::clone(&sink),
            logs: Arc::clone(&logs),
            manager: Arc::clone(&manager),
            fixed: (server, settings.admin.listener),
            transport,
        };
        let reloading = Reloading::start(reloader, files)?;
        status.reloads_by(reloading.queue());
        let process = Process {
            gateway,
            admin,
            play,
            status,
            reloading,
            fetching: Fetcher::default(),
            exporting: Exporting::default(),
            manager,
            pre_drain,
            sink,
            logs,
            end,
            stopper: Stopper::start()?,
        };
        process.greet()?;
        process.manager.ready(&process.described());
        Ok(process)
    }
}

/// What requests go by at first, with the files that it needs.
fn open(settings: gateway::Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Snapshot> {
    let snapshot = Snapshot::new(settings, None, metrics)?;
    snapshot.open_audit()?;
    snapshot.open_budgets()?;
    Ok(snapshot)
}

/// What the listeners serve.
struct StartContext<'s> {
    status: &'s Arc<ProcessStatus>,
    sink: &'s Arc<Sink>,
    play: Option<&'s Play>,
}

/// Starts the listeners of the gateway and of operators, and says where they listen.
fn listen(
    sockets: Sockets,
    server: &server::Settings,
    (starting, transport): (AdminStart, AdminTransport),
    &StartContext { status, sink, play }: &StartContext<'_>,
) -> anyhow::Result<(Running, Option<Running>)> {
    let Sockets { gateway, admin, admin_binds } = sockets;
    let (of_worker, lines) = (Arc::clone(status), Arc::clone(sink));
    let make = move |worker| {
        let recorder = Recorder::new(Arc::clone(&of_worker.metrics), worker, Arc::clone(&lines));
        Gateway::new(Arc::clone(&of_worker.snapshots), recorder)
    };
    let gateway = server::start(server, gateway, make)?;
    status.serves(&gateway);
    let sandbox = play.and_then(|play| play.beside(&gateway));
    let admin = starting
        .start((admin_binds, admin), server.bounds, (status, transport), sandbox)
        .context("the admin listener ([admin] address)")?;
    for bound in gateway.bound() {
        tracing::info!(listener = &*bound.listener, address = %bound.address, "listening");
    }
    for bound in admin.as_ref().map(Running::bound).unwrap_or_default() {
        tracing::info!(listener = "admin", address = %bound.address, "listening");
    }
    Ok((gateway, admin))
}

impl Process {
    /// What it does, in a line.
    fn described(&self) -> String {
        let bound = self.gateway.bound().iter();
        let addresses: Vec<_> = bound.map(|one| one.address.to_string()).collect();
        let version = self.status.version();
        let serving = format!("serves on {}, configuration {version}", addresses.join(", "));
        match self.status.reload_error() {
            None => serving,
            Some(error) => format!("{serving}; a newer one cannot be used: {error}"),
        }
    }

    fn greet(&self) -> io::Result<()> {
        let Some(play) = &self.play else { return Ok(()) };
        let mut out = io::stdout().lock();
        out.write_all(play.greeting(&self.gateway, self.admin.as_ref()).as_bytes())?;
        out.flush()
    }

    async fn run(mut self, signals: Signals, mut terminal: Hangup) -> CommandOutcome {
        let Signals { mut hangup, mut terminate, mut interrupt, _file_too_large } = signals;
        self.fetch_keys();
        self.exporting.follow(&self.status);
        let mut minutes = Minutes::new(self.logs.is_watched());
        let mut forget = interval(FORGET);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let liveness = Arc::clone(self.gateway.liveness());
        let manager = Arc::clone(&self.manager);
        let mut watchdog = manager.watch_every().map(interval);
        let pre_drain = loop {
            tokio::select! {
                () = next(&mut watchdog) => if liveness.stuck().is_none() { manager.alive() },
                _ = terminate.recv() => break self.pre_drain,
                // Someone at a terminal does not wait for load balancers.
                _ = interrupt.recv() => break Duration::ZERO,
                _ = hangup.recv() => match terminal.meaning().await {
                    Meaning::Reload => self.reloading.request(),
                    Meaning::Nothing => {}
                    Meaning::End => {
                        tracing::info!("SIGHUP: a sandbox, or what runs in a terminal, ends with it");
                        self.end.interrupted();
                        break Duration::ZERO;
                    }
                },
                Some(()) = self.reloading.over.recv() => self.follow(),
                () = minutes.next() => minutes.end(&self.status.metrics),
                _ = forget.tick() => {
                    terminal.look();
                    self.status.snapshots.load().limits.forget_idle();
                }
            }
        };
        self.status.drain();
        manager.stopping("not ready, and still serving");
        if !pre_drain.is_zero() {
            tracing::info!(seconds = pre_drain.as_secs_f64(), "not ready, and still serving");
            self.gateway.leave();
            let over = sleep(pre_drain);
            let mut over = pin!(over);
            loop {
                tokio::select! {
                    () = &mut over => break,
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = next(&mut watchdog) => manager.alive(),
                }
            }
        }
        manager.stopping("requests in flight are finished");
        let (finished, mut stopped) = oneshot::channel();
        let (stop, logs) = (self.stopper.0.clone(), Arc::clone(&self.logs));
        let cut_short = || {
            // No one may be there to read it.
            _ = logs.flush(FLUSH);
            CommandOutcome::CutShort
        };
        // The thread ends only after this.
        _ = stop.send((Box::new(self), finished));
        loop {
            tokio::select! {
                _ = &mut stopped => return CommandOutcome::Done,
                _ = terminate.recv() => return cut_short(),
                _ = interrupt.recv() => return cut_short(),
                () = next(&mut watchdog) => manager.alive(),
            }
        }
    }

    /// Goes by the configuration of the moment.
    fn follow(&mut self) {
        self.fetch_keys();
        self.exporting.follow(&self.status);
        self.manager.ready(&self.described());
    }

    /// Fetches the keys of the identity providers of the moment, and of no others.
    fn fetch_keys(&mut self) {
        self.fetching.follow(&self.status.snapshots.load().callers.issuers);
    }

    /// No new connections, then what is in flight, and what was recorded of it; the sandbox last,
    /// since requests in flight need it.
    fn stop(self) {
        tracing::info!("stopping: requests in flight are finished");
        let next = || self.end.next_step();
        next();
        self.gateway.drain();
        next();
        self.exporting.finish();
        next();
        if let Some(admin) = self.admin {
            admin.drain();
        }
        if let Some(play) = self.play {
            play.stop();
        }
        next();
        let snapshot = self.status.snapshots.load_full();
        snapshot.budgets.close();
        next();
        if !snapshot.flush_audit(FLUSH) || !self.sink.flush(FLUSH) {
            tracing::error!("the last access lines or audit records are lost: nobody takes them");
        }
        tracing::info!("stopped");
        // The process ends now, and with it the thread that writes the log.
        _ = self.logs.flush(FLUSH);
    }
}

/// The next beat of a timer; never, without one.
async fn next(timer: &mut Option<Interval>) {
    match timer {
        Some(timer) => _ = timer.tick().await,
        None => pending().await,
    }
}

/// Says what runs, before anything can go wrong with it.
fn announce(source: &Source, settings: &gateway::Settings) {
    let config = match source {
        Source::File(path) => path.display().to_string(),
        Source::Embedded { name, .. } => (*name).to_owned(),
    };
    let upstream = &settings.upstream.origin;
    let scheme = if upstream.tls { "https" } else { "http" };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("WBG_COMMIT"),
        build = env!("WBG_BUILD"),
        config,
        upstream = format!("{scheme}://{}", upstream.authority),
        callers = settings.callers.len(),
        profiles = settings.profiles.len(),
        issuers = settings.issuers.len(),
        "starting"
    );
}

/// Says what is doubtful about the configuration, and about this machine for it.
fn warn_of(warnings: &[Diagnostic], server: &server::Settings) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(few) = few_descriptors(server, server::raise_limit()) {
        tracing::warn!("{few}");
    }
}

/// A panic is logged with its place and without its words, which may hold anything.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of the gateway: please report it");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tracing_subscriber::fmt;

    /// A writer of a log that can be read.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_logged_by_its_place_and_not_by_its_words() {
        let log = Log::default();
        let writer = log.clone();
        let before = panic::take_hook();
        let subscriber = fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            log_panics();
            let token = String::from("NETLESSSDK_secret");
            let panicked = panic::catch_unwind(|| panic!("cannot use {token}"));
            panic::set_hook(before);
            assert!(panicked.is_err());
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("a defect of the gateway") && log.contains(file!()), "{log}");
        assert!(!log.contains("secret") && !log.contains("cannot use"), "{log}");
    }
}
