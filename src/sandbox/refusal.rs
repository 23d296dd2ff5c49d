//! What the service says when it does not do what was asked: its documented statuses and texts.
//!
//! Its failures are `{"message": …}`, with a `code` for conversions. They are those of a third
//! party, so none of the gateway's envelope is in them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::failure::{self, Failure};
use crate::token::InvalidTokenError;

/// Why a request is not done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SandboxError {
    /// The request is wrong.
    #[error("{0}")]
    Request(String),
    /// The request is wrong in a way that the gateway's own checks know, and have a status for.
    #[error("{message}")]
    Checked {
        /// The status.
        status: StatusCode,
        /// The reason.
        message: String,
    },
    /// The token is not one, not ours, or over.
    #[error("{0}")]
    Token(InvalidTokenError),
    /// The keys in the body of a token request are not ours.
    #[error("accessKey or secretAccessKey is wrong")]
    Keys,
    /// The role of the token is too low for the operation, or its kind is not taken there.
    #[error("token access role {0} forbidden")]
    Role(String),
    /// A Room token of another room.
    #[error("token access room forbidden")]
    OtherRoom,
    /// A Task token of another task.
    #[error("token access task forbidden")]
    OtherTask,
    /// No such room in this region.
    #[error("room not found")]
    NoRoom,
    /// No such scene.
    #[error("scene {0} does not exist")]
    NoScene(String),
    /// No such conversion in this region.
    #[error("task not found")]
    NoTask,
    /// Too many conversions wait.
    #[error("the number of tasks exceeds limit")]
    QueueFull,
    /// A conversion that runs cannot be moved.
    #[error("modify priority for running task is not allowed")]
    Running,
    /// No path of the sandbox's own.
    #[error("the sandbox has no such path; GET / lists those it has")]
    NoPath,
}

impl SandboxError {
    /// The status; those of the texts that are documented without one follow from the table of
    /// statuses: 401 for a wrong token, 403 for one that is right but not enough.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) | Self::QueueFull | Self::Running => StatusCode::BAD_REQUEST,
            Self::Checked { status, .. } => *status,
            Self::Token(_) | Self::Keys => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::OtherRoom | Self::OtherTask => StatusCode::FORBIDDEN,
            Self::NoRoom | Self::NoScene(_) | Self::NoTask | Self::NoPath => StatusCode::NOT_FOUND,
        }
    }

    /// The error code of a conversion.
    const fn code(&self) -> Option<&'static str> {
        match self {
            Self::QueueFull => Some("2010203"),
            Self::NoTask => Some("2010605"),
            Self::Running => Some("2010607"),
            _ => None,
        }
    }

    /// The body, as the pages have it.
    pub(super) fn body(&self) -> Value {
        match self.code() {
            None => json!({ "message": self.to_string() }),
            Some(code) => json!({ "message": self.to_string(), "code": code }),
        }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        let status = failure.code().status(&failure::Settings::default());
        Self::Checked { status, message: failure.message().to_owned() }
    }
}

impl From<InvalidTokenError> for SandboxError {
    /// No page says what an unknown access key is answered with. A disabled one must not read
    /// otherwise than a forged one, so it is the text for a signature that does not hold.
    fn from(why: InvalidTokenError) -> Self {
        Self::Token(match why {
            InvalidTokenError::UnknownKey => InvalidTokenError::Signature,
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::codes::CODES;

    #[test]
    fn a_refusal_is_a_message_and_for_conversions_a_code() {
        let role = SandboxError::Role("rooms.update".to_owned());
        assert_eq!(role.status(), StatusCode::FORBIDDEN);
        assert_eq!(role.body(), json!({"message": "token access role rooms.update forbidden"}));
        assert_eq!(
            SandboxError::QueueFull.body(),
            json!({"message": "the number of tasks exceeds limit", "code": "2010203"})
        );
    }

    #[test]
    fn a_refusal_with_a_code_has_the_text_of_that_code() {
        for refusal in [SandboxError::QueueFull, SandboxError::NoTask, SandboxError::Running] {
            let code: u32 = refusal.code().unwrap().parse().unwrap();
            let documented = CODES.iter().find(|(known, _)| *known == code).unwrap().1;
            assert_eq!(refusal.to_string(), documented);
        }
    }

    #[test]
    fn the_texts_of_wrong_tokens_are_the_documented_ones() {
        for (why, text) in [
            (InvalidTokenError::Format, "invalid format of token"),
            (InvalidTokenError::Expired, "expired token"),
            (InvalidTokenError::Signature, "invalid signature of token"),
            (InvalidTokenError::UnknownKey, "invalid signature of token"),
        ] {
            let refusal = SandboxError::from(why);
            assert_eq!((refusal.status().as_u16(), refusal.to_string().as_str()), (401, text));
        }
    }
}
