//! Values as the file writes them: durations, sizes, rates, addresses, words.
//!
//! Each says what is allowed, and what is wrong with a text without repeating it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use crate::api::{Lifespan, RoomId, nearest};
use crate::budget::Zone;
use crate::caller;
use crate::token::{TokenHash, TokenHashError};

/// A second, a minute, an hour, a day.
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// No deadline is longer: nothing that adds one to a time may overflow.
const LONGEST: Duration = Duration::from_millis(366 * DAY);

/// What is wrong with a text; holds nothing of it.
pub(super) type Reason = Cow<'static, str>;

/// A value that is parsed from what the file writes.
pub(super) trait Parse: Sized {
    /// What is allowed; follows "must be".
    const ALLOWED: &'static str;

    /// How it is written where it is no text; a variable's text is taken for that as well.
    const NATURE: Nature = Nature::Text;

    /// From a text.
    fn text(_text: &str) -> Result<Self, Reason> {
        Err("found a string".into())
    }

    /// From a whole number.
    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("found an integer".into())
    }

    /// From `true` or `false`.
    fn boolean(_value: bool) -> Result<Self, Reason> {
        Err("found a boolean".into())
    }
}

/// How a value is written.
pub(super) enum Nature {
    Text,
    Integer,
    Boolean,
}

/// A value of the file, parsed.
#[derive(Clone, Copy)]
pub(super) struct Written<T>(pub(super) T);

impl<'de, T: Parse> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = Scalar(PhantomData);
        match T::NATURE {
            Nature::Text => deserializer.deserialize_any(visitor),
            Nature::Integer => deserializer.deserialize_i64(visitor),
            Nature::Boolean => deserializer.deserialize_bool(visitor),
        }
    }
}

struct Scalar<T>(PhantomData<T>);

impl<T: Parse> Visitor<'_> for Scalar<T> {
    type Value = Written<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(T::ALLOWED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written<T>, E> {
        T::text(text).map(Written).map_err(refused::<T, E>)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Written<T>, E> {
        T::integer(number).map(Written).map_err(refused::<T, E>)
    }

    /// A number is its value: templates write whole ones as `1000.0` and `1e6`.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Written<T>, E> {
        // Below 2^53, where each whole number has a notation of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() != 0.0 || number.abs() >= EXACT {
            return Err(E::invalid_type(Unexpected::Float(number), &self));
        }
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and fits")]
        self.visit_i64(number as i64)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Written<T>, E> {
        T::boolean(value).map(Written).map_err(refused::<T, E>)
    }
}

pub(super) fn refused<T: Parse, E: Error>(why: Reason) -> E {
    // "found a string" reads on from a comma, as serde's own do; a sentence of ours is set apart.
    let between = if why.starts_with("found ") { ", " } else { ": " };
    E::custom(format_args!("must be {}{between}{why}", T::ALLOWED))
}

/// One value or a list of them; in a variable, texts with commas between.
pub(super) struct OneOrMore<T>(pub(super) Vec<Written<T>>);

impl<'de, T: Parse> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);

        impl<'de, T: Parse> Visitor<'de> for Values<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}, or a list of such", T::ALLOWED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
                let values = text.split(',').map(|one| T::text(one.trim()).map(Written));
                values.collect::<Result<_, _>>().map(OneOrMore).map_err(refused::<T, E>)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore<T>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMore(values))
            }
        }

        deserializer.deserialize_any(Values(PhantomData))
    }
}

/// The value of a word.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Reason> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    Err(match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("found another string; did you mean \"{near}\"?").into(),
        None => "found another string".into(),
    })
}

impl Parse for bool {
    const ALLOWED: &'static str = "true or false";
    const NATURE: Nature = Nature::Boolean;

    fn boolean(value: bool) -> Result<Self, Reason> {
        Ok(value)
    }
}

impl Parse for String {
    const ALLOWED: &'static str = "a string";

    fn text(text: &str) -> Result<Self, Reason> {
        Ok(text.to_owned())
    }
}

/// A whole number of at least 1.
#[derive(Clone, Copy)]
pub(super) struct Count(pub(super) NonZeroU32);

impl Count {
    pub(super) fn get(self) -> usize {
        // Where a usize is smaller, no machine could hold as many of anything.
        usize::try_from(self.0.get()).unwrap_or(usize::MAX)
    }
}

impl Parse for Count {
    const ALLOWED: &'static str = "a whole number from 1 to 4294967295";
    const NATURE: Nature = Nature::Integer;

    fn integer(number: i64) -> Result<Self, Reason> {
        let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
        count.map(Self).ok_or_else(|| "found another one".into())
    }
}

/// How often a request is sent at most.
#[derive(Clone, Copy)]
pub(super) struct Attempts(pub(super) u8);

impl Parse for Attempts {
    const ALLOWED: &'static str = "a whole number from 1 to 10";
    const NATURE: Nature = Nature::Integer;

