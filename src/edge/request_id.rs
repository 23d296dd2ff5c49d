//! The id of a request: what a caller can name to its operator.

use http::HeaderValue;

use crate::field::unique;

#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// Made here, on the heap only as a header.
    Minted(Text),
    /// It came with the request.
    Given(HeaderValue),
}

/// A UUID as text. It begins at a word, so that it is seen to be text by the word, not by the byte.
#[derive(Clone, Debug)]
#[repr(align(8))]
pub(crate) struct Text([u8; uuid::fmt::Hyphenated::LENGTH]);

impl RequestId {
    /// A version-7 UUID (RFC 9562 §5.7), so that ids sort by time.
    pub(crate) fn mint(at_ms: u64) -> Self {
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = uuid::Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self::Minted(Text(text))
    }

    /// The id that came with a request, when it has the form `[A-Za-z0-9._-]{1,64}`.
    pub(crate) fn given(value: &HeaderValue) -> Option<Self> {
        let fits = (1..=64).contains(&value.len());
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        (fits && value.as_bytes().iter().all(plain)).then(|| Self::Given(value.clone()))
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // Hex digits and dashes are always text, and always a header value.
            Self::Minted(Text(text)) => str::from_utf8(text).unwrap_or("-"),
            Self::Given(value) => value.to_str().unwrap_or("-"),
        }
    }

    pub(crate) fn value(&self) -> HeaderValue {
        unique(match self {
            Self::Minted(Text(text)) => {
                HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
            }
            Self::Given(value) => value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_that_sort_by_time() {
        let [early, late] = [1_000, 1_001].map(RequestId::mint);
        assert!(early.as_str() < late.as_str());
        let parsed = uuid::Uuid::parse_str(early.as_str()).unwrap();
        assert_eq!(parsed.get_version_num(), 7);
        assert_ne!(RequestId::mint(1_000).as_str(), early.as_str());
    }

    #[test]
    fn a_given_id_is_plain() {
        let given = |text: &str| {
            RequestId::given(&HeaderValue::from_str(text).unwrap()).map(|id| id.as_str().to_owned())
        };
        assert_eq!(given("a-B_1.2").as_deref(), Some("a-B_1.2"));
        for odd in ["", "a b", "a\"b", &"a".repeat(65)] {
            assert_eq!(given(odd), None, "{odd}");
        }
    }
}
