//! Whiteboard tokens: the wire format, minting, verifying, and the keyring of a project.
//!
//! The wire layer takes any text (real tokens hold odd ones); what a caller may ask for is
//! narrowed before, by `api` and `policy`. This module does no I/O and never prints a secret.

mod acceptance;
mod credentials;
mod issued;
mod keyring;
mod metrics;
mod redact;
mod secret;
mod sent;
mod wire;

pub use acceptance::Acceptance;
pub use credentials::{Cache, Credentials};
pub use issued::{DeniedToken, DenyList, Nonce, TokenHash, TokenHashError, nonce};
pub use keyring::{Need, Project, ProjectError};
pub use metrics::PROJECTS;
pub use redact::without_tokens;
pub use secret::Secret;
pub use sent::{Masking, Sent};
pub use wire::{
    Claims, InvalidTokenError, KeyPair, Minted, TokenFields, VerifiedToken, kind_of, verify,
};

/// One Agora whiteboard project, from a `[projects.<name>]` section.
pub struct ProjectSettings {
    /// Its name in the configuration.
    pub name: String,
    /// What opens it.
    pub credential: ProjectCredential,
    /// The name of the profile of callers that show a Room or Task token of this project, which
    /// then speaks for its room or task; `None` when such tokens are no credential.
    pub token_profile: Option<String>,
}

/// What opens a project.
pub enum ProjectCredential {
    /// Access keys with their secret keys: tokens are minted here. At least one is active.
    Keys(Vec<KeySettings>),
    /// A fixed SDK token of the console: it is injected, and the upstream mints.
    SdkToken(Secret),
}

/// One key pair of a project.
pub struct KeySettings {
    /// The Access Key (AK). Public: every token carries it.
    pub access_key: String,
    /// The Secret Key (SK).
    pub secret_key: Secret,
    /// What it is still used for.
    pub state: KeyState,
}

/// What a key pair is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It signs and verifies.
    #[default]
    Active,
    /// It verifies what it signed before, and signs nothing new.
    VerifyOnly,
    /// Neither.
    Retired,
}
