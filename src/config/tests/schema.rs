//! The JSON Schema that editors read: it takes what loads, and refuses what does not.

use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value as Json;

use super::super::schema::declared;
use super::reference::{in_force, json, rows};
use super::{Project, profile};
use crate::config::file::{Files, FromTree as _, KeyPath, Node, Report, document};
use crate::config::sections::WholeFile;
use crate::config::{LoadError, schema};

/// What a validator makes of a schema.
struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    fn of(schema: Json) -> Self {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.set_default_draft(Draft::V7);
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What is wrong with a value; nothing, with one that is valid.
    fn said(&self, value: &Json) -> String {
        self.schemas
            .validate(value, self.index)
            .err()
            .map(|why| format!("{why:#}"))
            .unwrap_or_default()
    }
}

/// The texts between two lines, of which each file of examples has some.
fn blocks<'t>(text: &'t str, begin: &str, end: &str) -> Vec<&'t str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

#[test]
fn every_example_in_the_repository_is_valid_by_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let mut examples = vec![in_force()];
    for name in [
        "config/gateway.toml",
        "config/sandbox.toml",
        "deploy/systemd/gateway.toml",
        "deploy/compose/gateway.example.toml",
    ] {
        examples.push(read(name));
    }
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    for page in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(page).unwrap();
        examples.extend(blocks(&text, "```toml\n", "```").into_iter().map(str::to_owned));
    }
    for values in ["deploy/helm/values", "tests/deploy/helm"] {
        let files = fs::read_dir(root.join(values)).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")) {
            let text = fs::read_to_string(file).unwrap();
            let blocks = blocks(&text, "\nconfig: |\n", "\n\n#");
            let indented = |line: &&str| line.is_empty() || line.starts_with("  ");
            let config = blocks.iter().map(|block| {
                block.lines().take_while(indented).map(|line| line.trim_start().to_owned() + "\n")
            });
            examples.extend(config.map(Iterator::collect));
        }
    }
    assert!(examples.len() > 30, "{}", examples.len());
    let validator = Validator::of(schema());
    for example in examples {
        assert_eq!(validator.said(&json(&example)), "", "{example}");
    }
}

/// A mistake and what the schema says of it; `check` refuses each as well.
#[test]
fn what_is_wrong_by_the_schema_is_wrong_by_check() {
    let validator = Validator::of(schema());
    for (text, told) in [
        ("lisen = {}", "lisen"),
        ("listen.adress = \"127.0.0.1:1\"", "adress"),
        ("listen = 5", "/listen"),
        ("listen.workers = \"x\"", "want integer"),
        ("listen.workers = 0", "must be >=1"),
        ("listen.workers = 1025", "must be <=1024"),
        ("listen.head_bytes = 100", "must be >=8192"),
        ("listen.head_timeout = 5", "want string"),
        ("listen.head_timeout = \"5\"", "/listen/head_timeout"),
        ("listen.head_timeout = \"0s\"", "/listen/head_timeout"),
        ("listen.share = \"yes\"", "want boolean"),
        ("listen.address = \"localhost\"", "/listen/address"),
        ("listen.address = []", "/listen/address"),
        ("listen.max_overhead_frames = 99", "must be >=100"),
        ("admin.address = true", "/admin/address"),
        ("log.level = \"loud\"", "/log/level"),
        ("log.access = \"stdotu\"", "/log/access"),
        ("errors.rate_limit_status = 404", "/errors/rate_limit_status"),
        ("upstream.retry.attempts = 11", "must be <=10"),
        ("upstream.retry.budget = 20", "want string"),
        ("upstream.retry.budget = \"101%\"", "/upstream/retry/budget"),
        ("upstream.url = \"api.netless.link\"", "/upstream/url"),
        ("limits.failed_credentials = \"on\"", "/limits/failed_credentials"),
        ("limits.gateway = { rate = \"5\" }", "/limits/gateway/rate"),
        ("limits.gateway = { burst = 5 }", "rate"),
        ("cors.origins = [\"*\"]", "/cors/origins/0"),
        ("projects.a.keys = [{ access_key = \"A\" }]", "secret_key"),
        ("projects.a.sdk_token = { environment = \"A\" }", "/projects/a/sdk_token"),
        ("projects.a.sdk_token = { env = \"A\", file = \"b\" }", "/projects/a/sdk_token"),
        ("projects.a.sdk_token = {}", "/projects/a/sdk_token"),
        ("profiles.a = { project = \"a\", rooms = \"all\" }", "/profiles/a/rooms"),
        ("profiles.a = { allow = [] }", "project"),
        ("callers.a = { profile = \"a\", keys = [{ id = \"x\", digest = \"y\" }] }", "/keys/0/id"),
        ("store.url = \"http://localhost\"", "/store/url"),
        ("operations = [{ method = \"HEAD\" }]", "/operations/0/method"),
    ] {
        let said = validator.said(&json(text));
        assert!(said.contains(told), "{text}\n  said {said}");
        assert!(Project::with(text).load(&[]).is_err(), "{text}");
    }
}

