//! Tokens taken out of a text of someone else's, before it is shown or logged.

use std::borrow::Cow;

use super::wire::PREFIXES;

/// How API keys of a gateway begin. None is ever sent to an upstream, but a caller may have put
/// its own into the path of what it asks for.
const KEY_PREFIXES: [&str; 2] = ["wbg_live_", "wbg_test_"];

/// Replaces what follows the prefix of a token or API key. An upstream that repeats the token it
/// was shown would otherwise hand a caller a credential of the gateway's.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    let next = |text: &str| {
        let prefixes = PREFIXES.iter().chain(&KEY_PREFIXES);
        let found = prefixes.filter_map(|prefix| Some((text.find(prefix)?, prefix.len())));
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
            ("no room wbg_live_4fJ2_a1_b2 here", "no room wbg_live_… here"),
        ] {
            assert_eq!(without_tokens(text), plain);
        }
    }
}
