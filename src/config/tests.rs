//! Configurations as people write them, right and wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::reference::keys;
use super::{Loaded, SANDBOX, Source, load_at};
use crate::api::{Lifespan, Role, UnknownFields};
use crate::failure;
use crate::policy::{Excess, Rooms};
use crate::telemetry::AccessLog;
use crate::token::ProjectCredential;

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
    assert_eq!(settings.server.addresses.len(), 2);
    assert_eq!(settings.server.bounds.head_bytes, 32_768);
    assert_eq!(settings.server.workers, Some(2));
    assert_eq!(settings.admin.address, None);
    assert_eq!(settings.log.access, AccessLog::File(project.path("logs/access.log")));
    let gateway = settings.gateway;
    assert_eq!(gateway.trusted_proxies[1].to_string(), "192.0.2.1/32");
    assert_eq!(gateway.upstream.origin.port, 9999);
    assert_eq!(gateway.upstream.deadlines.total_slow.as_secs(), 60);
    assert_eq!(gateway.upstream.via, "wbg-eu-1");
    assert_eq!(gateway.regions.default_region().as_str(), "jp-tyo");
    assert_eq!(gateway.errors.profile, failure::Profile::Extended);
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
fn what_is_wrong_is_told_with_its_line_what_is_allowed_and_what_was_meant() {
    for (text, told) in [
        (
            "[listen]\nadress = 1",
            "gateway.toml:2: `listen.adress` is not a key here: did you mean `address`?",
        ),
        ("[lisen]", "gateway.toml:1: `lisen` is not a key here: did you mean `listen`?"),
        (
            "[issuers.school]",
            "gateway.toml:1: `issuers` is not a key here: the keys are listen, admin,",
        ),
        ("listen = 5", "gateway.toml:1: `listen` must be a table, found an integer"),
        ("projects = []", "gateway.toml:1: `projects` must be a table, found a list"),
        (
            "\"a[999999999999999]\" = 1",
            "gateway.toml:1: `\"a[999999999999999]\"` is not a key here",
        ),
        ("\"listen.address\" = \"127.0.0.1:1\"", "`\"listen.address\"` is not a key here"),
        (
            "[body]\n\ntimeout = 10",
            "gateway.toml:3: `body.timeout` must be a duration such as \"500ms\", \"10s\" or \"24h\" (units ms, s, m, h, d): the unit is missing: found an integer",
        ),
        ("body.timeout = \"10\"", "(units ms, s, m, h, d): the unit is missing"),
        (
            "limits.gateway = 5",
            "`limits.gateway` must be a table such as { rate = \"200/s\", burst = 400 }, where burst may be left out, found an integer",
        ),
        (
            "limits.gateway = { rate = 5 }",
            "`limits.gateway.rate` must be a rate such as \"200/s\" (per s, m, h or d): the period is missing, as in \"5/s\": found an integer",
        ),
        (
            "limits.gateway = { burst = 5 }",
            "`limits.gateway.rate` is missing: a rate such as \"200/s\"",
        ),
        (
            "limits.gateway = { rate = \"5/s\", burst = 0 }",
            "`limits.gateway.burst` must be a whole number from 1 to 4294967295, found another one",
        ),
        (
            "errors.profile = \"documentd\"",
            "`errors.profile` must be \"documented\" or \"extended\", found another string; did you mean \"documented\"?",
        ),
        (
            "errors.rate_limit_status = 500",
            "`errors.rate_limit_status` must be 403 or 429, found another integer",
        ),
        ("listen.share = \"yes\"", "`listen.share` must be true or false, found a string"),
        (
            "listen.workers = \"4\"",
            "`listen.workers` must be a whole number from 1 to 4294967295, found a string",
        ),
        ("listen.workers = 5000", "`listen.workers` must be from 1 to 1024"),
        (
            "listen.workers = 99999999999999999999",
            "gateway.toml:1: `listen.workers` is a number that is too large",
        ),
        ("listen.head_bytes = \"4KiB\"", "`listen.head_bytes` must be from 8KiB to 1MiB"),
        ("listen.address = []", "`listen.address` is an empty list"),
        (
            "listen.address = [\"127.0.0.1:1\",\n \"127.0.0.1:1\"]",
            "gateway.toml:2: `listen.address[1]` is in the list already",
        ),
        ("listen.address = \"localhost:1\"", "(an IP address is taken, a name is not)"),
        (
            "listen.address = \"127.0.0.1:9090\"",
            "`admin.address` is an address of listen.address as well",
        ),
        (
            "[listen.tls]\ncertificate = \"none.pem\"",
            "gateway.toml:2: `listen.tls.certificate` names a file that cannot be read: No such file",
        ),
        (
            "[listen.tls]\ncertificate = \"none.pem\"",
            "gateway.toml:1: `listen.tls.key` is missing: the path of a PEM file",
        ),
        (
            "upstream.ca = \"gateway.toml\"",
            "`upstream.ca` names a file without a certificate in PEM form",
        ),
        (
            "upstream.url = \"https://user:pw@host\"",
            "\"https://api.netless.link\": it has a user or password",
        ),
        (
            "upstream.region = \"us-sw\"",
            "`upstream.region` is no known region: the regions are us-sv, sg, in-mum, eu, cn-hz, gb-lon; did you mean us-sv?",
        ),
        ("[projects.a]", "gateway.toml:1: `projects.a` has no credential"),
        ("[projects.A]\nkeys = []", "`projects.A` has a name that cannot be"),
        ("[projects.a]\nkeys = []", "gateway.toml:2: `projects.a.keys` has no active key"),
        (
            "[projects.a]\nkeys = [{ access_key = \"A\" }]",
            "`projects.a.keys[0].secret_key` is missing: the secret key (SK)",
        ),
        (
            "[projects.a]\nkeys = [{ access_key = \"A\", secret_key = \"S\", state = \"retired\" }]",
            "has no active key",
        ),
        ("[projects.a]\nsdk_token = \"NETLESSROOM_x\"", "`projects.a.sdk_token` is no SDK token"),
        (
            "[projects.a]\nsdk_token = { env = \"UNSET\" }",
            "`projects.a.sdk_token.env` names a variable that is not set",
        ),
        (
            "[projects.a]\nsdk_token = { file = \"none\" }",
            "`projects.a.sdk_token.file` names a file that cannot be read",
        ),
        ("[projects.a]\nsdk_token = { file = \".\" }", "it is a directory"),
        ("[projects.a]\nsdk_token = { file = \"a\", env = \"b\" }", "exactly one of env and file"),
        (
            "[projects.a]\nsdk_token = { evn = \"b\" }",
            "`projects.a.sdk_token.evn` is not a key here: did you mean `env`?",
        ),
        (
            "[projects.a]\nsdk_token = 5",
            "must be { env = \"NAME\" }, { file = \"path\" } or a string, found an integer",
        ),
        (
            "[projects.a]\nsdk_token = \"NETLESSSDK_\"\nkeys = []",
            "`projects.a` has keys and sdk_token",
        ),
        (
            "[profiles.a]\nallow = []",
            "gateway.toml:1: `profiles.a.project` is missing: the name of a [projects.…]",
        ),
        (
            "[profiles.a]\nproject = \"x\"",
            "`profiles.a.project` names no project: there is no [projects.…]",
        ),
        ("[callers.a]\nprofile = \"x\"", "`callers.a.profile` names no profile"),
        ("[callers.\"a b\"]\nprofile = \"x\"", "`callers.\"a b\"` has a name that cannot be"),
        (
            "[callers.a]\nkeys = [{ id = \"4fJ2\" }]",
            "`callers.a.keys[0].id` must be the id of a key: a key id has 12 letters and digits",
        ),
        ("[callers.a]\nkeys = [{}]", "`callers.a.keys[0].digest` is missing"),
        (
            "[callers.a]\nkeys = [{ until = \"tomorrow\" }]",
            "must be a time with its offset, such as \"2026-12-31T00:00:00Z\", found another string",
        ),
        ("[[operations]]\nname = \"export\"", "`operations[0].name` must be a family and a verb"),
        ("[[operations]]\ntoken = \"room\"", "`operations[0].role` is missing"),
        (
            "[[operations]]\ntoken = \"none\"\nrole = \"reader\"",
            "`operations[0].role` cannot be: without a token there is none",
        ),
        ("[[operations]]\nmethod = \"HEAD\"", "`operations[0].method` must be \"GET\", \"POST\""),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/rooms\"\ntoken = \"none\"",
            "`operations[0].path` cannot be: `rooms.list` answers to that method and path already",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/x/{uuid}\"\ntoken = \"none\"",
            "`operations[0].target` cannot be",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"GET\"\npath = \"/v5/x\"\ntoken = \"none\"\nbody = \"json\"",
            "must be \"none\" for a GET or DELETE",
        ),
        (
            "[[operations]]\nname = \"a.b\"\nmethod = \"PUT\"\npath = \"/v5/x\"\ntoken = \"task\"\nrole = \"reader\"",
            "`operations[0].token` is \"task\", so target must be \"task\" as well",
        ),
    ] {
        let said = errors(text);
        assert!(said.contains(told), "{text}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn a_profile_names_operations_that_exist() {
    for (more, told) in [
        (
            r#"allow = ["rooms.crate"]"#,
            "`profiles.backend.allow[0]` names no operation: did you mean \"rooms.create\"?",
        ),
        (r#"allow = ["room.*"]"#, "did you mean \"rooms.*\"?"),
        (r#"allow = ["zebras.*"]"#, "the families are conversions, legacy_conversions, rooms,"),
        (r#"allow = ["*"]"#, "is no wildcard: name each family"),
        (r#"allow = "rooms.*""#, "`profiles.backend.allow` must be a list, found a string"),
        (
            r#"allow = ["rooms.get", 5]"#,
            "`profiles.backend.allow[1]` must be a string, found an integer",
        ),
        (r#"allow = ["rooms.list"]"#, "needs rooms = \"any\""),
        (
            r#"rooms = { claim = "rooms" }"#,
            "must be \"any\" or a list of the uuids of rooms, found a table",
        ),
        (
            r#"rooms = "all""#,
            "must be \"any\" or a list of the uuids of rooms, found another string",
        ),
        (r#"rooms = ["any"]"#, "write rooms = \"any\" alone"),
        (
            r#"rooms = ["a/b"]"#,
            "`profiles.backend.rooms[0]` must be the uuid of a room: an id holds",
        ),
        (r#"role = "writter""#, "did you mean \"writer\"?"),
        (r#"max_lifespan = 0"#, "or \"permanent\": the unit is missing: found an integer"),
        (
            r#"over_cap = "clamp""#,
            "must be a table such as { lifespan = \"clamp\", role = \"refuse\" }",
        ),
        (r#"alow = []"#, "`profiles.backend.alow` is not a key here: did you mean `allow`?"),
    ] {
        let said = errors(&profile(more));
        assert!(said.contains(told), "{more}\n  said {said}\n  not  {told}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_in_order() {
    let said = errors(
        "[listen]\nadress = 1\nworkers = \"x\"\n[projects.p]\nkeys = [{ access_key = 1, secret_key = \"s\" }]\n\
         [profiles.a]\nproject = \"q\"\nallow = [\"rooms.gett\"]\n[profiles.b]\nproject = 5\n[callers.c]\nprofile = \"a\"\n",
    );
    let lines: Vec<&str> = said.split("\n\n").collect();
    let places: Vec<&str> = lines.iter().map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(
        places,
        [
            "listen.adress",
            "listen.workers",
            "projects.p.keys[0].access_key",
            "profiles.a.project",
            "profiles.a.allow[0]",
            "profiles.b.project",
        ],
        "{said}"
    );
}

#[test]
fn a_wrong_thing_is_told_once() {
    // The project and the profile are there, though what they hold is wrong.
    let said = errors(
        "[projects.p]\nkeys = 5\n[profiles.a]\nproject = \"p\"\nallow = 5\n[callers.c]\nprofile = \"a\"\n",
    );
    assert_eq!(said.matches("\n\n").count(), 1, "{said}");
    let said = errors(
        "operations = 5\n[profiles.a]\nproject = \"p\"\nallow = [\"rooms.export\"]\n[projects]\np = 5\n",
    );
    assert_eq!(said.matches("\n\n").count(), 1, "{said}");
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line_and_column() {
    let said = errors("[listen]\naddress = \"127.0.0.1:1\nshare = true\n");
    assert!(said.starts_with("gateway.toml:2: this is no TOML, at column "), "{said}");
    let said = errors("[listen]\nshare = true\nshare = true\n");
    assert!(said.starts_with("gateway.toml:3: "), "{said}");
    let missing = load_at(&Source::File("no/such/file.toml".into()), &[], now()).err().unwrap();
    assert!(
        missing.to_string().starts_with("no/such/file.toml: this file cannot be read: No such")
    );
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
        ("WBG__UPSTREAM__REGION", "cn-hz"),
        ("WBG__PROFILES__BACKEND__LIMIT__RATE", "7/s"),
        ("WBG__PROFILES__BACKEND__ALLOW", "rooms.get,rooms.create"),
        ("WBG__BODY__MAX_BYTES", "1024"),
        ("WBG_SERVICE_HOST", "10.0.0.1"),
        ("WBG", "x"),
        ("PATH", "/bin"),
    ];
    let settings = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}")).settings;
    assert_eq!(settings.server.addresses.len(), 2);
    assert!(!settings.server.share);
    assert_eq!(settings.server.workers, Some(3));
    let gateway = settings.gateway;
    assert_eq!(gateway.trusted_proxies.len(), 2);
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
fn a_secret_is_found_where_the_file_says() {
    let project = Project::with(
        r#"
        [projects.a]
        keys = [
          { access_key = "A", secret_key = { env = "WBG_CLASSROOM_SK" } },
          { access_key = "B", secret_key = { file = "sk" } },
          { access_key = "C", secret_key = "inline", state = "verify_only" },
        ]
        "#,
    );
    project.private("sk", "from a file\r\n");
    let loaded = project.load(&[("WBG_CLASSROOM_SK", "from a variable")]).ok().unwrap();
    let ProjectCredential::Keys(keys) = &loaded.settings.gateway.projects[0].credential else {
        panic!("a project with keys");
    };
    let secrets: Vec<&str> = keys.iter().map(|key| key.secret_key.expose()).collect();
    assert_eq!(secrets, ["from a variable", "from a file", "inline"]);
    assert_eq!(loaded.files, [project.file(), project.path("sk")]);
    let inline: Vec<_> =
        loaded.warnings.iter().filter(|warning| warning.message.contains("in the file")).collect();
    assert_eq!(inline.len(), 1);
    assert!(inline[0].message.starts_with("`projects.a.keys[2].secret_key`"));

    let empty = project.load(&[("WBG_CLASSROOM_SK", " ")]).err().unwrap();
    assert!(empty.contains("`projects.a.keys[0].secret_key.env` is an empty secret"), "{empty}");
}

#[test]
fn a_secret_that_others_may_read_is_warned_about() {
    let project = Project::with("[projects.a]\nsdk_token = { file = \"token\" }\n");
    project.private("token", "NETLESSSDK_x");
    let exposed =
        |project: &Project| project.warnings().iter().any(|warning| warning.contains("chmod 600"));
    assert!(!exposed(&project));
    fs::set_permissions(project.path("token"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(exposed(&project));
}

#[test]
fn a_secret_in_a_variable_of_the_configuration_is_not_in_the_file() {
    let project = Project::with("");
    let variables = [("WBG__PROJECTS__A__SDK_TOKEN", "NETLESSSDK_x")];
    let loaded = project.load(&variables).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.iter().all(|warning| !warning.message.contains("in the file")));
}

#[test]
fn a_certificate_and_a_key_of_another_are_told_before_the_start() {
    let project = Project::with("[listen.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n");
    let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    project.private("c.pem", &one.cert.pem());
    project.private("k.pem", &other.signing_key.serialize_pem());
    let said = project.load(&[]).err().unwrap();
    assert!(said.contains("`listen.tls` cannot be used: "), "{said}");
    project.private("k.pem", "no key");
    let said = project.load(&[]).err().unwrap();
    assert!(said.contains("`listen.tls.key` names a file without a private key in PEM"), "{said}");
    project.private("k.pem", &one.signing_key.serialize_pem());
    assert_eq!(project.load(&[]).ok().unwrap().files.len(), 3);
}

#[test]
fn what_works_and_is_doubtful_is_warned_about() {
    let good = "rooms = \"any\"\nallow = [\"tokens.room\"]\nlimit = { rate = \"5/s\" }\n";
    for (text, told) in [
        ("".to_owned(), "`callers` has nobody in it"),
        (
            "".to_owned(),
            "`upstream.region` is not set: requests that name no region mean us-sv; clients from before regions existed mean cn-hz",
        ),
        ("upstream.url = \"http://10.0.0.1\"".to_owned(), "`upstream.url` is http"),
        (
            "admin.address = \"0.0.0.0:9090\"".to_owned(),
            "gateway.toml:1: `admin.address` is reachable from other machines",
        ),
        (PROJECT.to_owned(), "`projects.classroom` is not used: no profile leads to this project"),
        (
            PROJECT.to_owned(),
            "gateway.toml:3: `projects.classroom.keys[0].secret_key` is in the file itself",
        ),
        (
            format!("{PROJECT}[profiles.a]\nproject = \"classroom\"\n{good}"),
            "`profiles.a` is not used: no caller has this profile",
        ),
        (profile(""), "`profiles.backend` allows nothing"),
        (profile("allow = [\"tokens.room\"]"), "`profiles.backend` has no limit"),
        (profile("allow = [\"tokens.room\"]"), "`profiles.backend` has no rooms"),
        (
            profile("rooms = [\"a\"]\nallow = [\"conversions.*\"]"),
            "`profiles.backend.allow[0]` grants nothing: without rooms = \"any\"",
        ),
        (
            profile("rooms = \"any\"\nallow = [\"rooms.get\"]"),
            "`profiles.backend.allow[0]` grants nothing: it needs a higher role than reader",
        ),
        (profile("allow = [\"tokens.sdk\"]"), "`profiles.backend.allow[0]` grants SDK tokens"),
        (
            profile("max_lifespan = \"permanent\""),
            "`profiles.backend.max_lifespan` lets callers have tokens without an end",
        ),
        (profile(good) + "[callers.b]\nprofile = \"backend\"\n", "`callers.b` has no key"),
    ] {
        let warnings = Project::with(&text).warnings();
        assert!(
            warnings.iter().any(|one| one.contains(told)),
            "{text}\n  said {warnings:#?}\n  not  {told}"
        );
    }
    let warnings = Project::with(&(profile(good) + "[upstream]\nregion = \"us-sv\"\n")).warnings();
    assert_eq!(warnings.len(), 1, "only the secret: {warnings:#?}");
}

#[test]
fn keys_of_callers_are_one_or_two_and_each_once() {
    let key = |id: &str, more: &str| {
        format!("{{ id = \"{id}\", digest = \"sha256:{}\"{more} }}", "1".repeat(64))
    };
    let (one, two, three) =
        (key("aaaaaaaaaaaa", ""), key("bbbbbbbbbbbb", ""), key("cccccccccccc", ""));
    let caller = |keys: &str| {
        profile("") + &format!("[callers.b]\nprofile = \"backend\"\nkeys = [{keys}]\n")
    };
    let said = errors(&caller(&format!("{one}, {two}, {three}")));
    assert!(said.contains("`callers.b.keys` has more than two keys"), "{said}");
    let said = errors(&caller(&format!("{one}, {one}")));
    assert!(said.contains("`callers.b.keys[1].id` is that of `callers.b.keys[0]`"), "{said}");
    let said = errors(&caller(&key("4fJ2abcdABCD", "")));
    assert!(said.contains("is that of `callers."), "{said}");
    let warned = |keys: &str, told: &str| {
        Project::with(&caller(keys)).warnings().iter().any(|warning| warning.contains(told))
    };
    let old = key("bbbbbbbbbbbb", ", until = 2027-01-01T00:00:00Z");
    assert!(warned(&format!("{one}, {two}"), "`callers.b.keys` has two keys for ever"));
    assert!(!warned(&format!("{one}, {old}"), "two keys for ever"));
    let over = key("bbbbbbbbbbbb", ", until = \"2026-01-01T00:00:00Z\"");
    assert!(warned(&format!("{one}, {over}"), "`callers.b.keys[1].until` is over"));
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

const PLANTED: &str = "hunter2-PLANTED";

/// Whatever is said, in errors or in warnings.
fn said(text: &str, environment: &[(&str, &str)]) -> String {
    match Project::with(text).load(environment) {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            warnings.join("\n")
        }
        Err(errors) => errors,
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    let quoted = format!("\"{PLANTED}\"");
    let shapes = [
        quoted.clone(),
        format!("[{quoted}]"),
        format!("[[{quoted}]]"),
        format!("{{ a = {quoted} }}"),
        format!("{{ env = {quoted} }}"),
        format!("{{ file = {quoted} }}"),
        format!("[{{ a = {quoted} }}]"),
        // No TOML at all.
        format!("\"{PLANTED}"),
        PLANTED.to_owned(),
        format!("'{PLANTED}\" # {PLANTED}"),
        format!("\"{PLANTED}\\x\""),
        format!("{quoted} {quoted}"),
    ];
    let keys = keys();
    let wrong = ["nothing", "listen", "projects", "projects.NAME", "profiles", "operations"];
    for key in keys.iter().map(String::as_str).chain(wrong) {
        for shape in &shapes {
            // `a.NAME.b[].c = v` is `a.name.b = [{ c = v }]`.
            let mut parts = key.rsplit("[].");
            let mut text = format!("{} = {shape}", parts.next().unwrap());
            for part in parts {
                text = format!("{part} = [{{ {text} }}]");
            }
            let text = text.replace("NAME", "name");
            let said = said(&text, &[]);
            assert!(!said.contains(PLANTED), "{text}\n{said}");
        }
        let variable = format!("WBG__{}", key.replace("[]", "").replace('.', "__").to_uppercase());
        let said = said("", &[(&variable, PLANTED)]);
        assert!(!said.contains(PLANTED), "{variable}\n{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing that can be written makes the gateway panic.
    #[test]
    fn any_text_loads_or_is_refused(text in "(?s).{0,200}") {
        let _ = Project::with(&text).load(&[]);
    }

    /// The same for what is nearly right: a piece of the reference, cut and pasted over another.
    #[test]
    fn a_mangled_file_loads_or_is_refused(
        from in 0_usize..8000, to in 0_usize..8000, long in 0_usize..200, odd in "[\\[\\]{}=\".,#a-z0-9\n]{0,6}",
    ) {
        let reference = include_str!("../../config/sandbox.toml");
        let mut bytes: Vec<u8> = reference.bytes().collect();
        let (from, to) = (from % bytes.len(), to % bytes.len());
        let piece: Vec<u8> = bytes[from..(from + long).min(bytes.len())].to_vec();
        let end = (to + piece.len()).min(bytes.len());
        bytes.splice(to..end, piece.into_iter().chain(odd.into_bytes()));
        let text = String::from_utf8_lossy(&bytes);
        let _ = Project::with(&text).load(&[]);
    }

    /// And for any variable.
    #[test]
    fn any_variable_is_taken_or_refused(name in "WBG__[A-Z_0-9\\[\\].-]{0,30}", value in ".{0,30}") {
        let _ = Project::with("").load(&[(&name, &value)]);
    }
}
