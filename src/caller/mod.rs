//! Who is calling: credentials in, a [`Caller`] out.

mod identify;
pub mod jwt;
mod key;

pub use identify::{Caller, Callers};
pub use key::{ApiKey, Digest, InvalidKey, InvalidStored, KeyId, PREFIX, generate};

/// A backend that calls with API keys, from a `[callers.<name>]` section.
#[derive(Clone, Debug)]
pub struct CallerSettings {
    /// Its name in the configuration, which logs and metrics use.
    pub name: String,
    /// The name of its profile.
    pub profile: String,
    /// Its keys: one, or two while one is being rotated out.
    pub keys: Vec<KeySettings>,
}

/// One API key of a caller, as the configuration keeps it.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// The id in the key.
    pub id: KeyId,
    /// The SHA-256 of the whole key.
    pub digest: Digest,
    /// When its grace ends; `None` for no end.
    pub until: Option<jiff::Timestamp>,
}