    fn integer(number: i64) -> Result<Self, Reason> {
        let attempts = u8::try_from(number).ok().filter(|number| (1..=10).contains(number));
        attempts.map(Self).ok_or_else(|| "found another one".into())
    }
}

/// A share of a whole.
#[derive(Clone, Copy)]
pub(super) struct Percent(pub(super) u8);

impl Parse for Percent {
    const ALLOWED: &'static str = "a share such as \"20%\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let (number, unit) = number_and_unit(text)?;
        if unit != "%" {
            return Err("its sign is not %".into());
        }
        let share = u8::try_from(number).ok().filter(|share| (1..=100).contains(share));
        share.map(Self).ok_or_else(|| "it is not from 1% to 100%".into())
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the % is missing: found an integer".into())
    }
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) usize);

impl Parse for Size {
    const ALLOWED: &'static str = "a size such as \"16KiB\", or a number of bytes";

    fn text(text: &str) -> Result<Self, Reason> {
        let (number, unit) = number_and_unit(text)?;
        let unit = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err("its unit is none of B, KiB, MiB".into()),
        };
        Self::of(number.checked_mul(unit))
    }

    fn integer(number: i64) -> Result<Self, Reason> {
        Self::of(u64::try_from(number).ok())
    }
}

impl Size {
    /// No more is kept in memory for one request.
    const MOST: u64 = 64 << 20;

    fn of(bytes: Option<u64>) -> Result<Self, Reason> {
        bytes
            .filter(|bytes| (1..=Self::MOST).contains(bytes))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| "it is not from 1 byte to 64MiB".into())
    }
}

impl Parse for Duration {
    const ALLOWED: &'static str =
        "a duration such as \"500ms\", \"10s\" or \"24h\" (units ms, s, m, h, d)";

    fn text(text: &str) -> Result<Self, Reason> {
        let duration = Self::from_millis(millis(text)?);
        if duration > LONGEST { Err("it is longer than a year".into()) } else { Ok(duration) }
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the unit is missing: found an integer".into())
    }
}

impl Parse for Lifespan {
    const ALLOWED: &'static str =
        "a duration such as \"90s\", \"2h\" or \"24h\" (units ms, s, m, h, d), or \"permanent\"";

    fn text(text: &str) -> Result<Self, Reason> {
        if text == "permanent" {
            return Ok(Self::Permanent);
        }
        let millis = millis(text)?;
        if millis <= Self::LONGEST_MS {
            Ok(Self::Millis(millis))
        } else {
            Err("it is longer than a token can live; write \"permanent\" for no end".into())
        }
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the unit is missing: found an integer".into())
    }
}

fn millis(text: &str) -> Result<u64, Reason> {
    let (number, unit) = number_and_unit(text)?;
    let unit = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "" => return Err("the unit is missing".into()),
        _ => return Err("its unit is none of ms, s, m, h, d".into()),
    };
    match number.checked_mul(unit) {
        Some(0) => Err("it must be longer than zero".into()),
        Some(millis) => Ok(millis),
        None => Err("it is too long".into()),
    }
}

/// The digits that a text begins with, and the rest.
fn number_and_unit(text: &str) -> Result<(u64, &str), Reason> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err("found a string that does not begin with a whole number".into());
    }
    let number = digits.parse().map_err(|_| Reason::from("the number is too large"))?;
    Ok((number, unit.trim_start()))
}

/// So many in a period.
#[derive(Clone, Copy)]
pub(super) struct Frequency {
    pub(super) requests: NonZeroU32,
    pub(super) period: Duration,
}

impl Parse for Frequency {
    const ALLOWED: &'static str = "a rate such as \"200/s\" (per s, m, h or d)";

    fn text(text: &str) -> Result<Self, Reason> {
        let (number, per) = number_and_unit(text)?;
        let period = match per.strip_prefix('/').map(str::trim) {
            Some("s") => SECOND,
            Some("m") => MINUTE,
            Some("h") => HOUR,
            Some("d") => DAY,
            None if per.is_empty() => return Err("the period is missing, as in \"5/s\"".into()),
            _ => return Err("its period is none of /s, /m, /h, /d".into()),
        };
        let period = Duration::from_millis(period);
        let requests = u32::try_from(number).ok().and_then(NonZeroU32::new);
        // The limiter counts in nanoseconds: more than one request in each is no limit.
        let requests = requests.filter(|count| u128::from(count.get()) <= period.as_nanos());
        let requests = requests.ok_or("it is zero, or more than any limiter can count")?;
        Ok(Self { requests, period })
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the period is missing, as in \"5/s\": found an integer".into())
    }
}

impl Parse for SocketAddr {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:8080\" or \"[::]:8080\"";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|_| {
            if text.parse::<IpAddr>().is_ok() {
                "the port is missing".into()
            } else if text.starts_with(':') {
                "the IP address is missing before the port".into()
            } else {
                "found another string (an IP address is taken, a name is not)".into()
            }
        })
    }

    fn integer(_number: i64) -> Result<Self, Reason> {
        Err("the IP address is missing: found an integer".into())
    }
}

