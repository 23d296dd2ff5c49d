//! A token that the gateway sent, found again in whatever comes back.
//!
//! Nothing that was shown to the service may come back to a caller. What was sent is known, so it
//! is looked for by its payload and by its signature, in whatever letters and with whatever
//! escapes they are written; neither can be guessed, so neither is found where it is not.
//!
//! Both are long, and nothing that hides them breaks them up. So only long runs of such bytes are
//! looked at closely, and most answers have none.

use std::borrow::Cow;
use std::cell::OnceCell;

use bytes::Bytes;
use http::HeaderValue;

use super::redact::without_tokens;
use super::wire::{Claims, PREFIXES};
use crate::bulk;

/// Shorter runs are not looked at: a uuid is one of 32, a signature alone one of 64.
const RUN: usize = 48;

/// So much of a run at the end of a piece waits for the next: longer than any token, escaped.
const HELD: usize = 8 * 1024;

/// What a token in an answer of success is replaced by.
const MASK: u8 = b'*';

/// The token that a request was sent with, or none, and those of its attempts before.
#[derive(Clone, Debug, Default)]
pub struct Sent<'t> {
    token: Option<Cow<'t, HeaderValue>>,
    /// The service has seen them too, and may say so when it is asked again.
    earlier: Cow<'t, [HeaderValue]>,
    /// Made when something is looked at closely.
    needles: OnceCell<Vec<Vec<u8>>>,
}

impl<'t> Sent<'t> {
    /// With this token.
    pub fn new(token: Option<&'t HeaderValue>) -> Self {
        Self { token: token.map(Cow::Borrowed), ..Self::default() }
    }

    /// After attempts with these, which the service did not take.
    #[must_use]
    pub fn after(mut self, earlier: &'t [HeaderValue]) -> Self {
        self.earlier = Cow::Borrowed(earlier);
        self
    }

    /// That of the last attempt.
    pub fn token(&self) -> Option<&HeaderValue> {
        self.token.as_deref()
    }

