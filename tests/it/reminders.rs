//! What ends is said before it does: by `check --ending`, in metrics, and to the caller whose key it
//! is.

use std::fs;
use std::process::Output;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::caller;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::operators::operators;
use crate::support::{Authority, Client, Process, Setup, Upstream, ended, slot, value};

/// So many days from now, as the file has a time; half a day more, so that whole days are these.
fn in_days(days: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_hours(24 * days + 12);
    at.to_string()
}

/// The entry of a key that ends then.
fn ending_slot(key: &str, until: &str) -> String {
    let slot = slot(key);
    format!("{}, until = \"{until}\" }}", slot.trim_end_matches(" }"))
}

/// The caller `lessons` with its key, which ends then, and whatever else stands in the list.
fn with_end(setup: Setup, until: &str, more: &str) -> Setup {
    let keys = format!("[{}{more}]", ending_slot(&setup.key, until));
    setup.set("callers.lessons.keys", value(&keys))
}

fn not_after(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(12)
}

/// An authority whose own certificate ends then.
fn authority(name: &str, days: i64) -> Authority {
    Authority::new("root").below_as(name, |one| one.not_after = not_after(days))
}

fn sdk_token(days: i64) -> String {
    let now = Timestamp::now().as_millisecond();
    let lifespan_ms = (24 * days + 12) * 3_600_000;
    let fields = TokenFields {
        kind: TokenKind::Sdk,
        role: Role::Admin.digit(),
        uuid: None,
        lifespan_ms,
        nonce: "nonce".to_owned(),
    };
    let pair = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    pair.mint(fields, u64::try_from(now).unwrap()).token.expose().to_owned()
}

/// One of each kind that ends, and how many days are left of it.
fn of_every_kind() -> Setup {
    let setup = Setup::new("https://127.0.0.1:9");
    let old = caller::generate(true).unwrap().expose().to_owned();
    let over = format!(", {}", ending_slot(&old, "2026-01-01T00:00:00Z"));
    let setup = with_end(setup, &in_days(3), &over);
    let folder = setup.folder.path();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let (servers, clients, service) =
        (authority("servers", 900), authority("clients", 40), authority("service", 50));
    let shown = servers.issue(|one| {
        one.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
        one.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        one.not_after = not_after(10);
    });
    shown.write(folder);
    write("clients.pem", &clients.pem);
    write("clients.crl", &clients.revoked(&[], Duration::days(2) + Duration::hours(12)));
    write("service.pem", &service.pem);
    write("console", &sdk_token(6));
    let signing = servers.issue(|one| one.not_after = not_after(20)).pem;
    write("school.pem", &signing[..=signing.find("-----END").unwrap() + 24]);
    let key = caller::generate(true).unwrap();
    let key = ending_slot(key.expose(), &in_days(70));
    let setup = setup.with(&format!("[operators.ada]\nrole = \"viewer\"\nkeys = [{key}]\n"));
    setup.with(
        "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n\
         client_ca = { ours = \"clients.pem\" }\nclient_crl = \"clients.crl\"\n\
         [upstream]\nca = \"service.pem\"\n\
         [projects.console]\nsdk_token = { file = \"console\" }\n\
         [issuers.school]\nissuer = \"https://idp.example.net\"\naudience = \"whiteboard\"\n\
         key_file = \"school.pem\"\nprofile = \"backend\"\n",
    )
}

