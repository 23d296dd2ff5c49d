//! `Via` (RFC 9110 §7.6.3): a request that has been through this gateway before is refused, since it
//! would go round forever.

use http::header::{HeaderMap, HeaderValue, VIA};

use crate::failure::{Code, Failure};
use crate::field::joined;
use crate::field::list::Members;

/// The `Via` of the proxies before; `own` is the pseudonym of this gateway.
///
/// # Errors
/// `loop_detected` where it is among them.
pub fn check_loop(headers: &HeaderMap, own: &str) -> Result<Option<HeaderValue>, Failure> {
    let mut seen: Option<HeaderValue> = None;
    // Passing over all fields takes less than to look for one.
    for (_, value) in headers.iter().filter(|(name, _)| **name == VIA) {
        // Bytes: a comment may hold any, and must not hide what is beside it.
        let mut entries = Members::of_commented(value.as_bytes());
        if entries.any(|entry| receiver(entry) == Some(own.as_bytes())) {
            let why = "the request has been through this gateway before";
            return Err(Failure::fixed(Code::LoopDetected, why));
        }
        seen = match seen {
            None => Some(value.clone()),
            Some(before) => joined(&before, value),
        };
    }
    Ok(seen)
}

/// The second word of an entry: who received it, after the protocol.
fn receiver(entry: &[u8]) -> Option<&[u8]> {
    entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Via` that is passed on; `None` for a loop.
    fn passed(values: &[&[u8]]) -> Option<Vec<u8>> {
        let value = |bytes: &&[u8]| (VIA, HeaderValue::from_bytes(bytes).unwrap());
        let headers: HeaderMap = values.iter().map(value).collect();
        let seen = check_loop(&headers, "wbg-test").ok()?;
        Some(seen.map_or_else(Vec::new, |seen| seen.as_bytes().to_vec()))
    }

    #[test]
    fn a_comment_in_whatever_letters_hides_no_loop() {
        for looped in [
            &b"1.1 wbg-test, 1.1 proxy (\xe9)"[..],
            b"1.0 a (\xff),2.0\twbg-test",
            b"1.1 wbg-test",
            b",,1.1 wbg-test",
            // Never closed: it is no comment.
            b"1.1 a (b, 1.1 wbg-test",
            b"1.1 a (b, c), 1.1 wbg-test (d)",
        ] {
            assert_eq!(passed(&[looped]), None, "{looped:?}");
        }
        assert_eq!(passed(&[b"1.1 wbg-tests, 1.1 a"]).unwrap(), b"1.1 wbg-tests, 1.1 a");
    }

    #[test]
    fn what_others_wrote_into_via_is_passed_on_whole() {
        assert_eq!(passed(&[b"1.1 a (\xe9)", b"1.0 b"]).unwrap(), b"1.1 a (\xe9), 1.0 b");
        let own = HeaderValue::from_static("1.1 wbg-test");
        let before = HeaderValue::from_bytes(b"1.1 a (\xe9)").unwrap();
        assert_eq!(joined(&before, &own).unwrap().as_bytes(), b"1.1 a (\xe9), 1.1 wbg-test");
    }
}
