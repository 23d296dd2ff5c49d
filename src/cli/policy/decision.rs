//! A question to the policy, and the answer of the gateway's own code with every reason.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{Access, Lifespan, Object, Role, TokenRequest, nearest};
use crate::caller::Caller;
use crate::cli::configuration::snapshot;
use crate::cli::jwt::identify;
use crate::failure::Failure;
use crate::gateway::Snapshot;
use crate::policy::{Grant, Reason};
use crate::token::Secret;

/// What decides: everything that the configuration says.
pub(super) struct PolicyEvaluator(Snapshot);

/// Who asks.
pub(super) enum Requester<'a> {
    /// A caller of the configuration.
    Caller(&'a str),
    /// Whoever shows a good token of an issuer with these claims.
    Claims { issuer: &'a str, claims: &'a Map<String, Value> },
    /// Whoever shows this credential, at this time.
    Credential(&'a Secret, Timestamp),
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) requester: Requester<'a>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) role: Option<Role>,
    pub(super) lifespan: Option<Lifespan>,
}

/// The answer, with every reason.
pub(super) struct PolicyAnswer {
    caller: Option<String>,
    operation: Option<String>,
    reasons: Vec<Reason>,
    /// What a token operation gives; `None` for every other.
    pub(super) decided: Result<Option<Grant>, Failure>,
}

impl PolicyEvaluator {
    pub(super) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        snapshot(config).map(Self)
    }

    /// Decides.
    ///
    /// # Errors
    /// A caller or an issuer that the configuration does not know, or a method that is none.
    pub(super) fn decide(&self, question: &Question<'_>) -> anyhow::Result<PolicyAnswer> {
        let method = Method::from_bytes(question.method.to_uppercase().as_bytes())
            .map_err(|_| anyhow!("`{}` is no method", question.method.escape_default()))?;
        let mut verdict =
            PolicyAnswer { caller: None, operation: None, reasons: Vec::new(), decided: Ok(None) };
        verdict.decided = match self.caller(&question.requester)? {
            Ok(caller) => self.authorize(&caller, &method, question, &mut verdict),
            Err(failure) => Err(failure),
        };
        Ok(verdict)
    }

    fn caller(&self, requester: &Requester<'_>) -> anyhow::Result<Result<Arc<Caller>, Failure>> {
        let callers = self.0.callers();
        match requester {
            Requester::Caller(name) => {
                let caller = callers.of_name(name);
                Ok(Ok(caller.with_context(|| {
                    let hint = meant(name, callers.names());
                    format!("the configuration has no caller `{name}` with a credential{hint}")
                })?))
            }
            Requester::Credential(credential, now) => identify(&self.0, credential.expose(), *now),
            Requester::Claims { issuer, claims } => {
                let place = callers.issuers().place(issuer);
                let place = place.with_context(|| {
                    let hint = meant(issuer, callers.issuers().names());
                    format!("the configuration has no issuer `{issuer}`{hint}")
                })?;
                let claims = Object::from(*claims);
                Ok(callers.of_claims(place, &claims).map(Arc::new).map_err(Failure::from))
            }
        }
    }

    /// The steps of the way from the operation to the grant, by the code of the gateway.
    fn authorize(
        &self,
        caller: &Caller,
        method: &Method,
        question: &Question<'_>,
        verdict: &mut PolicyAnswer,
    ) -> Result<Option<Grant>, Failure> {
        verdict.caller = Some(caller.name.clone());
        let path = question.path.split('?').next().unwrap_or_default();
        let asked = self.0.describes().operations.find(method, path)?;
        verdict.operation = Some(asked.operation.name.to_string());
        verdict.reasons = self.0.policy().explain(&caller.rights, &asked);
        let permit = self.0.policy().authorize(&caller.rights, &asked)?;
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
    pub(super) fn word(&self) -> &'static str {
        self.decided.as_ref().map_or_else(|failure| failure.code().name(), |_| "allow")
    }

    pub(super) fn rule(&self) -> Option<&str> {
        self.decided.as_ref().err().and_then(Failure::rule)
    }

    /// `role=reader; lifespan=7200000`, as `Whiteboard-Granted` says it.
    pub(super) fn grant(&self) -> Option<String> {
        Some(self.decided.as_ref().ok()?.as_ref()?.request.granted())
    }

    pub(super) fn json(&self) -> Value {
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

    pub(super) fn text(&self) -> String {
        let mut lines = vec![match &self.decided {
            Ok(_) => "allow".to_owned(),
            Err(failure) => format!("{}: {}", self.word(), failure.message()),
        }];
        lines.extend(self.rule().map(|rule| format!("  refused by {rule}")));
        let detail = self.decided.as_ref().err().and_then(Failure::detail);
        lines.extend(detail.map(|detail| format!("  {detail}")));
        lines.extend(self.grant().map(|grant| format!("  grants {grant}")));
        let caller = self.caller.as_deref().unwrap_or("-");
        let operation = self.operation.as_deref().unwrap_or("-");
        lines.push(format!("caller {caller}, operation {operation}"));
        for Reason { rule, holds, why } in &self.reasons {
            let mark = if *holds { "yes" } else { "no " };
            lines.push(format!("  {mark} {rule}: {why}"));
        }
        lines.join("\n")
    }
}

/// What was meant by a name that nobody has.
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