fn check(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = setup.command("check");
    command.args(arguments);
    ended(command)
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Kind, name and days left of each entry; the paths of files without their folder.
fn entries(setup: &Setup, ending: &str) -> (Option<i32>, Vec<(String, String, i64)>) {
    let output = check(setup, &["--json", "--ending", ending]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = format!("{}/", fs::canonicalize(setup.folder.path()).unwrap().display());
    let entry = |one: &Value| {
        let text = |member: &str| one[member].as_str().unwrap().replace(&folder, "");
        let seconds = one["seconds"].as_i64().unwrap();
        assert_eq!(one["ended"], json!(seconds <= 0), "{one}");
        let at: Timestamp = text("ends").parse().unwrap();
        assert!((at.as_second() - Timestamp::now().as_second() - seconds).abs() < 60, "{one}");
        (text("kind"), text("name"), seconds.div_euclid(86_400))
    };
    let entries = said["ending"].as_array().unwrap().iter().map(entry).collect();
    (output.status.code(), entries)
}

#[test]
fn check_lists_what_ends_within_a_time_the_next_first_and_what_is_over_last() {
    let setup = of_every_kind();
    let id = |entry: &(String, String, i64)| entry.1.split('/').next_back().unwrap().len();
    let (code, all) = entries(&setup, "60d");
    assert_eq!(code, Some(3), "{all:?}");
    let short: Vec<(&str, i64)> = all.iter().map(|(kind, _, days)| (&**kind, *days)).collect();
    let expected = [
        ("revocation_list", 2),
        ("key", 3),
        ("sdk_token", 6),
        ("certificate", 10),
        ("issuer_key", 20),
        ("authority", 40),
        ("authority", 50),
    ];
    assert_eq!(short[..7], expected, "{all:?}");
    assert_eq!(short[7].0, "key");
    assert!(short[7].1 < 0, "{all:?}");
    assert!(all[1].1.starts_with("lessons/") && id(&all[1]) == 12, "{all:?}");
    let names: Vec<&str> = all.iter().map(|(_, name, _)| &**name).collect();
    for (index, name) in [
        (0, "listen.tls.client_crl/clients.crl"),
        (2, "console"),
        (3, "listen/certificate.pem"),
        (4, "school"),
        (5, "listen.tls.client_ca/ours"),
        (6, "upstream.ca"),
    ] {
        assert_eq!(names[index], name);
    }
    let (code, soon) = entries(&setup, "5d");
    assert_eq!((code, soon.len()), (Some(3), 3), "{soon:?}");
}

#[test]
fn check_says_in_words_what_ends_and_when() {
    let setup = of_every_kind();
    let text = printed(&check(&setup, &["--ending", "4d"]));
    for said in [
        "ending: the API key `lessons/",
        "` ends in 3 days, 20",
        "ending: the list of revoked certificates `listen.tls.client_crl/",
        "` ends in 2 days, 20",
        " ago, 2026-01-01T00:00:00Z\n",
        "; 3 of the 9 that end do so within 4 days\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    let all = printed(&check(&setup, &[]));
    assert!(!all.contains("ending"), "it is said where it is asked: {all}");
}

#[test]
fn the_exit_code_of_what_ends_is_its_own() {
    let setup = with_end(Setup::new("http://127.0.0.1:9"), &in_days(3), "");
    let code = |setup: &Setup, arguments: &[&str]| check(setup, arguments).status.code();
    let plain = code(&setup, &[]);
    assert_ne!(plain, Some(3));
    for (arguments, expected) in [
        (&["--ending", "14d"][..], Some(3)),
        (&["--ending", "2d"], plain),
        (&["--ending", "1w", "--json"], Some(3)),
        (&["--ending", "14"], Some(2)),
        (&["--ending", "soon"], Some(2)),
        (&["--ending=-1d"], Some(2)),
    ] {
        assert_eq!(code(&setup, arguments), expected, "{arguments:?}");
    }
    let broken = setup.set("callers.lessons.profile", "nobody");
    assert_eq!(code(&broken, &["--ending", "14d"]), Some(2), "an error comes first");
    let nothing = Setup::new("http://127.0.0.1:9");
    let output = check(&nothing, &["--ending", "14d"]);
    assert_eq!(output.status.code(), plain);
    assert!(printed(&output).contains("; nothing in it ends\n"), "{}", printed(&output));
    let wrong = check(&nothing, &["--ending", "soon"]);
    let wrong = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.contains("such as 14d"), "{wrong}");
}

#[test]
fn each_kind_that_ends_has_its_metric() {
    let gateway = of_every_kind().start();
    let now = Timestamp::now().as_second();
    let metrics = gateway.admin("/metrics").text();
    for (metric, days) in [
        ("wbg_key_end_time_seconds{caller=\"lessons\",key=\"", 3),
        ("wbg_operator_key_end_time_seconds{operator=\"ada\",key=\"", 70),
        ("wbg_sdk_token_end_time_seconds{project=\"console\"}", 6),
        ("wbg_certificate_end_time_seconds{listener=\"listen\"}", 10),
        ("wbg_authority_end_time_seconds{setting=\"listen.tls.client_ca\"}", 40),
        ("wbg_authority_end_time_seconds{setting=\"upstream.ca\"}", 50),
        ("wbg_revocation_list_end_time_seconds{setting=\"listen.tls.client_crl\"}", 2),
        ("wbg_issuer_key_end_time_seconds{issuer=\"school\"}", 20),
    ] {
        let line = metrics.lines().find(|line| line.starts_with(metric));
        let line = line.unwrap_or_else(|| panic!("{metric}: {metrics}"));
        let end: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!((end as i64 - now).div_euclid(86_400), days, "{line}");
    }
}

#[test]
fn the_status_shows_what_ends_as_check_does() {
    let (setup, [viewer, _]) = operators(of_every_kind());
    let checked = check(&setup, &["--json", "--ending", "5000d"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let same =
        |one: &Value| json!({ "kind": one["kind"], "name": one["name"], "ends": one["ends"] });
    let expected: Vec<Value> = checked["ending"].as_array().unwrap().iter().map(same).collect();
    let gateway = setup.start();
    let status = Client::connect(gateway.admin).call(&viewer, "GET", "/admin/v1/status", "").json();
    assert_eq!(status["ends"], json!(expected));
    assert!(expected.len() > 8 && expected[0]["kind"] == "revocation_list", "{expected:?}");
}

/// What the caller is told with a request that has these fields.
fn told(gateway: &Process, key: &str, fields: &[(&str, &str)]) -> Option<String> {
    let fields = [fields, &[("token", key)]].concat();
    let answer = gateway.client().request("GET", "/v5/rooms", &fields, "");
    let field = "whiteboard-key-ends";
    answer.has(field).then(|| answer.header(field).to_owned())
}

fn serving(setup: impl FnOnce(Setup) -> Setup) -> (Upstream, Process) {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(Setup::new(&upstream.url())).start();
    (upstream, gateway)
}

#[test]
fn a_caller_is_told_in_the_last_days_of_its_key_when_that_ends() {
    let until = in_days(3);
    let (_upstream, gateway) = serving(|setup| with_end(setup, &until, ""));
    assert_eq!(told(&gateway, &gateway.key, &[]), Some(until.clone()));
    // Also with what is refused, once it is known who asks.
    let refused = gateway.call("GET", "/v5/nowhere", "");
    assert_eq!((refused.status, refused.header("whiteboard-key-ends")), (404, &*until));
    let minted = gateway.call("POST", "/v5/tokens/rooms/a", r#"{"role":"reader","lifespan":1000}"#);
    assert_eq!((minted.status, minted.header("whiteboard-key-ends")), (201, &*until));
    // Who is unknown is told nothing.
    let unknown = gateway.client().request("GET", "/v5/rooms", &[("token", "nobody's")], "");
    assert_eq!(unknown.status, 401);
    assert!(!unknown.has("whiteboard-key-ends"));
}

#[test]
fn nobody_is_told_before_the_last_days_or_of_a_key_without_an_end() {
    let mut other = String::new();
    let (_upstream, gateway) = serving(|mut setup| {
        other = setup.key_of("other", "backend");
        with_end(setup, &in_days(20), "")
    });
    assert_eq!(told(&gateway, &gateway.key, &[]), None);
    assert_eq!(told(&gateway, &other, &[]), None);
}

#[test]
fn how_long_before_its_end_is_configured_and_counts_after_a_reload() {
    let until = in_days(3);
    let (_upstream, gateway) =
        serving(|setup| with_end(setup, &until, "").with("[reminders]\nkey = \"2d\"\n"));
    assert_eq!(told(&gateway, &gateway.key, &[]), None);
    for (before, expected) in [("4d", Some(until)), ("off", None)] {
        gateway.reload(&gateway.configuration().set("reminders.key", before));
        assert_eq!(told(&gateway, &gateway.key, &[]), expected, "{before}");
    }
}

#[test]
fn of_two_keys_of_a_caller_the_one_that_ends_is_told() {
    let new = caller::generate(true).unwrap().expose().to_owned();
    let until = in_days(1);
    let (_upstream, gateway) =
        serving(|setup| with_end(setup, &until, &format!(", {}", slot(&new))));
    assert_eq!(told(&gateway, &gateway.key, &[]), Some(until));
    assert_eq!(told(&gateway, &new, &[]), None);
}

#[test]
fn a_page_is_told_nothing() {
    let (_upstream, gateway) = serving(|setup| {
        with_end(setup, &in_days(3), "").with("[cors]\norigins = [\"https://app.example.net\"]\n")
    });
    for fields in [
        &[("origin", "https://app.example.net")][..],
        &[("origin", "https://elsewhere.example.net")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(told(&gateway, &gateway.key, fields), None, "{fields:?}");
    }
    let page = [("origin", "https://app.example.net"), ("token", &*gateway.key)];
    let answer = gateway.client().request("GET", "/v5/rooms", &page, "");
    let exposed = answer.header("access-control-expose-headers");
    assert!(exposed.contains("x-request-id") && !exposed.contains("key-ends"), "{exposed}");
}
