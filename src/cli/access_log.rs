//! Reads access lines, of which there may be gigabytes: a line at a time, of each only the members that
//! someone looks at, as they stand there.
//!
//! Files may be compressed by gzip, as rotation does it. A line that is no JSON, as a crash or a full
//! disk leaves it, and one that is no access line are counted and passed over.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memchr2};
use serde_json::{Value, json};

use crate::text;

/// No access line is longer; one that is will not be kept in memory.
const LONGEST: usize = 64 * 1024;

/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;

/// How files begin that are compressed (RFC 1952 §2.3.1; RFC 8878 §3.1.1).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The members that are looked at. What is a text stands here without its quotes, as it was escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AccessRecord<'a> {
    log: Option<&'a [u8]>,
    pub(super) time: Option<&'a [u8]>,
    pub(super) caller: Option<&'a [u8]>,
    pub(super) credential: Option<&'a [u8]>,
    pub(super) operation: Option<&'a [u8]>,
    pub(super) code: Option<&'a [u8]>,
    pub(super) rule: Option<&'a [u8]>,
    pub(super) detail: Option<&'a [u8]>,
    pub(super) status: Option<&'a [u8]>,
    pub(super) bytes: Option<&'a [u8]>,
    pub(super) room: Option<&'a [u8]>,
    pub(super) asked_role: Option<&'a [u8]>,
    pub(super) asked_lifespan_ms: Option<&'a [u8]>,
}

/// What the lines were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineCounts {
    /// Access lines.
    pub(super) access: u64,
    /// JSON of another kind: events of the log, records of the audit.
    pub(super) other: u64,
    /// Access lines without what one of this version has.
    pub(super) unknown: u64,
    /// Not JSON: half a line, or one that something else has written.
    pub(super) broken: u64,
}

impl LineCounts {
    /// Whether something may be missing from what is told.
    pub(super) const fn is_incomplete(&self) -> bool {
        self.unknown > 0 || self.broken > 0
    }

    /// What is said of lines that were passed over; `None` when there were none.
    pub(super) fn passed_over(&self) -> Option<String> {
        let parts = [
            (self.broken, "no JSON (half a line, or `log.format = \"text\"`)"),
            (self.unknown, "access lines of another version"),
            (self.other, "no access lines"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        (!parts.is_empty()).then(|| format!("lines that are not counted: {}", parts.join(", ")))
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let Self { access, other, unknown, broken } = self;
        json!({ "access": access, "other": other, "unknownVersion": unknown, "broken": broken })
    }
}

/// Hands each access line of some files to `look`; `-` is standard input.
pub(super) fn read(
    files: &[PathBuf],
    input: &mut dyn BufRead,
    look: &mut dyn FnMut(&AccessRecord<'_>),
) -> anyhow::Result<LineCounts> {
    let mut counts = LineCounts::default();
    for path in files {
        let named = || format!("the access log {} cannot be read", path.display());
        if path == Path::new("-") {
            read_any(input, &mut counts, look).context("standard input cannot be read")?;
        } else {
            let file = File::open(path).with_context(named)?;
            let mut file = BufReader::with_capacity(BUFFER, file);
            read_any(&mut file, &mut counts, look).with_context(named)?;
        }
    }
    Ok(counts)
}

/// Looks whether it is compressed; not by its name, which standard input has not.
fn read_any(
    input: &mut dyn BufRead,
    counts: &mut LineCounts,
    look: &mut dyn FnMut(&AccessRecord<'_>),
) -> anyhow::Result<()> {
    let begins = input.fill_buf()?;
    if begins.starts_with(ZSTD) {
        bail!("it is compressed by zstd: `zstdcat FILE |`, and `--log -`");
    }
    if !begins.starts_with(GZIP) {
        return Ok(lines(input, counts, look)?);
    }
    let unpacked = MultiGzDecoder::new(input);
    match lines(&mut BufReader::with_capacity(BUFFER, unpacked), counts, look) {
        // It is still being written, or was cut off: what is there counts.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            counts.broken += 1;
            Ok(())
        }
        read => Ok(read?),
    }
}

fn lines(
    input: &mut dyn BufRead,
    counts: &mut LineCounts,
    look: &mut dyn FnMut(&AccessRecord<'_>),
) -> io::Result<()> {
    let mut line = Vec::with_capacity(LONGEST);
    loop {
        line.clear();
        if (&mut *input).take(LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() == LONGEST {
            input.skip_until(b'\n')?;
            counts.broken += 1;
            continue;
        }
        let line = text::without_bom(&line).trim_ascii();
        if line.is_empty() {
            continue;
        }
        match AccessRecord::parse(line) {
            None => counts.broken += 1,
            Some(record) if record.log != Some(b"access") => counts.other += 1,
            Some(record) if record.time.is_none() || record.code.is_none() => counts.unknown += 1,
            Some(record) => {
                counts.access += 1;
                look(&record);
            }
        }
    }
}

impl<'a> AccessRecord<'a> {
    /// Reads a line; `None` when it is no JSON object. Of numbers and words only the end is looked
    /// for, since nobody reads those that no member above is.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut record = Self::default();
        let mut rest = line.strip_prefix(b"{")?.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b"}") {
            return after.is_empty().then_some(record);
        }
        loop {
            let (name, after) = string(rest)?;
            let after = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            let (value, after) = value(after)?;
            record.set(name, value);
            let after = after.trim_ascii_start();
            if let Some(end) = after.strip_prefix(b"}") {
                return end.is_empty().then_some(record);
            }
            rest = after.strip_prefix(b",")?.trim_ascii_start();
        }
    }

    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        let member = match name {
            b"log" => &mut self.log,
            b"time" => &mut self.time,
            b"caller" => &mut self.caller,
            b"credential" => &mut self.credential,
            b"operation" => &mut self.operation,
            b"code" => &mut self.code,
            b"rule" => &mut self.rule,
            b"detail" => &mut self.detail,
            b"status" => &mut self.status,
            b"bytes" => &mut self.bytes,
            b"room" => &mut self.room,
            b"asked_role" => &mut self.asked_role,
            b"asked_lifespan_ms" => &mut self.asked_lifespan_ms,
            _ => return,
        };
        *member = Some(value);
    }
}

/// A text at the beginning, without its quotes, and what comes after it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', inside.get(at..)?)?;
        if inside.get(at) == Some(&b'"') {
            return Some((inside.get(..at)?, inside.get(at + 1..)?));
        }
        at += 2;
    }
}

