//! The rules for Prometheus and the dashboard for Grafana: they are well formed, they tell the codes
//! apart as the gateway does, every alert has its test and its section of the runbook, and, before a
//! real Prometheus that scrapes real gateways, no panel is empty and no alert looks at nothing.

mod dashboard;
mod prometheus;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use whiteboard_gateway::failure::Code;

use crate::docs::metrics;
use crate::house::root;
use dashboard::Dashboard;
use prometheus::Prometheus;
use world::World;

const RULES: &str = "deploy/prometheus/alerts.yml";
const TESTS: [&str; 2] =
    ["deploy/prometheus/alerts.test.yml", "deploy/prometheus/alerts.days.test.yml"];

/// The name of the job that the rules know.
const JOB: &str = "whiteboard-gateway";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What follows a key in the lines that have it.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start().strip_prefix(key))
}

/// The names of the alerts, in the order of the file.
fn alerts(rules: &str) -> Vec<&str> {
    values(rules, "- alert: ").collect()
}

/// The selectors of an expression that name a metric or what a rule has recorded.
fn selectors(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c| is_word(c) || c == '{') {
        rest = &rest[start..];
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        // No text in a selector of ours has a brace.
        let matchers = match after.strip_prefix('{') {
            Some(inside) => &after[..inside.find('}').unwrap() + 2],
            None => "",
        };
        let named = ["wbg_", "process_"].iter().any(|prefix| word.starts_with(prefix));
        let recorded = word.contains(':') && word.starts_with(|c: char| c.is_ascii_alphabetic());
        if named || recorded || word == "up" || word == "ALERTS" {
            found.push(format!("{word}{matchers}"));
        }
        rest = &after[matchers.len()..];
    }
    found
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(root().join("deploy/prometheus"));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("promtool does not start ({error}); tests/run installs it"));
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{told}");
}

#[test]
fn the_rules_are_well_formed() {
    promtool(&["check", "rules", "alerts.yml"]);
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    promtool(&["test", "rules", "alerts.test.yml", "alerts.days.test.yml"]);
}

#[test]
fn each_alert_is_tested_both_ways() {
    let (rules, tests) = (read(RULES), TESTS.map(read).concat());
    let cases: Vec<&str> = tests.split("alertname: ").skip(1).collect();
    let of = |silent: bool| -> BTreeSet<&str> {
        let cases = cases.iter().filter(|case| case.contains("exp_alerts: []") == silent);
        cases.map(|case| case.lines().next().unwrap()).collect()
    };
    let all: BTreeSet<&str> = alerts(&rules).into_iter().collect();
    assert!(all.len() > 40, "{all:?}");
    assert_eq!(of(true), all, "when they do not fire");
    assert_eq!(of(false), all, "when they do");
}

#[test]
fn each_alert_has_its_section_of_the_runbook() {
    let rules = read(RULES);
    let runbook = read("docs/runbook.md");
    let sections: Vec<&str> = values(&runbook, "### ").collect();
    assert_eq!(sections, alerts(&rules), "one for each, in the same order");
    let anchors = sections.iter().map(|name| format!("docs/runbook.md#{}", name.to_lowercase()));
    let named: Vec<&str> = values(&rules, "runbook: ").collect();
    assert_eq!(named, anchors.collect::<Vec<_>>());
    for section in runbook.split("\n### ").skip(1) {
        for part in ["\n- **Look at**: ", "\n- **Do**: "] {
            assert!(section.contains(part), "{part} in {section}");
        }
    }
}

#[test]
fn each_alert_has_a_severity_a_summary_and_a_description() {
    let rules = read(RULES);
    for alert in rules.split("- alert: ").skip(1) {
        for key in ["severity: ", "summary: ", "description: "] {
            assert_eq!(values(alert, key).count(), 1, "{key} in {alert}");
        }
        let severity = values(alert, "severity: ").next().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{severity}");
        assert!(alert.contains("{{ $labels.") || alert.contains("$labels.job"), "{alert}");
    }
}

/// The codes in the matchers of this kind, a set for each.
fn codes(expressions: &str, matcher: &str) -> BTreeSet<BTreeSet<String>> {
    let lists = expressions.split(matcher).skip(1).map(|rest| rest.split('"').next().unwrap());
    lists.map(|list| list.split('|').map(str::to_owned).collect()).collect()
}

#[test]
fn the_rules_and_the_dashboard_know_whose_fault_each_code_is() {
    let names = |of_the_caller: bool| -> BTreeSet<String> {
        let codes = Code::all().filter(|code| code.is_of_the_caller() == of_the_caller);
        codes.map(|code| code.name().to_owned()).collect()
    };
    let mut callers = names(true);
    callers.insert("caller_gone".to_owned());
    let rules = read(RULES);
    let records = rules.split("whiteboard-gateway-symptoms").next().unwrap().to_owned();
    let glance =
        Dashboard::read().expressions_of(&["Failures of the gateway", "Failures of the service"]);
    for expressions in [records, glance.join("\n")] {
        assert_eq!(codes(&expressions, "code!~\""), BTreeSet::from([callers.clone()]));
        let ours: Vec<BTreeSet<String>> = codes(&expressions, "code=~\"").into_iter().collect();
        let [first, second] = &*ours else { panic!("the gateway's and the service's: {ours:?}") };
        assert!(first.is_disjoint(second), "{ours:?}");
        assert_eq!(first.union(second).cloned().collect::<BTreeSet<_>>(), names(false));
    }
}

