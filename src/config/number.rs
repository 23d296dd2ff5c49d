//! Numbers as the file writes them: of a range, of bytes, and shares.

use std::num::NonZeroU32;

use http::StatusCode;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::file::reader::{Nature, Parse, ValueError};
use crate::trace::Share;

/// Any that can be counted to.
type Count = Between<1, { u32::MAX }>;

/// Numbers of other types, from 1 on.
macro_rules! numbers {
    ($($type:ty, $read:expr;)+) => { $(
        impl Parse for $type {
            const NATURE: Nature = Nature::Integer;

            fn allowed() -> ValueError {
                Count::allowed()
            }

            fn integer(number: i64) -> Result<Self, ValueError> {
                let read: Option<Self> = $read(Count::integer(number)?.0);
                read.ok_or_else(|| "found another one".into())
            }

            fn schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "title": Count::allowed(), "minimum": 1, "maximum": u32::MAX })
            }
        }
    )+ };
}

numbers! {
    NonZeroU32, Self::new;
    u32, Some;
    // Where a usize is smaller, no machine could hold as many of anything.
    usize, |number| Some(Self::try_from(number).unwrap_or(Self::MAX));
}

/// A whole number of a range.
pub(super) struct Between<const LEAST: u32, const MOST: u32>(pub(super) u32);

impl<const LEAST: u32, const MOST: u32> Parse for Between<LEAST, MOST> {
    const NATURE: Nature = Nature::Integer;

    fn allowed() -> ValueError {
        match (LEAST, MOST) {
            (2.., u32::MAX) => format!("a whole number of {LEAST} or more").into(),
            _ => format!("a whole number from {LEAST} to {MOST}").into(),
        }
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        let number = u32::try_from(number).ok().filter(|number| (LEAST..=MOST).contains(number));
        number.map(Self).ok_or_else(|| "found another one".into())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        let range = match MOST {
            u32::MAX => format!("{LEAST} or more"),
            most => format!("{LEAST} to {most}"),
        };
        json_schema!({
            "type": "integer", "title": Self::allowed(), "minimum": LEAST, "maximum": MOST,
            "x-range": range,
        })
    }
}

/// One of two statuses.
#[derive(Clone, Copy)]
pub(super) struct EitherStatus<const A: u16, const B: u16>(pub(super) StatusCode);

impl<const A: u16, const B: u16> Parse for EitherStatus<A, B> {
    const NATURE: Nature = Nature::Integer;

    fn allowed() -> ValueError {
        format!("{A} or {B}").into()
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        let status = u16::try_from(number).ok().filter(|status| [A, B].contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        status.map(Self).ok_or_else(|| "found another integer".into())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [A, B] })
    }
}

/// A share of a whole.
pub(super) struct Percent(pub(super) u8);

impl Parse for Percent {
    const ALLOWED: &'static str = "a share such as \"20%\"";
    const PATTERN: &'static str = "^0*([1-9][0-9]?|100)\\s*%$";
    const NO_INTEGER: &'static str = "the % is missing: found an integer";

    fn text(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text)?;
        if unit != "%" {
            return Err("its sign is not %".into());
        }
        let share = u8::try_from(number).ok().filter(|share| (1..=100).contains(share));
        share.map(Self).ok_or_else(|| "it is not from 1% to 100%".into())
    }
}

/// A number of bytes of a range. No more than 64 MiB are kept in memory for one request.
pub(super) struct Size<const LEAST: u32 = 1, const MOST: u32 = { 64 << 20 }>(pub(super) usize);

impl<const LEAST: u32, const MOST: u32> Parse for Size<LEAST, MOST> {
    const ALLOWED: &'static str = "a size such as \"16KiB\", or a number of bytes";
    const PATTERN: &'static str = "^[0-9]+\\s*(B|KiB|MiB)?$";

    fn text(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = number_and_unit(text)?;
        let unit = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err("its unit is none of B, KiB, MiB".into()),
        };
        Self::of(number.checked_mul(unit))
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        Self::of(u64::try_from(number).ok())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        let (least, most) = (bytes(LEAST), bytes(MOST));
        json_schema!({
            "type": ["string", "integer"], "title": Self::ALLOWED,
            "pattern": Self::PATTERN, "minimum": LEAST, "maximum": MOST,
            "x-range": (LEAST > 1).then(|| format!("{least} to {most}")),
        })
    }
}

impl<const LEAST: u32, const MOST: u32> Size<LEAST, MOST> {
    fn of(number: Option<u64>) -> Result<Self, ValueError> {
        number
            .filter(|number| (LEAST.into()..=MOST.into()).contains(number))
            .and_then(|number| usize::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| format!("it is not from {} to {}", bytes(LEAST), bytes(MOST)).into())
    }
}

/// A number of bytes as a file writes it.
fn bytes(number: u32) -> String {
    match number {
        1 => "1 byte".to_owned(),
        _ if number.is_multiple_of(1 << 20) => format!("{}MiB", number >> 20),
        _ if number.is_multiple_of(1 << 10) => format!("{}KiB", number >> 10),
        _ => format!("{number} bytes"),
    }
}

/// The digits that a text begins with, and the rest.
pub(super) fn number_and_unit(text: &str) -> Result<(u64, &str), ValueError> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err("found a string that does not begin with a whole number".into());
    }
    let number = digits.parse().map_err(|_| ValueError::from("the number is too large"))?;
    Ok((number, unit.trim_start()))
}

impl Parse for Share {
    const ALLOWED: &'static str = "a share from \"0%\" to \"100%\", such as \"0.5%\"";
    const PATTERN: &'static str = "^[0-9]+(\\.[0-9]{1,4})?\\s*%$";
    const NO_INTEGER: &'static str = "the % is missing: found an integer";

    fn text(text: &str) -> Result<Self, ValueError> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_binary_units() {
        let bytes = |text| <Size>::text(text).map(|size| size.0);
        assert_eq!(bytes("16KiB"), Ok(16_384));
        assert_eq!(bytes("1 MiB"), Ok(1_048_576));
        assert_eq!(bytes("512"), Ok(512));
        for text in ["16KB", "0", "65MiB", "999999999999MiB", "x"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(<Size>::integer(-1).is_err());
    }

    #[test]
    fn a_share_is_of_a_hundred() {
        let share = |text| Percent::text(text).map(|share| share.0);
        assert_eq!((share("20%"), share("100 %")), (Ok(20), Ok(100)));
        for (text, why) in
            [("20", "not %"), ("0%", "from 1%"), ("101%", "from 1%"), ("x", "number")]
        {
            let said = share(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(Percent::integer(20).is_err());
        type Attempts = Between<1, 10>;
        assert!(Attempts::integer(0).is_err() && Attempts::integer(11).is_err());
    }

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
}
