//! Tokens taken out of a text of somebody else's, before it is shown or logged.

use std::borrow::Cow;

use super::wire::PREFIXES;

/// Replaces what follows a token's prefix. An upstream that repeats the token it was shown would
/// otherwise hand a caller a credential of the gateway's.
#[must_use]
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    let next = |text: &str| {
        let found = PREFIXES.iter().filter_map(|prefix| Some((text.find(prefix)?, prefix.len())));
        found.min().map(|(at, length)| at + length)
    };
    if next(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(end) = next(rest) {
        plain.push_str(&rest[..end]);
        plain.push('…');
        rest = rest[end..].trim_start_matches(|c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '+')
        });
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_prefix_goes() {
        for (text, plain) in [
            ("nothing here", "nothing here"),
            ("bad NETLESSROOM_YWs9-_== sent", "bad NETLESSROOM_… sent"),
            (
                "{\"a\":\"NETLESSSDK_a\",\"b\":\"NETLESSTASK_b\"}",
                "{\"a\":\"NETLESSSDK_…\",\"b\":\"NETLESSTASK_…\"}",
            ),
            ("NETLESSSDK_", "NETLESSSDK_…"),
        ] {
            assert_eq!(without_tokens(text), plain);
        }
    }
}
