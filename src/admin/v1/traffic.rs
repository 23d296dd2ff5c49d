//! `GET /admin/v1/{traffic,failures,callers}`: what happened in the last hour, and who called.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::admin::context::AdminContext;
use crate::admin::render;
use crate::clock::now_ms;
use crate::failure::Failure;
use crate::gateway::Snapshot;
use crate::overview::CallersByUse;

/// How many callers of the configuration are listed that have not called.
const IDLE: usize = 1_000;

pub(super) async fn minutes(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let page = async {
        let metrics = &context.status.metrics;
        render::json(&json!(metrics.overview.traffic(now_ms(), &metrics.totals())))
    };
    context.pages.traffic.get(page).await
}

pub(super) async fn failures(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let page = async { render::json(&json!(context.status.metrics.overview.failures())) };
    context.pages.failures.get(page).await
}

pub(super) async fn callers(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let page = async {
        let snapshot = context.status.snapshots.load_full();
        render::json(&listed(context.status.metrics.overview.callers(), &snapshot))
    };
    context.pages.callers.get(page).await
}

/// Who has called, and behind them who could; with the keys of those in the configuration.
fn listed(by_use: CallersByUse, snapshot: &Snapshot) -> Value {
    let mut keys: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, id, until) in snapshot.callers.keys() {
        let ends = until.map(|until| until.to_string());
        keys.entry(name).or_default().push(json!({ "id": id.as_str(), "ends": ends }));
    }
    let seen: HashSet<&str> = by_use.callers.iter().map(|one| one.name.as_str()).collect();
    let idle = keys.keys().filter(|name| !seen.contains(*name));
    let idle: Vec<&str> = idle.copied().take(IDLE).collect();
    let idle = idle.into_iter().map(|name| {
        json!({ "name": name, "credential": null, "requests": 0, "failed": 0, "last": null })
    });
    let called = by_use.callers.iter().map(|one| json!(one));
    let callers: Vec<Value> = called
        .chain(idle)
        .map(|mut one| {
            let of = one["name"].as_str().and_then(|name| keys.get(name));
            one["keys"] = of.map_or_else(|| json!([]), |keys| json!(keys));
            one
        })
        .collect();
    json!({ "callers": callers, "others": by_use.others })
}
