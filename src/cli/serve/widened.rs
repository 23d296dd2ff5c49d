//! Says in the log, in the audit and in the status that a reload lets someone do what they could not do
//! before.
//!
//! The comparison has a thread of its own: a reload counts at once, however long it takes.

use std::sync::Arc;
use std::thread;

use anyhow::anyhow;
use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::admin::{ProcessStatus, WidenedRights};
use crate::gateway::{Settings, Snapshot};
use crate::policy_diff::{PolicyDiff, PolicySide};

/// So many changes are named; `policy diff` names all.
const NAMED: usize = 20;

/// Who may do what under the configuration that counts.
pub(super) struct PresentRights(ArcSwap<PolicySide>);

impl PresentRights {
    pub(super) fn of(settings: &Settings) -> anyhow::Result<Self> {
        side(settings).map(|side| Self(ArcSwap::from_pointee(side)))
    }

    /// Another configuration counts now.
    pub(super) fn replace(
        &self,
        by: PolicySide,
        (snapshot, status): (&Arc<Snapshot>, &Arc<ProcessStatus>),
        version: &str,
    ) {
        let after = Arc::new(by);
        let before = self.0.swap(Arc::clone(&after));
        let (snapshot, status) = (Arc::clone(snapshot), Arc::clone(status));
        let version = version.to_owned();
        let compare = move || {
            let diff = PolicyDiff::between(&before, &after);
            if diff.is_wider() {
                tell(&diff, &snapshot, &status, version);
            }
        };
        if let Err(error) = thread::Builder::new().name("policy-diff".to_owned()).spawn(compare) {
            tracing::warn!(%error, "whether the reload widens rights was not looked at");
        }
    }
}

/// Who may do what under a configuration.
pub(super) fn side(settings: &Settings) -> anyhow::Result<PolicySide> {
    PolicySide::of(settings, Timestamp::now()).map_err(|name| anyhow!("there is no `{name}`"))
}

fn tell(diff: &PolicyDiff, snapshot: &Snapshot, status: &ProcessStatus, version: String) {
    let (at, summary, mut changes) = (Timestamp::now(), diff.summary(), diff.widened());
    let more = changes.len().saturating_sub(NAMED);
    changes.truncate(NAMED);
    snapshot.record_widened_rights(at, &version, &summary, &changes);
    for change in &changes {
        tracing::warn!(change, "the reload gives more rights");
    }
    tracing::warn!(version, summary, more, "the reload widens rights");
    status.widen(WidenedRights { at, version, summary, changes, more });
}
