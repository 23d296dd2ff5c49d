//! The codes of failures and their statuses: one table.

use http::StatusCode;

/// What went wrong, as a word that programs can rely on: the `code` of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No credential came.
    Unauthenticated,
    /// The credential is none of ours.
    InvalidToken,
    /// The credential was ours and its time is over.
    ExpiredToken,
    /// The caller is known and may not do this.
    Forbidden,
    /// No such path, or no such room for this caller.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// The request is no proper HTTP, or holds what is never accepted.
    MalformedRequest,
    /// The body is not what the operation takes.
    InvalidBody,
    /// The body is over its bound.
    BodyTooLarge,
    /// The head is over its bound.
    HeadTooLarge,
    /// The request target is over its bound.
    TargetTooLong,
    /// The body is labelled as something else than JSON, and `content_type = "strict"`.
    UnsupportedMediaType,
    /// The request did not arrive in time.
    RequestTimeout,
    /// Too many requests.
    RateLimited,
    /// A budget is used up.
    QuotaExceeded,
    /// The gateway has more work than it takes.
    Overloaded,
    /// The gateway is about to stop.
    Draining,
    /// The upstream is known to be down.
    UpstreamUnavailable,
    /// What is needed to check a credential cannot be reached.
    AuthUnavailable,
    /// What is needed to check a limit cannot be reached.
    StoreUnavailable,
    /// What a caller was to get could not be recorded, and may not go unrecorded.
    AuditUnavailable,
    /// The upstream could not be reached, or answered what is no answer, or failed itself.
    UpstreamError,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream sent the gateway elsewhere.
    UpstreamRedirect,
    /// The upstream did not take the token that the gateway chose.
    UpstreamCredential,
    /// The upstream found the request wrong, in its own words.
    UpstreamRefused,
    /// The request has been through this gateway before.
    LoopDetected,
    /// A defect of the gateway.
    Internal,
}

/// Which statuses may appear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusProfile {
    /// Only the seven of the whiteboard API: 200, 201, 400, 401, 403, 404, 500.
    #[default]
    Documented,
    /// Those, and 405, 408, 413, 414, 415, 429, 431, 502, 503, 504 where they say it better.
    Extended,
}

struct Row {
    code: Code,
    name: &'static str,
    documented: StatusCode,
    extended: StatusCode,
    proxy_error: ProxyError,
}

const fn row(
    code: Code,
    name: &'static str,
    documented: StatusCode,
    extended: StatusCode,
    proxy_error: ProxyError,
) -> Row {
    Row { code, name, documented, extended, proxy_error }
}

use ProxyError as P;
use StatusCode as S;

