//! What a route of the admin API is: a row of its table.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use serde_json::{Map, Number, Value};

use crate::admin::access::OperatorRole;
use crate::admin::context::AdminContext;
use crate::admin::identity::IdentifiedOperator;
use crate::failure::{Code, Failure};
use crate::server::Peer;

/// A route.
pub(super) struct AdminRoute {
    pub(super) method: Method,
    /// Behind `/admin/v1`.
    pub(super) path: &'static str,
    /// Who may ask; `None` for everyone.
    pub(super) role: Option<OperatorRole>,
    /// Whether it changes something: then a session carries its token as well.
    pub(super) changes: bool,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    /// The members of the JSON object that it takes; none for a request without a body.
    pub(super) takes: &'static [BodyMember],
    pub(super) answer: Handler,
}

pub(super) const VIEWER: Option<OperatorRole> = Some(OperatorRole::Viewer);

impl AdminRoute {
    /// What shows something to every operator.
    pub(super) const fn read(path: &'static str, summary: &'static str, answer: Handler) -> Self {
        Self::new(Method::GET, path, VIEWER, summary, answer)
    }

    /// A route for whoever has the role, or for everyone without one.
    pub(super) const fn new(
        method: Method,
        path: &'static str,
        role: Option<OperatorRole>,
        summary: &'static str,
        answer: Handler,
    ) -> Self {
        Self { method, path, role, changes: false, summary, takes: &[], answer }
    }

    /// It has a body with these members.
    pub(super) const fn takes(mut self, takes: &'static [BodyMember]) -> Self {
        self.takes = takes;
        self
    }

    /// It changes something.
    pub(super) const fn changes(mut self) -> Self {
        self.changes = true;
        self
    }
}

/// A member of a request's body.
pub(super) struct BodyMember {
    pub(super) name: &'static str,
    pub(super) kind: MemberKind,
    pub(super) required: bool,
    pub(super) about: &'static str,
}

pub(super) const fn member(
    name: &'static str,
    kind: MemberKind,
    required: bool,
    about: &'static str,
) -> BodyMember {
    BodyMember { name, kind, required, about }
}

/// What it is in JSON.
#[derive(Clone, Copy)]
pub(super) enum MemberKind {
    Text,
    Number,
    Object,
}

/// Answers a request to a route.
pub(super) type Handler = for<'a> fn(&'a AdminContext, Asked<'a>) -> RouteFuture<'a>;
pub(super) type RouteFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, Failure>> + 'a>>;

/// A request that was let in.
pub(super) struct Asked<'a> {
    /// Whose it is; `None` where no one is asked.
    pub(super) by: Option<IdentifiedOperator>,
    pub(super) headers: &'a HeaderMap,
    pub(super) peer: &'a Peer,
    pub(super) body: BodyMembers,
}

/// The members of a body, of their kinds.
#[derive(Default)]
pub(super) struct BodyMembers(Map<String, Value>);

impl MemberKind {
    /// The word in JSON Schema.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Object => "object",
        }
    }

    fn is(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Object => value.is_object(),
        }
    }
}

impl BodyMembers {
    /// Reads a body by what a route takes.
    ///
    /// # Errors
    /// `invalid_body`, which repeats nothing of it: a key may stand anywhere.
    pub(super) fn read(body: &[u8], takes: &[BodyMember]) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(Code::InvalidBody, why);
        let members: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| wrong("the body must be one JSON object".to_owned()))?;
        if members.keys().any(|name| takes.iter().all(|member| member.name != name)) {
            let names: Vec<&str> = takes.iter().map(|member| member.name).collect();
            return Err(wrong(format!(
                "the body has a member that is none here: there are {}",
                names.join(", ")
            )));
        }
        for BodyMember { name, kind, required, .. } in takes {
            let missing = || !*required;
            if !members.get(*name).map_or_else(missing, |value| kind.is(value)) {
                let kind = kind.as_str();
                return Err(wrong(format!("`{name}` in the body must be a JSON {kind}")));
            }
        }
        Ok(Self(members))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(super) fn number(&self, name: &str) -> Option<&Number> {
        self.0.get(name)?.as_number()
    }

    pub(super) fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.0.get(name)?.as_object()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: &[BodyMember] = &[
        BodyMember { name: "why", kind: MemberKind::Text, required: true, about: "" },
        BodyMember { name: "claims", kind: MemberKind::Text, required: false, about: "" },
    ];

    #[test]
    fn a_body_is_one_object_of_known_members_of_their_kinds() {
        let read = |body: &str| BodyMembers::read(body.as_bytes(), TAKES);
        assert_eq!(read(r#"{"why":"a"}"#).ok().unwrap().text("why"), Some("a"));
        assert!(read(r#"{"why":"","claims":"a"}"#).is_ok());
        for (body, part) in [
            ("", "one JSON object"),
            ("[]", "one JSON object"),
            ("{", "one JSON object"),
            ("{}", "`why`"),
            (r#"{"why":1}"#, "`why`"),
            (r#"{"why":"a","claims":{"secret":1}}"#, "`claims`"),
            (r#"{"why":"a","secret":1}"#, "there are why, claims"),
        ] {
            let failure = read(body).err().unwrap();
            assert!(failure.message().contains(part), "{body}: {}", failure.message());
            assert!(!failure.message().contains("secret"), "{}", failure.message());
        }
    }
}