/// A value at the beginning, and what comes after it.
fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes.first()? {
        b'"' => string(bytes),
        b'{' | b'[' => nested(bytes),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let end = memchr2(b',', b'}', bytes)?;
            let (value, rest) = bytes.split_at(end);
            Some((value.trim_ascii_end(), rest))
        }
        _ => None,
    }
}

fn nested(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let (_, rest) = string(bytes.get(at..)?)?;
                at = bytes.len() - rest.len();
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(bytes.split_at(at));
        }
    }
}

/// A text of a line as it is meant.
pub(super) fn unescaped(raw: &[u8]) -> Cow<'_, str> {
    if memchr(b'\\', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice(&quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8]) -> (Vec<String>, LineCounts) {
        let mut seen = Vec::new();
        let mut look = |record: &AccessRecord<'_>| {
            seen.push(unescaped(record.caller.unwrap_or_default()).into_owned());
        };
        // A buffer smaller than a line.
        let mut input = BufReader::with_capacity(16, text);
        let counts = read(&[PathBuf::from("-")], &mut input, &mut look).unwrap();
        (seen, counts)
    }

    const LINE: &str = "{\"time\":\"2026-11-30T00:00:00.000Z\",\"log\":\"access\",\"caller\":\"a\\u00e9\\\"\",\
                        \"operation\":\"rooms.get\",\"status\":200,\"code\":\"ok\",\"bytes\":5}";

    #[test]
    fn members_are_found_in_any_order_and_spacing_and_texts_are_as_they_were_meant() {
        let spaced = "{ \"code\" : \"ok\" , \"x\": {\"caller\":[\"}\",1]}, \"caller\":\"b\", \
                      \"time\":\"t\", \"n\": -1.5 ,\"log\":\"access\" }";
        let (seen, counts) = read_text(format!("{LINE}\n\n{spaced}\r\n").as_bytes());
        assert_eq!(seen, ["a\u{e9}\"", "b"]);
        assert_eq!(counts, LineCounts { access: 2, ..LineCounts::default() });
    }

    #[test]
    fn whatever_is_no_access_line_is_counted_by_what_it_is() {
        let half = &LINE[..60];
        let long = "x".repeat(2 * LONGEST);
        let text = format!(
            "{half}\nno json\n{{\"log\":\"access\",\"time\":\"t\"}}\n{{\"level\":\"info\"}}\n\
             {{\"event\":\"token\",\"caller\":\"z\"}}\n{long}\n{LINE}\n{half}"
        );
        let (seen, counts) = read_text(text.as_bytes());
        assert_eq!(seen.len(), 1);
        assert_eq!(counts, LineCounts { access: 1, other: 2, unknown: 1, broken: 4 });
        assert!(counts.is_incomplete());
        let said = counts.passed_over().unwrap();
        assert!(said.contains("4 no JSON") && said.contains("1 access lines of another"), "{said}");
    }

    #[test]
    fn what_gzip_has_written_is_read_several_members_and_a_cut_end_too() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write as _;
        let pack = |text: &str| {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap()
        };
        let line = format!("{LINE}\n");
        let two = [pack(&line), pack(&line)].concat();
        assert_eq!(read_text(&two).1.access, 2);
        let cut = read_text(&two[..two.len() - 9]).1;
        assert_eq!((cut.access >= 1, cut.broken), (true, 1));
        let error = read(&[PathBuf::from("-")], &mut &ZSTD[..], &mut |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("zstdcat"), "{error:#}");
    }

    /// As `serde_json` reads it, whatever the bytes.
    #[test]
    fn nothing_panics_and_all_of_json_is_taken() {
        use proptest::prelude::*;
        proptest!(|(text in "[\\{\\}\\[\\]\",:a1\\\\ ]{0,40}")| {
            let ours = AccessRecord::parse(text.trim().as_bytes()).is_some();
            let theirs = serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok();
            prop_assert!(ours || !theirs, "{text}");
        });
    }
}
