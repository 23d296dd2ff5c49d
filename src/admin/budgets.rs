//! How budgets stand: whose, how much is used, how much is held by requests in flight, and when
//! they begin anew.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::budget::{Budget, Standing, Whose};
use crate::failure::Failure;
use crate::gateway::Site;

/// As many are shown: those of which the least is left.
const SHOWN: usize = 1_000;

/// The page.
///
/// # Errors
/// `store_unavailable` when it cannot be found out.
pub(super) async fn page(site: &Site) -> Result<Value, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let budgets = site.budgets();
    let mut standings =
        budgets.standings(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)).await?;
    standings.sort_by_key(|one| (Reverse(per_mille(one)), one.profile, one.level.caller));
    let count = standings.len();
    standings.truncate(SHOWN);
    let shown: Vec<Value> = standings.iter().map(|one| row(one, site)).collect();
    Ok(json!({
        "time_zone": budgets.zone().name(),
        "budgets": budgets.described(),
        "counters": shown,
        "not_shown": count - shown.len(),
    }))
}

fn row(one: &Standing<'_>, site: &Site) -> Value {
    let Standing { profile, budget: Budget { of, most, per, whose }, level } = one;
    let zone = site.budgets().zone();
    // Callers that have not called since the start are known when the configuration names them.
    let known = || site.callers().name_of(level.caller);
    let caller = level.name.as_deref().or_else(known);
    let taken = level.used.saturating_add(level.reserved);
    json!({
        "profile": profile,
        "of": of.as_str(),
        "per": per.as_str(),
        "for": whose.as_str(),
        "caller": caller,
        "caller_id": (*whose == Whose::Caller).then(|| format!("{:016x}", level.caller)),
        "most": most,
        "used": level.used,
        "reserved": level.reserved,
        "left": most.get().saturating_sub(taken),
        "start": zone.show(level.start),
        "end": zone.show(level.end),
    })
}

/// How much of it is taken.
fn per_mille(one: &Standing<'_>) -> u64 {
    let taken = u64::from(one.level.used) + u64::from(one.level.reserved);
    taken.saturating_mul(1_000) / u64::from(one.budget.most.get())
}
