//! Where the messages of HTTP/1.1 begin and end (RFC 9112 §2.2, §6, §7.1), by the letter, as their
//! bytes pass by on the way to hyper.
//!
//! hyper takes what a strict server refuses: a length beside a coding, a length twice, a bare LF,
//! extensions of chunks that are none. Two servers that see the end of such a message in different
//! places can be made to see different requests (request smuggling). So the borders are followed
//! here as well, and a connection ends where its peer leaves the grammar.

/// What is against the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// A line ends in a LF without a CR.
    BareLineFeed,
    /// The request line holds a fragment, which hyper would cut off.
    Fragment,
    /// There are both `Transfer-Encoding` and `Content-Length`.
    LengthAndCoding,
    /// There is more than one `Content-Length`.
    TwoLengths,
    /// The `Content-Length` is no number.
    Length,
    /// The `Transfer-Encoding` is not `chunked`, or there is more than one.
    Coding,
    /// A `Transfer-Encoding` in HTTP/1.0.
    OldCoding,
    /// A chunk begins with no size, or with extensions that are none.
    Chunk,
    /// The extensions of the chunks are too long.
    Extensions,
    /// A chunk is not as long as its size.
    ChunkEnd,
}

/// The most bytes of the extensions of all chunks of a body, which no one reads.
const EXTENSIONS: usize = 16 * 1024;

/// A chunk size of more digits does not fit into 64 bits.
const DIGITS: usize = 16;

/// Follows the messages of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    state: FramingState,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    head: BodyLength,
    /// The bytes of extensions in the chunks of this message so far.
    extensions: usize,
    /// How many messages have ended.
    received: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FramingState {
    /// A request line, or empty lines before it.
    #[default]
    Start,
    /// The next field.
    Field,
    /// So many bytes of a body.
    Body(u64),
    /// The size of a chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    /// The next trailer.
    Trailer,
}

/// What a head has said of its body so far.
#[derive(Clone, Copy, Debug, Default)]
struct BodyLength {
    old: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Where bytes are against the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// Why.
    pub error: FramingError,
    /// So many of the bytes that were given belong to what came before: to other messages where
    /// a head is wrong, and also to the body where that is.
    pub before: usize,
    /// Whether it is in the body of a request, whose head was in order.
    pub in_body: bool,
}

impl Framing {
    /// Takes bytes as they come.
    ///
    /// # Errors
    /// A [`MessageError`] once they are against the grammar; nothing may be given after it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), MessageError> {
        let mut at = 0;
        let mut head = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let FramingState::Body(left) | FramingState::Chunk(left) = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                self.state = match (self.state, left - taken as u64) {
                    (FramingState::Body(_), 0) => self.ended(),
                    (FramingState::Body(_), left) => FramingState::Body(left),
                    (_, 0) => FramingState::ChunkEnd,
                    (_, left) => FramingState::Chunk(left),
                };
                at += taken;
                continue;
            }
            if self.is_between() {
                head = at;
            }
            let in_body = !self.is_in_head_or_between();
            let before = if in_body { at } else { head };
            let fails = |error| MessageError { error, before, in_body };
            let Some(length) = memchr::memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                return self.check(&self.line).map_err(fails);
            };
            at += length + 1;
            if self.line.is_empty() {
                self.take_line(&rest[..length]).map_err(fails)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..length]);
                self.take_line(&line).map_err(fails)?;
            }
        }
        Ok(())
    }

    /// How many messages have ended.
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Whether a message has ended and no other begun.
    pub const fn is_between(&self) -> bool {
        matches!(self.state, FramingState::Start) && self.line.is_empty()
    }

    /// Whether a head has begun and not ended.
    pub const fn is_in_head(&self) -> bool {
        self.is_in_head_or_between() && !self.is_between()
    }

    /// Whether the next byte is one of a body itself, and of nothing around it.
    pub const fn is_in_data(&self) -> bool {
        matches!(self.state, FramingState::Body(_) | FramingState::Chunk(_))
    }

    const fn is_in_head_or_between(&self) -> bool {
        matches!(self.state, FramingState::Start | FramingState::Field)
    }

    /// What can be said of a line without its LF, whether that has come or not.
    fn check(&self, line: &[u8]) -> Result<(), FramingError> {
        match self.state {
            FramingState::Size if line.len() > EXTENSIONS => Err(FramingError::Extensions),
            FramingState::ChunkEnd if !b"\r".starts_with(line) => Err(FramingError::ChunkEnd),
            _ => Ok(()),
        }
    }

    /// Takes a line, which has come without its LF.
    fn take_line(&mut self, line: &[u8]) -> Result<(), FramingError> {
        self.check(line)?;
        let Some(line) = line.strip_suffix(b"\r") else { return Err(FramingError::BareLineFeed) };
        match self.state {
            // An empty line before a request is ignored (§2.2).
            FramingState::Start if line.is_empty() => {}
            FramingState::Start if line.contains(&b'#') => return Err(FramingError::Fragment),
            FramingState::Start => {
                self.head =
                    BodyLength { old: line.ends_with(b"HTTP/1.0"), ..BodyLength::default() };
                self.state = FramingState::Field;
            }
            FramingState::Field if line.is_empty() => self.end_head(),
            FramingState::Field => self.head.take_field(line)?,
            FramingState::Size => {
                let (size, extensions) = chunk_size(line).ok_or(FramingError::Chunk)?;
                self.extensions += extensions;
                if self.extensions >= EXTENSIONS {
                    return Err(FramingError::Extensions);
                }
                self.state =
                    if size == 0 { FramingState::Trailer } else { FramingState::Chunk(size) };
            }
            FramingState::ChunkEnd => self.state = FramingState::Size,
            FramingState::Trailer if line.is_empty() => self.state = self.ended(),
            FramingState::Trailer | FramingState::Body(_) | FramingState::Chunk(_) => {}
        }
        Ok(())
    }

    fn end_head(&mut self) {
        self.extensions = 0;
        self.state = match self.head {
            BodyLength { chunked: true, .. } => FramingState::Size,
            BodyLength { length: Some(length), .. } if length > 0 => FramingState::Body(length),
            _ => self.ended(),
        };
    }

    /// A message has ended, and the next may come.
    const fn ended(&mut self) -> FramingState {
        self.received = self.received.wrapping_add(1);
        FramingState::Start
    }
}

