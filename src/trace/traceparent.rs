//! `traceparent` (W3C Trace Context §3.2), read strictly and written.

use http::{HeaderMap, HeaderValue};

use super::id::{hex, write};
use super::{SpanId, TraceId};
use crate::field::{TRACEPARENT, unique};

/// The length of a value of version 00.
const LENGTH: usize = 55;

/// The one flag of level 1: the caller may have recorded its part.
const SAMPLED: u8 = 1;

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Context {
    /// What a request says that it comes from; `None` where it says nothing, or not as it must.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        let value = values.next()?;
        // Two of them contradict one another, even when they are the same (§3.2).
        values.next().is_none().then(|| Self::parse(value.as_bytes()))?
    }

    /// Reads a value. Of versions to come it takes what they must have in common with this one
    /// (§4.3).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let version = hex(&head[..2])?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        if !fits || !dashes {
            return None;
        }
        let trace = TraceId::parse(&head[3..35])?;
        let span = SpanId::parse(&head[36..52])?;
        let flags = hex(&head[53..])?;
        Some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }

    /// The value of a header, in version 00.
    pub fn value(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write(self.trace.bytes(), &mut text[3..35]);
        write(self.span.bytes(), &mut text[36..52]);
        text[54] += u8::from(self.sampled);
        // Hex digits and dashes are always a header value.
        unique(HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("00")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parsed(text: &str) -> Option<Context> {
        Context::parse(text.as_bytes())
    }

    #[test]
    fn a_value_says_trace_span_and_whether_it_is_recorded() {
        let context = parsed(GOOD).unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.sampled);
        assert_eq!(context.value(), GOOD);
        let flags = |flags: &str| parsed(&format!("{}{flags}", &GOOD[..53])).map(|it| it.sampled);
        assert_eq!([flags("00"), flags("03"), flags("fe")], [Some(false), Some(true), Some(false)]);
    }

    #[test]
    fn what_is_not_exactly_so_is_nothing() {
        for odd in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &format!("{GOOD}-00"),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &format!("ff{}", &GOOD[2..]),
            &format!("0g{}", &GOOD[2..]),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }

    #[test]
    fn of_a_version_to_come_the_known_part_is_taken() {
        for (version, taken) in [
            (format!("01{}", &GOOD[2..]), true),
            (format!("cc{}-what-comes", &GOOD[2..]), true),
            (format!("cc{}.what-comes", &GOOD[2..]), false),
        ] {
            assert_eq!(parsed(&version).is_some(), taken, "{version}");
        }
    }

    #[test]
    fn two_values_are_none() {
        let value = HeaderValue::from_static(GOOD);
        let mut headers = HeaderMap::new();
        assert_eq!(Context::of(&headers), None);
        headers.append(TRACEPARENT, value.clone());
        assert!(Context::of(&headers).is_some());
        headers.append(TRACEPARENT, value);
        assert_eq!(Context::of(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace: [u8; 16], span: [u8; 8], sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let text = format!("00-{}-{}-0{}", hex(&trace), hex(&span), u8::from(sampled));
            let context = parsed(&text).unwrap();
            prop_assert_eq!(context.trace.bytes(), &trace);
            prop_assert_eq!(context.span.bytes(), &span);
            let written = context.value();
            prop_assert_eq!(written.to_str().unwrap(), text);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>) {
            _ = Context::parse(&bytes);
        }

        #[test]
        fn one_other_byte_is_never_the_same(at in 0..LENGTH, byte: u8) {
            let mut text = GOOD.as_bytes().to_vec();
            text[at] = byte;
            let same = Context::parse(&text).is_none_or(|read| {
                // A later version and the flags of later levels are read, and left away.
                read.value().as_bytes() == text || !(2..53).contains(&at)
            });
            prop_assert!(same);
        }
    }
}
