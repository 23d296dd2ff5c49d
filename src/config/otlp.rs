//! Values of the `[otlp]` section.

use super::value::{Nature, Parse, Reason, one_of};
use crate::otlp::{Endpoint, InvalidEndpoint};
use crate::trace::{Parents, Share};

impl Parse for Endpoint {
    const ALLOWED: &'static str = "a URL such as \"https://collector.example.org:4318\"";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|why: InvalidEndpoint| why.to_string().into())
    }
}

impl Parse for Share {
    const ALLOWED: &'static str = "a share from \"0%\" to \"100%\", such as \"0.5%\"";
    const NATURE: Nature = Nature::Text;

    fn text(text: &str) -> Result<Self, Reason> {
        let number = text.strip_suffix('%').ok_or("the % is missing")?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err("found a string that is no number and a %".into());
        }
        if part.len() > 4 {
            return Err("it has more than four digits after the point".into());
        }
        // A hundredth of a per cent of a per cent is a millionth of the whole.
        let parts = format!("{whole}{part:0<4}").parse().ok().and_then(Self::millionths);
        parts.ok_or_else(|| "it is more than 100%".into())
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the % is missing: found an integer".into())
    }
}

impl Parse for Parents {
    const ALLOWED: &'static str = "\"all\" or \"share\"";

    fn text(text: &str) -> Result<Self, Reason> {
        one_of(text, &[("all", Self::All), ("share", Self::Share)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_a_sign_and_up_to_four_digits_after_its_point() {
        for (text, millionths) in [
            ("0%", 0),
            ("100%", 1_000_000),
            ("10 %", 100_000),
            ("0.5%", 5_000),
            ("0.0001%", 1),
            ("12.34%", 123_400),
        ] {
            assert_eq!(Share::text(text).ok(), Share::millionths(millionths), "{text}");
        }
        for (text, why) in [
            ("10", "% is missing"),
            ("101%", "more than 100%"),
            ("100.0001%", "more than 100%"),
            ("99999999999999%", "more than 100%"),
            ("0.00001%", "four digits"),
            ("-1%", "no number"),
            (".5%", "no number"),
            ("1.%", "no number"),
            ("%", "no number"),
        ] {
            let said = Share::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_without_the_path_of_a_signal() {
        for text in [
            "http://127.0.0.1:4318",
            "https://collector.example.org",
            "https://otlp.example.org/otlp/",
            "http://[::1]:4318",
        ] {
            let endpoint = Endpoint::text(text).unwrap();
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
        for (text, why) in [
            ("collector:4318", "no absolute URL"),
            ("collector", "no absolute URL"),
            ("grpc://collector:4317", "neither http nor https"),
            ("http://collector:4318/v1/traces", "the path of a signal"),
            ("https://user:word@collector", "a user"),
            ("https://collector?key=x", "a query"),
            ("https://collector:0", "no absolute URL"),
            ("https://collector#x", "a fragment"),
        ] {
            let said = Endpoint::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
