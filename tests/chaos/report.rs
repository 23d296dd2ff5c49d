//! The account in tables, and the verdict.

use std::fmt::Write as _;
use std::time::Duration;

use crate::account::{Account, Counts};
use crate::course::{Done, Plan};

/// Writes the report; whether all is well.
pub(crate) fn write(
    plan: &Plan,
    account: &Account,
    done: &Done,
    length: Duration,
) -> (String, bool) {
    let mut text = format!(
        "\nSeed {}: {:.0} s, {} scenes, {} connections.\n\n",
        plan.seed,
        length.as_secs_f64(),
        done.scenes,
        account.connections.get()
    );
    let head = |name: &str| {
        format!(
            "| {name} | sent | right | allowed failures | no answer | ours | slowest | felt for |\n\
             | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n"
        )
    };
    text.push_str(&head("while there was"));
    for (fault, counts) in account.by_fault() {
        text.push_str(&row(fault.map_or("no fault", |fault| fault.name()), &counts));
    }
    let all = account.all();
    text.push_str(&row("**all**", &all));
    text.push('\n');
    text.push_str(&head("way"));
    for (lane, counts) in account.by_lane() {
        text.push_str(&row(lane, &counts));
    }
    text.push('\n');
    text.push_str(&head("from the gateway to the service"));
    for (way, counts) in account.by_service() {
        text.push_str(&row(way, &counts));
    }
    let mut failures = account.failures();
    if all.right == 0 || done.scenes == 0 {
        failures.push("nothing was tried".to_owned());
    }
    for (name, why) in &done.not_run {
        _ = writeln!(text, "\nNOT RUN: {name}: {why}");
    }
    for failure in &failures {
        _ = writeln!(text, "\n- {failure}");
    }
    let failed = account.violations().max(failures.len() as u64);
    _ = match failed {
        0 => writeln!(text, "\nAll is well; {} not run.", done.not_run.len()),
        _ => writeln!(text, "\nNOT well: {failed} failures; {} not run.", done.not_run.len()),
    };
    (text, failed == 0)
}

fn row(name: &str, counts: &Counts) -> String {
    let Counts { sent, right, allowed, lost, ours, slowest, felt } = counts;
    let allowed: Vec<String> =
        allowed.iter().map(|(code, count)| format!("{count} `{code}`")).collect();
    let allowed = allowed.join(", ");
    let (slowest, felt) = (slowest.as_secs_f64(), felt.as_secs_f64());
    format!(
        "| {name} | {sent} | {right} | {allowed} | {lost} | {ours} | {slowest:.1} s | {felt:.1} s |\n"
    )
}
