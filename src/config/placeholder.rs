//! Values of documentation, which stand there in place of real ones: with them a configuration
//! loads, and every request that needs them fails.
//!
//! They are known by their shape, not by a list of ours: other pages and tools have their own.

/// Words that whoever writes an example has to be replaced by.
const WORDS: [&str; 9] = [
    "changeme",
    "placeholder",
    "replaceme",
    "your",
    "yourkey",
    "yoursecret",
    "yourpassword",
    "redacted",
    "xxxx",
];

/// Pairs of such words, whatever stands between.
const PAIRS: [(&str, &str); 3] = [("change", "me"), ("replace", "me"), ("insert", "here")];

/// Domains that are no one's (RFC 2606).
const RESERVED: [&str; 5] = ["example.com", "example.net", "example.org", "example", "invalid"];

/// Whether a text is such a value: `your-access-key`, `<secret>`, `${SECRET}`, `CHANGE_ME`, `xxxx…`.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let within = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    if within("<", ">") || within("${", "}") || within("{{", "}}") || within("[", "]") {
        return true;
    }
    if text.contains('…') || text.ends_with("...") {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let words = || lower.split(|c: char| !c.is_ascii_alphanumeric());
    let follows = |(first, second): &(&str, &str)| {
        words().skip_while(|word| word != first).any(|word| word == *second)
    };
    words().any(|word| WORDS.contains(&word)) || PAIRS.iter().any(follows) || is_filler(&lower)
}

/// Whether it is one letter again and again.
fn is_filler(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next();
    text.len() >= 4 && matches!(first, Some('x' | '*')) && letters.all(|c| Some(c) == first)
}

/// Whether a digest is one that no key has: it is zeros, or another digit, but for a few at its end.
pub(super) fn is_example_digest(digest: &str) -> bool {
    let hex = digest.rsplit(':').next().unwrap_or(digest).as_bytes();
    hex.len() > 8 && hex[..hex.len() - 4].iter().all(|digit| Some(digit) == hex.first())
}

/// Whether an id of a key is one of those that documentation shows.
pub(super) fn is_example_id(id: &str) -> bool {
    id.ends_with("abcdABCD")
}

/// Whether a host is of a domain that is no one's, so that no one answers there.
pub(super) fn is_example_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    RESERVED.iter().any(|domain| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_example_has_in_the_place_of_a_value_is_known_by_its_shape() {
        for text in [
            "your-access-key",
            "YOUR_SECRET_KEY",
            "the secret key of your project",
            "Bearer your-token",
            "changeme",
            "CHANGE-ME",
            "replace_me",
            "<access key>",
            "${CLASSROOM_SK}",
            "{{ secret }}",
            "insert-key-here",
            "xxxxxxxx",
            "********",
            "NETLESSSDK_…",
            "sk-...",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "MmWsWx4s",
            "sandbox-secret-key",
            "youre",
            "xXx1",
            "a-b",
            "Bearer eyJx",
            "secret",
            "xx",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn digests_ids_and_hosts_of_documentation_are_nobodys() {
        let zeros = "0".repeat(62);
        for digest in [format!("sha256:{zeros}00"), format!("sha256:{zeros}02"), "f".repeat(64)] {
            assert!(is_example_digest(&digest), "{digest}");
        }
        assert!(!is_example_digest(&format!("sha256:00{}", "1234abcd".repeat(7))));
        assert!(is_example_id("4fJ2abcdABCD") && !is_example_id("4fJ2k3dPq8Zt"));
        for (host, example) in [
            ("idp.example.org", true),
            ("EXAMPLE.com.", true),
            ("collector.example", true),
            ("a.invalid", true),
            ("myexample.org", false),
            ("example.org.school.edu", false),
            ("localhost", false),
            ("lab.test", false),
        ] {
            assert_eq!(is_example_host(host), example, "{host}");
        }
    }
}
