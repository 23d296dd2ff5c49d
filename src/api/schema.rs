//! The shapes of request bodies and query parameters, and the check of a value against them.
//!
//! A refusal names the field's path, what was found, what is allowed and the nearest name. It
//! never repeats a caller's text but for short enum values, escaped: a secret may stand anywhere.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use super::json::{Json, Object, word};
use crate::failure::{Code, Failure};

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number from `min` to `max`.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A whole number that is not negative, however large: a life in milliseconds.
    Lifespan,
    /// Anything: it is not looked at.
    Ignored,
    /// A number from `min` to `max`.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// A text of at most `longest` characters that begins with `starts_with`.
    Text {
        /// What it begins with; empty for anything.
        starts_with: &'static str,
        /// Its greatest length in Unicode code points, as JSON Schema's `maxLength` counts.
        longest: usize,
    },
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// An object of these fields.
    Object(&'static [Field]),
    /// An array of that shape.
    Array(&'static Self),
}

/// A field of a JSON object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, case-sensitive.
    pub name: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// One line for people.
    pub about: &'static str,
}

/// A query parameter: a field whose value comes as text.
pub type Parameter = Field;

impl Field {
    pub(super) const fn required(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, shape, required: true, about }
    }

    pub(super) const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, shape, required: false, about }
    }
}

/// What happens to body fields that the table does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// They reach the upstream: real clients send fields that no page lists. One that differs
    /// from a known field only in case or separators is a typing error and refused all the same.
    #[default]
    Pass,
    /// They are refused.
    Refuse,
}

/// Checks an object against its fields.
///
/// # Errors
/// A [`Failure`] of code `invalid_body` that names the first thing that is wrong.
pub fn check_object(
    object: &Object<'_>,
    fields: &'static [Field],
    unknown: UnknownFields,
) -> Result<(), Failure> {
    let mut place = BodyPath::default();
    place.object(object, fields, unknown).map_err(|wrong| Failure::new(Code::InvalidBody, wrong))
}

/// Checks the text of a query parameter; what is passed on is its normal form, which for a whole
/// number is its digits, however it is written.
///
/// # Errors
/// What is wrong, as a sentence without its subject.
pub(super) fn check_parameter(shape: Shape, text: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match shape {
        Shape::Boolean | Shape::Integer { .. } | Shape::Number { .. } => {
            // JSON allows white space around a number, and a parameter does not.
            let bare = !text.bytes().any(|byte| byte.is_ascii_whitespace());
            let value: Option<Value> = if bare { serde_json::from_str(&text).ok() } else { None };
            let value = value.as_ref().map_or_else(|| Json::Text(text.clone()), Json::from);
            scalar(shape, &value)?;
            // Digits alone are their own normal form.
            let written_out = text.bytes().all(|byte| byte.is_ascii_digit());
            let is_whole = !written_out && matches!(shape, Shape::Integer { .. });
            let whole = value.as_whole().filter(|_| is_whole);
            Ok(whole.map_or_else(|| text.clone(), |number| Cow::Owned(number.to_string())))
        }
        _ => scalar(shape, &Json::Text(text.clone())).map(|()| text),
    }
}

/// Where in a body the check stands: `scenes[2].ppt`.
#[derive(Default)]
struct BodyPath(String);

impl BodyPath {
    fn object(
        &mut self,
        object: &Object<'_>,
        fields: &'static [Field],
        unknown: UnknownFields,
    ) -> Result<(), String> {
        for (name, value) in object.iter() {
            match fields.iter().find(|field| field.name == name) {
                Some(field) => self
                    .within(Step::Field(name), |place| place.value(field.shape, value, unknown))?,
                None => self.unknown(name, fields, unknown)?,
            }
        }
        match fields.iter().find(|field| field.required && !object.contains(field.name)) {
            None => Ok(()),
            Some(missing) => {
                let name = self.join(missing.name);
                Err(format!("`{name}` is required: {}", allowed(missing.shape)))
            }
        }
    }

