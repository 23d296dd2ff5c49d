//! The admin listener: health, metrics that Prometheus can read, an OpenAPI document that tools can
//! read, and the envelope for everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use whiteboard_gateway::api::{Role, TABLE, TokenKind};
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{Client, Process, Setup, Upstream, ended, exchange};

fn gateway() -> Process {
    let upstream = Upstream::json("200 OK", "[]");
    Setup::new(&upstream.url()).start()
}

#[test]
fn health_and_readiness_are_told() {
    let gateway = gateway();
    let alive = gateway.admin("/livez");
    assert_eq!((alive.status, &alive.json()["alive"]), (200, &true.into()));
    let ready = gateway.admin("/readyz");
    assert_eq!(ready.status, 200);
    let detail = ready.json();
    assert_eq!((&detail["ready"], &detail["draining"]), (&true.into(), &false.into()));
    let usable =
        serde_json::json!({ "usable": true, "sdk_token_ends": null, "refused_since": null });
    assert_eq!(detail["projects"], serde_json::json!({ "classroom": usable }));
    assert!(detail["config"]["reload_error"].is_null());
    assert_eq!(detail["config"]["version"].as_str().unwrap().len(), 12);
    for page in [alive, ready, gateway.admin("/")] {
        assert_eq!(page.header("content-type"), "application/json");
        assert_eq!(page.header("cache-control"), "no-store");
    }
    let mut client = Client::connect(gateway.admin);
    let head = client.request("HEAD", "/livez", &[], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(client.request("GET", "/livez", &[], "").status, 200, "it is still in step");
}

#[test]
fn a_project_whose_console_token_has_ended_makes_the_gateway_unready() {
    let upstream = Upstream::json("200 OK", "[]");
    let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    for (minted_at, status) in [(now, 200), (now - 7_200_000, 503)] {
        let nonce = "nonce".to_owned();
        let token = key.mint(
            TokenFields {
                kind: TokenKind::Sdk,
                role: Role::Admin.digit(),
                uuid: None,
                lifespan_ms: 3_600_000,
                nonce,
            },
            minted_at,
        );
        let setup = Setup::new(&upstream.url())
            .with("[projects.console]\nsdk_token = { file = \"console\" }\n");
        std::fs::write(setup.folder.path().join("console"), token.token.expose()).unwrap();
        let checked = ended(setup.command("check"));
        let gateway = setup.start();
        let ready = gateway.admin("/readyz");
        let detail = ready.json();
        assert_eq!(ready.status, status, "{detail}");
        assert_eq!(detail["projects"]["classroom"]["usable"], true);
        let console = &detail["projects"]["console"];
        assert_eq!(console["usable"], status == 200);
        assert!(console["sdk_token_ends"].as_str().unwrap().contains('T'), "{detail}");
        assert_eq!(detail["draining"], false);
        let ends = gateway.metric("wbg_sdk_token_end_time_seconds{project=\"console\"}");
        let expected = Duration::from_millis(minted_at + 3_600_000).as_secs_f64();
        assert!((ends - expected).abs() < 0.001, "{ends} {expected}");
        // `check` says the same before anything is started.
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        let told = if status == 200 { "sdk_token` ends at" } else { "sdk_token` has ended at" };
        assert_eq!((checked.status.code(), said.contains(told)), (Some(1), true), "{said}");
    }
}

#[test]
fn whatever_is_not_there_gets_the_envelope() {
    let gateway = gateway();
    let mut client = Client::connect(gateway.admin);
    for path in ["/nowhere", "/metrics/", "/livez/x", "/v5/rooms", "/LIVEZ"] {
        client.request("GET", path, &[], "").assert_envelope(404, "not_found");
    }
    for (method, path) in [("POST", "/livez"), ("DELETE", "/metrics"), ("OPTIONS", "/readyz")] {
        let answer = client.request(method, path, &[], "");
        answer.assert_envelope(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET");
    }
    client.request("POST", "/nowhere", &[], "").assert_envelope(404, "not_found");
    for malformed in ["GARBAGE\r\n\r\n", "GET /livez HTTP/1.1\r\n\r\n"] {
        let answer = exchange(gateway.admin, malformed.as_bytes()).unwrap();
        answer.assert_envelope(400, "malformed_request");
    }
    // And the other way round: operators' pages are not among the callers'.
    gateway.call("GET", "/metrics", "").assert_envelope(404, "not_found");
}

// Metrics.

/// A sample, taken apart.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(inner) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

impl Sample {
    /// `name{label="value",…} number`, as the OpenMetrics text format has it.
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
        };
        let mut parsed = BTreeMap::new();
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, text) = label.split_once("=\"")?;
            let text = text.strip_suffix('"').unwrap_or(text);
            // None of ours needs an escape, so one that stood here would be a mistake.
            let plain = is_name(label) && !text.contains(['"', '\\', '\n']);
            if !plain || parsed.insert(label.to_owned(), text.to_owned()).is_some() {
                return None;
            }
        }
        is_name(name).then_some(())?;
        Some(Self { name: name.to_owned(), labels: parsed, value: value.parse().ok()? })
    }
}

