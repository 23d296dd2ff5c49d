//! The body of a failure of the service: where its message stands, what of it a caller sees, and
//! what is for the log alone.
//!
//! Services around this API put a message wherever they like, and a proxy in between may cut a
//! body off. So it is read leniently, and only what is on a list passes.

use serde_json::{Map, Number, Value};

use crate::text::without_bom;
use crate::token::Sent;

/// Members that pass to the caller; texts, and numbers but for the messages.
const PASSING: [(&str, bool); 4] =
    [("message", false), ("code", true), ("errorCode", true), ("errorMessage", false)];

/// Where a message may stand, the likeliest first.
const MESSAGES: [&str; 8] =
    ["message", "errorMessage", "msg", "detail", "error", "errors", "title", "reason"];

/// A message is looked for so deep.
const DEEP: u8 = 4;

/// Deeper values are not read.
const DEEPEST: u8 = 64;

/// The code of a conversion that is refused because too many are queued, and its documented text:
/// the failures that the service was seen to write have no code.
const QUEUE_FULL: (&str, &str) = ("2010203", "the number of tasks exceeds limit");

/// The longest id of a request, or name of a region, that is logged.
const LONGEST_NAME: usize = 128;

/// What went wrong, wherever a failure of the service says it, without what it was asked with.
pub fn message_in(bytes: &[u8], sent: &Sent<'_>) -> Option<String> {
    FailureBody::read(bytes, sent)?.message
}

/// A failure in the service's own words, with no token in it.
#[derive(Clone, Debug, Default)]
pub(in crate::upstream) struct FailureBody {
    /// All of it.
    pub(super) whole: Value,
    message: Option<String>,
}

impl FailureBody {
    /// Reads as much as there is; `None` for what is no JSON. What the gateway sent is taken out.
    pub(super) fn read(bytes: &[u8], sent: &Sent<'_>) -> Option<Self> {
        let bytes = without_bom(bytes);
        let whole = FailureBodyReader { rest: bytes }.value(0)?;
        let whole = plain(whole, sent);
        let message = text_of(&whole, DEEP);
        Some(Self { whole, message })
    }

    /// What went wrong, wherever that stands.
    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The members that pass. One that is null or of a wrong type is as absent.
    pub(super) fn passing(&self) -> Map<String, Value> {
        let member = |(name, number): (&str, bool)| {
            let value = self.whole.get(name)?;
            let passes = match value {
                Value::String(text) => !text.is_empty(),
                Value::Number(_) => number,
                _ => false,
            };
            passes.then(|| (name.to_owned(), value.clone()))
        };
        PASSING.into_iter().filter_map(member).collect()
    }

    /// The title that clients of the legacy conversions read.
    pub(super) fn title(&self) -> Option<&str> {
        self.whole.get("error")?.get("title")?.as_str().filter(|title| !title.is_empty())
    }

    /// By what the service knows the request, and where: its support asks for that.
    pub(super) fn reference(&self) -> (Option<String>, Option<String>) {
        let find = |name| {
            let inside = self.whole.get("error").and_then(|error| error.get(name));
            let text = self.whole.get(name).into_iter().chain(inside).find_map(Value::as_str)?;
            let shown = |c: &char| c.is_ascii_graphic();
            let name: String = text.chars().filter(shown).take(LONGEST_NAME).collect();
            (!name.is_empty()).then_some(name)
        };
        (find("requestId"), find("region"))
    }

    /// Whether too many conversions are queued.
    pub(super) fn is_queue_full(&self) -> bool {
        let (queue_full, text) = QUEUE_FULL;
        let coded = ["code", "errorCode"].into_iter().filter_map(|name| self.whole.get(name));
        let mut coded = coded.map(|code| match code {
            Value::String(code) => code == queue_full,
            Value::Number(code) => code.to_string() == queue_full,
            _ => false,
        });
        coded.any(|is| is) || self.message().is_some_and(|message| message.trim() == text)
    }
}

/// The message in a value: of an array its texts, or what its first object says.
fn text_of(value: &Value, deep: u8) -> Option<String> {
    let deeper = deep.checked_sub(1)?;
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
            let texts: Vec<&str> = texts.collect();
            if texts.is_empty() {
                return items.iter().find_map(|item| text_of(item, deeper));
            }
            Some(texts.join("; "))
        }
        Value::Object(members) => MESSAGES
            .iter()
            .filter_map(|name| members.get(*name))
            .find_map(|one| text_of(one, deeper)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Looks through what was parsed: JSON can write every letter of a token as an escape.
fn plain(value: Value, sent: &Sent<'_>) -> Value {
    match value {
        Value::String(text) => Value::String(sent.hidden_in(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(|item| plain(item, sent)).collect(),
        Value::Object(members) => {
            let plain = |(name, value): (String, Value)| {
                (sent.hidden_in(&name).into_owned(), plain(value, sent))
            };
            members.into_iter().map(plain).collect()
        }
        other => other,
    }
}

/// Reads JSON that may end too early, hold half of a surrogate pair or bytes that are no UTF-8.
struct FailureBodyReader<'a> {
    rest: &'a [u8],
}

impl FailureBodyReader<'_> {
    /// The next byte behind blanks.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        there
    }

    fn value(&mut self, depth: u8) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'"' => Some(Value::String(self.text())),
            b'{' => Some(Value::Object(self.object(depth))),
            b'[' => {
                self.takes(b'[');
                let mut items = Vec::new();
                while let Some(item) = self.value(depth + 1) {
                    items.push(item);
                    if !self.takes(b',') {
                        break;
                    }
                }
                self.takes(b']');
                Some(Value::Array(items))
            }
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: u8) -> Map<String, Value> {
        self.takes(b'{');
        let mut members = Map::new();
        while self.peek() == Some(b'"') {
            let name = self.text();
            if !self.takes(b':') {
                break;
            }
            let Some(value) = self.value(depth + 1) else { break };
            members.insert(name, value);
            if !self.takes(b',') {
                break;
            }
        }
        self.takes(b'}');
        members
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<Value> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.rest.iter().take_while(is_part).count();
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        match word {
            b"true" => Some(Value::Bool(true)),
            b"false" => Some(Value::Bool(false)),
            b"null" => Some(Value::Null),
            number => serde_json::from_slice::<Number>(number).ok().map(Value::Number),
        }
    }

    /// A text, up to its end or that of what there is.
    fn text(&mut self) -> String {
        self.takes(b'"');
        let mut bytes = Vec::new();
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut bytes),
                byte => bytes.push(*byte),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn escape(&mut self, out: &mut Vec<u8>) {
        let Some((byte, rest)) = self.rest.split_first() else { return };
        self.rest = rest;
        let one = match byte {
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => self.unicode(),
            byte => char::from(*byte),
        };
        out.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn unicode(&mut self) -> char {
        let first = self.hex();
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        let Some(rest) = self.rest.strip_prefix(b"\\u") else {
            return char::REPLACEMENT_CHARACTER;
        };
        let (before, second) = (self.rest, FailureBodyReader { rest }.hex());
        if !(0xdc00..0xe000).contains(&second) {
            self.rest = before;
            return char::REPLACEMENT_CHARACTER;
        }
        self.rest = rest.get(4..).unwrap_or_default();
        let both = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Four digits; no character where there are none.
    fn hex(&mut self) -> u32 {
        let digits = self.rest.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if value.is_some() {
            self.rest = self.rest.get(4..).unwrap_or_default();
        }
        value.unwrap_or(u32::MAX)
    }
}
