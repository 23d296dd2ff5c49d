//! What fields are made of (RFC 9110 §5.6): lists, quoted strings, parameters, weights.
//!
//! Bytes in, slices of them out; nothing here fails or is guessed at. What is empty between commas is
//! no member. A quotation mark or a parenthesis that is never closed opens nothing, so what stands
//! behind it is separated as if it were not there, and hides from no one.

use std::borrow::Cow;

/// What a comma within separates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enclosed {
    Nothing,
    QuotedStrings,
    Comments,
}

/// The members of one line of a list, in their order, without the blanks around them.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    left: &'a [u8],
    enclosed: Enclosed,
}

impl<'a> Members<'a> {
    /// Of a list whose members know no quoted strings: `Connection`, `tracestate`, `X-Forwarded-For`.
    pub const fn of_tokens(line: &'a [u8]) -> Self {
        Self { left: line, enclosed: Enclosed::Nothing }
    }

    /// Of a list whose members may hold quoted strings: `Accept`, `Cache-Control`.
    pub const fn of_parameterized(line: &'a [u8]) -> Self {
        Self { left: line, enclosed: Enclosed::QuotedStrings }
    }

    /// Of a list whose members may hold comments: `Via`.
    pub const fn of_commented(line: &'a [u8]) -> Self {
        Self { left: line, enclosed: Enclosed::Comments }
    }

    /// Takes what stands before the first comma that separates.
    fn take(&mut self) -> &'a [u8] {
        let line = self.left;
        let mut at = 0;
        while let Some(byte) = line.get(at) {
            let opens = match self.enclosed {
                Enclosed::Nothing => false,
                Enclosed::QuotedStrings => *byte == b'"',
                Enclosed::Comments => *byte == b'(',
            };
            if *byte == b',' {
                let (member, left) = line.split_at(at);
                self.left = left.get(1..).unwrap_or_default();
                return member;
            }
            if opens {
                match self.closed(line.get(at..).unwrap_or_default()) {
                    Some(length) => at += length,
                    // Nothing behind it can be closed either: it is not looked for again.
                    None => self.enclosed = Enclosed::Nothing,
                }
            }
            at += 1;
        }
        self.left = &[];
        line
    }

    /// How far behind its beginning a quoted string or a comment, in which others may stand, ends.
    fn closed(&self, text: &[u8]) -> Option<usize> {
        let (open, close) = match self.enclosed {
            Enclosed::Comments => (b'(', b')'),
            _ => (b'"', b'"'),
        };
        let mut depth = 1;
        let mut bytes = text.iter().enumerate().skip(1);
        while let Some((at, byte)) = bytes.next() {
            if *byte == b'\\' {
                bytes.next();
            } else if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        None
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.left.is_empty() {
            let member = self.take().trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// A member that is a pair (RFC 9111 §5.2): its name, and the token or quoted string behind the `=`.
pub fn argument(member: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>)> {
    let (name, value, rest) = pair(member, is_token)?;
    rest.is_empty().then_some((name, value))
}

/// What a member says before its parameters, and the parameters (RFC 9110 §5.6.6).
pub fn parameterized(member: &[u8]) -> (&[u8], Parameters<'_>) {
    let end = member.iter().position(|byte| *byte == b';').unwrap_or(member.len());
    let (value, parameters) = member.split_at(end);
    (value.trim_ascii(), Parameters { left: parameters, bare: is_token })
}

/// Parameters in their order: `;name=value;name="quoted value"`.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    left: &'a [u8],
    bare: fn(u8) -> bool,
}

/// Where a parameter would be stands something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedElementError;

impl<'a> Parameters<'a> {
    /// Those of a text that is nothing else; values without quotation marks may hold
    /// these bytes.
    pub const fn of_pairs(text: &'a [u8], bare: fn(u8) -> bool) -> Self {
        Self { left: text, bare }
    }

    fn take(&mut self) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
        let (name, value, left) = pair(self.left, self.bare)?;
        self.left = left.trim_ascii_start();
        let separated = self.left.is_empty() || self.left.starts_with(b";");
        separated.then_some((name, value))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(&'a [u8], Cow<'a, [u8]>), MalformedElementError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty ones are none.
        while let Some(rest) = self.left.strip_prefix(b";") {
            self.left = rest.trim_ascii_start();
        }
        if self.left.is_empty() {
            return None;
        }
        let taken = self.take().ok_or(MalformedElementError);
        if taken.is_err() {
            self.left = &[];
        }
        Some(taken)
    }
}

/// A name, its value, and what stands behind them.
type Pair<'a> = (&'a [u8], Cow<'a, [u8]>, &'a [u8]);