    fn value(
        &mut self,
        shape: Shape,
        value: &Json<'_>,
        unknown: UnknownFields,
    ) -> Result<(), String> {
        match (shape, value) {
            (Shape::Object(fields), Json::Object(object)) => self.object(object, fields, unknown),
            (Shape::Array(of), Json::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(Step::Index(index), |place| place.value(*of, item, unknown))?;
                }
                Ok(())
            }
            _ => scalar(shape, value).map_err(|wrong| format!("`{}` {wrong}", self.0)),
        }
    }

    fn unknown(
        &self,
        name: &str,
        fields: &'static [Field],
        unknown: UnknownFields,
    ) -> Result<(), String> {
        // An object without documented fields is one about which nothing is known.
        if fields.is_empty() {
            return Ok(());
        }
        let meant = fields.iter().find(|field| letters(field.name).eq(letters(name)));
        if meant.is_none() && unknown == UnknownFields::Pass {
            return Ok(());
        }
        let near = meant
            .map(|field| field.name)
            .or_else(|| nearest(name, fields.iter().map(|field| field.name)));
        let path = self.join(word(name));
        Err(match near {
            Some(near) => format!("`{path}` is not a field here: did you mean `{near}`?"),
            None => {
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                format!("`{path}` is not a field here: the fields are {}", names.join(", "))
            }
        })
    }

    fn within(
        &mut self,
        step: Step<'_>,
        check: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let length = self.0.len();
        match step {
            Step::Field(name) => {
                if length > 0 {
                    self.0.push('.');
                }
                self.0.push_str(name);
            }
            // Writing to a String cannot fail.
            Step::Index(index) => _ = write!(self.0, "[{index}]"),
        }
        let checked = check(self);
        self.0.truncate(length);
        checked
    }

    fn join(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) }
    }
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// Checks everything that has no places inside it; an object or array that comes here is one in
/// place of something else.
fn scalar(shape: Shape, value: &Json<'_>) -> Result<(), String> {
    let fits = match (shape, value) {
        (Shape::Boolean, Json::Bool(_)) => true,
        (Shape::Ignored, _) => true,
        (Shape::Integer { min, max }, Json::Number(_)) => {
            value.as_whole().is_some_and(|number| (min.into()..=max.into()).contains(&number))
        }
        (Shape::Lifespan, Json::Number(_)) => value.as_whole().is_some_and(|number| number >= 0),
        (Shape::Number { min, max }, Json::Number(number)) => {
            number.as_f64().is_some_and(|number| (min..=max).contains(&number))
        }
        (Shape::Text { starts_with, longest }, Json::Text(text)) => {
            text.starts_with(starts_with) && !is_longer(text, longest)
        }
        (Shape::OneOf(texts), Json::Text(text)) => texts.contains(&&**text),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(format!("must be {}, found {}{}", allowed(shape), found(shape, value), hint(shape, value)))
}

/// Nearly always the bytes are few enough already.
fn is_longer(text: &str, longest: usize) -> bool {
    text.len() > longest && text.chars().count() > longest
}

fn allowed(shape: Shape) -> String {
    match shape {
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Lifespan => "a whole number of milliseconds, 0 for permanent".to_owned(),
        Shape::Ignored => "anything".to_owned(),
        Shape::Number { min, max } => format!("a number from {min} to {max}"),
        Shape::Text { starts_with: "", longest } => {
            format!("a string of at most {longest} characters")
        }
        Shape::Text { starts_with, longest } => {
            format!("a string that begins with `{starts_with}`, of at most {longest} characters")
        }
        Shape::OneOf(texts) => {
            let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
            quoted.join(" or ")
        }
        Shape::Object(_) => "an object".to_owned(),
        Shape::Array(_) => "an array".to_owned(),
    }
}

fn found(shape: Shape, value: &Json<'_>) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Text(text) => match shape {
            Shape::OneOf(_) => match word(text) {
                "…" => "another string".to_owned(),
                word => format!("\"{word}\""),
            },
            Shape::Text { longest, .. } if is_longer(text, longest) => {
                format!("a string of {} characters", text.chars().count())
            }
            Shape::Text { .. } => "a string that begins otherwise".to_owned(),
            _ => "a string".to_owned(),
        },
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    }
}

fn hint(shape: Shape, value: &Json<'_>) -> String {
    let near = match (shape, value) {
        (Shape::OneOf(texts), Json::Text(text)) => nearest(text, texts.iter().copied()),
        _ => None,
    };
    near.map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default()
}

/// At most 40 characters of a text that is no secret, with everything but plain ASCII escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut printed: String = text.chars().take(40).flat_map(char::escape_default).collect();
    if text.chars().nth(40).is_some() {
        printed.push('…');
    }
    printed
}