    /// The same, for an answer that passes through.
    pub fn keep(&self) -> Sent<'static> {
        let token = self.token.as_ref().map(|token| Cow::Owned(token.clone().into_owned()));
        let earlier = Cow::Owned(self.earlier.clone().into_owned());
        Sent { token, earlier, needles: OnceCell::new() }
    }

    /// All that were sent.
    fn tokens(&self) -> impl Iterator<Item = &HeaderValue> {
        self.token.as_deref().into_iter().chain(&*self.earlier)
    }

    /// What is looked for: the payloads and the signatures, as [`letter`] writes them.
    fn needles(&self) -> &[Vec<u8>] {
        self.needles.get_or_init(|| {
            let texts = self.tokens().filter_map(|token| token.to_str().ok());
            let of_token = |token: &str| {
                let signature = Claims::read(token).ok();
                let signature = signature.map(|claims| claims.signature.into_bytes());
                signature.into_iter().chain([payload(token.as_bytes()).to_vec()])
            };
            let all = texts.flat_map(of_token);
            let all = all.map(|needle| needle.into_iter().map(letter).collect::<Vec<u8>>());
            all.filter(|needle| needle.len() >= RUN).collect()
        })
    }

    /// Whether it may stand in a run. Most long runs are URLs and names: this looks at them without
    /// making anything.
    fn may_be_in(&self, run: &[u8]) -> bool {
        if run.contains(&b'%') || run.contains(&b'\\') {
            return true;
        }
        // A signature is written in more than 31 hexadecimal digits: in them is one of these pieces.
        let (pieces, _) = run.as_chunks::<16>();
        let digits = |piece: &[u8; 16]| bulk::all(piece, u8::is_ascii_hexdigit);
        let signature = pieces.iter().any(digits);
        signature || self.tokens().any(|token| holds(run, payload(token.as_bytes())))
    }

    /// Where it stands in bytes; empty where it does not.
    fn found_in(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        if self.token.is_none() {
            return found;
        }
        let mut from = 0;
        while let Some((begin, end)) = next_run(bytes, from) {
            from = end;
            let run = bytes.get(begin..end).unwrap_or_default();
            if !self.may_be_in(run) {
                continue;
            }
            let (letters, places) = letters(run);
            for needle in self.needles() {
                let mut at = 0;
                while let Some(place) = position(letters.get(at..).unwrap_or_default(), needle) {
                    let (first, last) = (at + place, at + place + needle.len());
                    let ends = places.get(last).copied().unwrap_or(run.len());
                    found.push((begin + places.get(first).copied().unwrap_or(0), begin + ends));
                    at = last;
                }
            }
        }
        found
    }

    /// An answer of success without it: as long as before.
    pub fn masked_in(&self, bytes: Bytes) -> Bytes {
        let found = self.found_in(&bytes);
        if found.is_empty() {
            return bytes;
        }
        let mut masked = bytes.to_vec();
        for (begin, end) in found {
            if let Some(place) = masked.get_mut(begin..end) {
                place.fill(MASK);
            }
        }
        masked.into()
    }

    /// A text for people without it, nor any other token.
    pub fn hidden_in<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = self.found_in(text.as_bytes());
        if found.is_empty() {
            return without_tokens(text);
        }
        found.sort_unstable();
        let mut plain = String::with_capacity(text.len());
        let mut from = 0;
        for (begin, end) in found {
            if begin >= from {
                plain.push_str(text.get(from..begin).unwrap_or_default());
                // Behind the prefix of a token it is put below.
                if !PREFIXES.iter().any(|prefix| plain.ends_with(prefix)) {
                    plain.push('…');
                }
            }
            from = from.max(end);
        }
        plain.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(without_tokens(&plain).into_owned())
    }

    /// For a body that comes in pieces.
    pub fn in_pieces(&self) -> Masking {
        Masking { sent: self.keep(), held: Vec::new() }
    }
}

/// Masks a body that comes in pieces: a token may stand across their borders.
#[derive(Debug)]
pub struct Masking {
    sent: Sent<'static>,
    /// The run at the end of what has come.
    held: Vec<u8>,
}

impl Masking {
    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a piece, and gives what can go on: all but a run that it ends with.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.sent.token.is_none() {
            return piece;
        }
        let whole = if self.held.is_empty() {
            piece
        } else {
            let mut whole = std::mem::take(&mut self.held);
            whole.extend_from_slice(&piece);
            whole.into()
        };
        let mut whole = self.sent.masked_in(whole);
        let run = whole.iter().rev().take(HELD).take_while(|byte| is_part(**byte)).count();
        self.held = whole.split_off(whole.len() - run).to_vec();
        whole
    }

    /// What is held, at the end.
    pub fn finish(&mut self) -> Bytes {
        self.sent.masked_in(std::mem::take(&mut self.held).into())
    }
}

/// Whether a byte can be a part of a token, or of an escape in one.
const fn is_part(byte: u8) -> bool {
    PARTS[byte as usize]
}

/// Looked up, which takes less than to compare.
const PARTS: [bool; 256] = {
    let mut parts = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let letter = byte as u8;
        parts[byte] = letter.is_ascii_alphanumeric()
            || matches!(letter, b'-' | b'_' | b'+' | b'/' | b'=' | b'%' | b'\\');
        byte += 1;
    }
    parts
};

/// The next run that is long enough. Each covers one of every [`RUN`] bytes: only those are looked
/// at.
fn next_run(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from + RUN - 1;
    while let Some(byte) = bytes.get(at) {
        if !is_part(*byte) {
            at += RUN;
            continue;
        }
        let before = bytes.get(from..at)?.iter().rev().take_while(|byte| is_part(**byte)).count();
        let behind = bulk::prefix(bytes.get(at..)?, is_part);
        if before + behind >= RUN {
            return Some((at - before, at + behind));
        }
        at += behind + RUN;
    }
    None
}

