//! The name of a request's method, as it is written down.

use http::Method;

/// What stands in place of a method that is not known, as in the semantic conventions of traces.
pub(super) const OTHER_METHOD: &str = "_OTHER";

/// The name of a method that is known (RFC 9110 §9, RFC 5789). Any other could be any text, a key
/// in the wrong place too, so it is none that is written down.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => OTHER_METHOD,
    }
}
