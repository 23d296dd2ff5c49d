//! Why a JWT is not accepted: exactly for the log, coarsely for whoever sent it.

use std::time::Duration;

use crate::api::printable;
use crate::failure::{Code, Failure};

use super::Algorithm;
use super::mapping::ClaimError;

/// A JWT is not accepted.
#[derive(Debug)]
pub struct JwtError {
    /// The name of the issuer, once it is known which.
    issuer: Option<String>,
    /// The exact reason, for the log.
    pub reason: InvalidJwtError,
}

/// The exact reason. Texts of the token stand in it shortened and escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwtError {
    /// Over 8 KiB.
    #[error("the token has {0} bytes")]
    TooLong(usize),
    /// Not three parts: an encrypted token has five.
    #[error("the token is not of the form header.claims.signature")]
    Parts,
    /// Padding, other characters, or bits that belong to no byte.
    #[error("{0} is not canonical base64url without padding")]
    Base64(&'static str),
    /// No JSON object, or a member twice.
    #[error("{0}")]
    Json(String),
    /// A header parameter of the wrong type or with a value that is never accepted.
    #[error("the header parameter `{0}` {1}")]
    Header(&'static str, &'static str),
    /// `alg` is none of the issuer's.
    #[error("the algorithm `{0}` is not one of this issuer's")]
    Algorithm(String),
    /// `typ` is another.
    #[error("the token's type is `{0}`")]
    Type(String),
    /// A claim is absent, of the wrong type, or has a value that is never accepted.
    #[error("the claim `{0}` {1}")]
    Claim(&'static str, &'static str),
    /// No one issues tokens under this name.
    #[error("no issuer is named `{0}`")]
    UnknownIssuer(String),
    /// Meant for someone else.
    #[error("the token is for another audience")]
    Audience,
    /// An ID token tells a client who signed in; it is no key to anything.
    #[error("this is an ID token: it has the claim `{0}`")]
    IdToken(&'static str),
    /// `nbf` or `iat` is in the future.
    #[error("the claim `{0}` is {1} s in the future")]
    NotYet(&'static str, i64),
    /// It lives longer than the issuer's tokens may.
    #[error("the token lives {0} s, longer than this issuer's may")]
    Lifetime(i64),
    /// The signature held, and the time is over.
    #[error("the token expired {0} s ago")]
    Expired(i64),
    /// Over, and no signature was looked at.
    #[error("the token expired {0} s ago, and its key is not known")]
    ExpiredUnproved(i64),
    /// The issuer has no key of that id.
    #[error("no key has the id `{0}`")]
    UnknownKey(String),
    /// The token names no key, and there is none for its algorithm, or more than one.
    #[error("the token names no key, and {1} keys are for {0}")]
    AmbiguousKey(Algorithm, usize),
    /// The key is for another algorithm.
    #[error("the key `{0}` is for another algorithm than {1}")]
    KeyAlgorithm(String, Algorithm),
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// Too many signatures that its address showed did not hold, so this one was not computed.
    #[error("the signature was not computed: too many of this address did not hold")]
    Throttled(Duration),
    /// The issuer's keys never came.
    #[error("the keys of the issuer have not been fetched yet")]
    NoKeys,
    /// The issuer's keys are too old to be relied on.
    #[error("the keys of the issuer were last fetched {} s ago", .0.as_secs())]
    StaleKeys(Duration),
    /// The token is good, and a claim does not fit the mapping.
    #[error(transparent)]
    Mapping(#[from] ClaimError),
}

impl InvalidJwtError {
    pub(super) fn unknown_issuer(name: &str) -> Self {
        Self::UnknownIssuer(printable(name))
    }

    /// With the name of the issuer whose token it claims to be.
    pub(super) fn of(self, issuer: &str) -> JwtError {
        JwtError { issuer: Some(issuer.to_owned()), reason: self }
    }
}

impl From<InvalidJwtError> for JwtError {
    fn from(reason: InvalidJwtError) -> Self {
        Self { issuer: None, reason }
    }
}

impl JwtError {
    /// What is told to whoever sent the token.
    pub const fn code(&self) -> Code {
        match self.reason {
            InvalidJwtError::Expired(_) => Code::ExpiredToken,
            InvalidJwtError::NoKeys | InvalidJwtError::StaleKeys(_) => Code::AuthUnavailable,
            InvalidJwtError::Mapping(_) => Code::Forbidden,
            InvalidJwtError::Throttled(_) => Code::RateLimited,
            _ => Code::InvalidToken,
        }
    }
}

impl From<JwtError> for Failure {
    fn from(refusal: JwtError) -> Self {
        let code = refusal.code();
        let failure = match code {
            Code::ExpiredToken => Self::invalid_credential(code, "the token has expired"),
            Code::InvalidToken => Self::invalid_credential(code, "the token is not accepted here"),
            Code::AuthUnavailable => {
                let why = "tokens of this issuer cannot be checked at the moment";
                Self::fixed(code, why).with_retry_after(Duration::from_secs(2))
            }
            Code::RateLimited => {
                let wait = match &refusal.reason {
                    InvalidJwtError::Throttled(wait) => *wait,
                    _ => Duration::ZERO,
                };
                let why =
                    "too many credentials from this address did not hold: wait, or send a key";
                Self::fixed(code, why).with_retry_after(wait)
            }
            _ => Self::fixed(code, "the claims of the token do not fit what is expected of them"),
        };
        let JwtError { issuer, reason } = refusal;
        failure.with_detail(match issuer {
            Some(issuer) => format!("issuer {issuer}: {reason}"),
            None => reason.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_goes_to_the_log_and_only_its_kind_to_the_caller() {
        let failure = Failure::from(InvalidJwtError::Audience.of("school"));
        assert_eq!(failure.code(), Code::InvalidToken);
        assert_eq!(failure.message(), "the token is not accepted here");
        assert_eq!(failure.detail(), Some("issuer school: the token is for another audience"));
    }
}
