//! The reference cannot go stale: `docs/configuration.md`, `config/gateway.toml` and the schema all
//! say what the sections declare, and what they show is loaded.
//!
//! The rows of the page are written by `UPDATE_CONFIGURATION=1 cargo nextest run reference::`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use super::super::schema::declared;
use super::{Loaded, Project, Source, load_at, now};
use crate::api::{Role, TokenKind};
use crate::caller::jwt::IssuerSettings;
use crate::token::{KeyPair, Secret, TokenFields};
use crate::{edge, gateway, server, telemetry, upstream};

const FILE: &str = include_str!("../../../config/gateway.toml");
const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The tables that are a value of several forms: where a secret is, and what a claim says.
const FORMS: [&[&str]; 3] = [&["env", "file", "exec"], &["claim"], &["claim", "map"]];

/// A key as the page shows it.
pub(super) struct Row {
    pub(super) key: String,
    default: String,
    pub(super) meaning: String,
    pub(super) schema: Json,
}

/// Every key that the sections declare, as the documents write them: `projects.NAME.keys[].state`.
pub(super) fn keys() -> Vec<String> {
    rows().into_iter().map(|row| row.key).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    walk(&declared(), "", &Json::Null, &mut rows);
    rows
}

/// The table that a value is, or that stands in its list, under its names, or is one of its forms.
fn table(schema: &Json) -> Option<(&'static str, &Json)> {
    if let Some(properties) = schema["properties"].as_object() {
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        return (!FORMS.contains(&names.as_slice())).then_some(("", schema));
    }
    let inside = |key| table(schema.get(key)?).map(|(_, table)| table);
    let list = inside("items").map(|table| ("[]", table));
    let named = || inside("additionalProperties").map(|table| (".NAME", table));
    let forms = || schema["anyOf"].as_array()?.iter().find_map(table);
    list.or_else(named).or_else(forms)
}

/// A key without words of its own has those of the table that it is in.
fn walk(schema: &Json, path: &str, outer: &Json, rows: &mut Vec<Row>) {
    let Some((step, table)) = table(schema) else {
        let said = if schema["description"].is_string() { schema } else { outer };
        let usual = said["x-default"].as_str().map(str::to_owned);
        let default = schema.get("default").map(|default| format!("`{default}`")).or(usual);
        rows.push(Row {
            key: path.to_owned(),
            default: default.unwrap_or_else(|| "none".to_owned()),
            meaning: meaning(said, schema),
            schema: schema.clone(),
        });
        return;
    };
    let required = table["required"].as_array().unwrap();
    for (name, value) in table["properties"].as_object().unwrap() {
        let path = format!("{path}{step}.{name}");
        let found = rows.len();
        walk(value, path.trim_start_matches('.'), schema, rows);
        if required.iter().any(|one| one == name) && rows[found].default == "none" {
            "required".clone_into(&mut rows[found].default);
        }
    }
}

/// What the page says of a key, its range included.
fn meaning(said: &Json, schema: &Json) -> String {
    let text = said["description"].as_str().unwrap_or_default();
    let range = schema["x-range"].as_str().map(|range| format!(" {range}."));
    format!("{text}{}", range.unwrap_or_default())
}

/// What a key belongs to, by the heading that it is under.
fn section(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// The page with the rows that the sections declare.
fn page() -> String {
    let (rows, mut text, mut done) = (rows(), String::new(), "");
    for line in PAGE.lines() {
        let key = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"));
        let Some((key, _)) = key else {
            done = "";
            text += &format!("{line}\n");
            continue;
        };
        for row in
            rows.iter().filter(|row| section(&row.key) == section(key) && done != section(key))
        {
            text += &format!("| `{}` | {} | {} |\n", row.key, row.default, row.meaning);
        }
        done = section(key);
    }
    text
}

/// The reference with every key in force: a `#` goes unless prose follows it.
pub(super) fn in_force() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.is_empty() || (rest.starts_with(' ') && !rest.starts_with("  ")) => {
            String::new()
        }
        // A command in the prose, and the directive of an editor.
        Some(rest) if rest.starts_with("     ") || rest.starts_with(':') => String::new(),
        Some(rest) => rest.to_owned(),
        None => line.to_owned(),
    };
    FILE.lines().map(|text| line(text) + "\n").collect()
}

