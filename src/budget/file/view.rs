//! A look at all counters: those in memory, and those that only the file has. It is taken by the
//! writer and gone through by whoever asked, who may take long.

use std::collections::HashSet;
use std::sync::Arc;

use super::counter::BudgetCounter;
use super::counter_file::ReadSnapshot;
use crate::budget::claim::{CounterUsage, Tightest, WindowQuery};

pub(super) struct View {
    pub(super) snapshot: ReadSnapshot,
    pub(super) counters: Vec<Arc<BudgetCounter>>,
}

impl View {
    /// Goes through the counters of these budgets in their windows.
    pub(super) fn levels(self, wanted: &[WindowQuery]) -> Result<Tightest, String> {
        let mut tightest = Tightest::default();
        let mut known = HashSet::with_capacity(self.counters.len());
        for counter in &self.counters {
            let key = &counter.key;
            let Some(wanted) = find(wanted, &key.budget, key.start) else { continue };
            known.insert((Arc::as_ptr(&wanted.budget), key.caller));
            let (used, reserved) = (counter.used(), counter.open());
            let name = Some(counter.name.clone()).filter(|name| !name.is_empty());
            let used = used.saturating_sub(reserved);
            tightest.add(wanted, CounterUsage { name, ..wanted.level(key.caller, used, reserved) });
        }
        let rows = self.snapshot.each(|budget, caller, start, used| {
            let Some(wanted) = find(wanted, budget, start) else { return };
            if !known.contains(&(Arc::as_ptr(&wanted.budget), caller)) {
                tightest.add(wanted, wanted.level(caller, used, 0));
            }
        });
        rows.map_err(|error| error.to_string())?;
        Ok(tightest)
    }
}

/// Of another time zone there may be windows with another start.
fn find<'w>(wanted: &'w [WindowQuery], budget: &str, start: i64) -> Option<&'w WindowQuery> {
    wanted.iter().find(|one| *one.budget == *budget && one.window.start == start)
}
