//! What is said of pairs of configurations that someone wrote by hand. Drawn ones are compared with the
//! oracle in `tests/policy_oracle`.

use super::*;
use crate::config::{self, Source};

/// A configuration: the profile of `lessons` and the rest.
fn side(profile: &str, rest: &str) -> PolicySide {
    let text = format!(
        "[upstream]\nregion = \"us-sv\"\n\
         [projects.p]\nkeys = [{{ access_key = \"ak\", secret_key = \"secret\" }}]\n\
         [projects.q]\nkeys = [{{ access_key = \"bk\", secret_key = \"secret\" }}]\n\
         [profiles.guest]\nproject = \"p\"\nallow = [\"rooms.get\"]\nrooms = \"any\"\nrole = \"writer\"\n\
         [profiles.backend]\n{profile}\n\
         [callers.lessons]\nprofile = \"backend\"\n\
         keys = [{{ id = \"4fJ2aaaaaaaa\", digest = \"sha256:{}\" }}]\n{rest}",
        "ab".repeat(32)
    );
    let source = Source::Embedded { name: "hand.toml", text: text.leak() };
    let loaded = config::load(&source, &[]).map_err(|errors| panic!("{errors}"));
    let loaded = loaded.unwrap_or_else(|()| unreachable!());
    PolicySide::of(&loaded.settings.gateway, "2026-11-30T00:00:00Z".parse().unwrap()).unwrap()
}

const BASE: &str = "project = \"p\"\nallow = [\"rooms.*\", \"tokens.room\"]\nrooms = [\"r1\", \"r2\"]\n\
                    role = \"writer\"\nmax_lifespan = \"1h\"";
const ISSUER: &str = "[issuers.corp]\nissuer = \"https://id.example\"\naudience = \"board\"\n\
                      secret = \"0123456789abcdef0123456789abcdef\"\n";

/// What is told of a change, without the last line.
fn told(old: &PolicySide, new: &PolicySide) -> Vec<String> {
    let diff = PolicyDiff::between(old, new);
    let text = diff.to_string();
    let rights = text.split("beside the rights:").next().unwrap_or_default();
    let lines = rights.lines().map(str::to_owned);
    lines.filter(|line| line.starts_with("  ") || line.contains('(')).collect()
}

#[test]
fn each_change_of_a_profile_is_said_as_it_is() {
    let old = side(BASE, "");
    let table: [(&str, &str, &[&str]); 9] = [
        (
            "max_lifespan = \"1h\"",
            "max_lifespan = \"24h\"",
            &["  + tokens.room in r1, r2: tokens for 1d at most, was 1h"],
        ),
        (
            "max_lifespan = \"1h\"",
            "max_lifespan = \"90s\"",
            &["  - tokens.room in r1, r2: tokens for 90s at most, was 1h"],
        ),
        (
            "role = \"writer\"",
            "role = \"admin\"",
            &[
                "  + tokens.room in r1, r2: tokens up to the role admin, was writer",
                "  + rooms.update in r1, r2",
            ],
        ),
        (
            "\"r2\"]",
            "\"r3\"]",
            &[
                "  + tokens.room in r3: tokens up to the role writer, for 1h at most",
                "  - tokens.room in r2: tokens up to the role writer, for 1h at most",
                "  + rooms.get in r3",
                "  - rooms.get in r2",
            ],
        ),
        (
            "rooms = [\"r1\", \"r2\"]",
            "rooms = \"any\"",
            &[
                "  + tokens.room in every room that no list names: tokens up to the role writer, for 1h \
             at most",
                "  + rooms.create, rooms.list",
                "  + rooms.get in every room that no list names",
            ],
        ),
        (
            "\"tokens.room\"]",
            "\"scenes.list\"]",
            &[
                "  - tokens.room in r1, r2: tokens up to the role writer, for 1h at most",
                "  + scenes.list in r1, r2",
            ],
        ),
        (
            "role = \"writer\"",
            "role = \"writer\"\nover_cap = { role = \"clamp\" }",
            &["  + tokens.room in r1, r2: a higher role than the cap: clamp, was refuse"],
        ),
        (
            "role = \"writer\"",
            "role = \"writer\"\nover_cap = { lifespan = \"refuse\" }",
            &["  - tokens.room in r1, r2: a higher lifespan than the cap: refuse, was clamp"],
        ),
        ("role = \"writer\"", "role = \"writer\"\nlimit = { rate = \"5/s\" }", &[]),
    ];
    for (from, to, lines) in table {
        let told = told(&old, &side(&BASE.replace(from, to), ""));
        let header = "caller lessons (profile backend)";
        let mut expected: Vec<&str> = if lines.is_empty() { vec![] } else { vec![header] };
        expected.extend(lines);
        let mut told: Vec<&str> = told.iter().map(String::as_str).collect();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected, "{from} -> {to}");
    }
}