/// What the reference refers to.
pub(super) fn project(text: &str) -> Project {
    let project = Project::with(text);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for directory in ["tls", "secrets"] {
        fs::create_dir(project.path(directory)).unwrap();
    }
    project.private("tls/certificate.pem", &certified.cert.pem());
    project.private("tls/upstream-ca.pem", &certified.cert.pem());
    project.private("tls/client-ca.pem", &certified.cert.pem());
    project.private("tls/client-crl.pem", &list_of_nobody());
    project.private("tls/key.pem", &certified.signing_key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(["other.example.org".to_owned()]).unwrap();
    project.private("tls/other-certificate.pem", &other.cert.pem());
    project.private("tls/other-key.pem", &other.signing_key.serialize_pem());
    project.private("tls/idp-ca.pem", &certified.cert.pem());
    project.private("tls/store-ca.pem", &certified.cert.pem());
    project.private("tls/collector-ca.pem", &certified.cert.pem());
    project.private("tls/idp.pem", &certified.signing_key.public_key_pem());
    let pair = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let role = Role::Admin.digit();
    let permanent = pair.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role,
            uuid: None,
            lifespan_ms: 0,
            nonce: "nonce".to_owned(),
        },
        0,
    );
    project.private("secrets/console-sdk-token", permanent.token.expose());
    project
}

/// A list of revoked certificates, with none in it.
fn list_of_nobody() -> String {
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::Issuer::new(authority, rcgen::KeyPair::generate().unwrap());
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2096, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&authority).unwrap().pem().unwrap()
}

/// The secrets that the reference names.
pub(super) fn environment() -> Vec<(String, String)> {
    let names = [
        "CLASSROOM_SK",
        "ROTATING_SK",
        "ROTATING_OLD_SK",
        "LESSONS_JWT_SECRET",
        "STORE_PASSWORD",
        "SENTINEL_PASSWORD",
        "OTLP_AUTHORIZATION",
        "PROXY_PASSWORD",
    ];
    names.map(|name| (name.to_owned(), "a secret key ".repeat(3))).to_vec()
}

