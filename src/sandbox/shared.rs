//! What the workers of a sandbox share: what it remembers, and the keys of its project.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Settings;
use super::faults::Faults;
use super::seen::RequestLog;
use super::state::SandboxState;
use crate::api::Operations;
use crate::token::{KeyPair, Secret};

/// What the workers share.
pub(super) struct SharedSandbox {
    pub(super) keys: Vec<SigningKey>,
    pub(super) pace: Duration,
    pub(super) strict_keys: bool,
    pub(super) regions: Vec<String>,
    pub(super) operations: Operations,
    state: Mutex<SandboxState>,
    faults: Mutex<Faults>,
    seen: Mutex<RequestLog>,
}

/// An access key of the project.
pub(super) struct SigningKey {
    pub(super) pair: KeyPair,
    pub(super) secret: Secret,
}

impl SharedSandbox {
    pub(super) fn new(settings: Settings) -> Self {
        let key = |(access_key, secret): (String, Secret)| SigningKey {
            pair: KeyPair::new(access_key, &secret),
            secret,
        };
        Self {
            keys: settings.keys.into_iter().map(key).collect(),
            pace: settings.pace,
            strict_keys: settings.strict_keys,
            regions: settings.regions,
            operations: Operations::documented(),
            state: Mutex::new(SandboxState::new(settings.pace, settings.queue)),
            faults: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = &KeyPair> {
        self.keys.iter().map(|key| &key.pair)
    }

    pub(super) fn key(&self, access_key: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.pair.access_key == access_key)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SandboxState> {
        lock(&self.state)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, RequestLog> {
        lock(&self.seen)
    }
}

/// A panic of another request is no reason to end the sandbox; what it left may be half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
