//! Names to addresses, by a few threads of its own.
//!
//! The system's resolver blocks, for as long as half a minute, and cannot be called off. So it is
//! asked on threads that no one waits for: a request waits until its own deadline, and the end of
//! the process does not wait at all. All who want the same name wait for one answer, so a name
//! that hangs holds one thread, and those beside it are resolved.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// How many threads there are from the start, so that names are resolved where none can be started
/// any more.
const THREADS: usize = 4;

/// How many there are at most, and so how many names that hang keep no one from another: one more is
/// started when a name finds all of them busy.
const MOST_THREADS: usize = 16;

/// How many names wait at most. They come from the configuration, and from a cluster that names its
/// servers: more is a mistake of someone's.
const WAITING: usize = 64;

/// The stack of such a thread: what the system calls may be modules of someone else.
const STACK: usize = 512 * 1024;

/// What the system says of a name.
type Lookup = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;
type Resolution = Result<Arc<[IpAddr]>, ResolveError>;

/// Why a name has no addresses.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The system said so.
    #[error("{1}")]
    Name(io::ErrorKind, String),
    /// There is no thread to ask it on, or too much to ask.
    #[error("{0}")]
    Local(&'static str),
}

/// Resolves names. A clone shares the threads.
#[derive(Clone)]
pub struct Resolver(Arc<ResolverThreads>);

struct ResolverThreads {
    lookup: Lookup,
    state: Mutex<ResolverQueue>,
    work: Condvar,
}

#[derive(Default)]
struct ResolverQueue {
    /// Who waits for the names that are being resolved or wait for their turn.
    flights: HashMap<String, Vec<oneshot::Sender<Resolution>>>,
    queue: VecDeque<String>,
    threads: usize,
    /// How many of them wait for a name.
    idle: usize,
}

impl Resolver {
    /// One that asks the system, with its threads.
    pub fn system() -> Self {
        Self::with(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// One that asks this.
    pub fn with(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        let resolver = Self(Arc::new(ResolverThreads {
            lookup: Box::new(lookup),
            state: Mutex::default(),
            work: Condvar::new(),
        }));
        resolver.staff(&mut resolver.0.state(), THREADS);
        resolver
    }

    /// The addresses of a host, as the system orders them. What waits for them may be dropped.
    pub(super) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let answered = self.ask(host)?;
        let addresses =
            answered.await.unwrap_or(Err(ResolveError::Local("a resolver panicked")))?;
        Ok(addresses.iter().map(|address| (*address, port).into()).collect())
    }

    fn ask(&self, host: &str) -> Result<oneshot::Receiver<Resolution>, ResolveError> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.0.state();
        if let Some(waiting) = state.flights.get_mut(host) {
            // Whoever does not wait any more is forgotten: a name that hangs may be asked for often.
            waiting.retain(|one| !one.is_closed());
            waiting.push(answer);
            return Ok(answered);
        }
        let busy = state.idle <= state.queue.len();
        let wanted = if busy { state.threads + 1 } else { THREADS };
        self.staff(&mut state, wanted.clamp(THREADS, MOST_THREADS));
        if state.threads == 0 {
            return Err(ResolveError::Local("no thread can be started to resolve its name"));
        }
        if state.queue.len() >= WAITING {
            return Err(ResolveError::Local("too many names wait to be resolved"));
        }
        state.flights.insert(host.to_owned(), vec![answer]);
        state.queue.push_back(host.to_owned());
        self.0.work.notify_one();
        Ok(answered)
    }

    /// Starts the threads that are not there. Where that is not possible, those that are do the work.
    fn staff(&self, state: &mut ResolverQueue, wanted: usize) {
        while state.threads < wanted {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("resolver".to_owned()).stack_size(STACK);
            if thread.spawn(move || shared.work()).is_err() {
                break;
            }
            state.threads += 1;
        }
    }
}

impl ResolverThreads {
    fn state(&self) -> MutexGuard<'_, ResolverQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves one name after the other, as long as the process lives.
    fn work(&self) {
        loop {
            let mut state = self.state();
            let name = loop {
                match state.queue.pop_front() {
                    Some(name) => break name,
                    None => {
                        state.idle += 1;
                        state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                        state.idle -= 1;
                    }
                }
            };
            drop(state);
            let flight = Flight { shared: self, name };
            let answer = (self.lookup)(&flight.name).map(Arc::from);
            flight
                .land(answer.map_err(|error| ResolveError::Name(error.kind(), error.to_string())));
        }
    }
}

/// A name that is being resolved. When that panics, no one waits for it, and another thread takes
/// the place of this one.
struct Flight<'a> {
    shared: &'a ResolverThreads,
    name: String,
}

impl Flight<'_> {
    fn land(&self, answer: Resolution) {
        let waiting = self.shared.state().flights.remove(&self.name);
        for one in waiting.into_iter().flatten() {
            // Some have given up meanwhile.
            _ = one.send(answer.clone());
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut state = self.shared.state();
            state.flights.remove(&self.name);
            state.threads -= 1;
        }
    }
}
