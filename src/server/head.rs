//! Checks of a request's head that hyper leaves to the service (RFC 9110, RFC 9112, RFC 9113).
//!
//! The upstream's request is built anew, so nothing of this could be smuggled through; it is
//! refused because two servers that read it differently must not both act on it.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Version};

use crate::failure::{Code, Failure};
use crate::field::NEVER_HOP_BY_HOP;
use crate::field::list::Members;

/// The most header fields of a request, h1 and h2 alike.
pub(super) const MOST_FIELDS: usize = 100;

/// Of the fields of a request, those that are looked at here: found in one pass over all, which
/// takes less than to look for each.
#[derive(Default)]
struct FramingFields<'a> {
    host: First<'a>,
    coding: First<'a>,
    length: First<'a>,
    connection: bool,
    expect: bool,
}

/// The first value of a field, and whether it is the only one.
#[derive(Default)]
struct First<'a> {
    value: Option<&'a HeaderValue>,
    repeated: bool,
}

/// Checks the head of a request.
///
/// # Errors
/// A [`Failure`] of code `malformed_request` or `too_large`.
pub fn check<B>(request: &Request<B>, head_bytes: usize) -> Result<(), Failure> {
    size(request, head_bytes)?;
    target(request)?;
    let headers = request.headers();
    let fields = FramingFields::of(headers);
    host(request, &fields.host)?;
    framing(&fields, request.version())?;
    if fields.connection {
        connection(headers)?;
    }
    if fields.expect {
        expectation(headers)?;
    }
    Ok(())
}

impl<'a> FramingFields<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            match *name {
                HOST => fields.host.add(value),
                TRANSFER_ENCODING => fields.coding.add(value),
                CONTENT_LENGTH => fields.length.add(value),
                CONNECTION => fields.connection = true,
                EXPECT => fields.expect = true,
                _ => {}
            }
        }
        fields
    }
}

impl<'a> First<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.repeated = self.value.is_some();
        self.value.get_or_insert(value);
    }
}

/// h1 heads over the bound never come here; h2 counts as RFC 9113 §6.5.2 has it.
fn size<B>(request: &Request<B>, head_bytes: usize) -> Result<(), Failure> {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    if target > head_bytes / 2 {
        let most = head_bytes / 2;
        let why = format!("the request target has {target} bytes; at most {most} are taken");
        return Err(Failure::new(Code::TargetTooLong, why));
    }
    if headers.len() > MOST_FIELDS {
        return Err(head_too_large(head_bytes));
    }
    // A head that fits without a doubt is not counted field by field.
    if request.version() == Version::HTTP_2 {
        let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        if fields.sum::<usize>() + target + 4 * 32 > head_bytes {
            return Err(head_too_large(head_bytes));
        }
    }
    Ok(())
}

pub(super) fn head_too_large(head_bytes: usize) -> Failure {
    let why = format!(
        "the head of the request is over {head_bytes} bytes or over {MOST_FIELDS} header fields"
    );
    Failure::new(Code::HeadTooLarge, why).closing()
}