impl Parse for ipnet::IpNet {
    const ALLOWED: &'static str = "a network such as \"10.0.0.0/8\", or an IP address";

    fn text(text: &str) -> Result<Self, Reason> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(Self::from));
        network.map(canonical).map_err(|_| "found another string".into())
    }
}

/// A network of IPv4-mapped addresses is one of IPv4, as its addresses are everywhere.
fn canonical(network: ipnet::IpNet) -> ipnet::IpNet {
    let mapped = network.addr().to_canonical();
    let length = network.prefix_len().checked_sub(96).filter(|_| mapped != network.addr());
    length.and_then(|length| ipnet::IpNet::new(mapped, length).ok()).unwrap_or(network)
}

impl Parse for jiff::Timestamp {
    const ALLOWED: &'static str = "a time with its offset, such as \"2026-12-31T00:00:00Z\"";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|_| "found another string".into())
    }
}

impl Parse for Zone {
    const ALLOWED: &'static str = "a time zone of the IANA database, such as \"Europe/Berlin\"";

    fn text(text: &str) -> Result<Self, Reason> {
        Self::new(text).map_err(|_| {
            let names = Self::names();
            match nearest(text, names.iter().map(String::as_str)) {
                Some(near) => format!("found another string; did you mean \"{near}\"?").into(),
                None => "found another string".into(),
            }
        })
    }
}

impl Parse for RoomId {
    const ALLOWED: &'static str = "the uuid of a room";

    fn text(text: &str) -> Result<Self, Reason> {
        Self::new(text).map_err(|why| why.to_string().into())
    }
}

impl Parse for caller::KeyId {
    const ALLOWED: &'static str = "the id of a key";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|why: caller::InvalidStored| why.to_string().into())
    }
}

impl Parse for caller::Digest {
    const ALLOWED: &'static str = "the digest of a key";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|why: caller::InvalidStored| why.to_string().into())
    }
}

impl Parse for TokenHash {
    const ALLOWED: &'static str = "the SHA-256 of a token";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|why: TokenHashError| why.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("24h", 86_400_000), ("2 m", 120_000)]
        {
            assert_eq!(Duration::text(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, why) in [
            ("10", "the unit is missing"),
            ("10min", "none of ms, s, m, h, d"),
            ("0s", "longer than zero"),
            ("367d", "longer than a year"),
            ("99999999999999999999s", "too large"),
            ("9999999999999999999d", "too long"),
            ("-1s", "does not begin"),
            ("", "does not begin"),
        ] {
            let said = Duration::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(Duration::integer(10).unwrap_err().contains("the unit is missing"));
    }

    #[test]
    fn a_lifespan_may_have_no_end() {
        assert_eq!(Lifespan::text("permanent"), Ok(Lifespan::Permanent));
        assert_eq!(Lifespan::text("2h"), Ok(Lifespan::Millis(7_200_000)));
        assert!(Lifespan::text("9999999999d").is_err());
        assert!(Lifespan::text("0s").is_err());
    }

    #[test]
    fn sizes_are_in_binary_units() {
        let bytes = |text| Size::text(text).map(|size| size.0);
        assert_eq!(bytes("16KiB"), Ok(16_384));
        assert_eq!(bytes("1 MiB"), Ok(1_048_576));
        assert_eq!(bytes("512"), Ok(512));
        for text in ["16KB", "0", "65MiB", "999999999999MiB", "x"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(Size::integer(-1).is_err());
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
        assert!(Attempts::integer(0).is_err() && Attempts::integer(11).is_err());
    }

    #[test]
    fn a_rate_has_a_period() {
        let rate = Frequency::text("300/m").ok().unwrap();
        assert_eq!((rate.requests.get(), rate.period), (300, Duration::from_secs(60)));
        let why = |text| Frequency::text(text).err().unwrap().into_owned();
        assert!(why("5").contains("the period is missing"));
        assert!(why("5/w").contains("none of /s, /m, /h, /d"));
        for text in ["0/s", "4294967295/s", "4294967296/h", "/s", "a/s"] {
            assert!(Frequency::text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_told_what_it_lacks() {
        assert!(SocketAddr::text("[::1]:80").is_ok());
        assert!(SocketAddr::text("127.0.0.1").unwrap_err().contains("port"));
        assert!(SocketAddr::text(":8080").unwrap_err().contains("IP address"));
        assert!(SocketAddr::text("localhost:8080").unwrap_err().contains("name is not"));
        assert!(ipnet::IpNet::text("::1").is_ok() && ipnet::IpNet::text("10.0.0.0/33").is_err());
        for (text, network) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(ipnet::IpNet::text(text).unwrap().to_string(), network, "{text}");
        }
    }
}
