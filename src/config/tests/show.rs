//! `config show`: each key with its value and its origin, and no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value as Json;

use super::super::show::show;
use super::reference::{Row, environment, in_force, project, rows};
use super::{Project, Source};
use crate::api::{Role, TokenKind};
use crate::token::{KeyPair, Secret, TokenFields};

/// A permanent SDK token of an access key.
fn sdk_token(access_key: &str) -> Secret {
    let pair = KeyPair::new(access_key.to_owned(), &Secret::new("SK".to_owned()));
    let fields = TokenFields {
        kind: TokenKind::Sdk,
        role: Role::Admin.digit(),
        uuid: None,
        lifespan_ms: 0,
        nonce: "nonce".to_owned(),
    };
    pair.mint(fields, 0).token
}

/// The keys that are shown of a file, as JSON.
fn shown(project: &Project, environment: &[(String, String)], changed: bool) -> Vec<Json> {
    let shown = show(&Source::File(project.file()), environment);
    let shown = shown.unwrap_or_else(|errors| panic!("{errors}")).json(changed);
    shown["keys"].as_array().unwrap().clone()
}

/// The same as TOML, in place of the file.
fn rewritten(project: &Project, environment: &[(String, String)]) -> String {
    let text = show(&Source::File(project.file()), environment).ok().unwrap().toml(false);
    fs::write(project.file(), &text).unwrap();
    text
}

/// The key of the documents that a path is: `projects.classroom.keys[0].state` is
/// `projects.NAME.keys[].state`.
fn documented(path: &str) -> String {
    let mut key = path.to_owned();
    for section in ["projects.", "profiles.", "callers.", "issuers.", "listeners.", "operators."] {
        if let Some(rest) = path.strip_prefix(section) {
            let after = rest.split_once('.').map_or("", |(_, after)| after);
            key = format!("{section}NAME.{after}");
        }
    }
    let mut parts = key.split('[');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |key, part| key + "[]" + part.split_once(']').map_or("", |(_, rest)| rest))
}

