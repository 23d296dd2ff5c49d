//! A question to the policy of a configuration, as commands ask it: of a file, or of a gateway that
//! runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{Lifespan, Role};
use crate::caller::Caller;
use crate::cli::admin_client::AdminClient;
use crate::cli::configuration::snapshot;
use crate::cli::jwt::identify;
use crate::failure::Failure;
use crate::gateway::{PolicyQuestion, Snapshot};
use crate::token::Secret;

pub(super) use crate::gateway::PolicyAnswer;

/// What decides: everything that the configuration says.
pub(super) struct PolicyEvaluator(Snapshot);

/// Who asks.
#[derive(Clone, Copy)]
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

impl PolicyEvaluator {
    pub(super) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        snapshot(config).map(Self)
    }

    /// Decides.
    ///
    /// # Errors
    /// A caller or an issuer that the configuration does not know, or a method that is none.
    pub(super) fn decide(&self, question: &Question<'_>) -> anyhow::Result<PolicyAnswer> {
        let Question { requester, method, path, role, lifespan } = *question;
        let question = PolicyQuestion { method, path, role, lifespan };
        Ok(self.0.explain(self.caller(&requester)?, &question)?)
    }

    fn caller(&self, requester: &Requester<'_>) -> anyhow::Result<Result<Arc<Caller>, Failure>> {
        Ok(match requester {
            Requester::Caller(name) => Ok(self.0.caller_named(name)?),
            Requester::Claims { issuer, claims } => self.0.caller_with_claims(issuer, claims)?,
            Requester::Credential(credential, now) => identify(&self.0, credential.expose(), *now)?,
        })
    }
}

/// Asks a gateway that runs, by the configuration that counts there: the answer as JSON.
///
/// # Errors
/// Those of [`PolicyEvaluator::decide`], in the words of the gateway; and an answer that is none.
pub(super) fn ask(client: &AdminClient, question: &Question<'_>) -> anyhow::Result<Value> {
    let mut body = json!({ "method": question.method, "path": question.path });
    match question.requester {
        Requester::Caller(name) => body["caller"] = name.into(),
        Requester::Claims { issuer, claims } => {
            body["issuer"] = issuer.into();
            body["claims"] = Value::Object(claims.clone());
        }
        Requester::Credential(credential, _) => body["token"] = credential.expose().into(),
    }
    if let Some(role) = question.role {
        body["role"] = role.as_str().into();
    }
    if let Some(lifespan) = question.lifespan {
        body["lifespan"] = lifespan.to_wire().into();
    }
    let answer = client.post("policy/explain", &body)?;
    ensure!(answer["decision"].is_string(), "the gateway answers without a decision");
    Ok(answer)
}

/// Whether it would be allowed.
pub(super) fn allows(answer: &Value) -> bool {
    answer["decision"] == "allow"
}

/// An answer for people, from its JSON.
pub(super) fn text(answer: &Value) -> String {
    let member = |name: &str| answer[name].as_str();
    let decision = member("decision").unwrap_or("-");
    let mut lines = vec![match member("message") {
        None => decision.to_owned(),
        Some(message) => format!("{decision}: {message}"),
    }];
    lines.extend(member("rule").map(|rule| format!("  refused by {rule}")));
    lines.extend(member("detail").map(|detail| format!("  {detail}")));
    lines.extend(member("grant").map(|grant| format!("  grants {grant}")));
    let [caller, operation] = ["caller", "operation"].map(|name| member(name).unwrap_or("-"));
    lines.push(format!("caller {caller}, operation {operation}"));
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        let mark = if reason["holds"] == true { "yes" } else { "no " };
        let [rule, why] = ["rule", "why"].map(|name| reason[name].as_str().unwrap_or("-"));
        lines.push(format!("  {mark} {rule}: {why}"));
    }
    lines.join("\n")
}
