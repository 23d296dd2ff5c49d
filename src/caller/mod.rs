//! Who is calling: credentials in, a [`Caller`] out.
//!
//! A credential proves who someone is and narrows what its profile allows; what the profile
//! allows is for `policy` to decide.

mod api_key;
mod client_certificate;
mod credential;
mod credential_cache;
mod identified_caller;
mod identify;
pub mod jwt;
mod key_end;
mod throttle;
mod unrecognized;
mod validity;
mod whiteboard_token;

use crate::certificate::{AuthorityName, Name};
use crate::policy::Rights;
use crate::token;

pub use api_key::{
    ApiKey, ApiKeyError, Digest, KeyId, PREFIX, StoredKeyError, generate, generate_for_operator,
};
pub use client_certificate::{Holders, ShownCertificate, Transport};
pub use credential::credential;
pub use credential_cache::CredentialCache;
pub use identified_caller::IdentifiedCaller;
pub use identify::{Callers, CallersError};
pub use key_end::KeyEnd;
pub use validity::Validity;

/// Someone who has proved who they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in logs: that of the configuration, `issuer/subject`, or `room/uuid`.
    pub name: String,
    /// A number that stays the same over reloads: what limits count by.
    pub number: u64,
    /// What it may do.
    pub rights: Rights,
    /// How it proved that.
    pub credential: Credential,
    /// The end of its key, where it has one that is told.
    pub key_end: Option<Box<KeyEnd>>,
}

/// How a caller proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// By an API key, which is named: whoever rotates keys wants to know who still uses the old.
    Key(KeyId),
    /// By the JWT of an issuer.
    Jwt,
    /// By a Room or Task token.
    WhiteboardToken {
        /// Its nonce, by which the audit knows who got it; cut where it is longer than any that is
        /// ours.
        nonce: Box<str>,
    },
    /// By a client certificate.
    Certificate,
}

impl Caller {
    /// The bytes of the heap that belong to it alone, about. Who is in the configuration is there
    /// anyway; whoever a token makes is made for it.
    fn bytes(&self) -> usize {
        match self.credential {
            Credential::Key(_) | Credential::Certificate => 0,
            Credential::Jwt | Credential::WhiteboardToken { .. } => {
                size_of::<Self>() + self.name.len() + self.rights.heap_bytes() + 4 * ALLOCATION
            }
        }
    }
}

/// What an allocation takes besides what it holds, about.
const ALLOCATION: usize = 16;

impl Credential {
    /// The word in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Jwt => "jwt",
            Self::WhiteboardToken { .. } => "whiteboard_token",
            Self::Certificate => "certificate",
        }
    }

    /// The id of the API key.
    pub const fn key_id(&self) -> Option<&KeyId> {
        match self {
            Self::Key(id) => Some(id),
            Self::Jwt | Self::WhiteboardToken { .. } | Self::Certificate => None,
        }
    }

    /// The nonce of the whiteboard token.
    pub fn nonce(&self) -> Option<&str> {
        match self {
            Self::WhiteboardToken { nonce } => Some(nonce),
            Self::Key(_) | Self::Jwt | Self::Certificate => None,
        }
    }
}

/// Everyone who may call, from the configuration.
pub struct Settings<'a> {
    /// Callers with API keys or client certificates.
    pub keys: &'a [CallerSettings],
    /// How long before the end of their key callers are told of it; `None` for never.
    pub key_reminder: Option<std::time::Duration>,
    /// Identity providers whose JWTs are taken.
    pub issuers: Vec<jwt::IssuerSettings>,
    /// Projects, whose Room and Task tokens may be a credential.
    pub projects: &'a [token::ProjectSettings],
    /// Whiteboard tokens that are taken no more.
    pub denied: &'a [token::DeniedToken],
    /// How many failures an address may have; `None` for no bound.
    pub failed_credentials: Option<crate::limit::Rate>,
}

/// A backend that calls with API keys or client certificates, from a `[callers.<name>]` section.
#[derive(Clone, Debug)]
pub struct CallerSettings {
    /// Its name in the configuration, which logs and metrics use.
    pub name: String,
    /// The name of its profile.
    pub profile: String,
    /// Its keys: one, or two while one is being rotated out.
    pub keys: Vec<ApiKeySettings>,
    /// The names by which its client certificates are known.
    pub certificates: Vec<CertificateSettings>,
}

/// A name by which the certificates of a caller are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// The name.
    pub name: Name,
    /// The authority that it is believed from; `None` for any.
    pub authority: Option<AuthorityName>,
}

/// One API key of a caller, as the configuration keeps it.
#[derive(Clone, Debug)]
pub struct ApiKeySettings {
    /// The id in the key.
    pub id: KeyId,
    /// The SHA-256 of the whole key.
    pub digest: Digest,
    /// When its grace ends; `None` for no end.
    pub until: Option<jiff::Timestamp>,
}

/// A caller's number, from what names it: eight bytes of a SHA-256, since a subject is chosen by
/// someone else, who must not be able to choose another's.
fn number_of(names: &[&str]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for name in names {
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