/// The endings that the samples of a family may have.
fn endings(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        other => panic!("an unknown type: {other}"),
    }
}

/// Checks each line of a scrape, and gives its samples.
fn parse(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with its end");
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let mut kind = String::new();
    let mut samples: Vec<Sample> = Vec::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            let prefixed = ["wbg_", "process_"].iter().any(|prefix| name.starts_with(prefix));
            assert!(is_name(name) && prefixed, "{line}");
            assert!(!rest.is_empty(), "{line}");
            match word {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "a family twice: {line}");
                    name.clone_into(&mut family);
                    kind.clear();
                }
                "TYPE" => {
                    assert_eq!(name, family, "{line}");
                    rest.clone_into(&mut kind);
                }
                "UNIT" => assert!(name == family && name.ends_with(rest), "{line}"),
                _ => panic!("no comment of OpenMetrics: {line}"),
            }
            continue;
        }
        let sample = Sample::parse(line).unwrap_or_else(|| panic!("no sample: {line}"));
        let fits = endings(&kind).iter().any(|ending| sample.name == format!("{family}{ending}"));
        assert!(fits, "{line} among those of {family}, a {kind}");
        assert!(kind == "gauge" || sample.value >= 0.0, "{line}");
        let twice =
            samples.iter().any(|one| one.name == sample.name && one.labels == sample.labels);
        assert!(!twice, "twice: {line}");
        samples.push(sample);
    }
    samples
}

#[test]
fn every_line_of_the_metrics_is_openmetrics() {
    let gateway = gateway();
    let mut client = gateway.client();
    let token = [("token", gateway.key.as_str())];
    for (method, path, headers) in [
        ("GET", "/v5/rooms", &token[..]),
        ("GET", "/v5/rooms", &token),
        ("GET", "/v5/rooms/a", &token),
        ("GET", "/v5/nowhere", &token),
        ("GET", "/v5/rooms", &[]),
        ("PUT", "/v5/rooms", &token),
    ] {
        client.request(method, path, headers, "");
    }
    let answer = gateway.admin("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let samples = parse(&answer.text());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let labels: BTreeMap<String, String> = labels.collect();
        let found = samples.iter().find(|one| one.name == name && one.labels == labels);
        found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
    };
    for (operation, code, count) in [
        ("rooms.list", "ok", 2.0),
        ("rooms.get", "ok", 1.0),
        ("none", "not_found", 1.0),
        ("none", "unauthenticated", 1.0),
        ("none", "method_not_allowed", 1.0),
    ] {
        let labels = [("operation", operation), ("code", code)];
        assert_eq!(value("wbg_requests_total", &labels), count, "{operation} {code}");
    }
    assert_eq!(value("wbg_connections", &[]), 1.0);
    assert_eq!(value("wbg_upstream_requests_total", &[]), 3.0);
    assert_eq!(value("wbg_config_reload_success", &[]), 1.0);

    // The buckets of a histogram add up, and end with all there is.
    let of = |ending: &str| {
        let name = format!("wbg_request_duration_seconds{ending}");
        samples.iter().filter(move |one| one.name == name)
    };
    let operations: BTreeSet<&String> = of("_count").map(|one| &one.labels["operation"]).collect();
    assert_eq!(operations.len(), 3);
    for operation in operations {
        let own = |one: &&Sample| one.labels["operation"] == *operation;
        let buckets: Vec<(f64, f64)> = of("_bucket")
            .filter(own)
            .map(|one| (one.labels["le"].parse().unwrap(), one.value))
            .collect();
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{buckets:?}");
        let (last, all) = buckets[buckets.len() - 1];
        assert_eq!((last, all), (f64::INFINITY, of("_count").find(own).unwrap().value));
        assert_eq!(of("_sum").filter(own).count(), 1);
    }
}

