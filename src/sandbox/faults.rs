//! The fault switch: what goes wrong on purpose, so that people can test their own retries.
//!
//! One fault is set at a time. It hits every operation, or those it names; always, or so many
//! times.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::refusal::SandboxError;
use crate::api::{
    Field, Operations, Shape, UnknownFields, check_object, nearest, parse_object, whole,
};

/// The longest latency: longer ones would only hold connections.
const LONGEST: Duration = Duration::from_secs(300);

const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, about }
}

const FAULT: &[Field] = &[
    field("operations", Shape::Array(&NAME), "those that it hits; all when left out"),
    field("count", Shape::Integer { min: 1, max: 1_000_000 }, "for ever when left out"),
    field("latency", Shape::Text { starts_with: "", longest: 16 }, "such as 500ms or 2s"),
    field("status", Shape::Integer { min: 200, max: 599 }, "instead of doing it"),
    field("body", Shape::OneOf(&["json", "html", "empty", "truncated"]), "of the answer"),
    field("message", Shape::Text { starts_with: "", longest: 1_024 }, "of the failure"),
    field("form", Shape::OneOf(&["documented", "observed"]), "of the body of a failure"),
    field("retry_after", Shape::Integer { min: 0, max: 86_400 }, "seconds, as a header"),
    field("token_error", Shape::Boolean, "401 `invalid signature of token`"),
    field("redirect", Shape::Text { starts_with: "", longest: 2_048 }, "307 to this place"),
    field("close", Shape::Boolean, "closes the connection without an answer"),
];

const NAME: Shape = Shape::Text { starts_with: "", longest: 64 };

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InjectedFault {
    /// The operations that it hits; all when empty.
    operations: Vec<String>,
    /// How long an answer is held back. The operation is done before: a client that gives up
    /// must expect that it was.
    pub(super) latency: Duration,
    /// What happens instead of the operation.
    pub(super) instead: Option<Instead>,
    /// What becomes of the answer's body.
    pub(super) body: Garble,
    /// How a failure is written.
    pub(super) form: Form,
    /// The `Retry-After` of the answer, in seconds.
    pub(super) retry_after: Option<u64>,
}

/// What happens instead of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// An answer of this status, and what its message says.
    Status(StatusCode, String),
    /// The token is not taken, though it may be right.
    TokenError,
    /// The client is sent elsewhere.
    Redirect(String),
    /// Nothing: the connection is closed.
    Close,
}

/// How the body of a failure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As the pages have it: `{"message": …}`.
    Documented,
    /// As the real service was seen to write it: under `error`, with what its support asks for.
    Observed,
}

/// What becomes of the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garble {
    /// Nothing.
    Nothing,
    /// It is a page of HTML.
    Html,
    /// It is empty.
    Empty,
    /// It ends before its promised length.
    Truncated,
}

/// The switch.
#[derive(Default)]
pub(super) struct Faults {
    set: Option<Set>,
}

struct Set {
    fault: InjectedFault,
    /// As it was given.
    given: Map<String, Value>,
    left: Option<u64>,
    hits: u64,
}

impl Faults {
    /// Sets a fault in place of the one that is set.
    pub(super) fn set(
        &mut self,
        body: &[u8],
        operations: &Operations,
    ) -> Result<Value, SandboxError> {
        let given = parse_object(body)?;
        check_object(&given, FAULT, UnknownFields::Refuse)?;
        let given = given.into();
        let fault = InjectedFault::read(&given, operations)?;
        let left = given.get("count").and_then(whole);
        self.set = Some(Set { fault, given, left, hits: 0 });
        Ok(self.view())
    }

    pub(super) fn clear(&mut self) {
        self.set = None;
    }

    /// What is set, how often it hit, and how often it still will.
    pub(super) fn view(&self) -> Value {
        match &self.set {
            None => json!({ "fault": null }),
            Some(set) => json!({ "fault": set.given, "hits": set.hits, "left": set.left }),
        }
    }