fn loaded(project: &Project) -> Loaded {
    load_at(&Source::File(project.file()), &environment(), now())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is said of a value that stands for a real one.
const PLACEHOLDER: &str = "is a placeholder of an example";

#[test]
fn the_reference_loads_as_it_is() {
    let project = project(FILE);
    let warnings = loaded(&project).warnings;
    let said = warnings.iter().map(|warning| warning.message.as_str());
    let said: Vec<&str> = said.filter(|one| !one.contains(PLACEHOLDER)).collect();
    assert_eq!(said.len(), 4, "only that nobody can call yet, and of the audit: {said:?}");
}

#[test]
fn the_reference_loads_with_every_key_in_force() {
    let project = project(&in_force());
    let loaded = loaded(&project);
    let said = loaded.warnings.iter().map(ToString::to_string);
    let (placeholders, said): (Vec<String>, Vec<String>) =
        said.partition(|one| one.contains(PLACEHOLDER));
    assert!(placeholders.len() > 5, "{placeholders:?}");
    assert_eq!(said.len(), 3, "{said:?}");
    let expected = |one: &String| {
        one.contains("profile leads to this project") || one.contains("is for HS256")
    };
    assert!(said.iter().all(expected), "{said:?}");
    assert_eq!(loaded.files.len(), 13);
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let project = project(&in_force());
    let settings = loaded(&project).settings;
    let addresses = &settings.server.listeners[0].addresses;
    assert_eq!(*addresses, ["127.0.0.1:8080".parse().unwrap()]);
    // No bound has a number that could stand there.
    assert_eq!(settings.server.bounds.per_address, Some(1_000));
    let bounds = server::Bounds { per_address: None, ..settings.server.bounds };
    assert_eq!(bounds, server::Bounds::default());
    assert_eq!(settings.admin.listener.address, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(settings.log, telemetry::Settings::default());
    assert_eq!(settings.gateway.bodies, gateway::BodySettings::default());
    assert_eq!(settings.gateway.errors, crate::failure::Settings::default());
    assert_eq!(settings.gateway.cors.as_ref().unwrap().max_age, edge::CorsSettings::MAX_AGE);
    assert_eq!(settings.gateway.upstream.timeouts, upstream::Timeouts::default());

    let empty = Project::with("");
    let usual = load_at(&Source::File(empty.file()), &[], now()).ok().unwrap().settings;
    assert_eq!(*addresses, usual.server.listeners[0].addresses);
    assert_eq!(settings.admin.listener.address, usual.admin.listener.address);
    assert_eq!(settings.admin.listener.socket.mode, usual.admin.listener.socket.mode);
    let throttle = |settings: &gateway::Settings| settings.limits.failed_credentials;
    assert_eq!(throttle(&settings.gateway), throttle(&usual.gateway));
    let written = settings.gateway.issuers.iter().find(|one| one.name == "school").unwrap();
    let usual_issuer = IssuerSettings::new(
        written.name.clone(),
        written.issuer.clone(),
        written.audience.clone(),
        written.keys.clone(),
    );
    assert_eq!(written.algorithms, usual_issuer.algorithms);
    assert_eq!(written.id_tokens, usual_issuer.id_tokens);
    assert_eq!(
        (written.leeway, written.max_lifetime, written.max_stale),
        (usual_issuer.leeway, usual_issuer.max_lifetime, usual_issuer.max_stale),
    );
    assert_eq!(written.mapping.caller, usual_issuer.mapping.caller);
    assert_eq!(settings.gateway.limits.replicas, usual.gateway.limits.replicas);
    let named = Project::with("[store]\nurl = \"redis://localhost\"\n");
    let named = load_at(&Source::File(named.file()), &[], now()).ok().unwrap().settings;
    let [here, named] =
        [&settings, &named].map(|settings| settings.gateway.store.as_ref().unwrap());
    assert_eq!((here.timeout, &here.prefix), (named.timeout, &named.prefix));
    let named = Project::with("[otlp]\nendpoint = \"http://localhost\"\n");
    let named = load_at(&Source::File(named.file()), &[], now()).ok().unwrap().settings;
    let [here, named] = [&settings, &named].map(|settings| settings.gateway.otlp.as_ref().unwrap());
    assert_eq!(
        (here.timeout, here.traces, here.metrics),
        (named.timeout, named.traces, named.metrics),
    );
    let (here, usual) = (settings.gateway.upstream, usual.gateway.upstream);
    assert_eq!(here.origin, usual.origin);
    assert_eq!(
        (here.http2, here.idle, here.max_idle, here.concurrency),
        (usual.http2, usual.idle, usual.max_idle, usual.concurrency),
    );
    assert_eq!(
        (here.send_request_id, here.send_traceparent),
        (usual.send_request_id, usual.send_traceparent),
    );
    assert_eq!((here.retry, here.breaker), (usual.retry, usual.breaker));
    assert_eq!((here.retry, here.concurrency), Default::default());
    let priority = |one: &crate::policy::ProfileSettings| one.priority;
    assert!(settings.gateway.profiles.iter().map(priority).all(|one| one == Default::default()));
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let page = page();
    if std::env::var_os("UPDATE_CONFIGURATION").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        fs::write(path, &page).unwrap();
        return;
    }
    let shown = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let shown: Vec<&str> = shown.map(|(key, _)| key).collect();
    assert_eq!(shown, keys(), "the rows of docs/configuration.md are the keys, in their order");
    for (shown, declared) in PAGE.lines().zip(page.lines()) {
        assert_eq!(
            shown, declared,
            "docs/configuration.md says something else of a key than src/config: run this test with \
             UPDATE_CONFIGURATION=1"
        );
    }
}

/// The values that a file sets, by the keys of the documents.
fn values(text: &str) -> Vec<(String, Json)> {
    fn set(value: &Json, path: &str, known: &[String], found: &mut Vec<(String, Json)>) {
        if known.iter().any(|key| key == path) {
            found.push((path.to_owned(), value.clone()));
            return;
        }
        let named = ["listeners", "operators", "projects", "profiles", "callers", "issuers"]
            .contains(&path);
        match value {
            Json::Object(table) => {
                for (key, value) in table {
                    let key = if named { "NAME" } else { key };
                    let path =
                        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    set(value, &path, known, found);
                }
            }
            Json::Array(list) => {
                list.iter().for_each(|value| set(value, &format!("{path}[]"), known, found));
            }
            _ => panic!("`{path}` is no key"),
        }
    }
    let mut found = Vec::new();
    set(&json(text), "", &keys(), &mut found);
    found
}

/// A file as JSON, as which the schema sees it.
pub(super) fn json(text: &str) -> Json {
    toml::from_str(text).unwrap_or_else(|why| panic!("{text}\n{why}"))
}

#[test]
fn the_reference_has_every_key() {
    let known = keys();
    assert!(known.len() > 150, "{known:?}");
    let found: BTreeSet<String> = values(&in_force()).into_iter().map(|(key, _)| key).collect();
    let missing: Vec<&String> = known.iter().filter(|key| !found.contains(*key)).collect();
    assert!(missing.is_empty(), "config/gateway.toml lacks {missing:?}");
}

/// Where a line of the reference is commented, it shows the default.
#[test]
fn the_reference_shows_the_default_of_each_key_that_has_one() {
    // Those that the reference sets to something else, for an example that works.
    const EXAMPLES: [&str; 8] = [
        "store.mode",
        "projects.NAME.keys[].state",
        "profiles.NAME.role",
        "profiles.NAME.max_lifespan",
        "issuers.NAME.discovery",
        "profiles.NAME.budgets[].for",
        "limits.failed_credentials.rate",
        "limits.failed_credentials.burst",
    ];
    let shown = values(&in_force());
    for row in rows().iter().filter(|row| !EXAMPLES.contains(&row.key.as_str())) {
        let literal = row.default.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
        let Some(Ok(default)) = literal.map(serde_json::from_str::<Json>) else { continue };
        let mut values = shown.iter().filter(|(key, _)| *key == row.key);
        assert!(values.any(|(_, value)| *value == default), "{} is {default}", row.key);
    }
}

/// Every block of TOML on the page is one that loads, with a project to refer to.
#[test]
fn every_example_on_the_page_loads() {
    let blocks = PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let blocks: Vec<&str> = blocks.map(|(block, _)| block).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let project = project(block);
        loaded(&project);
    }
}