/// The one place where a failure gets its status. Rows stand in the order of [`Code`].
const ROWS: [Row; Code::COUNT] = [
    row(Code::Unauthenticated, "unauthenticated", S::UNAUTHORIZED, S::UNAUTHORIZED, P::Denied),
    row(Code::InvalidToken, "invalid_token", S::UNAUTHORIZED, S::UNAUTHORIZED, P::Denied),
    row(Code::ExpiredToken, "expired_token", S::UNAUTHORIZED, S::UNAUTHORIZED, P::Denied),
    row(Code::Forbidden, "forbidden", S::FORBIDDEN, S::FORBIDDEN, P::Denied),
    row(Code::NotFound, "not_found", S::NOT_FOUND, S::NOT_FOUND, P::Denied),
    row(
        Code::MethodNotAllowed,
        "method_not_allowed",
        S::BAD_REQUEST,
        S::METHOD_NOT_ALLOWED,
        P::RequestError,
    ),
    row(
        Code::MalformedRequest,
        "malformed_request",
        S::BAD_REQUEST,
        S::BAD_REQUEST,
        P::RequestError,
    ),
    row(Code::InvalidBody, "invalid_body", S::BAD_REQUEST, S::BAD_REQUEST, P::RequestError),
    row(Code::BodyTooLarge, "too_large", S::BAD_REQUEST, S::PAYLOAD_TOO_LARGE, P::RequestError),
    row(
        Code::HeadTooLarge,
        "too_large",
        S::BAD_REQUEST,
        S::REQUEST_HEADER_FIELDS_TOO_LARGE,
        P::RequestError,
    ),
    row(Code::TargetTooLong, "too_large", S::BAD_REQUEST, S::URI_TOO_LONG, P::RequestError),
    row(
        Code::UnsupportedMediaType,
        "unsupported_media_type",
        S::BAD_REQUEST,
        S::UNSUPPORTED_MEDIA_TYPE,
        P::RequestError,
    ),
    row(
        Code::RequestTimeout,
        "request_timeout",
        S::BAD_REQUEST,
        S::REQUEST_TIMEOUT,
        P::RequestError,
    ),
    row(Code::RateLimited, "rate_limited", S::FORBIDDEN, S::TOO_MANY_REQUESTS, P::Denied),
    row(Code::QuotaExceeded, "quota_exceeded", S::FORBIDDEN, S::TOO_MANY_REQUESTS, P::Denied),
    row(
        Code::Overloaded,
        "overloaded",
        S::INTERNAL_SERVER_ERROR,
        S::SERVICE_UNAVAILABLE,
        P::ConnectionLimitReached,
    ),
    row(Code::Draining, "draining", S::INTERNAL_SERVER_ERROR, S::SERVICE_UNAVAILABLE, P::Internal),
    row(
        Code::UpstreamUnavailable,
        "upstream_unavailable",
        S::INTERNAL_SERVER_ERROR,
        S::SERVICE_UNAVAILABLE,
        P::DestinationUnavailable,
    ),
    row(
        Code::AuthUnavailable,
        "auth_unavailable",
        S::INTERNAL_SERVER_ERROR,
        S::SERVICE_UNAVAILABLE,
        P::Internal,
    ),
    row(
        Code::StoreUnavailable,
        "store_unavailable",
        S::INTERNAL_SERVER_ERROR,
        S::SERVICE_UNAVAILABLE,
        P::Internal,
    ),
    row(
        Code::AuditUnavailable,
        "audit_unavailable",
        S::INTERNAL_SERVER_ERROR,
        S::SERVICE_UNAVAILABLE,
        P::Internal,
    ),
    row(
        Code::UpstreamError,
        "upstream_error",
        S::INTERNAL_SERVER_ERROR,
        S::BAD_GATEWAY,
        P::ProtocolError,
    ),
    row(
        Code::UpstreamTimeout,
        "upstream_timeout",
        S::INTERNAL_SERVER_ERROR,
        S::GATEWAY_TIMEOUT,
        P::ResponseTimeout,
    ),
    row(
        Code::UpstreamRedirect,
        "upstream_redirect",
        S::INTERNAL_SERVER_ERROR,
        S::BAD_GATEWAY,
        P::ProtocolError,
    ),
    row(
        Code::UpstreamCredential,
        "upstream_credential",
        S::INTERNAL_SERVER_ERROR,
        S::BAD_GATEWAY,
        P::Configuration,
    ),
    row(Code::UpstreamRefused, "upstream_refused", S::BAD_REQUEST, S::BAD_REQUEST, P::RequestError),
    row(
        Code::LoopDetected,
        "loop_detected",
        S::INTERNAL_SERVER_ERROR,
        S::BAD_GATEWAY,
        P::LoopDetected,
    ),
    row(
        Code::Internal,
        "internal",
        S::INTERNAL_SERVER_ERROR,
        S::INTERNAL_SERVER_ERROR,
        P::Internal,
    ),
];

const _: () = {
    let mut index = 0;
    while index < Code::COUNT {
        assert!(ROWS[index].code as usize == index, "ROWS must stand in the order of Code");
        index += 1;
    }
};

impl Code {
    /// How many codes there are; [`Code::index`] is below it.
    pub const COUNT: usize = Self::Internal as usize + 1;

