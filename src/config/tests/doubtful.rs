//! What works and is doubtful.

use super::*;
use crate::api::{Role, TokenKind};
use crate::token::{KeyPair, Secret, TokenFields};

#[test]
fn what_works_and_is_doubtful_is_warned_about() {
    let good = "rooms = \"any\"\nallow = [\"tokens.room\", \"conversions.get\"]\nlimit = { rate = \"5/s\" }\n";
    for (text, told) in [
        ("".to_owned(), "`callers` has nobody in it"),
        (
            "".to_owned(),
            "`upstream.region` is not set: requests that name no region mean us-sv; clients from before regions existed mean cn-hz",
        ),
        ("upstream.url = \"http://10.0.0.1\"".to_owned(), "`upstream.url` is http"),
        (
            "upstream.url = \"https://api.whiteboard.sd-rtn.com\"".to_owned(),
            "`upstream.url` is the service's name for cn-hz, in-mum, sg, and upstream.region is us-sv: leave it out for api.netless.link",
        ),
        (
            "upstream = { url = \"https://API.baiban.shengwang.cn\", region = \"sg\" }".to_owned(),
            "`upstream.url` is the service's name for cn-hz, and upstream.region is sg",
        ),
        (
            "upstream.url = \"https://cloudcapiv4.herewhite.com\"".to_owned(),
            "`upstream.url` is the name of v4 of the API",
        ),
        (
            "cors.origins = [\"http://app.example.org\"]".to_owned(),
            "`cors.origins[0]` is http: whoever is between",
        ),
        (
            "budgets.file = \"./budgets.db\"".to_owned(),
            "`budgets.file` is not used: no profile has budgets",
        ),
        (
            profile("budgets = [{ of = \"tokens\", most = 5, per = \"day\" }]").replace(
                "[projects.classroom]",
                "[projects.classroom]\ntoken_profile = \"backend\"",
            ) + "[budgets]\nfile = \"./budgets.db\"\n",
            "`profiles.backend.budgets` are for each caller, and each whiteboard token that this",
        ),
        (
            profile("budgets = [{ of = \"tokens\", most = 5, per = \"day\" }]")
                + "[budgets]\nfile = \"./budgets.db\"\n[store]\nurl = \"redis://a\"\nreplicas = 2\n",
            "`budgets.file` is this gateway's alone, of 2: together they give out 2 times as much",
        ),
        (
            "admin.address = \"0.0.0.0:9090\"".to_owned(),
            "gateway.toml:1: `admin.address` is reachable from other machines, and asks nobody who they are",
        ),
        (
            "listen.client_address = \"forwarded\"".to_owned(),
            "gateway.toml:1: `listen.client_address` means nothing without listen.trusted_proxies",
        ),
        (
            "store.replicas = 3".to_owned(),
            "gateway.toml:1: `store.replicas` is 3 without a store: each replica counts for itself",
        ),
        (
            "store.url = \"redis://:secret@127.0.0.1\"".to_owned(),
            "`store.url` has a password in it, in the file itself",
        ),
        (
            "store = { url = \"redis://10.0.0.1\", password = \"secret\" }".to_owned(),
            "`store.url` is not rediss: the password crosses the network in the clear",
        ),
        (
            profile("on_store_error = \"open\""),
            "`profiles.backend.on_store_error` means nothing without a store",
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
        (
            profile("rooms = \"any\"\nallow = [\"tokens.sdk\"]"),
            "`profiles.backend.allow[0]` grants SDK tokens",
        ),
        (
            profile("max_lifespan = \"permanent\""),
            "`profiles.backend.max_lifespan` lets callers have tokens without an end",
        ),
        (profile(good), "`audit` is left out, and callers may have tokens"),
        (profile(good) + "[callers.b]\nprofile = \"backend\"\n", "`callers.b` has no key"),
    ] {
        let warnings = Project::with(&text).warnings();
        assert!(
            warnings.iter().any(|one| one.contains(told)),
            "{text}\n  said {warnings:#?}\n  not  {told}"
        );
    }
    let more = "[upstream]\nregion = \"us-sv\"\n[audit]\nfile = \"stdout\"\n";
    let warnings = Project::with(&(profile(good) + more)).warnings();
    let warnings: Vec<_> = warnings.iter().filter(|one| !one.contains(PLACEHOLDER)).collect();
    assert_eq!(warnings.len(), 1, "only the secret: {warnings:#?}");
}

/// What is said of a value that stands for a real one; the digests here are such values.
const PLACEHOLDER: &str = "is a placeholder of an example";

#[test]
fn a_value_that_an_example_has_in_the_place_of_a_real_one_is_called_so_by_its_key() {
    let secret = "secret_key = { env = \"SK\" }";
    let key = |access: &str| {
        format!("[projects.a]\nkeys = [{{ access_key = \"{access}\", {secret} }}]\n")
    };
    let named = |text: &str, sk: &str| -> Vec<String> {
        let loaded = Project::with(text).load(&[("SK", sk)]);
        let warnings = loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}")).warnings;
        let placeholders = warnings.iter().filter(|one| one.message.contains(PLACEHOLDER));
        placeholders.map(|one| one.message.split('`').nth(1).unwrap().to_owned()).collect()
    };
    for (text, sk, key) in [
        (key("your-access-key"), "s", "projects.a.keys[0].access_key"),
        (key("<AK>"), "s", "projects.a.keys[0].access_key"),
        (key("A"), "CHANGE_ME", "projects.a.keys[0].secret_key.env"),
        (key("A"), "${CLASSROOM_SK}", "projects.a.keys[0].secret_key.env"),
        ("[upstream]\nurl = \"https://api.example.com\"".to_owned(), "", "upstream.url"),
        ("[store]\nurl = \"rediss://store-1.example.org\"".to_owned(), "", "store.url"),
        (
            "[store]\nurl = \"redis://localhost\"\npassword = { env = \"SK\" }".to_owned(),
            "your_password",
            "store.password.env",
        ),
        ("[otlp]\nendpoint = \"https://collector.example\"".to_owned(), "", "otlp.endpoint"),
        (
            "[otlp]\nendpoint = \"http://localhost\"\nheaders = { authorization = { env = \"SK\" } }".to_owned(),
            "Bearer your-token",
            "otlp.headers.authorization.env",
        ),
    ] {
        assert_eq!(named(&text, sk), [key], "{text}");
    }
    assert_eq!(named(&key("MmWsWx4s"), "kF3-9a"), Vec::<String>::new());
    assert_eq!(named("[upstream]\nurl = \"https://api.netless.link\"", ""), Vec::<String>::new());
}

