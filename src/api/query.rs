//! Query strings: the known parameters checked, put in normal form, and the others dropped.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::schema::{Parameter, check_parameter};
use super::{encode_segment, is_unreserved, operation::Query};
use crate::failure::{Code, Failure};

impl Query {
    /// The query to forward, without the `?`: known parameters in the caller's order, encoded anew.
    ///
    /// # Errors
    /// A [`Failure`] of code `malformed_request` when a known parameter stands twice, is missing
    /// though required, or has a value that the table does not allow.
    pub fn normalize<'a>(&self, raw: Option<&'a str>) -> Result<Option<Cow<'a, str>>, Failure> {
        match self {
            Self::Opaque => Ok(raw.map(Cow::Borrowed)),
            Self::Known([]) => Ok(None),
            Self::Known(known) => pick(known, raw.unwrap_or_default()),
        }
    }
}

fn pick(known: &[Parameter], raw: &str) -> Result<Option<Cow<'static, str>>, Failure> {
    let mut seen: Vec<&str> = Vec::new();
    let mut normal = String::with_capacity(raw.len());
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            continue;
        };
        if seen.contains(&parameter.name) {
            return Err(refused(parameter.name, "stands twice"));
        }
        seen.push(parameter.name);
        let value = decode(value)?;
        let value =
            check_parameter(parameter.shape, value).map_err(|why| refused(parameter.name, &why))?;
        if !normal.is_empty() {
            normal.push('&');
        }
        normal.push_str(parameter.name);
        normal.push('=');
        normal.push_str(&encode_segment(&value));
    }
    match known.iter().find(|parameter| parameter.required && !seen.contains(&parameter.name)) {
        Some(missing) => Err(refused(missing.name, &format!("is required: {}", missing.about))),
        None => Ok((!normal.is_empty()).then_some(Cow::Owned(normal))),
    }
}

/// `application/x-www-form-urlencoded`, where `+` is a space.
fn decode(text: &str) -> Result<Cow<'_, str>, Failure> {
    if is_unreserved(text) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) if !decoded.contains(char::is_control) => Ok(Cow::Owned(decoded.into_owned())),
        _ => Err(Failure::fixed(
            Code::MalformedRequest,
            "the query holds bytes that are not printable UTF-8",
        )),
    }
}

fn refused(name: &str, why: &str) -> Failure {
    Failure::new(Code::MalformedRequest, format!("the query parameter `{name}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;

    fn normalize(operation: &str, raw: &str) -> Result<Option<String>, String> {
        let row = TABLE.iter().find(|row| row.name == operation).unwrap();
        let normal = row.query.normalize(Some(raw)).map_err(|f| f.message().to_owned())?;
        Ok(normal.map(Cow::into_owned))
    }

    #[test]
    fn known_parameters_pass_in_normal_form_and_others_are_dropped() {
        assert_eq!(
            normalize("rooms.list", "beginUUID=%61b&x=1&limit=10&").unwrap().as_deref(),
            Some("beginUUID=ab&limit=10")
        );
        for notation in ["10.0", "1e1", "1E%2B1", "100e-1"] {
            let normal = normalize("rooms.list", &format!("limit={notation}")).unwrap();
            assert_eq!(normal.as_deref(), Some("limit=10"), "{notation}");
        }
        assert_eq!(
            normalize("scenes.list", "sceneDir=/a+b%20c").unwrap().as_deref(),
            Some("sceneDir=%2Fa%20b%20c")
        );
        assert_eq!(normalize("rooms.get", "uuid=1").unwrap(), None);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (operation, raw, part) in [
            ("rooms.list", "limit=0", "`limit` must be a whole number from 1 to 1000, found 0"),
            ("rooms.list", "limit=ten", "found a string"),
            ("rooms.list", "limit=1.5", "found 1.5"),
            ("rooms.list", "limit=+5", "found a string"),
            ("rooms.list", "limit=1&limit=2", "`limit` stands twice"),
            ("scenes.list", "sceneDir=a", "begins with `/`"),
            ("scenes.list", "sceneDir=%ff", "not printable UTF-8"),
            ("legacy_conversions.get", "", "`type` is required"),
            ("legacy_conversions.get", "type=undefined", "found \"undefined\""),
        ] {
            let why = normalize(operation, raw).unwrap_err();
            assert!(why.contains(part), "{operation}?{raw}: {why}");
        }
    }
}