#[test]
fn the_dashboard_can_be_provisioned() {
    Dashboard::read().assert_is_well_formed();
}

#[test]
fn every_metric_is_in_a_panel_or_an_alert() {
    let world = World::start();
    world.call();
    let there: BTreeSet<String> = [&world.first, &world.second]
        .iter()
        .flat_map(|gateway| metrics(&gateway.admin("/metrics").text()))
        .collect();
    assert!(there.len() > 40, "{there:?}");
    let mut expressions = Dashboard::read().expressions();
    expressions.push(read(RULES));
    let used = expressions.iter().flat_map(|expression| selectors(expression)).map(|selector| {
        let name = selector.split('{').next().unwrap().to_owned();
        let ending = ["_bucket", "_count"].iter().find_map(|end| name.strip_suffix(end));
        ending.map(str::to_owned).unwrap_or(name)
    });
    let used: BTreeSet<String> = used.collect();
    let unused: Vec<&String> = there.difference(&used).collect();
    assert!(unused.is_empty(), "nobody looks at {unused:?}");
    let ours = |name: &&String| name.starts_with("wbg_") || name.starts_with("process_");
    let unknown: Vec<&String> = used.difference(&there).filter(ours).collect();
    assert!(unknown.is_empty(), "no gateway has {unknown:?}");
}

/// What is wrong in the world of the test, as Prometheus is to see it.
const EXPECTED: [&str; 9] = [
    "WhiteboardGatewayUpstreamFailing",
    "WhiteboardGatewayCredentialRefused",
    "WhiteboardGatewayBreakerOpen",
    "WhiteboardGatewayBrowserSdkToken",
    "WhiteboardGatewayLimitsDegraded",
    "WhiteboardGatewayStoreRefusing",
    "WhiteboardGatewayBudgetUsedUp",
    "WhiteboardGatewayReloadFailed",
    "WhiteboardGatewaySdkTokenEnds",
];

#[test]
fn no_panel_is_empty_and_no_alert_looks_at_nothing() {
    let mut world = World::start();
    let prometheus = Prometheus::scraping(&[world.first.admin, world.second.admin]);
    let end = Instant::now() + Duration::from_secs(40);
    // Calls while there is something that is not seen yet.
    let until_seen = |world: &World, mut unseen: Vec<String>| {
        while !unseen.is_empty() {
            assert!(Instant::now() < end, "not one value for:\n{}", unseen.join("\n"));
            world.call();
            unseen.retain(|expression| {
                let found = prometheus.query(expression);
                let series = found.unwrap_or_else(|error| panic!("{expression}: {error}"));
                series.iter().all(|(_, value)| value.is_nan())
            });
        }
    };
    let up = format!("count(up{{job=\"{JOB}\"}} == 1) == 2");
    until_seen(
        &world,
        vec![up, "rate(wbg_limit_decisions_total{by=\"store\"}[15s]) > 0".to_owned()],
    );
    world.break_down();

    let dashboard = Dashboard::read();
    let rules = ["alert", "record"].map(|kind| prometheus.rules(kind)).concat();
    let text = read(RULES);
    let written = ["- alert: ", "- record: "].map(|kind| values(&text, kind).count());
    assert_eq!(rules.len(), written.iter().sum::<usize>());
    let expressions = rules.iter().map(|rule| rule["query"].as_str().unwrap());
    let mut unseen: BTreeSet<String> = expressions.clone().flat_map(selectors).collect();
    for expression in expressions {
        prometheus.query(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    }
    unseen.extend(dashboard.queries());
    until_seen(&world, unseen.into_iter().collect());
    for (label, selector) in dashboard.label_values() {
        assert!(!prometheus.label_values(&label, &selector).is_empty(), "{label} of {selector}");
    }

    let mut silent = BTreeSet::from(EXPECTED);
    while !silent.is_empty() {
        assert!(Instant::now() < end, "these should be pending or fire: {silent:?}");
        world.call();
        for rule in prometheus.rules("alert") {
            assert_eq!(rule["health"], "ok", "{rule}");
            if rule["state"] != "inactive" {
                silent.remove(rule["name"].as_str().unwrap());
            }
        }
    }
}

#[test]
fn selectors_are_found_where_they_are() {
    for (expression, found) in [
        ("up == 0", &["up"][..]),
        (
            "sum by (le) (rate(wbg_a_bucket{x=\"b c\",y=~\"[.]+\"}[5m])) > 1",
            &["wbg_a_bucket{x=\"b c\",y=~\"[.]+\"}"],
        ),
        ("process_a / on (wbg, up_) wbg_b offset 1d", &["process_a", "wbg_b"]),
        (
            "job:a:rate5m[1h:5m] and absent(ALERTS{a=\"wbg_c\"})",
            &["job:a:rate5m", "ALERTS{a=\"wbg_c\"}"],
        ),
    ] {
        assert_eq!(selectors(expression), found, "{expression}");
    }
}