fn target<B>(request: &Request<B>) -> Result<(), Failure> {
    match *request.method() {
        Method::CONNECT | Method::TRACE => {
            return Err(malformed("CONNECT and TRACE are not taken").closing());
        }
        _ => {}
    }
    // Two spellings of one thing, of which others may see one and the upstream the other.
    if request.uri().path_and_query().is_some_and(|target| !target.as_str().is_ascii()) {
        return Err(malformed("the request target is not ASCII: percent-encode it").closing());
    }
    if !request.uri().path().starts_with('/') {
        return Err(malformed("the request target must be a path that begins with `/`"));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one `Host` in HTTP/1.1, valid, and in agreement with an absolute target.
fn host<B>(request: &Request<B>, host: &First<'_>) -> Result<(), Failure> {
    if host.repeated {
        return Err(malformed("the request has more than one Host").closing());
    }
    let named = request.uri().authority();
    if let Some(authority) = named
        && authority.as_str().contains('@')
    {
        return Err(malformed("the request target holds user information").closing());
    }
    let Some(host) = host.value else {
        return match request.version() {
            Version::HTTP_11 => Err(malformed("the request has no Host").closing()),
            Version::HTTP_2 if named.is_none() => {
                Err(malformed("the request has neither :authority nor Host"))
            }
            _ => Ok(()),
        };
    };
    let host = authority(host).ok_or_else(|| malformed("the Host is not valid").closing())?;
    match named {
        Some(named) if !named.as_str().eq_ignore_ascii_case(host) => {
            Err(malformed("the request target and the Host disagree").closing())
        }
        _ => Ok(()),
    }
}

/// The text of a Host that is valid.
fn authority(host: &HeaderValue) -> Option<&str> {
    let text = host.to_str().ok()?;
    if is_name(text) {
        return Some(text);
    }
    let authority: Authority = text.parse().ok()?;
    // `http` takes user information and an empty port; a Host has neither (RFC 9110 §7.2).
    let plain = !text.contains('@') && !authority.host().is_empty();
    let port = match text.rsplit_once(':') {
        Some((_, port)) if !text.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    (plain && port).then_some(text)
}

/// A name of letters, digits, dots and hyphens, as nearly every Host is: it is valid without a
/// parser's looking at it.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let end = text.bytes().position(|byte| !letter(byte)).unwrap_or(text.len());
    let (name, port) = text.split_at(end);
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !name.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// RFC 9112 §6: what hyper lets through though a server may refuse it.
fn framing(fields: &FramingFields<'_>, version: Version) -> Result<(), Failure> {
    let FramingFields { coding: codings, length, .. } = fields;
    if let Some(coding) = codings.value {
        if version == Version::HTTP_10 {
            return Err(malformed("HTTP/1.0 has no Transfer-Encoding").closing());
        }
        if codings.repeated || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(malformed("the only Transfer-Encoding taken is `chunked`").closing());
        }
        if length.value.is_some() {
            let why = "the request has both Transfer-Encoding and Content-Length";
            return Err(malformed(why).closing());
        }
    }
    if length.repeated {
        return Err(malformed("the request has more than one Content-Length").closing());
    }
    Ok(())
}

fn connection(headers: &HeaderMap) -> Result<(), Failure> {
    for value in headers.get_all(CONNECTION) {
        if value.to_str().is_err() {
            return Err(malformed("the Connection header is not valid"));
        }
        // It knows no quoted strings: a quotation mark must not hide a name from us alone.
        let mut names = Members::of_tokens(value.as_bytes());
        let kept = |name: &[u8]| {
            NEVER_HOP_BY_HOP.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
        };
        if names.any(kept) {
            return Err(malformed("the Connection header names a field that is not hop-by-hop"));
        }
    }
    Ok(())
}

/// RFC 9110 §10.1.1 knows one expectation.
fn expectation(headers: &HeaderMap) -> Result<(), Failure> {
    let continues = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(continues) {
        return Ok(());
    }
    Err(malformed("the only expectation that can be met is `100-continue`"))
}

fn malformed(why: &'static str) -> Failure {
    Failure::fixed(Code::MalformedRequest, why)
}

/// Of a head, or of what comes before one, that did not come in time.
pub(super) fn late() -> Failure {
    Failure::fixed(Code::RequestTimeout, "the head of the request did not arrive in time").closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> String {
        let request = build(Request::builder()).body(()).unwrap();
        check(&request, 16 * 1024).err().map_or_else(String::new, |f| f.message().to_owned())
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(refusal(|r| r.uri("/v5/rooms").header("host", "gateway:8080")), "");
        assert_eq!(refusal(|r| r.uri("/v5/rooms").header("host", "[::1]:8080")), "");
        assert_eq!(refusal(|r| r.uri("/").header("host", "[::1]")), "");
        assert_eq!(refusal(|r| r.uri("/v5").version(Version::HTTP_10)), "");
        assert_eq!(refusal(|r| r.uri("http://a/v5").header("host", "A")), "");
    }

    proptest! {
        #[test]
        fn what_passes_without_the_parser_is_what_it_takes_too(text in "[a-zA-Z0-9.:@+_-]{0,12}") {
            let parsed = text.parse::<Authority>();
            prop_assert!(!is_name(&text) || parsed.is_ok_and(|parsed| parsed.as_str() == text));
        }
    }

    #[test]
    fn what_two_servers_could_read_differently_is_refused() {
        for (refused, part) in [
            (refusal(|r| r.uri("/")), "no Host"),
            (refusal(|r| r.uri("/").header("host", "a").header("host", "a")), "more than one Host"),
            (refusal(|r| r.uri("/").header("host", "a b")), "Host is not valid"),
            (refusal(|r| r.uri("/").header("host", "u@a")), "Host is not valid"),
            (refusal(|r| r.uri("/").header("host", "a:x")), "Host is not valid"),
            (refusal(|r| r.uri("/").header("host", "")), "Host is not valid"),
            (refusal(|r| r.uri("http://b/").header("host", "a")), "disagree"),
            (refusal(|r| r.uri("http://u@a/").header("host", "a")), "user information"),
            (
                refusal(|r| {
                    r.uri("/").header("host", "a").header("transfer-encoding", "gzip, chunked")
                }),
                "only Transfer-Encoding",
            ),
            (
                refusal(|r| r.uri("/").header("host", "a").header("connection", "close, Token")),
                "not hop-by-hop",
            ),
            (refusal(|r| r.uri("/").header("host", "a").header("expect", "magic")), "expectation"),
            (
                refusal(|r| {
                    r.uri("/")
                        .header("host", "a")
                        .header("expect", "100-continue")
                        .header("expect", "b")
                }),
                "expectation",
            ),
            (refusal(|r| r.method("TRACE").uri("/").header("host", "a")), "TRACE"),
            (refusal(|r| r.method("OPTIONS").uri("*").header("host", "a")), "begins with `/`"),
            (
                refusal(|r| r.uri(format!("/{}", "a".repeat(9000))).header("host", "a")),
                "request target has",
            ),
        ] {
            assert!(refused.contains(part), "{part:?} in {refused:?}");
        }
    }
}
