//! How budgets stand: whose, how much is used, how much is held by requests in flight, and when
//! they begin anew.

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::AdminContext;
use super::render;
use crate::budget::{Budget, BudgetUsage, Whose};
use crate::failure::Failure;
use crate::gateway::Snapshot;

/// The page, for all who ask at the same time.
///
/// # Errors
/// `overloaded` while slow readers hold too many earlier ones.
pub(super) async fn answer(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let made = async {
        // Not held while whoever keeps budgets answers: a reload need not wait for it.
        let snapshot = context.status.snapshots.load_full();
        match page(&snapshot).await {
            Ok(page) => render::json(&page),
            Err(failure) => render::envelope(&failure),
        }
    };
    context.pages.budgets.get(made).await
}

/// The page.
///
/// # Errors
/// `store_unavailable` when it cannot be found out.
pub(super) async fn page(snapshot: &Snapshot) -> Result<Value, Failure> {
    let budgets = &snapshot.budgets;
    let (standings, others) = snapshot.standings(Timestamp::now().as_second()).await?;
    let shown: Vec<Value> = standings.iter().map(|one| row(one, snapshot)).collect();
    Ok(json!({
        "time_zone": budgets.zone().name(),
        "budgets": budgets.described(),
        "counters": shown,
        "not_shown": others,
    }))
}

fn row(one: &BudgetUsage<'_>, snapshot: &Snapshot) -> Value {
    let BudgetUsage { profile, budget: Budget { of, most, per, whose }, level } = one;
    let zone = snapshot.budgets.zone();
    // Callers that have not called since the start are known when the configuration names them.
    let known = || snapshot.callers.name_of(level.caller);
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
