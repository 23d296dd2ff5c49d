//! Why a request got no answer, as what the caller is told: whose fault it is, and which.

use crate::failure::{Code, Failure, ProxyError};
use crate::upstream::connection::http1::{self, ResponseSyntaxError};
use crate::upstream::connection::http2;
use crate::upstream::request::error::BodyError;
use crate::upstream::request::upload::UploadStatus;

/// No head came in time.
pub(in crate::upstream) fn no_answer() -> Failure {
    Failure::fixed(Code::UpstreamTimeout, "the whiteboard service did not answer in time")
}

/// The caller's own body cannot be sent on.
fn unsendable(broken: BodyError) -> Failure {
    let (code, why) = match broken {
        BodyError::Superseded => return Failure::superseded(),
        BodyError::TooLarge => (Code::BodyTooLarge, "the body of the request is too large"),
        BodyError::Late => (Code::RequestTimeout, "the body of the request did not arrive in time"),
        _ => (Code::MalformedRequest, "the body of the request is incomplete or malformed"),
    };
    Failure::fixed(code, why).closing()
}

/// The failure of whose fault it is: without the body of the caller no upstream can answer.
pub(in crate::upstream) fn blamed(failure: Failure, upload: Option<&UploadStatus>) -> Failure {
    let late = failure.code() == Code::UpstreamTimeout;
    upload.and_then(|upload| upload.fault(late)).map_or(failure, unsendable)
}

/// Why an exchange over HTTP/1.1 brought no head.
pub(in crate::upstream) fn unanswered(fault: &http1::Http1Error) -> Failure {
    let kind = match fault {
        http1::Http1Error::Late => return no_answer(),
        http1::Http1Error::Request(broken) => return unsendable(*broken),
        http1::Http1Error::Malformed(ResponseSyntaxError::TooLarge) => {
            ProxyError::ResponseHeadTooLarge
        }
        fault if fault.is_end() => ProxyError::ConnectionTerminated,
        _ => ProxyError::ProtocolError,
    };
    no_head(kind, fault.to_string())
}

/// Why one over HTTP/2 brought none.
pub(in crate::upstream) fn broken(fault: &http2::Http2Error) -> Failure {
    let kind = match fault {
        http2::Http2Error::HeadTooLarge => ProxyError::ResponseHeadTooLarge,
        http2::Http2Error::Malformed(_) => ProxyError::ProtocolError,
        http2::Http2Error::Broken(_) | http2::Http2Error::Request => {
            ProxyError::ConnectionTerminated
        }
    };
    no_head(kind, fault.to_string())
}

/// The connection broke, or what came on it is no HTTP.
fn no_head(kind: ProxyError, detail: String) -> Failure {
    let message = match kind {
        ProxyError::ResponseHeadTooLarge => {
            "the head of the whiteboard service's answer is too large"
        }
        ProxyError::ProtocolError => "the whiteboard service's answer is no HTTP",
        _ => "the whiteboard service closed the connection without an answer",
    };
    Failure::fixed(Code::UpstreamError, message).with_proxy_error(kind).with_detail(detail)
}