#[test]
fn the_field_that_trusted_proxies_name_the_client_in_is_no_doubt() {
    let text = "listen = { client_address = \"forwarded\", trusted_proxies = [\"10.0.0.0/8\"] }";
    let warnings = Project::with(text).warnings();
    assert!(warnings.iter().all(|one| !one.contains("client_address")), "{warnings:#?}");
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
fn who_can_hand_out_no_token_needs_no_audit() {
    let silent = |allow: &str| {
        let warnings = Project::with(&profile(allow)).warnings();
        !warnings.iter().any(|warning| warning.contains("`audit`"))
    };
    assert!(silent("allow = [\"rooms.get\"]\nrooms = \"any\""));
    assert!(!silent("allow = [\"tokens.*\"]\nrooms = \"any\""));
    assert!(!silent("allow = [\"tokens.sdk\"]\nrooms = \"any\""));
}

#[test]
fn a_console_token_that_will_not_do_is_warned_about() {
    let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let hour = 3_600_000;
    let token = |role: Role, lifespan_ms: i64, minted_at_ms: u64| {
        let nonce = "n".to_owned();
        key.mint(
            TokenFields {
                kind: TokenKind::Sdk,
                role: role.digit(),
                uuid: None,
                lifespan_ms,
                nonce,
            },
            minted_at_ms,
        )
        .token
    };
    let now = u64::try_from(now().as_millisecond()).unwrap();
    let of_admin = "allow = [\"rooms.create\"]\nrooms = \"any\"\nrole = \"admin\"\n";
    for (token, told) in [
        (token(Role::Admin, 0, now), None),
        (token(Role::Admin, 1_000 * hour, now), None),
        (
            token(Role::Admin, hour, now - 7_200_000),
            Some("`projects.classroom.sdk_token` has ended at 20"),
        ),
        (token(Role::Admin, 24 * hour, now), Some("`projects.classroom.sdk_token` ends at 20")),
        (
            token(Role::Reader, 0, now),
            Some("has the role reader, and a profile of this project the role admin"),
        ),
        (
            Secret::new("NETLESSSDK_x".to_owned()),
            Some("`projects.classroom.sdk_token` cannot be read"),
        ),
    ] {
        let text = format!(
            "[projects.classroom]\nsdk_token = \"{}\"\n[profiles.a]\nproject = \"classroom\"\n{of_admin}",
            token.expose()
        );
        let mut warnings = Project::with(&text).warnings();
        warnings.retain(|one| one.contains("sdk_token") && !one.contains("in the file itself"));
        match told {
            Some(told) => {
                assert!(warnings.iter().any(|one| one.contains(told)), "{warnings:?} not {told}");
            }
            None => assert!(warnings.is_empty(), "{warnings:?}"),
        }
        assert!(warnings.iter().all(|one| !one.contains(token.expose())), "a secret is told");
    }
}

#[test]
fn a_name_of_the_service_that_is_for_the_region_is_no_doubt() {
    for (url, region) in [
        ("https://api.netless.link", "us-sv"),
        ("https://api.netless.link", "cn-hz"),
        ("https://api.whiteboard.agora.io", "us-sv"),
        ("https://api.whiteboard.rtelink.com", "eu"),
        ("https://api.whiteboard.sd-rtn.com", "in-mum"),
        ("https://api.baiban.shengwang.cn", "cn-hz"),
        ("https://whiteboard.internal", "sg"),
    ] {
        let text = format!("upstream = {{ url = \"{url}\", region = \"{region}\" }}");
        let warnings = Project::with(&text).load(&[]).ok().unwrap().warnings;
        let doubted = warnings.iter().any(|warning| warning.message.contains("upstream.url"));
        assert!(!doubted, "{url} {region}: {warnings:#?}");
    }
}
