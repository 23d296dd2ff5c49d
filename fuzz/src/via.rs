//! `Via`: what has been through this gateway is known again, whoever was before and after it.
//!
//! An input is values of the field, a line each.

use super::assert_presentable;
use http::header::VIA;
use http::{HeaderMap, HeaderValue};
use whiteboard_gateway::edge::check_loop;

const OWN: &str = "wbg-0a1b2c3d";

/// One input.
pub fn run(input: &[u8]) {
    let values = input.split(|byte| *byte == b'\n');
    let values: Vec<HeaderValue> =
        values.filter_map(|line| HeaderValue::from_bytes(line.trim_ascii()).ok()).collect();
    match check_loop(&headers(&values), OWN) {
        Err(failure) => {
            assert_presentable(&failure);
            let named = |value: &HeaderValue| {
                value.as_bytes().windows(OWN.len()).any(|part| part == OWN.as_bytes())
            };
            assert!(values.iter().any(named), "a loop that nobody named");
        }
        Ok(None) => assert!(values.is_empty()),
        // It is passed on with what others wrote, all of it.
        Ok(Some(seen)) => {
            let all: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(seen.as_bytes(), all.join(&b", "[..]));
        }
    }
    // Whatever stands around it, in a field of its own or in another's.
    for own in ["1.1 wbg-0a1b2c3d", "2.0\twbg-0a1b2c3d (gateway)", "HTTP/1.1 wbg-0a1b2c3d , 1.0 x"]
    {
        let mut more = values.clone();
        more.insert(more.len() / 2, HeaderValue::from_static(own));
        assert!(is_loop(&more), "{own} among {values:?}");
        for (at, value) in values.iter().enumerate() {
            for both in [[value.as_bytes(), own.as_bytes()], [own.as_bytes(), value.as_bytes()]] {
                let mut more = values.clone();
                more[at] = HeaderValue::from_bytes(&both.join(&b','))
                    .expect("two values and a comma are a value");
                assert!(is_loop(&more), "{:?}", more[at]);
            }
        }
    }
}

fn is_loop(values: &[HeaderValue]) -> bool {
    check_loop(&headers(values), OWN).is_err()
}

fn headers(values: &[HeaderValue]) -> HeaderMap {
    values.iter().map(|value| (VIA, value.clone())).collect()
}
