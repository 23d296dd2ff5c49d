//! Why a body ended before its end, the caller's on its way up or the service's on its way down.

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The caller's body broke off or was malformed.
    #[error("the body of the request is incomplete")]
    Request,
    /// The caller's body is over its bound.
    #[error("the body of the request is too large")]
    TooLarge,
    /// The caller's body did not come in time.
    #[error("the body of the request did not arrive in time")]
    Late,
    /// What allowed the request does not count any more.
    #[error("the request is not allowed any more")]
    Superseded,
    /// The upstream's answer broke off.
    #[error("the answer of the upstream is incomplete")]
    Answer,
    /// The upstream's answer came too slowly.
    #[error("the answer of the upstream came too slowly")]
    Slow,
    /// The caller took nothing of the answer, and others waited to ask.
    #[error("the caller took nothing of the answer while others waited")]
    Untaken,
}
