//! The reference cannot go stale: the keys of `config/gateway.toml` and `docs/configuration.md`
//! are compared with those of the types, and what they say is loaded.

use std::collections::BTreeSet;
use std::fs;

use ::config::{Map, Value, ValueKind};

use super::reader::{Why, first_error};
use super::tests::{Project, now};
use super::{Loaded, Source, load_at};
use crate::api::{Role, TokenKind};
use crate::caller::jwt::IssuerSettings;
use crate::token::{KeyPair, Secret};
use crate::{edge, gateway, server, telemetry, upstream};

const FILE: &str = include_str!("../../config/gateway.toml");
const PAGE: &str = include_str!("../../docs/configuration.md");

/// The tables that are a value of several forms: where a secret is, and what a claim says.
const FORMS: [&[&str]; 3] = [&["env", "file"], &["claim"], &["claim", "map"]];

/// A step on the way to a key.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    /// Any name, as in `[profiles.<name>]`.
    Name,
    Element,
}

/// Every key that the types know, as the documents write them: `projects.NAME.keys[].state`.
pub(super) fn keys() -> Vec<String> {
    let mut found = Vec::new();
    walk(&mut Vec::new(), &mut found);
    found
}

/// Asks the types by showing them a table with a key that none of them has.
fn walk(path: &mut Vec<Step>, found: &mut Vec<String>) {
    let ways: [&[Step]; 3] = [&[], &[Step::Name], &[Step::Element]];
    for way in ways {
        let long = path.len();
        path.extend(way);
        if let Some(Why::Unknown { known, .. }) = first_error(&tree(path))
            && !FORMS.contains(&known)
        {
            for key in known {
                path.push(Step::Key(key));
                walk(path, found);
                path.pop();
            }
            path.truncate(long);
            return;
        }
        path.truncate(long);
    }
    found.push(written(path));
}

fn tree(path: &[Step]) -> Value {
    let table = |key: &str, value| {
        Value::new(None, ValueKind::Table(Map::from_iter([(key.to_owned(), value)])))
    };
    let unknown = table("?", Value::new(None, ValueKind::Boolean(true)));
    path.iter().rev().fold(unknown, |value, step| match step {
        Step::Key(key) => table(key, value),
        Step::Name => table("name", value),
        Step::Element => Value::new(None, ValueKind::Array(vec![value])),
    })
}

fn written(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::Name => ".NAME".to_owned(),
        Step::Element => "[]".to_owned(),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

/// The reference with every key in force: a `#` goes unless prose follows it.
fn in_force() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.is_empty() || (rest.starts_with(' ') && !rest.starts_with("  ")) => {
            String::new()
        }
        // A command in the prose.
        Some(rest) if rest.starts_with("     ") => String::new(),
        Some(rest) => rest.to_owned(),
        None => line.to_owned(),
    };
    FILE.lines().map(|text| line(text) + "\n").collect()
}

/// What the reference refers to.
fn project(text: &str) -> Project {
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
    project.private("tls/idp-ca.pem", &certified.cert.pem());
    project.private("tls/store-ca.pem", &certified.cert.pem());
    project.private("tls/collector-ca.pem", &certified.cert.pem());
    project.private("tls/idp.pem", &certified.signing_key.public_key_pem());
    let pair = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let role = Role::Admin.digit();
    let permanent = pair.mint(TokenKind::Sdk, role, None, 0, "nonce".to_owned(), 0);
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

fn loaded(project: &Project) -> Loaded {
    let variables = [
        "CLASSROOM_SK",
        "ROTATING_SK",
        "ROTATING_OLD_SK",
        "LESSONS_JWT_SECRET",
        "STORE_PASSWORD",
        "SENTINEL_PASSWORD",
        "OTLP_AUTHORIZATION",
    ];
    let environment = variables.map(|name| (name.to_owned(), "a secret key ".repeat(3)));
    load_at(&Source::File(project.file()), &environment, now())
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
    assert_eq!(loaded.files.len(), 11);
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let project = project(&in_force());
    let settings = loaded(&project).settings;
    assert_eq!(settings.server.addresses, ["127.0.0.1:8080".parse().unwrap()]);
    // No bound has a number that could stand there.
    assert_eq!(settings.server.bounds.per_address, Some(1_000));
    let bounds = server::Bounds { per_address: None, ..settings.server.bounds };
    assert_eq!(bounds, server::Bounds::default());
    assert_eq!(settings.admin.address, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(settings.log, telemetry::Settings::default());
    assert_eq!(settings.gateway.bodies, gateway::BodySettings::default());
    assert_eq!(settings.gateway.errors, crate::failure::Settings::default());
    assert_eq!(settings.gateway.cors.as_ref().unwrap().max_age, edge::CorsSettings::MAX_AGE);
    assert_eq!(settings.gateway.upstream.timeouts, upstream::Timeouts::default());

    let empty = Project::with("");
    let usual = load_at(&Source::File(empty.file()), &[], now()).ok().unwrap().settings;
    assert_eq!(settings.server.addresses, usual.server.addresses);
    assert_eq!(settings.admin, usual.admin);
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

/// The keys that a file sets, as the documents write them.
fn set(value: &toml::de::DeValue<'_>, path: &str, known: &[String], found: &mut BTreeSet<String>) {
    if known.iter().any(|key| key == path) {
        found.insert(path.to_owned());
        return;
    }
    let named = ["projects", "profiles", "callers", "issuers"].contains(&path);
    if let Some(table) = value.as_table() {
        for (key, value) in table {
            let key = if named { "NAME" } else { key.get_ref() };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            set(value.get_ref(), &path, known, found);
        }
    } else if let Some(array) = value.as_array() {
        for value in array {
            set(value.get_ref(), &format!("{path}[]"), known, found);
        }
    } else {
        panic!("`{path}` is no key");
    }
}

#[test]
fn the_reference_has_every_key() {
    let text = in_force();
    let table = toml::de::DeTable::parse(&text).unwrap();
    let (known, mut found) = (keys(), BTreeSet::new());
    assert!(known.len() > 60, "{known:?}");
    set(&toml::de::DeValue::Table(table.into_inner()), "", &known, &mut found);
    let missing: Vec<&String> = known.iter().filter(|key| !found.contains(*key)).collect();
    assert!(missing.is_empty(), "config/gateway.toml lacks {missing:?}");
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let rows: Vec<&str> = rows.map(|(key, _)| key).collect();
    let known = keys();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(rows, known, "the rows of docs/configuration.md are the keys, in their order");
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
