//! `tracestate` (W3C Trace Context §3.3), checked and otherwise left as it is: it is the word of
//! other systems.

use http::HeaderMap;

use crate::field::TRACESTATE;
use crate::field::list::Members;

/// The most members (§3.3.1.1).
const MEMBERS: usize = 32;

/// The longest that is kept: as much as everyone must pass on (§3.3.1.5).
const LONGEST: usize = 512;

/// What a request brings beside `traceparent`; `None` where there is nothing, or it is not as it
/// must be, and then all of it is left away.
pub fn tracestate(headers: &HeaderMap) -> Option<Box<str>> {
    let mut members: Vec<&str> = Vec::new();
    for value in headers.get_all(&TRACESTATE) {
        let texts = Members::of_tokens(value.as_bytes()).map(str::from_utf8);
        for member in texts {
            members.push(member.ok()?);
        }
    }
    let mut keys = Vec::with_capacity(members.len());
    for member in &members {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    let all = members.join(",");
    (!members.is_empty() && members.len() <= MEMBERS && all.len() <= LONGEST).then(|| all.into())
}

/// `vendor`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase();
    let rest = |text: &[u8]| {
        text.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte)
        })
    };
    let key = key.as_bytes();
    match key.iter().position(|byte| *byte == b'@') {
        None => key.len() <= 256 && key.first().is_some_and(letter) && rest(key),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            tenant.len() <= 241
                && tenant.first().is_some_and(begins)
                && rest(tenant)
                && system.len() <= 14
                && system.first().is_some_and(letter)
                && rest(system)
        }
    }
}

/// Printable, without `,` and `=`, and no space at its end.
fn is_value(value: &str) -> bool {
    let fits = (1..=256).contains(&value.len()) && !value.ends_with(' ');
    fits && value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let header = |value: &&str| (TRACESTATE, HeaderValue::from_str(value).unwrap());
        let headers: HeaderMap = values.iter().map(header).collect();
        tracestate(&headers).map(String::from)
    }

    #[test]
    fn members_of_several_fields_are_one_list_in_their_order() {
        assert_eq!(read(&["congo=t61rcWkgMzE"]).as_deref(), Some("congo=t61rcWkgMzE"));
        assert_eq!(
            read(&["b=2 , ,a=1", "", "fw529a3039@dt=x y"]).as_deref(),
            Some("b=2,a=1,fw529a3039@dt=x y")
        );
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[" , "]), None);
    }

    #[test]
    fn one_member_that_is_none_takes_all_with_it() {
        for odd in [
            "a", "a=", "=1", "A=1", "1a=1", "a b=1", "a=1=2", "a@=1", "@a=1", "a@1=1", "a@b@c=1",
            "a=1,a=2",
        ] {
            assert_eq!(read(&[&format!("b=2,{odd}")]), None, "{odd}");
        }
        assert_eq!(read(&[&format!("{}=1", "a".repeat(257))]), None);
        assert_eq!(read(&[&format!("a@{}=1", "b".repeat(15))]), None);
        assert_eq!(read(&[&format!("a={}", "b".repeat(257))]), None);
    }

    #[test]
    fn a_list_has_bounds() {
        let list = |count: usize| {
            (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",")
        };
        assert!(read(&[&list(32)]).is_some());
        assert_eq!(read(&[&list(33)]), None);
        let long = |length: usize| format!("a={},b={}", "x".repeat(250), "y".repeat(length));
        assert!(read(&[&long(256)]).is_some_and(|all| all.len() == 511));
        assert_eq!(read(&[&format!("{},c=1", long(256))]), None);
    }
}