    /// The fault that hits a request for this operation; counted.
    pub(super) fn hit(&mut self, operation: &str) -> Option<InjectedFault> {
        let set = self.set.as_mut()?;
        let named = &set.fault.operations;
        let meant = named.is_empty() || named.iter().any(|name| name == operation);
        if !meant || set.left == Some(0) {
            return None;
        }
        set.left = set.left.map(|left| left - 1);
        set.hits += 1;
        Some(set.fault.clone())
    }
}

impl InjectedFault {
    fn read(given: &Map<String, Value>, known: &Operations) -> Result<Self, SandboxError> {
        let flag = |name: &str| given.get(name).and_then(Value::as_bool).unwrap_or_default();
        let text = |name: &str| given.get(name).and_then(Value::as_str);
        let fault = Self {
            operations: operations(given, known)?,
            latency: text("latency").map_or(Ok(Duration::ZERO), latency)?,
            instead: instead(given, &flag)?,
            body: match text("body") {
                Some("html") => Garble::Html,
                Some("empty") => Garble::Empty,
                Some("truncated") => Garble::Truncated,
                _ => Garble::Nothing,
            },
            form: match text("form") {
                Some("observed") => Form::Observed,
                _ => Form::Documented,
            },
            retry_after: given.get("retry_after").and_then(whole),
        };
        let idle = fault.latency.is_zero()
            && fault.instead.is_none()
            && fault.body == Garble::Nothing
            && fault.form == Form::Documented
            && fault.retry_after.is_none();
        if idle {
            return Err(wrong(
                "nothing would go wrong: give `latency`, `status`, `body`, `form`, \
                 `retry_after`, `token_error`, `redirect` or `close`",
            ));
        }
        Ok(fault)
    }
}

fn wrong(why: impl Into<String>) -> SandboxError {
    SandboxError::Request(why.into())
}

