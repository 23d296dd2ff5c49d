//! In which format a reader would have what it asks for (RFC 9110 §12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::field::list::{Members, parameterized, weight};

/// Whether a reader asks for `text/plain` rather than OpenMetrics. Without a preference it gets
/// OpenMetrics.
pub(super) fn prefers_plain(headers: &HeaderMap) -> bool {
    wanted(headers, ["text", "plain"]) > wanted(headers, ["application", "openmetrics-text"])
}

/// Whether a reader asks for a page rather than JSON, as browsers do.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    wanted(headers, ["text", "html"]) > wanted(headers, ["application", "json"])
}

/// How much a reader wants a type, in thousandths; 0 for not at all.
fn wanted(headers: &HeaderMap, media_type: [&str; 2]) -> u16 {
    let lines = headers.get_all(ACCEPT).into_iter();
    let ranges = lines.flat_map(|line| Members::of_parameterized(line.as_bytes()));
    let fitting = ranges.filter_map(|range| {
        let (range, parameters) = parameterized(range);
        Some((exactness(range, media_type)?, weight(parameters).unwrap_or(0)))
    });
    // Of two that fit equally well, the one with the greater weight.
    fitting.max().map_or(0, |(_, weight)| weight)
}

/// How exactly a range names a type; `None` where it names others.
fn exactness(range: &[u8], [main, sub]: [&str; 2]) -> Option<u8> {
    let at = range.iter().position(|byte| *byte == b'/')?;
    let (named_main, named_sub) = range.split_at(at);
    let is = |named: &[u8], name: &str| named.eq_ignore_ascii_case(name.as_bytes());
    match (named_main, named_sub.get(1..)?) {
        (b"*", b"*") => Some(0),
        (named, b"*") if is(named, main) => Some(1),
        (named, of) if is(named, main) && is(of, sub) => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_plain_text_where_it_prefers_that() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;\
                                  q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, plain) in [
            (&[][..], false),
            (&["*/*"], false),
            (&[PROMETHEUS], false),
            (&["text/plain"], true),
            (&["Text/Plain;version=0.0.4"], true),
            (&["text/*"], true),
            (&["text/plain;q=0.5, application/openmetrics-text;q=0.4"], true),
            (&["application/openmetrics-text;q=0.4", "text/plain; q=0.5"], true),
            (&["text/plain;q=0, */*"], false),
            (&["*/*, application/openmetrics-text;q=0"], true),
            (&["application/json"], false),
            (&["text/plain;q=2"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT, line.parse().unwrap());
            }
            assert_eq!(prefers_plain(&headers), plain, "{accept:?}");
        }
    }
}
