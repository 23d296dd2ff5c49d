//! What came of requests lately: traffic as a table, and the last failures by whose doing they are.
//!
//! What callers sent may be in a failure: it is escaped, since a terminal must not obey it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::figure::{grouped, rounded};

/// How many failures of a kind are shown, of those that the gateway remembers.
const SHOWN: usize = 3;

/// This minute, the last whole one and the hour; nothing where the gateway does not tell them.
pub(super) fn traffic(traffic: &Value) -> String {
    let Some(minutes) = traffic["minutes"].as_array() else { return String::new() };
    let mut newest_first = minutes.iter().rev();
    let rows = [
        ("this minute", newest_first.next()),
        ("last minute", newest_first.next()),
        ("last hour", traffic.get("hour")),
    ];
    let head = ["requests", "refused", "failed", "p50", "p99"].map(str::to_owned);
    let rows = rows.iter().filter_map(|(name, of)| Some((*name, cells((*of)?))));
    let mut out = String::from("\n");
    for (name, cells) in [("", head)].into_iter().chain(rows) {
        let [requests, refused, failed, p50, p99] = cells;
        // Writing to a String cannot fail.
        _ = writeln!(out, "{name:<14} {requests:>11} {refused:>11} {failed:>11} {p50:>9} {p99:>9}");
    }
    out
}

/// Refused is what callers could have done without, and failed whatever else did.
fn cells(of: &Value) -> [String; 5] {
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let refused = count(&of["refused"]);
    let failures = of["failures"].as_object().into_iter().flatten();
    let failed = failures.map(|(_, failures)| count(failures)).sum::<u64>().saturating_sub(refused);
    let [p50, p99] = ["p50_ms", "p99_ms"].map(|share| {
        of["whole"][share].as_f64().map_or_else(|| "-".to_owned(), |ms| rounded(ms) + " ms")
    });
    [grouped(count(&of["requests"])), grouped(refused), grouped(failed), p50, p99]
}

/// The last ones of each kind, the newest first.
pub(super) fn failures(failures: &Value) -> String {
    let mut out = String::new();
    for (kind, whose) in [
        ("caller", "the caller's doing"),
        ("gateway", "the gateway's doing"),
        ("service", "the service's doing"),
        ("unidentified", "without a good credential"),
    ] {
        let all = failures[kind].as_array().map(Vec::as_slice).unwrap_or_default();
        if !all.is_empty() {
            // Writing to a String cannot fail.
            _ = writeln!(out, "\nlast failures, {whose}:");
        }
        for failure in all.iter().take(SHOWN) {
            _ = writeln!(out, "  {}", line(failure));
        }
    }
    out
}

/// When, the code, who, what, why, by which rule, and the request's id, as far as they are known.
fn line(failure: &Value) -> String {
    let member = |name: &str| failure[name].as_str();
    let who = member("caller").or_else(|| member("client")).unwrap_or("-");
    let [time, code, id] = ["time", "code", "request_id"].map(|name| member(name).unwrap_or("-"));
    let mut line = format!("{time} {code}: {who}");
    for (before, name, after) in
        [(", ", "operation", ""), (": ", "message", ""), (" (", "rule", ")")]
    {
        if let Some(text) = member(name) {
            line = line + before + text + after;
        }
    }
    line = line + " [" + id + "]";
    let escaped = |c: char| c.is_control().then(|| c.escape_debug().to_string());
    line.chars().map(|c| escaped(c).unwrap_or_else(|| c.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn minutes_and_the_hour_are_a_table() {
        let one = |requests: u64, failures: Value, p99: Value| {
            json!({ "requests": requests, "refused": 3, "failures": failures,
                    "whole": { "p50_ms": 0.486, "p99_ms": p99 } })
        };
        let failures = json!({ "forbidden": 3, "internal": 1_200 });
        let shown = traffic(&json!({
            "minutes": [one(9, json!({}), json!(1)), one(12_030, failures.clone(), json!(4.0)),
                        one(5, json!({ "forbidden": 3 }), json!(null))],
            "hour": one(1_234_567, failures, json!(12.6)),
        }));
        let rows: Vec<Vec<&str>> =
            shown.lines().skip(1).map(|row| row.split("  ").map(str::trim).collect()).collect();
        let rows: Vec<Vec<&str>> = rows
            .into_iter()
            .map(|row| row.into_iter().filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["requests", "refused", "failed", "p50", "p99"]);
        assert_eq!(rows[1], ["this minute", "5", "3", "0", "0.49 ms", "-"]);
        assert_eq!(rows[2], ["last minute", "12,030", "3", "1,200", "0.49 ms", "4 ms"]);
        assert_eq!(rows[3], ["last hour", "1,234,567", "3", "1,200", "0.49 ms", "13 ms"]);
        assert_eq!(traffic(&Value::Null), "");
    }

    #[test]
    fn the_last_failures_are_said_by_whose_doing_they_are() {
        let one = |caller: Value, message: &str| {
            json!({ "time": "2026-01-01T00:00:00Z", "request_id": "r1", "client": "192.0.2.1",
                    "caller": caller, "operation": "rooms.get", "status": null,
                    "code": "forbidden", "rule": "profiles.a.allow", "message": message })
        };
        let shown = failures(&json!({
            "caller": vec![one(json!("lessons"), "no \u{1b}[2J"); 5], "gateway": [],
            "unidentified": [one(Value::Null, "no")],
        }));
        let line = "  2026-01-01T00:00:00Z forbidden: lessons, rooms.get: no \\u{1b}[2J \
                    (profiles.a.allow) [r1]";
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "last failures, the caller's doing:");
        assert_eq!(lines[2..5], [line; SHOWN]);
        assert_eq!(lines[6], "last failures, without a good credential:");
        assert!(lines[7].contains("forbidden: 192.0.2.1, rooms.get: no "), "{shown}");
        assert_eq!(lines.len(), 8, "{shown}");
        assert_eq!(failures(&Value::Null), "");
    }
}
