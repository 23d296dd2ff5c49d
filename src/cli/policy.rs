//! `policy explain` and `policy test`: the decision of the gateway, without the gateway.

mod expectations;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{CommandOutcome, ExplainArgs, PolicyTestArgs, World};
use crate::api::{Access, Lifespan, Object, Role, TokenRequest, nearest};
use crate::caller::Caller;
use crate::config::{self, Loaded};
use crate::failure::Failure;
use crate::gateway::Snapshot;
use crate::policy::{Grant, Reason};
use crate::telemetry::Metrics;
use crate::text;
use crate::token::Secret;

/// What decides: everything that the configuration says.
struct Court(Snapshot);

/// Who asks.
enum Party<'a> {
    /// A caller of the configuration.
    Caller(&'a str),
    /// Whoever shows a good token of an issuer with these claims.
    Claims { issuer: &'a str, claims: &'a Map<String, Value> },
    /// Whoever shows this credential, at this time.
    Credential(&'a Secret, Timestamp),
}

/// What is asked.
struct Question<'a> {
    party: Party<'a>,
    method: &'a str,
    path: &'a str,
    role: Option<Role>,
    lifespan: Option<Lifespan>,
}

/// The answer, with every reason.
struct PolicyAnswer {
    caller: Option<String>,
    operation: Option<String>,
    reasons: Vec<Reason>,
    /// What a token operation gives; `None` for every other.
    decided: Result<Option<Grant>, Failure>,
}

impl Court {
    fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        snapshot(config).map(Self)
    }

    /// Decides.
    ///
    /// # Errors
    /// A caller or an issuer that the configuration does not know, or a method that is none.
    fn decide(&self, question: &Question<'_>) -> anyhow::Result<PolicyAnswer> {
        let method = Method::from_bytes(question.method.to_uppercase().as_bytes())
            .map_err(|_| anyhow!("`{}` is no method", question.method.escape_default()))?;
        let mut verdict =
            PolicyAnswer { caller: None, operation: None, reasons: Vec::new(), decided: Ok(None) };
        verdict.decided = match self.caller(&question.party)? {
            Ok(caller) => self.authorize(&caller, &method, question, &mut verdict),
            Err(failure) => Err(failure),
        };
        Ok(verdict)
    }

    fn caller(&self, party: &Party<'_>) -> anyhow::Result<Result<Arc<Caller>, Failure>> {
        let callers = self.0.callers();
        match party {
            Party::Caller(name) => {
                let caller = callers.of_name(name);
                Ok(Ok(caller.with_context(|| {
                    let hint = meant(name, callers.names());
                    format!("the configuration has no caller `{name}` with a credential{hint}")
                })?))
            }
            Party::Credential(credential, now) => {
                super::jwt::identify(&self.0, credential.expose(), *now)
            }
            Party::Claims { issuer, claims } => {
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

/// What a configuration says, as the gateway builds it.
pub(super) fn snapshot(config: Option<&Path>) -> anyhow::Result<Snapshot> {
    let source = super::source(config)?;
    let Loaded { settings, .. } = config::load(&source, &config::environment())?;
    Ok(Snapshot::new(settings.gateway, None, &Arc::new(Metrics::new(1)))?)
}

impl PolicyAnswer {
    /// `allow`, or the code of the refusal.
    fn word(&self) -> &'static str {
        self.decided.as_ref().map_or_else(|failure| failure.code().name(), |_| "allow")
    }

    fn rule(&self) -> Option<&str> {
        self.decided.as_ref().err().and_then(Failure::rule)
    }

    /// `role=reader; lifespan=7200000`, as `Whiteboard-Granted` says it.
    fn grant(&self) -> Option<String> {
        let grant = self.decided.as_ref().ok()?.as_ref()?;
        let TokenRequest { role, lifespan, .. } = grant.request;
        Some(format!("role={role}; lifespan={}", lifespan.to_wire()))
    }

    fn json(&self) -> Value {
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

    fn text(&self) -> String {
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

/// Exit code 0 when it is allowed, 1 when it is not.
pub(super) fn explain(args: &ExplainArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let court = Court::open(args.config.as_deref())?;
    let claims = args.claims.as_deref().map(claims).transpose()?.unwrap_or_default();
    let credential = args.token.as_deref().map(|file| world.secret_in(file, "the token"));
    let credential = credential.transpose()?;
    let party = match (&args.caller, &args.issuer, &credential) {
        (Some(caller), ..) => Party::Caller(caller),
        (None, Some(issuer), _) => Party::Claims { issuer, claims: &claims },
        (None, None, Some(credential)) => Party::Credential(credential, world.now),
        (None, None, None) => {
            return Err(anyhow!("say who asks: --caller, --token, or --issuer and --claims"));
        }
    };
    let (role, lifespan) = (args.role, args.lifespan);
    let question = Question { party, method: &args.method, path: &args.path, role, lifespan };
    let verdict = court.decide(&question)?;
    if args.json {
        writeln!(world.output, "{:#}", verdict.json())?;
    } else {
        writeln!(world.output, "{}", verdict.text())?;
    }
    Ok(if verdict.decided.is_ok() { CommandOutcome::Done } else { CommandOutcome::No })
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

fn claims(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let bytes = text::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let text = text::decode(&bytes).map_err(|why| anyhow!("{} {why}", path.display()))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(claims),
        // Not what it holds: claims are about somebody.
        Ok(_) | Err(_) => Err(anyhow!("{} is no JSON object of claims", path.display())),
    }
}

/// Exit code 0 when every expectation is met, 1 when one is not.
pub(super) fn test(args: &PolicyTestArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let court = Court::open(args.config.as_deref())?;
    let cases = expectations::read(&args.file)?;
    let mut told = Vec::new();
    let mut failed = 0;
    for case in &cases {
        let verdict = court.decide(&case.question()?).with_context(|| case.name())?;
        let wrong = case.compare(&verdict);
        failed += usize::from(!wrong.is_empty());
        if args.json {
            told.push(json!({ "case": case.name(), "wrong": wrong, "verdict": verdict.json() }));
            continue;
        }
        if wrong.is_empty() {
            writeln!(world.output, "ok      {}", case.name())?;
        } else {
            writeln!(world.output, "FAILED  {}", case.name())?;
            for difference in &wrong {
                writeln!(world.output, "        {difference}")?;
            }
            let verdict = verdict.text();
            for line in verdict.lines() {
                writeln!(world.output, "        | {line}")?;
            }
        }
    }
    let passed = cases.len() - failed;
    if args.json {
        let all = json!({ "passed": passed, "failed": failed, "cases": told });
        writeln!(world.output, "{all:#}")?;
    } else {
        writeln!(world.output, "{passed} passed, {failed} failed")?;
    }
    Ok(if failed == 0 { CommandOutcome::Done } else { CommandOutcome::No })
}
