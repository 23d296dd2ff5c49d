//! What a text is that stands where a credential should, and is none: named for what it is, so
//! that whoever sent it knows what to change. Nothing of the text is repeated.

use super::jwt;

/// Texts that programs write for a value that they do not have.
const UNSET: [&str; 11] = [
    "undefined",
    "null",
    "none",
    "nil",
    "nan",
    "true",
    "false",
    "(null)",
    "<nil>",
    "[object object]",
    "[object promise]",
];

/// Schemes that stand before a credential in `Authorization` alone.
const SCHEMES: [&str; 4] = ["bearer", "basic", "token", "apikey"];

/// What was done to a credential before it was sent, whatever kind it is; `None` where nothing was.
pub(super) fn damage(text: &str) -> Option<&'static str> {
    let quoted = |one: &str| one.starts_with(['"', '\'', '`']) || one.ends_with(['"', '\'', '`']);
    if quoted(text) || text.starts_with("\\\"") || text.starts_with("%22") {
        return Some(
            "the credential stands in quotation marks: send what is between them (the answer of a \
             token operation is JSON, which quotes its text)",
        );
    }
    if UNSET.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Some(
            "in the place of the credential came a word such as `undefined` or `null`: what the \
             client reads it from is not set",
        );
    }
    if text.starts_with("${") || text.starts_with("{{") || text.starts_with('<') {
        return Some(
            "in the place of the credential came a placeholder: what should replace it is not set",
        );
    }
    let (first, rest) = text.split_once([' ', '\t'])?;
    if SCHEMES.iter().any(|scheme| first.trim_end_matches(':').eq_ignore_ascii_case(scheme)) {
        return Some(
            "the credential begins with the name of a scheme, which stands once and in \
             `Authorization` alone: send the key or token by itself in `token` or `X-API-Key`",
        );
    }
    // A JWT with a blank in it is one that does not hold, and no more is told of those.
    let several = !rest.trim().is_empty() && !jwt::looks_like(text);
    several.then_some("the credential holds a blank: it is one word, without anything around it")
}

/// What a text is that no kind of credential begins with.
pub(super) fn describe(text: &str) -> &'static str {
    let begins = |prefix: &str| {
        text.split_at_checked(prefix.len())
            .is_some_and(|(first, _)| first.eq_ignore_ascii_case(prefix))
    };
    // The tokens of the API's versions up to 4: `WHITE` and base64.
    if text.starts_with("WHITE") {
        return "this is a token of version 4 of the whiteboard API or older, which nothing takes \
                any more: send a key of this gateway in its place";
    }
    if begins("netless") {
        return "a whiteboard token begins with NETLESSROOM_ or NETLESSTASK_, in capital letters";
    }
    if begins("wbg_") {
        return "an API key begins with wbg_live_ or wbg_test_, in small letters";
    }
    if jwt::looks_like(text) {
        return "this has the form of a JWT, and this gateway has no issuer whose JWTs it takes";
    }
    "this is no API key of this gateway"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_to_a_credential_is_said() {
        for (text, told) in [
            ("\"wbg_live_a\"", "quotation marks"),
            ("'NETLESSROOM_a'", "quotation marks"),
            ("eyJh.eyJh.a\"", "quotation marks"),
            ("\\\"NETLESSROOM_a\\\"", "quotation marks"),
            ("%22NETLESSROOM_a%22", "quotation marks"),
            ("undefined", "`undefined`"),
            ("NULL", "`undefined`"),
            ("[object Object]", "`undefined`"),
            ("${TOKEN}", "placeholder"),
            ("{{token}}", "placeholder"),
            ("<your key>", "placeholder"),
            ("Bearer wbg_live_a", "scheme"),
            ("bearer: eyJh.eyJh.a", "scheme"),
            ("Basic YTpi", "scheme"),
            ("wbg_live_a wbg_live_b", "blank"),
        ] {
            let why = damage(text).unwrap_or_default();
            assert!(why.contains(told), "{text}: {why}");
        }
        for good in ["wbg_live_a", "NETLESSROOM_a", "eyJh.eyJh.a_-", "x", ""] {
            assert_eq!(damage(good), None, "{good}");
        }
    }

    #[test]
    fn what_is_no_credential_is_named_for_what_it_is() {
        for (text, told) in [
            ("WHITEcGFydG5lcl9pZD0", "version 4"),
            ("netlessroom_YWs9", "capital letters"),
            ("NETLESSFOO_YWs9", "capital letters"),
            ("WBG_live_a", "small letters"),
            ("eyJh.eyJh.a", "no issuer"),
            ("x", "no API key of this gateway"),
            ("", "no API key of this gateway"),
        ] {
            assert!(describe(text).contains(told), "{text}: {}", describe(text));
        }
    }
}