/// The nearest of `names` to what was written, when it is near enough to be meant: at most a
/// third of its letters differ, case and separators left aside.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let written = folded(written);
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(&written, &folded(name)), name))
        .filter(|(distance, name)| *distance <= name.chars().count().div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn folded(name: &str) -> String {
    letters(name).collect()
}

/// A name's letters and digits, case left aside. Compared as they come: a body may hold thousands
/// of names.
fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BodySpec, TABLE};

    fn fields_of(operation: &str) -> &'static [Field] {
        let row = TABLE.iter().find(|row| row.name == operation).unwrap();
        match row.body {
            BodySpec::Json(fields) => fields,
            _ => panic!("{operation} has no JSON body"),
        }
    }

    fn refusal(operation: &str, body: &str, unknown: UnknownFields) -> Option<String> {
        let object = crate::api::parse_object(body.as_bytes()).unwrap();
        check_object(&object, fields_of(operation), unknown)
            .err()
            .map(|failure| failure.message().to_owned())
    }

    #[test]
    fn a_wrong_body_is_told_the_path_what_was_found_and_what_is_allowed() {
        for (operation, body, message) in [
            (
                "rooms.create",
                r#"{"isRecord":"yes"}"#,
                "`isRecord` must be true or false, found a string",
            ),
            (
                "rooms.create",
                r#"{"isrecord":true}"#,
                "`isrecord` is not a field here: did you mean `isRecord`?",
            ),
            ("rooms.update", "{}", "`isBan` is required: true or false"),
            (
                "conversions.start",
                r#"{"resource":"https://x","type":"dinamic"}"#,
                "`type` must be \"dynamic\" or \"static\", found \"dinamic\" (did you mean \"dynamic\"?)",
            ),
            (
                "conversions.start",
                r#"{"resource":"https://x","type":"static","scale":3.1}"#,
                "`scale` must be a number from 0.1 to 3, found 3.1",
            ),
            (
                "scenes.add",
                r#"{"path":"/a","scenes":[{"name":"1"},{"ppt":{"src":"u","width":"wide","height":1}}]}"#,
                "`scenes[1].ppt.width` must be a number from 1 to 100000, found a string",
            ),
            (
                "scenes.add",
                r#"{"path":"a","scenes":[]}"#,
                "`path` must be a string that begins with `/`, of at most 4096 characters, found a string that begins otherwise",
            ),
            (
                "tokens.room",
                r#"{"lifespan":-1,"role":"reader"}"#,
                "`lifespan` must be a whole number of milliseconds, 0 for permanent, found -1",
            ),
            (
                "tokens.room",
                r#"{"lifespan":1.5,"role":"reader"}"#,
                "`lifespan` must be a whole number of milliseconds, 0 for permanent, found 1.5",
            ),
        ] {
            assert_eq!(refusal(operation, body, UnknownFields::Pass).as_deref(), Some(message));
        }
    }

    #[test]
    fn a_number_is_its_value_and_not_how_it_is_written() {
        for lifespan in
            ["3600000.0", "3.6e6", "36E5", "0.0", "-0", "-0.0", "9223372036854775807", "1e300"]
        {
            let body = format!(r#"{{"lifespan":{lifespan},"role":"reader"}}"#);
            assert_eq!(refusal("tokens.room", &body, UnknownFields::Pass), None, "{lifespan}");
        }
        let body = r#"{"limit":1e1}"#;
        assert_eq!(refusal("rooms.create", body, UnknownFields::Pass), None);
        assert!(refusal("rooms.create", r#"{"limit":1e10}"#, UnknownFields::Pass).is_some());
    }

    #[test]
    fn what_is_ignored_on_purpose_is_no_unknown_field() {
        for secret in [r#""s""#, "null", "[1]"] {
            let body = format!(
                r#"{{"accessKey":"a","secretAccessKey":{secret},"lifespan":0,"role":"admin"}}"#
            );
            assert_eq!(refusal("tokens.sdk", &body, UnknownFields::Refuse), None);
        }
    }

    #[test]
    fn unknown_fields_pass_unless_they_are_to_be_refused() {
        let body = r#"{"isRecord":true,"colour":"red"}"#;
        assert_eq!(refusal("rooms.create", body, UnknownFields::Pass), None);
        assert_eq!(
            refusal("rooms.create", body, UnknownFields::Refuse).as_deref(),
            Some("`colour` is not a field here: the fields are isRecord, limit, name"),
        );
        let storage = r#"{"resource":"u","type":"static","targetStorageDriver":{"sk":"s"}}"#;
        assert_eq!(refusal("conversions.start", storage, UnknownFields::Refuse), None);
    }

    #[test]
    fn only_a_word_of_a_callers_text_is_repeated() {
        for (text, told) in [
            ("owner", "found \"owner\""),
            ("<script>\\u0000", "found another string"),
            ("n0-SecretKeyInAWrongPlace", "found another string"),
        ] {
            let body = format!(r#"{{"resource":"u","type":"{text}"}}"#);
            let message = refusal("conversions.start", &body, UnknownFields::Pass).unwrap();
            assert!(message.ends_with(told), "{message}");
        }
        let message = refusal("rooms.create", r#"{"wbg_live_1":1}"#, UnknownFields::Refuse);
        assert_eq!(
            message.as_deref(),
            Some("`…` is not a field here: the fields are isRecord, limit, name")
        );
    }

    #[test]
    fn the_length_of_a_text_is_that_of_its_characters() {
        let body = |count: usize| format!(r#"{{"name":"{}"}}"#, "é".repeat(count));
        assert_eq!(refusal("rooms.create", &body(2_048), UnknownFields::Pass), None);
        let message = refusal("rooms.create", &body(2_049), UnknownFields::Pass).unwrap();
        let told = "at most 2048 characters, found a string of 2049 characters";
        assert!(message.ends_with(told), "{message}");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("alow", ["allow", "rooms"]), Some("allow"));
        assert_eq!(nearest("is_ban", ["isBan"]), Some("isBan"));
        assert_eq!(nearest("zebra", ["allow", "rooms"]), None);
    }
}
