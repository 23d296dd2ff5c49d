//! Everything that can go wrong with a request, in one type.
//!
//! A [`Failure`] knows its code, its status in each profile, its headers and how to say itself;
//! [`Failure::answer`] turns it into the envelope. Nothing else in the gateway makes an error
//! answer. This module imports nothing of ours and does no I/O.

mod code;
mod envelope;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use serde_json::{Map, Value};

pub use code::{Code, ProxyError, StatusProfile};
pub(crate) use envelope::escaped;
pub use envelope::{RawHead, RenderOptions};

/// How failures are told, from the `[errors]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which statuses may appear.
    pub profile: StatusProfile,
    /// The status of a limit answer: 403 or 429, whatever the profile.
    pub rate_limit_status: http::StatusCode,
}

impl Settings {
    /// The settings of a profile: the limit answer is 403 in `documented`, 429 in `extended`.
    pub const fn of(profile: StatusProfile) -> Self {
        let rate_limit_status = match profile {
            StatusProfile::Documented => http::StatusCode::FORBIDDEN,
            StatusProfile::Extended => http::StatusCode::TOO_MANY_REQUESTS,
        };
        Self { profile, rate_limit_status }
    }

    /// The same with another status of the limit answer.
    #[must_use]
    pub const fn with_rate_limit_status(self, rate_limit_status: http::StatusCode) -> Self {
        Self { rate_limit_status, ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(StatusProfile::Documented)
    }
}

/// Why a request is not answered with success.
///
/// Boxed inside, so that a `Result` with it stays as small as its success.
pub struct Failure(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    /// For the log alone: never shown to a caller.
    detail: Option<Cow<'static, str>>,
    /// The rule of the configuration that refused: `profiles.student.allow`.
    rule: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    challenge: Option<Challenge>,
    proxy_error: Option<ProxyError>,
    /// The methods that the path takes.
    allow: Option<HeaderValue>,
    upstream: Option<UpstreamAnswer>,
    reference: Option<Reference>,
    close: bool,
    /// The request is to begin again.
    superseded: bool,
}

/// What `WWW-Authenticate` says (RFC 9110 §11.6.1, RFC 6750 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    /// No credential came.
    Missing,
    /// A credential came and does not do.
    Invalid(Cow<'static, str>),
    /// The credential is good and this is not within its rights.
    Scope(Cow<'static, str>),
}

/// A failure that the upstream told: its status as it came, and of its JSON object what passes.
struct UpstreamAnswer {
    status: http::StatusCode,
    body: Map<String, Value>,
    /// Its `error.title`, which the clients of one operation read.
    title: Option<String>,
}

/// By what the service knows a request that failed, for whoever asks its support.
#[derive(Debug, Default)]
struct Reference {
    id: Option<String>,
    region: Option<String>,
}

impl Failure {
    /// A failure with a sentence for people: it names the field, limit or rule, and holds no
    /// secret and no unescaped text of a caller.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let challenge = match code {
            Code::Unauthenticated => Some(Challenge::Missing),
            _ => None,
        };
        Self(Box::new(Inner {
            code,
            message: message.into(),
            detail: None,
            rule: None,
            retry_after: None,
            challenge,
            proxy_error: None,
            allow: None,
            upstream: None,
            reference: None,
            close: false,
            superseded: false,
        }))
    }

    /// [`Failure::new`] for a text that never varies.
    pub fn fixed(code: Code, message: &'static str) -> Self {
        Self::new(code, message)
    }

    /// A credential came and does not do: 401 with the reason in `WWW-Authenticate`.
    pub fn invalid_credential(code: Code, message: &'static str) -> Self {
        let mut failure = Self::new(code, message);
        failure.0.challenge = Some(Challenge::Invalid(Cow::Borrowed(message)));
        failure
    }

    /// The caller is known and may not do this operation: 403 with the operation as the scope.
    pub fn insufficient_scope(operation: impl Into<Cow<'static, str>>, message: String) -> Self {
        let mut failure = Self::new(Code::Forbidden, message);
        failure.0.challenge = Some(Challenge::Scope(operation.into()));
        failure
    }

    /// What allowed the request does not count any more: nothing was done for it, and it begins
    /// again with what it has. Said to a caller only where that has happened too often.
    pub fn superseded() -> Self {
        let why = "what this request is allowed by changed each time that it was about to be sent";
        let mut failure = Self::fixed(Code::Overloaded, why);
        failure.0.superseded = true;
        failure.with_retry_after(Duration::from_secs(1))
    }

    /// A path that exists, asked with a method that it does not take.
    pub fn method_not_allowed(allow: &str) -> Self {
        let message = format!("this path takes {allow}");
        let mut failure = Self::new(Code::MethodNotAllowed, message);
        failure.0.allow = HeaderValue::from_str(allow).ok();
        failure
    }

    /// The same failure with another message.
    #[must_use]
    pub fn saying(mut self, message: String) -> Self {
        self.0.message = message.into();
        self
    }

    /// A failure that the upstream told in its own words.
    ///
    /// `body` is what of it may pass, and its fields win; `message` is added where it holds none.
    pub fn from_upstream(
        code: Code,
        status: http::StatusCode,
        body: Map<String, Value>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut failure = Self::new(code, message);
        failure.0.upstream = Some(UpstreamAnswer { status, body, title: None });
        failure
    }

    /// The title that the upstream told, where the failure is in its own words.
    #[must_use]
    pub fn with_title(mut self, title: Option<String>) -> Self {
        if let Some(upstream) = &mut self.0.upstream {
            upstream.title = title;
        }
        self
    }

    /// By what the service knows the request, and its region: for the access line alone.
    #[must_use]
    pub fn with_reference(mut self, id: Option<String>, region: Option<String>) -> Self {
        if id.is_some() || region.is_some() {
            self.0.reference = Some(Reference { id, region });
        }
        self
    }

    /// By what the service knows the request.
    pub fn upstream_request_id(&self) -> Option<&str> {
        self.0.reference.as_ref()?.id.as_deref()
    }

    /// The region that the service says it is.
    pub fn upstream_region(&self) -> Option<&str> {
        self.0.reference.as_ref()?.region.as_deref()
    }

    /// What the log should know and a caller should not.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The rule of the configuration that refused.
    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.0.rule = Some(rule.into());
        self
    }

    /// When trying again makes sense; sent in whole seconds, at least 1.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The registered error type of RFC 9209 §2.3, where it is finer than the code's own.
    #[must_use]
    pub fn with_proxy_error(mut self, error: ProxyError) -> Self {
        self.0.proxy_error = Some(error);
        self
    }

    /// The connection must not be used again: what follows on it cannot be told apart.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What only the log may know.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The rule of the configuration that refused.
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }

    /// When trying again makes sense, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the request is to begin again.
    pub const fn is_superseded(&self) -> bool {
        self.0.superseded
    }

    /// The registered error type of RFC 9209 §2.3.
    pub fn proxy_error(&self) -> ProxyError {
        self.0.proxy_error.unwrap_or_else(|| self.0.code.proxy_error())
    }

    /// The status that the upstream answered with, where it told this failure.
    pub fn upstream_status(&self) -> Option<http::StatusCode> {
        self.0.upstream.as_ref().map(|upstream| upstream.status)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Failure")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("detail", &self.0.detail)
            .field("rule", &self.0.rule)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.0.code.name(), self.0.message)
    }
}

impl std::error::Error for Failure {}