#[test]
fn what_only_check_can_know_is_valid_by_the_schema() {
    let validator = Validator::of(schema());
    for text in [
        "store.timeout = \"6s\"".to_owned(),
        "listen.head_bytes = \"4KiB\"".to_owned(),
        "admin.address = \"127.0.0.1:8080\"".to_owned(),
        "upstream = { min_in_flight = 2000 }".to_owned(),
        "listen.tls = { certificate = \"none.pem\", key = \"none.pem\" }".to_owned(),
        profile("allow = [\"rooms.crate\"]"),
    ] {
        assert_eq!(validator.said(&json(&text)), "", "{text}");
        assert!(Project::with(&text).load(&[]).is_err(), "{text}");
    }
}

/// What people might write.
const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "100",
    "403",
    "4294967296",
    "1.0",
    "1.5",
    "true",
    "[]",
    "{}",
    "[{}]",
    "[\"a\"]",
    "\"\"",
    "\"a\"",
    "\"off\"",
    "\"any\"",
    "\"stdout\"",
    "\"5\"",
    "\"5s\"",
    "\"0s\"",
    "\"1.5s\"",
    "\"permanent\"",
    "\"16KiB\"",
    "\"16KB\"",
    "\"20%\"",
    "\"0%\"",
    "\"100%\"",
    "\"5/s\"",
    "\"0/s\"",
    "\"127.0.0.1:80\"",
    "\"[::1]:80\"",
    "\"127.0.0.1:1, 127.0.0.1:2\"",
    "\":80\"",
    "\"::1\"",
    "\"10.0.0.0/8\"",
    "\"https://a.org\"",
    "\"http://localhost/b?c\"",
    "\"https://a:b@c\"",
    "\"https://*.a.org\"",
    "\"*\"",
    "\"redis://a\"",
    "\"rediss://:b@a:1/0\"",
    "\"spiffe://a.org/b\"",
    "\"a.org\"",
    "\"CN=a\"",
    "\"us-sv\"",
    "\"2026-12-31T00:00:00Z\"",
    "\"2026-12-31 00:00+01\"",
    "\"reader\"",
    "\"RS256\"",
    "{ env = \"A\" }",
    "{ claim = \"a\" }",
    "\"4fJ2abcdABCD\"",
    "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
];

/// What is said of a file when it is read, before anything is built of it.
fn reading(text: &str) -> Vec<String> {
    let mut report = Report::new(String::new());
    let mut files = Files::new(PathBuf::new());
    let tree = document::merge(text, &[], &mut report, &mut files).unwrap();
    WholeFile::read(&Node::new(&tree, KeyPath::default()), &mut report);
    report.finish().err().iter().flat_map(LoadError::iter).map(|one| one.message.clone()).collect()
}

/// Of each key and each value: the schema refuses what cannot be read, and nothing else, but for
/// what a pattern cannot hold of a text.
#[test]
fn the_schema_and_the_reading_agree_on_each_key() {
    const BY_THEIR_VALUE: [&str; 8] = [
        "its scheme is another",
        "it is not from",
        "it is longer",
        "must be an origin such as",
        "must be a time zone",
        "more than any limiter",
        "the uuid of a room",
        "found a string that is no path",
    ];
    let mut differences = Vec::new();
    for row in rows() {
        let key = row.key.replace("NAME", "a");
        let validator = Validator::of(row.schema.clone());
        for value in VALUES {
            let line = match key.split_once("[].") {
                Some((list, member)) => format!("{list} = [{{ {member} = {value} }}]"),
                None => format!("{key} = {value}"),
            };
            let start = format!("`{}", key.replace("[]", "[0]"));
            let said = reading(&line).into_iter().filter(|one| one.starts_with(&start));
            let said: Vec<String> = said.collect();
            let written = json(&format!("x = {value}"))["x"].clone();
            let invalid = !validator.said(&written).is_empty();
            let excused = said.iter().any(|one| BY_THEIR_VALUE.iter().any(|why| one.contains(why)));
            // That a list is empty is told when it is used.
            if invalid == said.is_empty() && !excused && *value != "[]" {
                differences.push(format!("{line}: invalid {invalid}, said {said:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

/// The schema in the repository is the one that the command prints.
#[test]
fn the_schema_beside_the_reference_is_that_of_the_declarations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gateway.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_CONFIGURATION").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "config/gateway.schema.json is another: run this test with UPDATE_CONFIGURATION=1"
    );
    let directive =
        in_repository("config/gateway.toml").starts_with("#:schema ./gateway.schema.json\n");
    assert!(directive, "the first line of the reference tells editors where its schema is");
}

fn in_repository(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// An editor shows them; ours alone are for the page.
#[test]
fn each_key_has_a_description_and_nothing_of_ours() {
    let text = schema().to_string();
    for ours in ["\"x-range", "\"x-default", "\"x-secret", "\"x-optional", "$ref", "](", "$defs"] {
        assert!(!text.contains(ours), "{ours}");
    }
    for row in rows() {
        assert!(!row.meaning.is_empty(), "{}", row.key);
    }
    assert!(declared().to_string().contains("x-secret"));
}
