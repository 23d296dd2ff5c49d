//! `policy replay`: what another configuration would decide about the requests of access lines.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use super::diff::{refuse, side};
use crate::api::{Lifespan, Role};
use crate::cli::access_log::{self, AccessRecord, LineCounts, unescaped};
use crate::cli::outcome::CommandOutcome;
use crate::cli::world::World;
use crate::policy_diff::{LoggedRequest, PolicySide, ReplayedDecision, Unknown};

/// So many different requests are remembered with their decision.
const REMEMBERED: usize = 100_000;

/// So many changes are told apart; of more their number is told.
const CHANGES: usize = 10_000;

/// How the reasons begin for which the policy refuses without a rule that callers see.
const WITHOUT_RULE: [&str; 4] = [
    "refused by profiles.",
    "nothing that this credential says",
    "the claim that `profile` names",
    "no text of the claim that `profile` names",
];

/// The arguments of `policy replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// Files of access lines, also rotated ones that gzip has compressed; `-` for standard input.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub log: Vec<PathBuf>,
    /// The configuration as it would be.
    #[arg(value_name = "NEW")]
    pub new: Option<PathBuf>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A change of a decision: who, what, and whether it was allowed before; and the reason.
type OtherDecision = (bool, String, String, String);

struct Replay<'a> {
    side: &'a PolicySide,
    decided: HashMap<Vec<u8>, ReplayedDecision>,
    same: u64,
    gained: u64,
    lost: u64,
    cannot_tell: [u64; Unknown::ALL.len()],
    /// Lines of requests that the policy was not asked about.
    not_asked: u64,
    changes: BTreeMap<OtherDecision, u64>,
    more_changes: u64,
}

/// Exit code 0 when no request is decided otherwise, as far as can be told, 1 when one is, 2 when the
/// configuration is wrong.
pub(super) fn run(args: &ReplayArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let mut logs = args.log.clone();
    // `--log a b NEW`: the last word is the configuration.
    let new = args.new.clone().or_else(|| logs.pop().filter(|_| !logs.is_empty()));
    let Some(new) = new else {
        anyhow::bail!(
            "name the configuration after the logs: policy replay --log access.jsonl NEW"
        );
    };
    ensure!(
        new.as_os_str() != "-",
        "the configuration cannot come from standard input: name a file"
    );
    let side = match side(&new, world.now) {
        Ok(side) => side,
        Err(wrong) => return refuse(&wrong, args.json, world),
    };
    let mut replay = Replay::under(&side);
    let counts = access_log::read(&logs, world.input, &mut |record| replay.look(record))?;
    world.answer(args.json, || replay.json(&counts), || replay.text(&counts))?;
    let differs = replay.gained + replay.lost > 0;
    Ok(if differs { CommandOutcome::No } else { CommandOutcome::Done })
}

impl<'a> Replay<'a> {
    fn under(side: &'a PolicySide) -> Self {
        Self {
            side,
            decided: HashMap::new(),
            same: 0,
            gained: 0,
            lost: 0,
            cannot_tell: [0; Unknown::ALL.len()],
            not_asked: 0,
            changes: BTreeMap::new(),
            more_changes: 0,
        }
    }

    fn look(&mut self, record: &AccessRecord<'_>) {
        let (Some(caller), Some(operation)) = (record.caller, record.operation) else {
            self.not_asked += 1;
            return;
        };
        let was_allowed = !is_refused_by_policy(record);
        match (self.decide(record, caller, operation), was_allowed) {
            (ReplayedDecision::CannotTell(unknown), _) => self.cannot_tell[unknown as usize] += 1,
            (ReplayedDecision::Allowed, true) | (ReplayedDecision::Refused(_), false) => {
                self.same += 1;
            }
            (ReplayedDecision::Allowed, false) => {
                self.gained += 1;
                let rule = record.rule.or(record.detail).unwrap_or_default();
                let why = unescaped(rule);
                let why = why.strip_prefix("refused by ").unwrap_or(&why).to_owned();
                self.note((false, text(caller), text(operation), why));
            }
            (ReplayedDecision::Refused(why), true) => {
                self.lost += 1;
                self.note((true, text(caller), text(operation), why));
            }
        }
    }

