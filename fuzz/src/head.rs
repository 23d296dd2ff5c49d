//! Heads of requests: one that passes has one host, one framing and a path, whatever else it has.
//!
//! An input is a head as HTTP/1.1 writes it. What the `http` crate would not take never comes as
//! far as the check, so it ends here as well.

use super::assert_presentable;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, Request, Version};
use whiteboard_gateway::server::check_head;

const HEAD_BYTES: usize = 16 * 1024;

/// One input.
pub fn run(input: &[u8]) {
    let Some(request) = request(input) else { return };
    match check_head(&request, HEAD_BYTES) {
        Ok(()) => passed(&request),
        Err(failure) => assert_presentable(&failure),
    }
}

fn request(input: &[u8]) -> Option<Request<()>> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut start = lines.next()?.split(|byte| *byte == b' ');
    let version = |name: &[u8]| match name {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/2" => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut request = Request::builder()
        .method(start.next()?)
        .uri(start.next()?)
        .version(start.next().map_or(Version::HTTP_11, version));
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(()).ok()
}

fn passed(request: &Request<()>) {
    let headers = request.headers();
    assert!(!matches!(*request.method(), Method::CONNECT | Method::TRACE));
    assert!(request.uri().path().starts_with('/'));
    assert!(headers.len() <= 100);
    let hosts = values(headers, HOST);
    assert!(hosts.len() <= 1);
    match (hosts.first(), request.uri().authority()) {
        (None, authority) => assert!(authority.is_some() || request.version() == Version::HTTP_10),
        (Some(host), authority) => {
            assert!(!host.is_empty() && !host.contains(['@', '/', '?', '#', ' ', '\t']));
            assert!(authority.is_none_or(|named| named.as_str().eq_ignore_ascii_case(host)));
        }
    }
    let codings = values(headers, TRANSFER_ENCODING);
    let framings = codings.len() + headers.get_all(CONTENT_LENGTH).iter().count();
    assert!(framings <= 1, "two framings");
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case("chunked")));
    let expectations = values(headers, EXPECT);
    assert!(expectations.iter().all(|value| value.eq_ignore_ascii_case("100-continue")));
    for named in values(headers, CONNECTION).iter().flat_map(|names| names.split(',')) {
        let named = named.trim().to_ascii_lowercase();
        assert!(!["authorization", "token", "host", "content-length", "via"].contains(&&*named));
    }
}

/// The values of a field that passed, all of which are text.
fn values(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}
