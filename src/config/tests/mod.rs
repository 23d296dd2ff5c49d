//! Configurations as people write them, right and wrong.

mod certificates;
mod doubtful;
mod egress;
mod hostile;
mod issuers;
mod reach;
mod reference;
mod schema;
mod secrets;
mod show;
mod wrong;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Loaded, SANDBOX, Source, load_at};
use crate::api::{Lifespan, Role, UnknownFields};
use crate::failure;
use crate::policy::{Excess, Rooms};
use crate::telemetry::{AccessLog, AuditFile, AuditMode, AuditSettings};

/// A configuration in a directory of its own.
pub(super) struct Project(TempDir);

impl Project {
    pub(super) fn with(text: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        fs::write(project.file(), text).unwrap();
        project
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path("gateway.toml")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub(super) fn private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Adds lines to the end of the file.
    fn append(&self, text: &str) {
        let before = fs::read_to_string(self.file()).unwrap();
        fs::write(self.file(), before + text).unwrap();
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let owned = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let environment: Vec<_> = owned.collect();
        let loaded = load_at(&Source::File(self.file()), &environment, now());
        let directory = format!("{}/", self.0.path().display());
        loaded.map_err(|errors| errors.to_string().replace(&directory, ""))
    }

    fn warnings(&self) -> Vec<String> {
        let directory = format!("{}/", self.0.path().display());
        let warnings = self.load(&[]).unwrap_or_else(|errors| panic!("{errors}")).warnings;
        warnings.iter().map(|warning| warning.to_string().replace(&directory, "")).collect()
    }
}

pub(super) fn now() -> jiff::Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn load(text: &str) -> Loaded {
    Project::with(text).load(&[]).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn errors(text: &str) -> String {
    errors_with(text, &[])
}

fn errors_with(text: &str, environment: &[(&str, &str)]) -> String {
    match Project::with(text).load(environment) {
        Ok(_) => panic!("this loads:\n{text}"),
        Err(errors) => errors,
    }
}

const PROJECT: &str = r#"
[projects.classroom]
keys = [{ access_key = "AK", secret_key = "SK" }]
"#;

/// A good configuration, with `more` in its profile.
fn profile(more: &str) -> String {
    let caller = format!(
        "[callers.lessons]\nprofile = \"backend\"\n\
         keys = [{{ id = \"4fJ2abcdABCD\", digest = \"sha256:{}\" }}]\n",
        "0".repeat(64),
    );
    format!("{PROJECT}{caller}[profiles.backend]\nproject = \"classroom\"\n{more}\n")
}

#[test]
fn an_empty_file_is_a_gateway_that_refuses_everybody() {
    let loaded = load("");
    let gateway = loaded.settings.gateway;
    assert!(gateway.cors.is_none());
    assert!(gateway.projects.is_empty() && gateway.callers.is_empty());
    assert_eq!(gateway.upstream.origin.authority, "api.netless.link");
    assert_eq!(gateway.operations.len(), 19);
    assert_eq!(gateway.regions.default_region().as_str(), "us-sv");
    let via = &gateway.upstream.via;
    assert!(via.starts_with("wbg-") && via.len() == 12, "{via}");
    assert_eq!(load("").settings.gateway.upstream.via, *via, "a reload keeps the name");
}

#[test]
fn what_a_profile_leaves_out_is_denied() {
    let loaded = load(&profile(r#"allow = ["rooms.get"]"#));
    let profile = &loaded.settings.gateway.profiles[0];
    assert_eq!(profile.rooms, Rooms::None);
    assert_eq!(profile.role, Role::Reader);
    assert_eq!(profile.max_lifespan, Lifespan::Millis(3_600_000));
    assert_eq!(profile.over_cap.lifespan, Excess::Clamp);
    assert_eq!(profile.over_cap.role, Excess::Refuse);
    assert!(loaded.settings.gateway.limits.profiles[0].caller.is_none());
}

#[test]
fn a_key_reaches_the_setting_that_it_is_for() {
    let text = r#"
        [listen]
        address = ["127.0.0.1:1", "[::1]:1"]
        trusted_proxies = ["10.0.0.0/8", "192.0.2.1"]
        head_bytes = 32768
        workers = 2
        [admin]
        address = false
        [upstream]
        url = "http://127.0.0.1:9999"
        region = "jp-tyo"
        regions = ["jp-tyo"]
        timeout_slow = "1m"
        via = "wbg-eu-1"
        [cors]
        origins = ["https://app.example.org", "https://*.example.org"]
        max_age = "1h"
        [errors]
        profile = "extended"
        rate_limit_status = 403
        [body]
        max_bytes = "1MiB"
        unknown_fields = "refuse"
        content_type = "strict"
        [limits]
        gateway = { rate = "600/m" }
        [log]
        access = "logs/access.log"
        [audit]
        file = "logs/audit.jsonl"
        mode = "required"
        sync = true
        [[operations]]
        name = "rooms.export"
        method = "GET"
        path = "/v5/rooms/{uuid}/export"
        token = "room"
        role = "writer"
        target = "room"
    "#;
    let project = Project::with(text);
    let settings = project.load(&[]).unwrap_or_else(|errors| panic!("{errors}")).settings;
    assert_eq!(settings.server.addresses().count(), 2);
    assert_eq!(settings.server.bounds.head_bytes, 32_768);
    assert_eq!(settings.server.workers, Some(2));
    assert_eq!(settings.admin.listener.address, None);
    assert_eq!(settings.log.access, AccessLog::File(project.path("logs/access.log")));
    let gateway = settings.gateway;
    let audit = AuditSettings {
        file: AuditFile::Path(project.path("logs/audit.jsonl")),
        mode: AuditMode::Required,
        sync: true,
    };
    assert_eq!(gateway.audit, Some(audit));
    assert_eq!(gateway.listeners[0].trusted_proxies[1].to_string(), "192.0.2.1/32");
    assert_eq!(gateway.upstream.origin.port, 9999);
    assert_eq!(gateway.upstream.timeouts.total_slow.as_secs(), 60);
    assert_eq!(gateway.upstream.via, "wbg-eu-1");
    assert_eq!(gateway.regions.default_region().as_str(), "jp-tyo");
    let cors = gateway.cors.unwrap();
    assert_eq!((cors.origins.len(), cors.max_age.as_secs()), (2, 3600));
    assert!(cors.origins[1].admits("https://school.example.org"));
    assert_eq!(gateway.errors.profile, failure::StatusProfile::Extended);
    assert_eq!(gateway.errors.rate_limit_status.as_u16(), 403);
    assert_eq!(gateway.bodies.bytes, 1 << 20);
    assert_eq!(gateway.bodies.unknown_fields, UnknownFields::Refuse);
    assert!(gateway.bodies.strict_content_type);
    let rate = gateway.limits.gateway.unwrap();
    assert_eq!((rate.requests.get(), rate.period.as_secs(), rate.burst.get()), (600, 60, 600));
    let found = gateway.operations.find(&http::Method::GET, "/v5/rooms/a/export").unwrap();
    assert_eq!(found.operation.success.as_u16(), 200);
    assert!(found.operation.idempotent);
}

#[test]
fn a_variable_sets_a_key_and_is_named_when_it_is_wrong() {
    let project = Project::with(&profile("[listen]\nshare = true\naddress = \"127.0.0.1:1\""));
    let variables = [
        ("WBG__LISTEN__ADDRESS", "127.0.0.1:2, 127.0.0.1:3"),
        ("WBG__LISTEN__SHARE", "false"),
        ("WBG__LISTEN__WORKERS", "3"),
        ("WBG__LISTEN__TRUSTED_PROXIES", "10.0.0.0/8,::1"),
        ("WBG__UPSTREAM__VIA", "12345"),
        ("WBG__CORS__ORIGINS", "http://localhost:5173,https://app.example.org"),
        ("WBG__UPSTREAM__REGION", "cn-hz"),
        ("WBG__PROFILES__BACKEND__LIMIT__RATE", "7/s"),
        ("WBG__PROFILES__BACKEND__ALLOW", "rooms.get,rooms.create"),
        ("WBG__BODY__MAX_BYTES", "1024"),
        ("WBG_SERVICE_HOST", "10.0.0.1"),
        ("WBG", "x"),
        ("PATH", "/bin"),
    ];
    let settings = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}")).settings;
    assert_eq!(settings.server.addresses().count(), 2);
    assert_eq!(settings.server.listeners[0].share, crate::server::PortSharing::No);
    assert_eq!(settings.server.workers, Some(3));
    let gateway = settings.gateway;
    assert_eq!(gateway.listeners[0].trusted_proxies.len(), 2);
    assert_eq!(gateway.cors.unwrap().origins.len(), 2);
    assert_eq!(gateway.upstream.via, "12345");
    assert_eq!(gateway.regions.default_region().as_str(), "cn-hz");
    assert_eq!(gateway.limits.profiles[0].caller.unwrap().requests.get(), 7);
    assert_eq!(gateway.profiles[0].allow, ["rooms.get", "rooms.create"]);
    assert_eq!(gateway.bodies.bytes, 1024);
    for (name, value, told) in [
        (
            "WBG__LISTEN__ADRESS",
            "x",
            "WBG__LISTEN__ADRESS: `listen.adress` is not a key here: did you mean `address`?",
        ),
        (
            "WBG__LISTEN__WORKERS",
            "x",
            "WBG__LISTEN__WORKERS: `listen.workers` must be a whole number",
        ),
        ("WBG__LISTEN", "x", "WBG__LISTEN: `listen` must be a table, found a string"),
        (
            "WBG__LISTEN__SHARE__X",
            "x",
            "WBG__LISTEN__SHARE__X: `listen.share` must be true or false, found a table",
        ),
        (
            "WBG__LIMITS__GATEWAY__BURST",
            "5",
            "WBG__LIMITS__GATEWAY__BURST: `limits.gateway.rate` is missing",
        ),
        (
            "WBG__listen__share",
            "true",
            "WBG__listen__share: the name of this variable is that of no key",
        ),
        ("wbg__LISTEN__SHARE", "true", "the name of this variable is that of no key"),
        ("WBG__A[99999999999]", "x", "the name of this variable is that of no key"),
        ("WBG__", "x", "WBG__: the name of this variable is that of no key"),
        ("WBG__LISTEN__", "x", "the name of this variable is that of no key"),
        (
            "WBG__PROFILES__BACKEND__ALLOW",
            "rooms.gett",
            "WBG__PROFILES__BACKEND__ALLOW: `profiles.backend.allow[0]` names no operation",
        ),
    ] {
        let said = project.load(&[(name, value)]).err().unwrap();
        assert!(said.contains(told), "{name}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn the_version_changes_with_every_file_that_is_read() {
    let project = Project::with("[projects.a]\nsdk_token = { file = \"token\" }\n");
    project.private("token", "NETLESSSDK_x");
    let version = |environment: &[(&str, &str)]| project.load(environment).ok().unwrap().version;
    let first = version(&[]);
    assert_eq!(first.len(), 12);
    assert_eq!(version(&[("HOME", "/")]), first);
    assert_ne!(version(&[("WBG__LISTEN__SHARE", "true")]), first);
    project.private("token", "NETLESSSDK_y");
    assert_ne!(version(&[]), first);
}

#[test]
fn the_sandbox_has_nothing_to_warn_about() {
    let loaded = load_at(&SANDBOX, &[], now()).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    assert!(loaded.files.is_empty());
    let gateway = loaded.settings.gateway;
    let backend = gateway.profiles.iter().find(|profile| profile.name == "backend").unwrap();
    assert_eq!((backend.role, &backend.rooms), (Role::Admin, &Rooms::Any));
    for (_, row) in gateway.operations.iter() {
        assert_eq!(backend.granted_by(row).is_some(), row.name != "tokens.sdk", "{}", row.name);
    }
    let variables = [("WBG__ADMIN__ADDRESS".to_owned(), "0.0.0.0:9090".to_owned())];
    assert_eq!(load_at(&SANDBOX, &variables, now()).ok().unwrap().warnings.len(), 1);
}

#[test]
fn without_a_configuration_it_is_said_what_to_do() {
    let said = super::SearchError.to_string();
    for part in ["gateway.toml", "/etc/whiteboard-gateway/gateway.toml", "--config", "--sandbox"] {
        assert!(said.contains(part), "{said}");
    }
}
