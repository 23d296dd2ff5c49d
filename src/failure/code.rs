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

const fn row(code: Code, name: &'static str, statuses: [u16; 2], proxy_error: ProxyError) -> Row {
    let [documented, extended] = statuses;
    Row { code, name, documented: status(documented), extended: status(extended), proxy_error }
}

/// Of a number that is one: what is none does not compile.
const fn status(number: u16) -> StatusCode {
    match StatusCode::from_u16(number) {
        Ok(status) => status,
        Err(_) => panic!("it is no status"),
    }
}

use ProxyError as P;

/// The one place where a failure gets its status. Rows stand in the order of [`Code`].
const ROWS: [Row; Code::COUNT] = [
    row(Code::Unauthenticated, "unauthenticated", [401, 401], P::Denied),
    row(Code::InvalidToken, "invalid_token", [401, 401], P::Denied),
    row(Code::ExpiredToken, "expired_token", [401, 401], P::Denied),
    row(Code::Forbidden, "forbidden", [403, 403], P::Denied),
    row(Code::NotFound, "not_found", [404, 404], P::Denied),
    row(Code::MethodNotAllowed, "method_not_allowed", [400, 405], P::RequestError),
    row(Code::MalformedRequest, "malformed_request", [400, 400], P::RequestError),
    row(Code::InvalidBody, "invalid_body", [400, 400], P::RequestError),
    row(Code::BodyTooLarge, "too_large", [400, 413], P::RequestError),
    row(Code::HeadTooLarge, "too_large", [400, 431], P::RequestError),
    row(Code::TargetTooLong, "too_large", [400, 414], P::RequestError),
    row(Code::UnsupportedMediaType, "unsupported_media_type", [400, 415], P::RequestError),
    row(Code::RequestTimeout, "request_timeout", [400, 408], P::RequestError),
    row(Code::RateLimited, "rate_limited", [403, 429], P::Denied),
    row(Code::QuotaExceeded, "quota_exceeded", [403, 429], P::Denied),
    row(Code::Overloaded, "overloaded", [500, 503], P::ConnectionLimitReached),
    row(Code::Draining, "draining", [500, 503], P::Internal),
    row(Code::UpstreamUnavailable, "upstream_unavailable", [500, 503], P::DestinationUnavailable),
    row(Code::AuthUnavailable, "auth_unavailable", [500, 503], P::Internal),
    row(Code::StoreUnavailable, "store_unavailable", [500, 503], P::Internal),
    row(Code::AuditUnavailable, "audit_unavailable", [500, 503], P::Internal),
    row(Code::UpstreamError, "upstream_error", [500, 502], P::ProtocolError),
    row(Code::UpstreamTimeout, "upstream_timeout", [500, 504], P::ResponseTimeout),
    row(Code::UpstreamRedirect, "upstream_redirect", [500, 502], P::ProtocolError),
    row(Code::UpstreamCredential, "upstream_credential", [500, 502], P::Configuration),
    row(Code::UpstreamRefused, "upstream_refused", [400, 400], P::RequestError),
    row(Code::LoopDetected, "loop_detected", [500, 502], P::LoopDetected),
    row(Code::Internal, "internal", [500, 500], P::Internal),
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
        let settings =
            Settings { rate_limit_status: StatusCode::TOO_MANY_REQUESTS, ..Settings::default() };
        assert_eq!(Code::RateLimited.status(&settings), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(Code::Forbidden.status(&settings), StatusCode::FORBIDDEN);
    }
}