    /// The word in the envelope, in logs and in metrics. The three sizes share `too_large`.
    pub const fn name(self) -> &'static str {
        ROWS[self as usize].name
    }

    /// The place of the code, for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Every code.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.code)
    }

    /// Whether the caller could have done better: what statuses from 400 to 499 say. All others are
    /// for the operator to look into.
    pub fn is_of_the_caller(self) -> bool {
        ROWS[self as usize].documented.is_client_error()
    }

    /// Whether the whiteboard service failed, or its way: the caller's request and what the gateway
    /// made of it were right, as far as anyone can tell.
    pub const fn is_of_the_service(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnavailable
                | Self::UpstreamError
                | Self::UpstreamTimeout
                | Self::UpstreamRedirect
        )
    }

    /// The status under these settings.
    pub const fn status(self, settings: &super::Settings) -> StatusCode {
        let row = &ROWS[self as usize];
        match (self, settings.profile) {
            (Self::RateLimited | Self::QuotaExceeded, _) => settings.rate_limit_status,
            (_, StatusProfile::Documented) => row.documented,
            (_, StatusProfile::Extended) => row.extended,
        }
    }

    pub(super) const fn proxy_error(self) -> ProxyError {
        ROWS[self as usize].proxy_error
    }
}

/// The error types of `Proxy-Status` that the gateway uses (RFC 9209 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// `dns_error`.
    Dns,
    /// `destination_unavailable`.
    DestinationUnavailable,
    /// `connection_refused`.
    ConnectionRefused,
    /// `connection_terminated`.
    ConnectionTerminated,
    /// `connection_timeout`.
    ConnectionTimeout,
    /// `connection_limit_reached`.
    ConnectionLimitReached,
    /// `tls_protocol_error`.
    TlsProtocol,
    /// `tls_certificate_error`.
    TlsCertificate,
    /// `http_request_error`: the request is wrong.
    RequestError,
    /// `http_request_denied`: the request is right and refused.
    Denied,
    /// `http_response_incomplete`.
    ResponseIncomplete,
    /// `http_response_header_section_size`.
    ResponseHeadTooLarge,
    /// `http_response_body_size`.
    ResponseBodyTooLarge,
    /// `http_response_timeout`.
    ResponseTimeout,
    /// `http_protocol_error`.
    ProtocolError,
    /// `proxy_internal_error`.
    Internal,
    /// `proxy_configuration_error`.
    Configuration,
    /// `proxy_loop_detected`.
    LoopDetected,
}

impl ProxyError {
    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsProtocol => "tls_protocol_error",
            Self::TlsCertificate => "tls_certificate_error",
            Self::RequestError => "http_request_error",
            Self::Denied => "http_request_denied",
            Self::ResponseIncomplete => "http_response_incomplete",
            Self::ResponseHeadTooLarge => "http_response_header_section_size",
            Self::ResponseBodyTooLarge => "http_response_body_size",
            Self::ResponseTimeout => "http_response_timeout",
            Self::ProtocolError => "http_protocol_error",
            Self::Internal => "proxy_internal_error",
            Self::Configuration => "proxy_configuration_error",
            Self::LoopDetected => "proxy_loop_detected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Settings;

    #[test]
    fn the_documented_profile_knows_seven_statuses() {
        let settings = Settings::of(StatusProfile::Documented);
        for code in Code::all() {
            let status = code.status(&settings).as_u16();
            assert!([400, 401, 403, 404, 500].contains(&status), "{} is {status}", code.name());
        }
    }

    #[test]
    fn the_status_of_a_limit_answer_can_be_chosen_alone() {
        let settings = Settings { rate_limit_status: S::TOO_MANY_REQUESTS, ..Settings::default() };
        assert_eq!(Code::RateLimited.status(&settings), S::TOO_MANY_REQUESTS);
        assert_eq!(Code::Forbidden.status(&settings), S::FORBIDDEN);
    }
}