/// One spelling of the letters of a token: base64 has two alphabets, and names of headers and
/// hosts lose their case.
const fn letter(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        byte => byte.to_ascii_lowercase(),
    }
}

/// The letters of a run without their escapes, and where each begins.
fn letters(run: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut letters, mut places) = (Vec::with_capacity(run.len()), Vec::with_capacity(run.len()));
    let mut at = 0;
    while let Some(byte) = run.get(at) {
        let rest = run.get(at..).unwrap_or_default();
        let (written, length) = escaped(rest).unwrap_or((*byte, 1));
        letters.push(letter(written));
        places.push(at);
        at += length;
    }
    (letters, places)
}

/// A letter that is escaped, as JSON or as a URL does it, once or several times; and its length.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let (skipped, digits) = match text.first()? {
        b'\\' => {
            let slashes = text.iter().take_while(|byte| **byte == b'\\').count();
            match text.get(slashes)? {
                b'u' => (slashes + 1, 4),
                b'/' => return Some((b'/', slashes + 1)),
                _ => return None,
            }
        }
        b'%' => {
            let mut skipped = 1;
            // `%255F` is `%5F` once more.
            while text.get(skipped..)?.starts_with(b"25") {
                skipped += 2;
            }
            (skipped, 2)
        }
        _ => return None,
    };
    let hex = std::str::from_utf8(text.get(skipped..skipped + digits)?).ok()?;
    let written = u8::try_from(u32::from_str_radix(hex, 16).ok()?).ok()?;
    Some((written, skipped + digits))
}

/// A token without its prefix and its padding.
fn payload(token: &[u8]) -> &[u8] {
    let bare = PREFIXES.iter().find_map(|prefix| token.strip_prefix(prefix.as_bytes()));
    let bare = bare.unwrap_or(token);
    let padding = bare.iter().rev().take_while(|byte| **byte == b'=').count();
    bare.get(..bare.len() - padding).unwrap_or_default()
}

/// Whether a run without escapes holds these letters.
fn holds(run: &[u8], letters: &[u8]) -> bool {
    let Some(first) = letters.first().copied().map(letter) else { return false };
    run.windows(letters.len()).any(|part| {
        part.first().copied().map(letter) == Some(first)
            && part.iter().zip(letters).all(|(one, other)| letter(*one) == letter(*other))
    })
}

fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let last = text.len().checked_sub(needle.len())?;
    (0..=last).find(|at| {
        text.get(*at) == Some(first) && text.get(*at..).is_some_and(|rest| rest.starts_with(needle))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::TokenKind;
    use crate::token::{KeyPair, Secret, TokenFields};

    fn token() -> String {
        let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
        let minted = key.mint(
            TokenFields {
                kind: TokenKind::Room,
                role: "1",
                uuid: Some("r"),
                lifespan_ms: 5_000,
                nonce: "n-1".to_owned(),
            },
            1_000,
        );
        minted.token.expose().to_owned()
    }

    /// A text in which each letter is escaped.
    fn with_escapes(text: &str, escape: impl Fn(u8) -> String) -> String {
        text.bytes().map(escape).collect()
    }

    /// Every way in which the token has been seen to come back.
    fn disguises() -> Vec<String> {
        let token = token();
        let payload = token.split_once('_').unwrap().1.to_owned();
        let signature = Claims::read(&token).unwrap().signature;
        vec![
            token.replace('_', "%5F"),
            token.replace('_', "\\u005f"),
            token.replace('_', "%255f"),
            token.to_lowercase(),
            token.to_uppercase(),
            format!("{payload}=="),
            with_escapes(&payload, |byte| format!("\\u{byte:04x}")),
            with_escapes(&payload, |byte| format!("\\\\u{byte:04X}")),
            with_escapes(&payload, |byte| format!("%{byte:02x}")),
            payload.replace('-', "+").replace('_', "\\/"),
            format!("ak=AK&nonce=n&sig={signature}&uuid=r"),
            signature.to_uppercase(),
            payload,
            token,
        ]
    }

    fn sent() -> Sent<'static> {
        let value = HeaderValue::from_str(&token()).unwrap();
        Sent::new(Some(&value)).keep()
    }

    /// Whether nothing of it can be made out.
    fn is_gone(text: &str) -> bool {
        let (letters, _) = letters(text.as_bytes());
        sent().needles().iter().all(|needle| position(&letters, needle).is_none())
    }

    #[test]
    fn what_was_sent_is_found_however_it_is_written() {
        for disguise in disguises() {
            let body = format!("{{\"uuid\":\"a b\",\"echo\":\"{disguise}\",\"n\":1}}");
            let masked = sent().masked_in(Bytes::from(body.clone()));
            let text = std::str::from_utf8(&masked).unwrap();
            assert_eq!(masked.len(), body.len(), "{text}");
            assert!(is_gone(text) && text.contains("\"uuid\":\"a b\""), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
            let hidden = sent().hidden_in(&body).into_owned();
            assert!(is_gone(&hidden) && hidden.contains("\"n\":1"), "{hidden}");
        }
    }

    #[test]
    fn what_an_attempt_before_was_sent_with_is_found_as_well() {
        let key = KeyPair::new("BK".to_owned(), &Secret::new("SL".to_owned()));
        let last = key.mint(
            TokenFields {
                kind: TokenKind::Room,
                role: "1",
                uuid: Some("r"),
                lifespan_ms: 5_000,
                nonce: "n-2".to_owned(),
            },
            1_000,
        );
        let [last, before] =
            [last.token.expose(), &token()].map(|token| HeaderValue::from_str(token).unwrap());
        let earlier = [before];
        let sent = Sent::new(Some(&last)).after(&earlier);
        for disguise in disguises() {
            let body = format!("{{\"echo\":\"{disguise}\",\"n\":\"{}\"}}", last.to_str().unwrap());
            let mut masking = sent.in_pieces();
            let mut pieces = masking.push(Bytes::from(body.clone())).to_vec();
            pieces.extend_from_slice(&masking.finish());
            let masked = sent.masked_in(Bytes::from(body.clone()));
            assert_eq!(pieces, masked);
            for text in [std::str::from_utf8(&masked).unwrap(), &*sent.hidden_in(&body)] {
                let (letters, _) = letters(text.as_bytes());
                let found = sent.needles().iter().filter(|one| position(&letters, one).is_some());
                assert_eq!((sent.needles().len(), found.count()), (4, 0), "{text}");
            }
        }
    }

    #[test]
    fn what_was_not_sent_stays_as_it_is() {
        let other = token().replace('A', "B");
        let body = Bytes::from(format!("{{\"{other}\":\"{}\"}}", "f".repeat(300)));
        assert_eq!(sent().masked_in(body.clone()), body);
        assert_eq!(Sent::default().masked_in(Bytes::from(token())), token());
    }

    proptest! {
        #[test]
        fn it_is_found_across_pieces(which in 0_usize..14, before in 0_usize..100, cuts in prop::collection::vec(1_usize..90, 1..8)) {
            let body = format!("{{\"{}\":\"x {}\",\"n\":1}}", "ab ".repeat(before), disguises()[which]);
            let (mut rest, mut out) = (Bytes::from(body.clone()), Vec::new());
            let mut masking = sent().in_pieces();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let piece = rest.split_to((*cut).min(rest.len()));
                out.extend_from_slice(&masking.push(piece));
            }
            out.extend_from_slice(&masking.finish());
            let whole = sent().masked_in(Bytes::from(body.clone()));
            prop_assert_eq!(out.len(), body.len());
            prop_assert!(is_gone(std::str::from_utf8(&out).unwrap()));
            prop_assert_eq!(out, whole);
        }
    }
}
