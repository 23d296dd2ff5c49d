//! API keys: one that is made reads back, and none with a character mistyped is taken for it.
//!
//! An input has three lines: a text that may be a key, the letters of which a key is made, and a
//! typing error in it, as `PLACE CHARACTER`.

use whiteboard_gateway::caller::{ApiKey, ApiKeyError, Digest, KeyId};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const ID: usize = 12;
const SECRET: usize = 43;

/// `wbg_live_`, the id, the secret, the checksum, and `_` between.
const LENGTH: usize = 9 + ID + 1 + SECRET + 1 + 6;

/// One input.
pub fn run(input: &str) {
    let mut lines = input.splitn(3, '\n');
    read(lines.next().unwrap_or_default());
    let key = made(lines.next().unwrap_or_default());
    read(&key);
    let parsed = ApiKey::parse(&key).unwrap_or_else(|why| panic!("{key}: {why}"));
    assert_eq!(parsed.id().to_string(), key[9..9 + ID]);
    assert!(parsed.digest().matches(&Digest::of(&key)));
    if let Some(typo) = mistyped(&key, lines.next().unwrap_or_default()) {
        // A CRC-32 sees every burst of at most 32 bits.
        assert!(ApiKey::parse(&typo).is_err(), "{typo} is taken for {key}");
    }
}

/// Any text: what is taken has the form of a key.
fn read(text: &str) {
    match ApiKey::parse(text) {
        Ok(key) => {
            assert_eq!(text.len(), LENGTH);
            assert!(text.starts_with("wbg_live_") || text.starts_with("wbg_test_"));
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
            assert_eq!(key.id().to_string().parse::<KeyId>(), Ok(key.id()));
        }
        Err(why) => assert!(matches!(why, ApiKeyError::Form | ApiKeyError::Checksum)),
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
}

/// A key, made by another hand than the gateway's.
fn made(draft: &str) -> String {
    let (kind, draft) = draft.strip_prefix('!').map_or(("live", draft), |rest| ("test", rest));
    let mut letters = draft.bytes().chain(std::iter::repeat(0)).map(|byte| byte % 62);
    let mut text = |count| -> String {
        letters.by_ref().take(count).map(|letter| BASE62[usize::from(letter)] as char).collect()
    };
    let mut key = format!("wbg_{kind}_{}_{}", text(ID), text(SECRET));
    let mut number = crc32fast::hash(key.as_bytes());
    let mut digits = ['0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize] as char;
        number /= 62;
    }
    key.push('_');
    key.extend(digits);
    key
}

/// The key with another character in one place; `None` when it is the same one.
fn mistyped(key: &str, typo: &str) -> Option<String> {
    let (place, letter) = typo.split_once(' ')?;
    let place = place.parse::<usize>().ok()? % LENGTH;
    let letter = letter.chars().next().filter(char::is_ascii)?;
    let typo = format!("{}{letter}{}", &key[..place], &key[place + 1..]);
    (typo != key).then_some(typo)
}