impl BodyLength {
    fn take_field(&mut self, line: &[u8]) -> Result<(), FramingError> {
        if let Some(value) = value(line, b"content-length:") {
            if self.chunked {
                return Err(FramingError::LengthAndCoding);
            }
            if self.length.is_some() {
                return Err(FramingError::TwoLengths);
            }
            self.length = Some(number(value).ok_or(FramingError::Length)?);
        } else if let Some(value) = value(line, b"transfer-encoding:") {
            if self.old {
                return Err(FramingError::OldCoding);
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::Coding);
            }
            if self.length.is_some() {
                return Err(FramingError::LengthAndCoding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// The value of a field of this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (own, value) = line.split_at_checked(name.len())?;
    // Most lines are told apart by this byte alone.
    let is_it = own.last() == Some(&b':') && own.eq_ignore_ascii_case(name);
    is_it.then(|| trim(value))
}

/// Digits alone: no sign, no list.
fn number(digits: &[u8]) -> Option<u64> {
    let value = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, value) }
}

/// The size of a chunk and the length of its extensions: `chunk-size [ chunk-ext ]` (§7.1).
fn chunk_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(digits);
    if digits.len() > DIGITS || !are_extensions(extensions) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u64::from_str_radix(digits, 16).ok()?, extensions.len()))
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (§7.1.1).
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(named) = trim_start(rest).strip_prefix(b";") else { return false };
        let Some(after) = token(trim_start(named)) else { return false };
        rest = match trim_start(after).strip_prefix(b"=") {
            None => after,
            Some(value) => match trim_start(value) {
                [b'"', text @ ..] => match quoted(text) {
                    Some(after) => after,
                    None => return false,
                },
                value => match token(value) {
                    Some(after) => after,
                    None => return false,
                },
            },
        };
    }
    true
}

/// What follows a token (RFC 9110 §5.6.2); `None` where none is.
fn token(bytes: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = bytes.iter().position(|byte| !is_token(byte)).unwrap_or(bytes.len());
    (length > 0).then(|| &bytes[length..])
}

/// What follows a quoted text (RFC 9110 §5.6.4) whose first quote is gone; `None` without an end.
fn quoted(mut rest: &[u8]) -> Option<&[u8]> {
    let is_text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', byte, after @ ..] if is_text(*byte) => after,
            [byte, after @ ..] if *byte != b'\\' && is_text(*byte) => after,
            _ => return None,
        };
    }
}

/// Without the blanks that a grammar allows before something.
fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = trim_start(bytes);
    let blanks = bytes.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[..bytes.len() - blanks]
}

