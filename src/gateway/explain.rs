//! Why a request would be allowed or not, by the code that decides: for commands and operators, who
//! ask without a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value, json};

use super::Snapshot;
use crate::api::{Access, Lifespan, Object, Role, TokenRequest, nearest};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::policy::{Grant, Reason};

/// What is asked.
#[derive(Clone, Copy)]
pub struct PolicyQuestion<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
    /// The role that it asks for, where it asks for a token.
    pub role: Option<Role>,
    /// The lifespan that it asks for.
    pub lifespan: Option<Lifespan>,
}

/// The answer, with every reason.
pub struct PolicyAnswer {
    caller: Option<String>,
    operation: Option<String>,
    reasons: Vec<Reason>,
    /// What a token operation gives; `None` for every other.
    pub decided: Result<Option<Grant>, Failure>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// No method of HTTP.
    #[error("`{0}` is no method")]
    Method(String),
    /// No caller of the configuration; and which is meant, or which there are.
    #[error("the configuration has no caller `{0}` with a credential{1}")]
    Caller(String, String),
    /// No issuer of the configuration.
    #[error("the configuration has no issuer `{0}`{1}")]
    Issuer(String, String),
}

impl Snapshot {
    /// A caller of the configuration.
    ///
    /// # Errors
    /// [`QuestionError::Caller`].
    pub fn caller_named(&self, name: &str) -> Result<Arc<Caller>, QuestionError> {
        let unknown = || QuestionError::Caller(name.to_owned(), meant(name, self.callers.names()));
        self.callers.of_name(name).ok_or_else(unknown)
    }

    /// Whoever shows a good token of an issuer with these claims.
    ///
    /// # Errors
    /// [`QuestionError::Issuer`].
    pub fn caller_with_claims(
        &self,
        issuer: &str,
        claims: &Map<String, Value>,
    ) -> Result<Result<Arc<Caller>, Failure>, QuestionError> {
        let issuers = &self.callers.issuers;
        let unknown = || QuestionError::Issuer(issuer.to_owned(), meant(issuer, issuers.names()));
        let index = issuers.place(issuer).ok_or_else(unknown)?;
        let caller = self.callers.of_claims(index, &Object::from(claims));
        Ok(caller.map(Arc::new).map_err(Failure::from))
    }

    /// Decides for a caller, or for one whose credential was refused.
    ///
    /// # Errors
    /// [`QuestionError::Method`].
    pub fn explain(
        &self,
        caller: Result<Arc<Caller>, Failure>,
        question: &PolicyQuestion<'_>,
    ) -> Result<PolicyAnswer, QuestionError> {
        let method = Method::from_bytes(question.method.to_uppercase().as_bytes());
        let method = method
            .map_err(|_| QuestionError::Method(question.method.escape_default().to_string()))?;
        let mut answer =
            PolicyAnswer { caller: None, operation: None, reasons: Vec::new(), decided: Ok(None) };
        answer.decided = caller
            .and_then(|caller| self.authorize_question(&caller, &method, question, &mut answer));
        Ok(answer)
    }

    /// The steps of the way from the operation to the grant, by the code of the gateway.
    fn authorize_question(
        &self,
        caller: &Caller,
        method: &Method,
        question: &PolicyQuestion<'_>,
        answer: &mut PolicyAnswer,
    ) -> Result<Option<Grant>, Failure> {
        answer.caller = Some(caller.name.clone());
        let path = question.path.split('?').next().unwrap_or_default();
        let asked = self.describes().operations.find(method, path)?;
        answer.operation = Some(asked.operation.name.to_string());
        answer.reasons = self.policy.explain(&caller.rights, &asked);
        let permit = self.policy.authorize(&caller.rights, &asked)?;
        let Access::Mints(kind) = asked.operation.access else { return Ok(None) };
        let request = TokenRequest {
            kind,
            role: question.role.unwrap_or(Role::Reader),
            lifespan: question.lifespan.unwrap_or(Lifespan::Millis(1)),
            access_key: None,
        };
        let grant = permit.grant(&request)?;
        Ok((question.role.is_some() || question.lifespan.is_some()).then_some(grant))
    }
}

impl PolicyAnswer {
    /// `allow`, or the code of the refusal.
    pub fn word(&self) -> &'static str {
        self.decided.as_ref().map_or_else(|failure| failure.code().name(), |_| "allow")
    }

    /// The rule that refuses.
    pub fn rule(&self) -> Option<&str> {
        self.decided.as_ref().err().and_then(Failure::rule)
    }

    /// `role=reader; lifespan=7200000`, as `Whiteboard-Granted` says it.
    pub fn grant(&self) -> Option<String> {
        Some(self.decided.as_ref().ok()?.as_ref()?.request.granted())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let reasons = self
            .reasons
            .iter()
            .map(|reason| json!({ "rule": reason.rule, "holds": reason.holds, "why": reason.why }));
        let failure = self.decided.as_ref().err();
        json!({
            "decision": self.word(),
            "caller": self.caller,
            "operation": self.operation,
            "rule": self.rule(),
            "message": failure.map(Failure::message),
            "detail": failure.and_then(Failure::detail),
            "grant": self.grant(),
            "reasons": reasons.collect::<Vec<_>>(),
        })
    }
}

/// What was meant by a name that no one has.
fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: BTreeSet<&str> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!(": did you mean `{near}`?"),
        None if known.is_empty() => String::new(),
        None => {
            let known: Vec<&str> = known.into_iter().collect();
            format!(": there are {}", known.join(", "))
        }
    }
}
