//! A stateful stand-in for `api.netless.link`, to develop and test against without an account.
//!
//! It keeps rooms, scenes and conversions in memory, verifies tokens for real and answers with
//! the documented statuses and texts. It is a third party: it shares the table of operations and
//! the token format with the gateway, and nothing of how the gateway decides or fails.
//!
//! What people see of it is told in `docs/sandbox.md`.

mod access;
mod body;
mod codes;
mod control;
mod faults;
mod perform;
mod refusal;
mod seen;
mod service;
mod state;
mod webhook;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::{Operations, Regions};
use crate::server;
use crate::token::{KeyPair, Secret};
use faults::Faults;
use seen::RequestLog;
use service::Site;
use state::SandboxState;

/// What a sandbox is made of.
pub struct Settings {
    /// The access keys of the project, each with its secret key. Tokens of any of them are taken.
    pub keys: Vec<(String, Secret)>,
    /// How long a conversion spends in each step: waiting, and converting.
    pub pace: Duration,
    /// Whether a Room token must be signed by the access key that created the room.
    pub strict_keys: bool,
    /// The values of the `region` header that are taken.
    pub regions: Vec<String>,
    /// The most conversions of a type that wait in a region.
    pub queue: usize,
}

impl Settings {
    /// Two seconds a step, any of the keys for any room, the documented regions, and a queue of
    /// a hundred.
    #[must_use]
    pub fn new(keys: Vec<(String, Secret)>) -> Self {
        Self {
            keys,
            pace: Duration::from_secs(2),
            strict_keys: false,
            regions: Regions::DOCUMENTED.map(str::to_owned).to_vec(),
            queue: 100,
        }
    }
}

/// A sandbox. Clones share what it remembers.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<SharedSandbox>,
}

/// What the workers share.
struct SharedSandbox {
    keys: Vec<SigningKey>,
    pace: Duration,
    strict_keys: bool,
    regions: Vec<String>,
    operations: Operations,
    state: Mutex<SandboxState>,
    faults: Mutex<Faults>,
    seen: Mutex<RequestLog>,
}

/// An access key of the project.
struct SigningKey {
    pair: KeyPair,
    secret: Secret,
}

impl Sandbox {
    /// A sandbox that remembers nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let key = |(access_key, secret): (String, Secret)| SigningKey {
            pair: KeyPair::new(access_key, &secret),
            secret,
        };
        let shared = SharedSandbox {
            keys: settings.keys.into_iter().map(key).collect(),
            pace: settings.pace,
            strict_keys: settings.strict_keys,
            regions: settings.regions,
            operations: Operations::documented(),
            state: Mutex::new(SandboxState::new(settings.pace, settings.queue)),
            faults: Mutex::default(),
            seen: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts to serve it.
    ///
    /// # Errors
    /// As [`server::start`]: an address that cannot be bound.
    pub fn start(
        &self,
        server: &server::Settings,
        tls: Option<Arc<server::Tls>>,
    ) -> io::Result<server::Running> {
        let shared = Arc::clone(&self.shared);
        server::start(server, tls, move |_worker| Site::new(Arc::clone(&shared)))
    }
}

impl SharedSandbox {
    fn pairs(&self) -> impl Iterator<Item = &KeyPair> {
        self.keys.iter().map(|key| &key.pair)
    }

    fn key(&self, access_key: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.pair.access_key() == access_key)
    }

    fn state(&self) -> MutexGuard<'_, SandboxState> {
        lock(&self.state)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    fn seen(&self) -> MutexGuard<'_, RequestLog> {
        lock(&self.seen)
    }
}

/// A panic of another request is no reason to end the sandbox; what it left may be half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds of Unix time.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
