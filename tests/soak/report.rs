//! The verdict, and the table that shows it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use crate::plan::Plan;
use crate::sample::Series;
use crate::tally::{Counts, Tally};

/// What each gateway held.
pub(crate) type Lives = Vec<Rc<RefCell<Series>>>;

/// What was changed around the gateway, and seen to take effect.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) loaded: u32,
    pub(crate) refused: u32,
    pub(crate) rotated: u32,
    /// How long the first process took to end.
    pub(crate) handed_over: Option<Duration>,
}

/// Writes the report; whether all is well.
pub(crate) fn write(
    plan: &Plan,
    tally: &Tally,
    changes: &Changes,
    lives: &Lives,
) -> (String, bool) {
    let mut lines = vec![
        "| request | sent | answered | upstream away | room forgotten | failed by our fault |"
            .into(),
        "| --- | ---: | ---: | ---: | ---: | ---: |".into(),
    ];
    let mut sum = Counts::default();
    let row = |name: &str, counts: Counts| {
        let Counts { sent, good, upstream, forgotten, ours } = counts;
        format!("| {name} | {sent} | {good} | {upstream} | {forgotten} | {ours} |")
    };
    for (kind, counts) in tally.counts() {
        lines.push(row(&format!("{kind:?}"), counts));
        sum.sent += counts.sent;
        sum.good += counts.good;
        sum.upstream += counts.upstream;
        sum.forgotten += counts.forgotten;
        sum.ours += counts.ours;
    }
    lines.push(row("**all**", sum));
    let mut failures = tally.failures();
    if sum.sent != sum.good + sum.upstream + sum.forgotten + sum.ours {
        failures.push("some requests were never answered".to_owned());
    }
    if sum.good == 0 {
        failures.push("nothing was answered".to_owned());
    }

    lines.extend(["", "| change | times |", "| --- | ---: |"].map(str::to_owned));
    lines.push(format!("| configuration reloaded | {} |", changes.loaded));
    lines.push(format!("| broken configuration refused | {} |", changes.refused));
    lines.push(format!("| certificate and keys rotated | {} |", changes.rotated));
    lines.push(format!("| upstream restarted | {} |", tally.restarts()));
    lines.push(format!("| connections made | {} |", tally.connections().get()));
    let handed_over = match changes.handed_over {
        Some(took) => format!("1, the first process ended after {:.1} s", took.as_secs_f64()),
        None => {
            failures.push("there was no hand-over".to_owned());
            "0".to_owned()
        }
    };
    lines.push(format!("| hand-over to a second process | {handed_over} |"));

    lines.push(String::new());
    lines.push("| process | descriptors, first → last third | memory, first → last third |".into());
    lines.push("| --- | ---: | ---: |".into());
    for (name, series) in ["first", "second"].iter().zip(lives) {
        let Some(thirds) = series.borrow().thirds() else {
            failures.push(format!("the {name} process did not live long enough"));
            continue;
        };
        let ((few, many), (small, large)) = (thirds.descriptors, thirds.memory_kib);
        let mib = |kib: u64| kib as f64 / 1024.0;
        lines.push(format!(
            "| {name} | {few} → {many} | {:.1} → {:.1} MiB |",
            mib(small),
            mib(large)
        ));
        if !thirds.are_flat() {
            failures.push(format!("what the {name} process holds has grown"));
        }
    }

    let length = plan.length.as_secs_f64();
    let rate = sum.sent as f64 / length;
    let mut report = format!("Load for {length:.0} s, {rate:.0} requests a second.\n\n");
    for line in lines {
        _ = writeln!(report, "{line}");
    }
    for failure in &failures {
        _ = writeln!(report, "\n- {failure}");
    }
    let verdict = if failures.is_empty() { "All is well." } else { "NOT well." };
    _ = writeln!(report, "\n{verdict}");
    (report, failures.is_empty())
}