fn operations(given: &Map<String, Value>, known: &Operations) -> Result<Vec<String>, SandboxError> {
    let named = given.get("operations").and_then(Value::as_array);
    if named.is_some_and(Vec::is_empty) {
        return Err(wrong("`operations` is empty: leave it out to hit every operation"));
    }
    let mut names = Vec::new();
    for (index, name) in named.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        let all = || known.iter().map(|(_, row)| row.name.as_ref());
        if !all().any(|other| other == name) {
            let hint = match nearest(name, all()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("they are {}", all().collect::<Vec<_>>().join(", ")),
            };
            return Err(wrong(format!("`operations[{index}]` is no operation: {hint}")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn instead(
    given: &Map<String, Value>,
    flag: &impl Fn(&str) -> bool,
) -> Result<Option<Instead>, SandboxError> {
    let status = given.get("status").and_then(whole).and_then(|status| {
        u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())
    });
    let message = given.get("message").and_then(Value::as_str);
    if message.is_some() && status.is_none() {
        return Err(wrong("`message` is that of an answer with `status`: give that as well"));
    }
    let message = message.unwrap_or("the sandbox was told to answer this").to_owned();
    let redirect = given.get("redirect").and_then(Value::as_str);
    if redirect.is_some_and(|place| http::HeaderValue::from_str(place).is_err()) {
        return Err(wrong("`redirect` holds what a header cannot"));
    }
    let mut all = [
        status.map(|status| Instead::Status(status, message)),
        flag("token_error").then_some(Instead::TokenError),
        redirect.map(|place| Instead::Redirect(place.to_owned())),
        flag("close").then_some(Instead::Close),
    ]
    .into_iter()
    .flatten();
    let first = all.next();
    if all.next().is_some() {
        return Err(wrong("only one of `status`, `token_error`, `redirect` and `close` can be"));
    }
    Ok(first)
}

/// A text such as `500ms` or `2s`.
fn latency(text: &str) -> Result<Duration, SandboxError> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1000),
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let ms = number.parse::<u64>().ok().filter(|_| plain).and_then(|n| n.checked_mul(unit_ms));
    match ms.map(Duration::from_millis) {
        Some(latency) if latency <= LONGEST => Ok(latency),
        Some(_) => Err(wrong("`latency` must be at most 300s")),
        None => Err(wrong("`latency` must be a whole number with a unit: `500ms` or `2s`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(faults: &mut Faults, body: &str) -> Result<Value, String> {
        faults
            .set(body.as_bytes(), &Operations::documented())
            .map_err(|refusal| format!("{} {refusal}", refusal.status().as_u16()))
    }

    #[test]
    fn a_fault_hits_the_operations_it_names_as_often_as_it_says() {
        let mut faults = Faults::default();
        let body = r#"{"operations":["rooms.get"],"count":2,"latency":"500ms","status":429,
                       "body":"html","retry_after":2}"#;
        let view = set(&mut faults, body).unwrap();
        assert_eq!((&view["left"], &view["fault"]["status"]), (&json!(2), &json!(429)));
        let fault = faults.hit("rooms.get").unwrap();
        assert_eq!(fault.latency, Duration::from_millis(500));
        let Some(Instead::Status(status, _)) = fault.instead else { panic!("no status") };
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((fault.body, fault.retry_after), (Garble::Html, Some(2)));
        assert!(faults.hit("rooms.list").is_none());
        assert!(faults.hit("rooms.get").is_some());
        assert!(faults.hit("rooms.get").is_none());
        assert_eq!((&faults.view()["left"], &faults.view()["hits"]), (&json!(0), &json!(2)));
    }

    #[test]
    fn a_fault_without_bounds_hits_everything_until_it_is_cleared() {
        let mut faults = Faults::default();
        assert_eq!(set(&mut faults, r#"{"close":true}"#).unwrap()["left"], Value::Null);
        for operation in ["rooms.get", "conversions.start", "rooms.get"] {
            assert_eq!(faults.hit(operation).unwrap().instead, Some(Instead::Close));
        }
        faults.clear();
        assert!(faults.hit("rooms.get").is_none());
        assert_eq!(faults.view(), json!({"fault": null}));
    }

    #[test]
    fn a_wrong_fault_is_named_and_changes_nothing() {
        let mut faults = Faults::default();
        set(&mut faults, r#"{"status":500}"#).unwrap();
        for (body, part) in [
            ("", "the body is not JSON"),
            ("{}", "nothing would go wrong"),
            (r#"{"count":1}"#, "nothing would go wrong"),
            (r#"{"close":false}"#, "nothing would go wrong"),
            (r#"{"latancy":"1s"}"#, "did you mean `latency`?"),
            (r#"{"latency":"1"}"#, "`500ms` or `2s`"),
            (r#"{"latency":"+1s"}"#, "`500ms` or `2s`"),
            (r#"{"latency":"ms"}"#, "`500ms` or `2s`"),
            (r#"{"latency":"301s"}"#, "at most 300s"),
            (r#"{"status":99}"#, "from 200 to 599, found 99"),
            (r#"{"status":500,"count":0}"#, "from 1 to"),
            (r#"{"body":"xml"}"#, "found \"xml\""),
            (r#"{"form":"real"}"#, "found \"real\""),
            (r#"{"message":"x"}"#, "give that as well"),
            (r#"{"status":500,"close":true}"#, "only one of"),
            (r#"{"redirect":"a\nb"}"#, "what a header cannot"),
            (r#"{"status":500,"operations":[]}"#, "leave it out"),
            (r#"{"status":500,"operations":["rooms.gt"]}"#, "did you mean `rooms.get`?"),
            (r#"{"status":500,"operations":["nothing"]}"#, "they are tokens.sdk"),
            (r#"{"status":500,"operations":[1]}"#, "`operations[0]` must be a string"),
        ] {
            let why = set(&mut faults, body).unwrap_err();
            assert!(why.starts_with("400 ") && why.contains(part), "{body}: {why}");
        }
        assert_eq!(faults.view()["fault"], json!({"status": 500}));
    }
}