    fn decide(
        &mut self,
        record: &AccessRecord<'_>,
        caller: &[u8],
        operation: &[u8],
    ) -> ReplayedDecision {
        let parts = [
            Some(caller),
            record.credential,
            Some(operation),
            record.room,
            record.asked_role,
            record.asked_lifespan_ms,
        ];
        // No text of a line holds a control character as it is.
        let key = parts.map(Option::unwrap_or_default).join(&0);
        if let Some(known) = self.decided.get(&key) {
            return known.clone();
        }
        let (caller, operation) = (unescaped(caller), unescaped(operation));
        let (credential, room) = (record.credential.map(unescaped), record.room.map(unescaped));
        let decision = self.side.replay(&LoggedRequest {
            caller: &caller,
            credential: credential.as_deref().unwrap_or_default(),
            operation: &operation,
            room: room.as_deref(),
            asked: asked(record),
        });
        if self.decided.len() >= REMEMBERED {
            self.decided.clear();
        }
        self.decided.insert(key, decision.clone());
        decision
    }

    fn note(&mut self, change: OtherDecision) {
        if let Some(count) = self.changes.get_mut(&change) {
            *count += 1;
        } else if self.changes.len() < CHANGES {
            self.changes.insert(change, 1);
        } else {
            self.more_changes += 1;
        }
    }

    fn unknown(&self) -> u64 {
        self.cannot_tell.iter().sum()
    }

    /// For people: those of the most requests first. Texts are escaped: a terminal must not obey them.
    fn text(&self, counts: &LineCounts) -> String {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let mut text = String::new();
        for ((lost, caller, operation, why), count) in changes {
            let (caller, operation) = (caller.escape_debug(), operation.escape_debug());
            let why = why.escape_debug();
            text += &match lost {
                true => format!("- {count} of {caller}: {operation}, refused by {why}\n"),
                false => format!("+ {count} of {caller}: {operation}, was refused by {why}\n"),
            };
        }
        if self.more_changes > 0 {
            text += &format!("and {} requests of other kinds\n", self.more_changes);
        }
        text += &format!("{} same, {} gained, {} lost", self.same, self.gained, self.lost);
        if self.unknown() > 0 {
            let parts = Unknown::ALL.into_iter().zip(self.cannot_tell);
            let parts = parts.filter(|(_, count)| *count > 0);
            let parts: Vec<String> =
                parts.map(|(what, count)| format!("{count} by {}", what.as_str())).collect();
            text += &format!(", {} cannot tell ({})", self.unknown(), parts.join(", "));
        }
        if self.not_asked > 0 {
            text += &format!(", {} not decided by the policy", self.not_asked);
        }
        text.push('\n');
        counts.passed_over().into_iter().for_each(|said| text += &format!("{said}\n"));
        text
    }

    /// For machines.
    fn json(&self, counts: &LineCounts) -> Value {
        let changes = self.changes.iter().map(|((lost, caller, operation, why), count)| {
            let result = if *lost { "lost" } else { "gained" };
            json!({
                "result": result, "caller": caller, "operation": operation, "rule": why,
                "requests": count,
            })
        });
        let unknown = Unknown::ALL.into_iter().zip(self.cannot_tell);
        let mut cannot_tell: serde_json::Map<String, Value> =
            unknown.map(|(what, count)| (what.as_str().to_owned(), json!(count))).collect();
        cannot_tell.insert("total".to_owned(), json!(self.unknown()));
        json!({
            "same": self.same,
            "gained": self.gained,
            "lost": self.lost,
            "cannotTell": cannot_tell,
            "notAsked": self.not_asked,
            "changes": changes.collect::<Vec<_>>(),
            "moreChanges": self.more_changes,
            "lines": counts.json(),
        })
    }
}

/// Whether the policy refused it. What limits, budgets, bodies or the service refused it had let pass.
fn is_refused_by_policy(record: &AccessRecord<'_>) -> bool {
    let code = record.code.unwrap_or_default();
    if code != b"forbidden" && code != b"not_found" {
        return false;
    }
    let Some(rule) = record.rule else {
        let detail = unescaped(record.detail.unwrap_or_default());
        return WITHOUT_RULE.iter().any(|begin| detail.starts_with(begin));
    };
    let of_policy: [&[u8]; 3] = [b".allow", b".role", b".max_lifespan"];
    rule.starts_with(b"profiles.") && of_policy.iter().any(|end| rule.ends_with(end))
}

fn asked(record: &AccessRecord<'_>) -> Option<(Role, Lifespan)> {
    let role = unescaped(record.asked_role?).parse().ok()?;
    let millis = std::str::from_utf8(record.asked_lifespan_ms?).ok()?.parse().ok()?;
    Some((role, Lifespan::from_wire(millis)))
}

fn text(raw: &[u8]) -> String {
    unescaped(raw).into_owned()
}