#[test]
fn another_project_is_gained_and_the_one_before_is_lost() {
    let new = side(&BASE.replace("project = \"p\"", "project = \"q\""), "");
    let diff = PolicyDiff::between(&side(BASE, ""), &new);
    assert!(diff.is_wider() && diff.is_narrower());
    let text = diff.to_string();
    assert!(text.contains("~ tokens.room, rooms.get in r1, r2: in the project q, was p"), "{text}");
}

#[test]
fn who_comes_and_who_goes_is_said() {
    let other = format!(
        "[callers.reports]\nprofile = \"guest\"\n\
         keys = [{{ id = \"9aQzaaaaaaaa\", digest = \"sha256:{}\" }}]\n",
        "cd".repeat(32)
    );
    let (old, new) = (side(BASE, ""), side(BASE, &other));
    let lines =
        ["caller reports (added, profile guest)", "  + rooms.get in every room that no list names"];
    assert_eq!(told(&old, &new), lines);
    assert_eq!(told(&new, &old)[0], "caller reports (removed, profile guest)");
    let diff = PolicyDiff::between(&new, &old);
    assert!(!diff.is_wider());
    assert!(diff.to_string().ends_with("rights are narrowed for 1 caller\n"), "{diff}");
    let same = PolicyDiff::between(&new, &new);
    assert_eq!(same.to_string(), "no one can do more or less than before\n");
}

#[test]
fn a_key_that_is_over_is_no_credential() {
    let until = |time: &str| {
        format!(
            "[callers.old]\nprofile = \"guest\"\nkeys = [{{ id = \"9aQzaaaaaaaa\", \
             digest = \"sha256:{}\", until = \"{time}\" }}]\n",
            "cd".repeat(32)
        )
    };
    let (over, good) = (until("2026-11-30T00:00:00Z"), until("2026-11-30T00:00:01Z"));
    assert!(PolicyDiff::between(&side(BASE, &over), &side(BASE, &good)).is_wider());
}

#[test]
fn what_hangs_on_a_claim_is_said_with_what_it_holds() {
    let issuer = |more: &str| side(BASE, &format!("{ISSUER}profile = \"guest\"\n{more}"));
    let told = told(&issuer("role = \"reader\""), &issuer("role = { claim = \"wb_role\" }"));
    assert_eq!(told[0], "callers of the issuer corp (profile guest)");
    let line =
        "  + rooms.get in every room that no list names (in 2 of 4 cases of what a token says)";
    assert_eq!(told[1], line);
    let json =
        PolicyDiff::between(&issuer("role = \"reader\""), &issuer("role = { claim = \"r\" }"));
    let when = &json.json()["groups"][0]["changes"][0]["when"];
    assert_eq!(*when, serde_json::json!([{ "r": "is admin" }, { "r": "is writer" }]));
}

#[test]
fn another_order_of_a_map_counts_for_whoever_has_both_texts() {
    let issuer = |map: &str| {
        side(BASE, &format!("{ISSUER}profile = {{ claim = \"groups\", map = {{ {map} }} }}\n"))
    };
    let a = issuer("a = \"backend\", b = \"guest\"");
    let b = issuer("b = \"guest\", a = \"backend\"");
    let told = told(&a, &b);
    assert!(told[0].starts_with("callers of the issuer corp (profile guest, was profile backend)"));
    assert_eq!(told.iter().filter(|line| line.starts_with("callers")).count(), 1, "{told:#?}");
}

#[test]
fn an_added_operation_with_a_wider_token_is_gained() {
    let with = |token: &str| {
        let added = format!(
            "[[operations]]\nname = \"rooms.export\"\nmethod = \"POST\"\n\
             path = \"/v5/rooms/{{uuid}}/export\"\ntarget = \"room\"\nrole = \"writer\"\n\
             token = \"{token}\"\n"
        );
        side(&BASE.replace("\"rooms.*\"", "\"rooms.export\""), &added)
    };
    let diff = PolicyDiff::between(&with("room"), &with("sdk"));
    let text = diff.to_string();
    assert!(diff.is_wider() && !diff.is_narrower(), "{text}");
    assert!(text.contains("the service is shown an SDK token"), "{text}");
}

/// A thousand callers, each with a profile and a list of its own, in which much has changed.
#[test]
fn a_thousand_callers_are_compared_within_a_second() {
    use std::fmt::Write as _;
    let many = |role: &str| {
        let mut text = String::new();
        for index in 0..1_000 {
            _ = write!(
                text,
                "[profiles.p{index}]\nproject = \"p\"\nallow = [\"rooms.*\", \"scenes.*\", \
                 \"tokens.room\"]\nrooms = [\"r{index}\", \"common\"]\nrole = \"{role}\"\n\
                 [callers.c{index}]\nprofile = \"p{index}\"\n\
                 keys = [{{ id = \"4fJ2aaaa{index:04}\", digest = \"sha256:{index:064x}\" }}]\n"
            );
        }
        side(BASE, &text)
    };
    let (old, new) = (many("reader"), many("writer"));
    let begun = std::time::Instant::now();
    let diff = PolicyDiff::between(&old, &new);
    let took = begun.elapsed();
    assert_eq!(diff.groups.len(), 1_000);
    // Without optimization, and beside other tests: many times what it takes in a release.
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
