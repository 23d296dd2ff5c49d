//! `Via`: what has been through this gateway is known again, whoever was before and after it.
//!
//! An input is values of the field, a line each.

use std::sync::{Arc, LazyLock};

use super::assert_presentable;
use http::header::VIA;
use http::{HeaderMap, HeaderValue};
use whiteboard_gateway::api::Regions;
use whiteboard_gateway::upstream::{Origin, Settings, Upstream};

const OWN: &str = "wbg-0a1b2c3d";

static UPSTREAM: LazyLock<Arc<Upstream>> = LazyLock::new(|| {
    let origin = Origin {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: 80,
        authority: "127.0.0.1".to_owned(),
    };
    let settings = Settings::of(origin, OWN.to_owned());
    Upstream::new(settings, &Regions::new([], "us-sv").expect("a documented one"), None)
        .expect("an upstream without TLS")
});

/// One input.
pub fn run(input: &[u8]) {
    let values = input.split(|byte| *byte == b'\n');
    let values: Vec<HeaderValue> =
        values.filter_map(|line| HeaderValue::from_bytes(line.trim_ascii()).ok()).collect();
    match UPSTREAM.check_loop(&headers(&values)) {
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
    UPSTREAM.check_loop(&headers(values)).is_err()
}

fn headers(values: &[HeaderValue]) -> HeaderMap {
    values.iter().map(|value| (VIA, value.clone())).collect()
}
