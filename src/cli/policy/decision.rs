//! A question to the policy of a configuration, as commands ask it.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::{Lifespan, Role};
use crate::caller::Caller;
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