impl FramingError {
    /// What is wrong, for whoever sent it.
    pub const fn message(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line of the request ends in LF; each must end in CRLF",
            Self::Fragment => "the request target holds a `#`: percent-encode it",
            Self::LengthAndCoding => {
                "the request has both Transfer-Encoding and Content-Length; send one of them"
            }
            Self::TwoLengths => "the request has more than one Content-Length; send one",
            Self::Length => "the Content-Length of the request is no number of bytes",
            Self::Coding => "the only Transfer-Encoding taken is `chunked`, once",
            Self::OldCoding => "HTTP/1.0 has no Transfer-Encoding; send a Content-Length",
            Self::Chunk => "a chunk of the body begins with no valid size and extensions",
            Self::Extensions => "the chunk extensions of the body are over 16 KiB",
            Self::ChunkEnd => "a chunk of the body is not as long as its size",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds bytes in pieces of this length, and gives what is wrong, and how much came before it.
    fn feed(bytes: &[u8], length: usize) -> (Framing, Option<(FramingError, usize, bool)>) {
        let mut framing = Framing::default();
        let mut given = 0;
        for piece in bytes.chunks(length) {
            if let Err(MessageError { error, before, in_body }) = framing.feed(piece) {
                return (framing, Some((error, given + before, in_body)));
            }
            given += piece.len();
        }
        (framing, None)
    }

    fn error(text: &str) -> Option<FramingError> {
        let bytes = text.as_bytes();
        let whole = feed(bytes, bytes.len()).1.map(|(error, ..)| error);
        for length in 1..bytes.len() {
            let pieces = feed(bytes, length).1.map(|(error, ..)| error);
            assert_eq!(pieces, whole, "in pieces of {length}: {text:?}");
        }
        whole
    }

    fn chunked(body: &str) -> Option<FramingError> {
        error(&format!("POST / HTTP/1.1\r\nTransfer-Encoding:\tChunked \r\n\r\n{body}"))
    }

    #[test]
    fn messages_end_where_they_say() {
        let all = "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n|\
            POST / HTTP/1.1\r\nCONTENT-length: 005\r\n\r\n1\n3\r5|\
            POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n|\
            POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\n1\n3\r\n0\r\nt: 1\r\n\r\n|\
            GET / HTTP/1.0\r\n\r\n|";
        let mut framing = Framing::default();
        for message in all.split_terminator('|') {
            for byte in message.as_bytes() {
                framing.feed(&[*byte]).unwrap();
            }
            assert!(framing.is_between(), "{message:?}");
        }
        assert_eq!(error(&all.replace('|', "")), None);
    }

    #[test]
    fn what_two_servers_could_read_differently_is_wrong() {
        use FramingError::*;
        let head = |fields: &str| error(&format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n"));
        for (seen, wrong) in [
            (error("GET / HTTP/1.1\nhost: a\r\n\r\n"), BareLineFeed),
            (error("\nGET / HTTP/1.1\r\n\r\n"), BareLineFeed),
            (error("GET /#a HTTP/1.1\r\n\r\n"), Fragment),
            (head("host: a\nx: 1"), BareLineFeed),
            (error("GET / HTTP/1.1\r\nhost: a\r\n\n"), BareLineFeed),
            (head("content-length: 1\r\ntransfer-encoding: chunked"), LengthAndCoding),
            (head("transfer-encoding: chunked\r\ncontent-length: 1"), LengthAndCoding),
            (head("content-length: 2\r\nContent-Length: 2"), TwoLengths),
            (head("content-length: 2, 2"), Length),
            (head("content-length: +2"), Length),
            (head("content-length:"), Length),
            (head("content-length: 18446744073709551616"), Length),
            (head("transfer-encoding: gzip, chunked"), Coding),
            (head("transfer-encoding: identity"), Coding),
            (head("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), Coding),
            (error("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"), OldCoding),
        ] {
            assert_eq!(seen, Some(wrong));
        }
    }

    #[test]
    fn chunks_are_taken_by_the_grammar_alone() {
        for good in
            ["1", "0a", "1;a", "1 ; a = b;c=\"d;\\\"\t\"", "1;a=\"\u{e9}\"", "00000000000000a"]
        {
            assert_eq!(chunked(&format!("{good}\r\n")), None, "{good}");
        }
        for bad in [
            "",
            "g",
            "0x1",
            "1 ",
            "1;",
            "1;a=",
            "1;a b",
            "1;=b",
            "1;a=\"b",
            "1;a=\"b\"c",
            " 1",
            "+1",
            "1,a",
            "1;a\r",
            "11111111111111111",
            "1;a=\"\u{1}\"",
            "-1",
        ] {
            assert_eq!(chunked(&format!("{bad}\r\n")), Some(FramingError::Chunk), "{bad:?}");
        }
        assert_eq!(chunked("1\n"), Some(FramingError::BareLineFeed));
        assert_eq!(chunked("1\r\nab\r\n"), Some(FramingError::ChunkEnd));
        assert_eq!(chunked("1\r\na\n"), Some(FramingError::BareLineFeed));
        assert_eq!(chunked("0\r\nt: 1\n\r\n"), Some(FramingError::BareLineFeed));
        let long = format!("1;{}\r\n", "a".repeat(EXTENSIONS));
        assert_eq!(
            feed(
                format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{long}").as_bytes(),
                4096
            )
            .1
            .map(|seen| seen.0),
            Some(FramingError::Extensions)
        );
        assert_eq!(chunked(&"1;a=b\r\n1\r\n".repeat(100)), None);
    }

    #[test]
    fn what_came_before_is_told_apart() {
        let good = "GET / HTTP/1.1\r\n\r\n";
        let bad = "GET / HTTP/1.1\r\nhost: a\n";
        let text = format!("{good}{bad}");
        assert_eq!(
            feed(text.as_bytes(), text.len()).1,
            Some((FramingError::BareLineFeed, good.len(), false))
        );
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        let text = format!("{head}zz\r\n");
        assert_eq!(
            feed(text.as_bytes(), text.len()).1,
            Some((FramingError::Chunk, head.len(), true))
        );
    }
}
