//! The dashboard as Grafana reads it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{JOB, read};

const PATH: &str = "deploy/grafana/dashboards/gateway.json";

/// How far rates look back here: some scrapes of a second each.
const RATE_INTERVAL: &str = "15s";

/// What `label_values(` begins with in the query of a variable.
const LABEL_VALUES: &str = "label_values(";

pub(super) struct Dashboard(Value);

impl Dashboard {
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(&read(PATH)).unwrap())
    }

    /// The panels that show something; rows only divide them.
    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.0["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
    }

    fn expressions_in(panel: &Value) -> impl Iterator<Item = String> {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| target["expr"].as_str().unwrap().to_owned())
    }

    /// The expressions of all panels, as they are written.
    pub(super) fn expressions(&self) -> Vec<String> {
        self.panels().flat_map(Self::expressions_in).collect()
    }

    /// Those of panels of these titles, each of which there is.
    pub(super) fn expressions_of(&self, titles: &[&str]) -> Vec<String> {
        let panels: Vec<&Value> = self
            .panels()
            .filter(|panel| titles.contains(&panel["title"].as_str().unwrap()))
            .collect();
        assert_eq!(panels.len(), titles.len(), "{titles:?}");
        panels.into_iter().flat_map(Self::expressions_in).collect()
    }

    /// What is asked of Prometheus, with a value for each variable: by panels, and for the marks of
    /// what happened.
    pub(super) fn queries(&self) -> Vec<String> {
        let marks = self.0["annotations"]["list"].as_array().unwrap().iter();
        let marks = marks.map(|mark| mark["expr"].as_str().unwrap().to_owned());
        self.expressions().into_iter().chain(marks).map(|text| filled(&text)).collect()
    }

    /// The label and the selector of each variable whose values Prometheus knows.
    pub(super) fn label_values(&self) -> Vec<(String, String)> {
        let variables = self.variables().filter(|variable| variable["type"] == "query");
        let parts = variables.map(|variable| {
            let query = variable["query"]["query"].as_str().unwrap();
            let inside = query.strip_prefix(LABEL_VALUES).unwrap().strip_suffix(')').unwrap();
            let (selector, label) = inside.rsplit_once(", ").unwrap();
            (label.to_owned(), filled(selector))
        });
        parts.collect()
    }

    fn variables(&self) -> impl Iterator<Item = &Value> {
        self.0["templating"]["list"].as_array().unwrap().iter()
    }

    #[track_caller]
    pub(super) fn assert_is_well_formed(&self) {
        let whole = &self.0;
        assert_eq!(whole["uid"], "whiteboard-gateway");
        assert!(whole.get("id").is_none(), "Grafana gives the id");
        assert!(whole["schemaVersion"].as_u64().unwrap() >= 39, "that of Grafana 11 or newer");
        let names: Vec<&str> = self.variables().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["datasource", "job", "instance", "profile"]);
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for panel in whole["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice: {panel}");
            let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "it is 24 wide: {panel}");
            for row in place("y")..place("y") + place("h") {
                for column in place("x")..place("x") + place("w") {
                    assert!(places.insert((row, column)), "one over the other: {panel}");
                }
            }
        }
        let mut titles = BTreeSet::new();
        for panel in self.panels() {
            let title = panel["title"].as_str().unwrap();
            assert!(titles.insert(title), "two are called {title}");
            let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            assert!(text(&panel["description"]), "{title}: no description");
            assert!(text(&panel["fieldConfig"]["defaults"]["unit"]), "{title}: no unit");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                let expression = target["expr"].as_str().unwrap();
                let alerts = expression.contains("ALERTS");
                assert!(alerts || expression.contains("instance=~\"$instance\""), "{title}");
            }
        }
        assert!(titles.len() >= 40, "{titles:?}");
    }
}

/// With a value for each variable.
fn filled(text: &str) -> String {
    let filled = [
        ("$__rate_interval", RATE_INTERVAL),
        ("$job", JOB),
        ("$instance", ".*"),
        ("$profile", ".*"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!filled.contains('$'), "no value for a variable: {text}");
    filled
}
