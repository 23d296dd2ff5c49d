//! Texts of others, before they are shown or logged: no token is left in them.
//!
//! An input is a text.

use std::borrow::Cow;

use whiteboard_gateway::token::{Claims, kind_of, without_tokens};

/// One input.
pub fn run(text: &str) {
    let plain = without_tokens(text);
    let held = text.char_indices().any(|(at, _)| kind_of(&text[at..]).is_some());
    assert_eq!(matches!(plain, Cow::Owned(_)), held, "a text without tokens is not touched");
    assert!(held || plain == text);
    for (at, _) in plain.char_indices() {
        let rest = &plain[at..];
        if kind_of(rest).is_some() {
            assert!(Claims::read(rest).is_err());
            let (_, after) = rest.split_once('_').expect("a prefix ends with `_`");
            assert!(after.starts_with('…'), "{plain}");
        }
    }
}