#[test]
fn each_key_that_is_set_is_shown_with_its_value_and_its_line() {
    let project = project(&in_force());
    let text = fs::read_to_string(project.file()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = BTreeSet::new();
    for key in shown(&project, &environment(), true) {
        assert_eq!(key["from"], "file", "{key}");
        let path = key["key"].as_str().unwrap();
        let line = lines[usize::try_from(key["line"].as_u64().unwrap()).unwrap() - 1];
        let name = path.rsplit('.').next().unwrap().trim_matches('"');
        assert!(line.contains(name), "{path}: {line}");
        seen.insert(documented(path));
    }
    // A value that is a table of another form is shown as one.
    let within = |key: &str| seen.iter().any(|seen| key.starts_with(seen) || seen.starts_with(key));
    let missing: Vec<String> =
        rows().into_iter().map(|row| row.key).filter(|key| !within(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_not_set_is_shown_with_its_default() {
    let project = Project::with("");
    let keys: BTreeMap<String, Json> = shown(&project, &[], false)
        .into_iter()
        .map(|key| (key["key"].as_str().unwrap().to_owned(), key))
        .collect();
    assert!(shown(&project, &[], true).is_empty());
    let of_optional = ["cors.", "audit.", "otlp.", "listen.tls.", "admin.tls.", "limits.gateway."];
    let always = |row: &Row| {
        let named = row.key.contains("NAME") || row.key.contains("[]");
        !named && !of_optional.iter().any(|section| row.key.starts_with(section))
    };
    let mut defaults = 0;
    for row in rows().iter().filter(|row| always(row)) {
        let Some(default) = row.schema.get("default") else { continue };
        assert_eq!(
            (&keys[&row.key]["value"], &keys[&row.key]["from"]),
            (default, &"default".into())
        );
        defaults += 1;
    }
    assert!(defaults > 40, "{defaults}");
    assert_eq!(keys["listen.workers"]["usual"], "one per core");
    assert!(keys["listen.workers"]["value"].is_null());
}

#[test]
fn what_is_shown_loads_again_and_shows_the_same() {
    for text in [String::new(), in_force()] {
        let project = project(&text);
        let environment = environment();
        let values = |keys: &[Json]| -> Vec<(Json, Json)> {
            keys.iter().map(|key| (key["key"].clone(), key["value"].clone())).collect()
        };
        let before = shown(&project, &environment, false);
        let toml = rewritten(&project, &environment);
        let after = shown(&project, &environment, false);
        assert_eq!(values(&before), values(&after), "{toml}");
    }
}

#[test]
fn a_variable_is_named_and_its_text_is_written_as_the_file_would() {
    let project = Project::with("[listen]\nworkers = 2\n");
    let environment = [
        ("WBG__LISTEN__WORKERS", "4"),
        ("WBG__LISTEN__SHARE", "true"),
        ("WBG__LISTEN__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
        ("WBG__UPSTREAM__REGION", "eu"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = show(&Source::File(project.file()), &environment).ok().unwrap().toml(true);
    for line in [
        "workers = 4  # WBG__LISTEN__WORKERS",
        "share = true  # WBG__LISTEN__SHARE",
        "trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\"]  # WBG__LISTEN__TRUSTED_PROXIES",
        "region = \"eu\"  # WBG__UPSTREAM__REGION",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains("default"), "{text}");
}

/// A secret is planted wherever the declarations say that one may stand.
#[test]
fn no_secret_is_shown_wherever_it_stands() {
    let token = sdk_token("AK");
    let planted = |count: usize| format!("planted-{count}-{}", "x".repeat(40));
    let text = format!(
        "[store]\nurl = [\"redis://user:{}@a\", \"redis://:{0}@b\"]\nmode = \"sentinel\"\nmaster = \"m\"\n\
         sentinel_password = \"{}\"\n\
         [egress]\nproxy = \"http://proxy\"\nusername = \"u\"\npassword = \"{}\"\n\
         [otlp]\nendpoint = \"http://localhost:1\"\nheaders = {{ authorization = \"{}\" }}\n\
         [projects.a]\nkeys = [{{ access_key = \"A\", secret_key = \"{}\" }}]\n\
         [projects.b]\nsdk_token = \"{}\"\n\
         [profiles.p]\nproject = \"a\"\n\
         [issuers.i]\nissuer = \"https://i.org\"\naudience = \"a\"\nsecret = \"{}\"\nprofile = \"p\"\n",
        planted(0),
        planted(1),
        planted(6),
        planted(2),
        planted(3),
        token.expose(),
        planted(4),
    );
    let project = Project::with(&text);
    let other = sdk_token("AK2");
    let by_variable = [("WBG__PROJECTS__C__SDK_TOKEN".to_owned(), other.expose().to_owned())];
    let shown = show(&Source::File(project.file()), &by_variable);
    let shown = shown.unwrap_or_else(|errors| panic!("{errors}"));
    let mut masked = BTreeSet::new();
    for key in shown.json(false)["keys"].as_array().unwrap() {
        if key["value"].to_string().contains("********") {
            masked.insert(documented(key["key"].as_str().unwrap()));
        }
    }
    let in_urls = Project::with("[egress]\nproxy = \"user:planted@proxy:3128\"\n");
    let in_urls = show(&Source::File(in_urls.file()), &[]).ok().unwrap();
    for text in [shown.toml(false), shown.json(false).to_string(), in_urls.toml(false)] {
        assert!(!text.contains("planted") && !text.contains("NETLESSSDK"), "{text}");
    }
    // One password of the store is enough: the other is in its URL.
    let mut secret: BTreeSet<String> = rows()
        .into_iter()
        .filter(|row| row.schema.to_string().contains("\"x-secret\""))
        .map(|row| row.key)
        .collect();
    assert!(secret.remove("store.password") && secret.insert("store.url".to_owned()));
    assert!(
        masked.remove("otlp.headers.authorization") && masked.insert("otlp.headers".to_owned())
    );
    assert_eq!(masked, secret);
    let with_password =
        Project::with(&format!("[store]\nurl = \"redis://a\"\npassword = \"{}\"\n", planted(5)));
    let text = show(&Source::File(with_password.file()), &[]).ok().unwrap().toml(false);
    assert!(text.contains("password = \"********\"") && !text.contains("planted"), "{text}");
}

#[test]
fn a_reference_to_a_secret_is_shown() {
    let project = Project::with("[projects.a]\nsdk_token = { file = \"token\" }\n");
    let token = sdk_token("AK");
    project.private("token", token.expose());
    let text = show(&Source::File(project.file()), &[]).ok().unwrap().toml(true);
    assert!(text.contains("sdk_token = { file = \"token\" }  # "), "{text}");
    assert!(!text.contains("NETLESSSDK"), "{text}");
}