/// A pair at the beginning of a text.
fn pair(text: &[u8], bare: fn(u8) -> bool) -> Option<Pair<'_>> {
    let (name, rest) = text.split_at(text.iter().take_while(|byte| is_token(**byte)).count());
    let rest = rest.strip_prefix(b"=")?;
    if name.is_empty() {
        return None;
    }
    if rest.starts_with(b"\"") {
        let (value, rest) = quoted(rest)?;
        return Some((name, value, rest));
    }
    let (value, rest) = rest.split_at(rest.iter().take_while(|byte| bare(**byte)).count());
    (!value.is_empty()).then_some((name, Cow::Borrowed(value), rest))
}

/// What the quoted string that a text begins with holds, and what stands behind it (RFC 9110
/// §5.6.4).
pub fn quoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut unescaped: Option<Vec<u8>> = None;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let (value, rest) = text.split_at(at);
                let value = unescaped.map_or(Cow::Borrowed(value), Cow::Owned);
                return Some((value, rest.get(1..)?));
            }
            b'\\' => {
                let so_far = unescaped.get_or_insert_with(|| text.split_at(at).0.to_vec());
                so_far.push(*bytes.next()?.1);
            }
            byte => {
                if let Some(so_far) = &mut unescaped {
                    so_far.push(*byte);
                }
            }
        }
    }
    None
}

/// Whether a byte can be in a token (RFC 9110 §5.6.2).
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The weight of a member in thousandths, 1000 where it has none (RFC 9110 §12.4.2); `None` where a
/// parameter is malformed.
pub fn weight(parameters: Parameters<'_>) -> Option<u16> {
    for parameter in parameters {
        let (name, value) = parameter.ok()?;
        if name.eq_ignore_ascii_case(b"q") {
            return thousandths(&value);
        }
    }
    Some(1000)
}

/// `0`, `1`, and up to three digits behind a point, but no more than 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, digits) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut sum = u16::from(whole - b'0') * 1000;
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        sum += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * worth;
    }
    (sum <= 1000).then_some(sum)
}

/// How much one media type is wanted by the line of an `Accept` that names it, in thousandths; 0
/// where it does not. Ranges (`*/*`) name nothing.
pub fn accepted(line: &[u8], media_type: &str) -> u16 {
    let named = Members::of_parameterized(line).filter_map(|member| {
        let (name, parameters) = parameterized(member);
        name.eq_ignore_ascii_case(media_type.as_bytes()).then(|| weight(parameters).unwrap_or(0))
    });
    named.max().unwrap_or(0)
}

/// The media type that a `Content-Type` names, without its parameters, which must be well-formed
/// (RFC 9110 §8.3.1).
pub fn media_type(value: &[u8]) -> Option<&[u8]> {
    let (name, mut parameters) = parameterized(value);
    let mut parts = name.split(|byte| *byte == b'/');
    let token = |part: Option<&[u8]>| {
        part.is_some_and(|part| !part.is_empty() && part.iter().all(|byte| is_token(*byte)))
    };
    let named = token(parts.next()) && token(parts.next()) && parts.next().is_none();
    (named && parameters.all(|parameter| parameter.is_ok())).then_some(name)
}

#[cfg(test)]
mod tests;
