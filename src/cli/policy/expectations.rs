//! The file of expectations: who, what, and what should come of it.

use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::decision::{PolicyAnswer, Question, Requester};
use crate::api::{Lifespan, Role};
use crate::cli::argument::lifespan;
use crate::text;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectationFile {
    case: Vec<Case>,
}

/// One expectation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    name: Option<String>,
    caller: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
    /// `GET /v5/rooms`.
    request: String,
    /// `allow`, or the code of a refusal.
    expect: String,
    /// The rule that refuses.
    rule: Option<String>,
    /// What is asked for, where the request asks for a token.
    role: Option<Role>,
    lifespan: Option<String>,
    /// What is granted then: `role=reader; lifespan=7200000`.
    grant: Option<String>,
}

/// Reads a file of expectations.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let named = || path.display().to_string();
    let bytes = text::read(path).with_context(named)?;
    let text = text::decode(&bytes).map_err(|why| anyhow!("{}: this file {why}", named()))?;
    let file: ExpectationFile = toml::from_str(text).with_context(named)?;
    ensure!(!file.case.is_empty(), "{}: there is no [[case]] in it", named());
    Ok(file.case)
}

impl Case {
    /// Its name, or what it asks.
    pub(super) fn name(&self) -> String {
        let who = self.caller.as_deref().or(self.issuer.as_deref()).unwrap_or("somebody");
        self.name.clone().unwrap_or_else(|| format!("{who}: {}", self.request))
    }

    /// The question that it asks.
    pub(super) fn question(&self) -> anyhow::Result<Question<'_>> {
        let wrong = |why: &str| anyhow!("{}: {why}", self.name());
        let requester = match (&self.caller, &self.issuer) {
            (Some(caller), None) => Requester::Caller(caller),
            (None, Some(issuer)) => Requester::Claims { issuer, claims: &self.claims },
            _ => return Err(wrong("say who asks: either `caller`, or `issuer` and `claims`")),
        };
        let (method, path) = self
            .request
            .split_once(' ')
            .ok_or_else(|| wrong("`request` is a method and a path: \"GET /v5/rooms\""))?;
        let lifespan = self.lifespan.as_deref().map(lifespan).transpose();
        let lifespan: Option<Lifespan> = lifespan.map_err(wrong)?;
        Ok(Question { requester, method, path: path.trim(), role: self.role, lifespan })
    }

    /// What came otherwise than expected.
    pub(super) fn compare(&self, verdict: &PolicyAnswer) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.expect != verdict.word() {
            wrong.push(format!("expected {}, found {}", self.expect, verdict.word()));
        }
        let found = [
            ("rule", self.rule.as_deref(), verdict.rule().map(str::to_owned)),
            ("grant", self.grant.as_deref(), verdict.grant()),
        ];
        for (what, expected, found) in found {
            if let Some(expected) = expected
                && found.as_deref() != Some(expected)
            {
                let found = found.as_deref().unwrap_or("none");
                wrong.push(format!("expected the {what} {expected}, found {found}"));
            }
        }
        wrong
    }
}
