//! What all workers know of the store, and what each answer is waited for with.

use tokio::time::Instant;

use super::connect::{SetupError, StoreConnector};
use super::settings::Settings;
use super::status::StoreStatus;

/// What all workers know of the store: where it is, and how it does.
pub struct SharedStore {
    /// The settings that it was made of.
    pub settings: Settings,
    pub(super) connector: StoreConnector,
    /// How the store does.
    pub status: StoreStatus,
}

/// How long a request waits for an answer, and who wants one that comes after that.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) deadline: Instant,
    /// Hears of the deadline; `None` where an answer is of no use then.
    pub(super) late: Option<&'a dyn Fn()>,
}

impl SharedStore {
    /// Prepares connections; makes none.
    ///
    /// # Errors
    /// [`SetupError`] when TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let connector = StoreConnector::new(&settings)?;
        Ok(Self { settings, connector, status: StoreStatus::default() })
    }

    /// Connects once, as a worker would, and runs a script: on the one server, or on each of a
    /// cluster. Says which servers those are. Called within a `LocalSet`.
    ///
    /// # Errors
    /// Why the store is of no use, in words that hold no secret.
    pub async fn probe(&self) -> Result<String, String> {
        self.connector.probe(&self.settings).await.map_err(|why| why.to_string())
    }
}