// OpenAPI.

/// Every `$ref` of a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_openapi_and_holds_every_operation() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url())
        .with(
            "[[operations]]\nname = \"rooms.export\"\nmethod = \"POST\"\n\
             path = \"/v5/rooms/{uuid}/export\"\ntarget = \"room\"\ntoken = \"room\"\n\
             role = \"writer\"\n",
        )
        .start();
    let answer = gateway.admin("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();

    // The shape (OpenAPI 3.1.0 §4.8).
    assert_eq!(document["openapi"], "3.1.0");
    for member in ["title", "version"] {
        assert!(document["info"][member].is_string(), "{member}");
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let place = reference.strip_prefix('#').expect("all of them are within the document");
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    for requirement in document["security"].as_array().unwrap() {
        for name in requirement.as_object().unwrap().keys() {
            let scheme = &document["components"]["securitySchemes"][name];
            assert!(scheme["type"].is_string(), "{name}");
        }
    }
    let mut ids = BTreeSet::new();
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/'), "{path}");
        for (method, operation) in methods.as_object().unwrap() {
            let known = ["get", "put", "post", "delete", "patch"];
            assert!(known.contains(&method.as_str()), "{method}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} twice");
            operations.insert((id.to_owned(), method.to_uppercase(), path.clone()));
            let resolved = |parameter: &Value| match parameter["$ref"].as_str() {
                Some(reference) => document.pointer(&reference[1..]).unwrap().clone(),
                None => parameter.clone(),
            };
            let mut in_path = BTreeSet::new();
            for parameter in operation["parameters"].as_array().unwrap().iter().map(resolved) {
                let place = parameter["in"].as_str().unwrap();
                assert!(["path", "query", "header"].contains(&place), "{parameter}");
                assert!(parameter["schema"].is_object(), "{id}: {parameter}");
                if place == "path" {
                    assert_eq!(parameter["required"], true, "{id}");
                    in_path.insert(format!("{{{}}}", parameter["name"].as_str().unwrap()));
                }
            }
            let segments = path.split('/').filter(|segment| segment.starts_with('{'));
            assert_eq!(in_path, segments.map(str::to_owned).collect(), "{id}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| ["200", "201"].contains(&status.as_str())));
            for (status, response) in responses {
                let described = response["description"].is_string() || response["$ref"].is_string();
                assert!(described, "{id} {status}");
                assert!(status == "default" || status.parse::<u16>().is_ok(), "{id} {status}");
            }
            if let Some(body) = operation.get("requestBody") {
                assert!(!body["content"].as_object().unwrap().is_empty(), "{id}");
            }
        }
    }

    // What is in it: the table, and what the configuration has added.
    let row = |name: &str, method: &str, path: &str| {
        (name.to_owned(), method.to_owned(), path.to_owned())
    };
    let mut expected: BTreeSet<_> =
        TABLE.iter().map(|one| row(&one.name, one.method.as_str(), &one.path)).collect();
    expected.insert(row("rooms.export", "POST", "/v5/rooms/{uuid}/export"));
    assert_eq!(operations, expected);
}
