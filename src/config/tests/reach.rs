//! What opens more than was meant, and what two would own.

use super::*;
use crate::api::TokenKind;
use crate::token::{KeyPair, Secret, TokenFields};

const ANY: &str = "rooms = \"any\"\nlimit = { rate = \"5/s\" }\n";
const SOME: &str = "rooms = [\"a\"]\nlimit = { rate = \"5/s\" }\n";
const CLAIM: &str = "rooms = { claim = \"rooms\" }\nlimit = { rate = \"5/s\" }\n";

/// An operation that the configuration adds.
fn added(name: &str, path: &str, rest: &str) -> String {
    format!("[[operations]]\nname = \"{name}\"\nmethod = \"POST\"\npath = \"{path}\"\n{rest}\n")
}

/// The warnings that speak of one of these.
fn warnings(text: &str, about: &[&str]) -> Vec<String> {
    let all = Project::with(text).warnings();
    all.into_iter().filter(|one| about.iter().any(|part| one.contains(part))).collect()
}

#[track_caller]
fn warned(text: &str, told: &str) {
    let all = Project::with(text).warnings();
    assert!(all.iter().any(|one| one.contains(told)), "{text}\n  said {all:#?}\n  not  {told}");
}

#[test]
fn what_opens_every_room_is_for_callers_of_every_room() {
    for rooms in [SOME, CLAIM, ""] {
        for name in ["tokens.sdk", "tokens.task", "rooms.list"] {
            let said = errors(&profile(&format!("{rooms}allow = [\"rooms.get\", \"{name}\"]")));
            assert!(said.contains("`profiles.backend.allow[1]`"), "{name} {rooms}: {said}");
            assert!(said.contains("rooms = \"any\""), "{name} {rooms}: {said}");
        }
    }
    load(&profile(&format!("{ANY}allow = [\"tokens.sdk\", \"tokens.task\", \"rooms.list\"]")));
}

#[test]
fn a_room_token_for_every_uuid_is_doubtful_where_conversions_are_not_granted() {
    let told = "grants tokens.room for every uuid, and not conversions.get";
    warned(&profile(&format!("{ANY}allow = [\"tokens.room\"]")), told);
    for (rooms, allow) in [
        (ANY, "\"tokens.room\", \"conversions.get\""),
        (ANY, "\"tokens.room\", \"conversions.*\""),
        (ANY, "\"tokens.*\""),
        (ANY, "\"rooms.get\""),
        (SOME, "\"tokens.room\""),
    ] {
        let text = profile(&format!("{rooms}allow = [{allow}]"));
        assert_eq!(warnings(&text, &[told]), [""; 0], "{text}");
    }
}

#[test]
fn an_added_operation_that_hands_out_tokens_is_warned_about() {
    let by_room = "token = \"room\"\nrole = \"writer\"\ntarget = \"room\"";
    let told = "`operations[0].name` is `";
    for (name, path) in [
        ("tokens.renew", "/v5/rooms/{uuid}/renew"),
        ("rooms.renew", "/v5/tokens/rooms/{uuid}/renew"),
        ("rooms.renew", "/v5/TOKENS/rooms/{uuid}/renew"),
    ] {
        let text = profile(&format!("{ANY}allow = [\"{name}\"]")) + &added(name, path, by_room);
        warned(&text, &format!("{told}{name}`, and hands out tokens"));
        let family = format!("{}.*", name.split('.').next().unwrap());
        let text = text.replace(&format!("[\"{name}\"]"), &format!("[\"{family}\"]"));
        warned(&text, &format!("`profiles.backend.allow[0]` does not grant `{name}`: no family"));
    }
    let export = added("rooms.export", "/v5/rooms/{uuid}/export", by_room);
    let text = profile(&format!("{ANY}allow = [\"rooms.*\"]")) + &export;
    assert_eq!(warnings(&text, &["rooms.export"]), [""; 0]);
}

#[test]
fn an_added_operation_that_opens_more_than_its_room_is_warned_about_for_whoever_is_narrow() {
    let export = |token: &str, target: &str, path: &str| {
        let role = if token == "none" { "" } else { "role = \"reader\"\n" };
        let target = match target {
            "" => String::new(),
            target => format!("target = \"{target}\""),
        };
        added("rooms.export", path, &format!("token = \"{token}\"\n{role}{target}"))
    };
    let named = |rooms: &str| profile(&format!("{rooms}allow = [\"rooms.export\"]"));
    let family = |rooms: &str| profile(&format!("{rooms}allow = [\"rooms.*\"]\nrole = \"admin\""));
    let room = "/v5/rooms/{uuid}/export";
    for (operation, with) in [
        (export("sdk", "room", room), "an SDK token"),
        (export("sdk", "", "/v5/rooms-export"), "an SDK token"),
        (export("task", "task", "/v5/exports/{uuid}"), "a Task token"),
        (export("none", "", "/v5/rooms-export"), "no token"),
    ] {
        for rooms in [SOME, CLAIM] {
            let told = "`profiles.backend.allow[0]` grants `rooms.export`, which opens more than";
            warned(&(named(rooms) + &operation), told);
            warned(&(named(rooms) + &operation), with);
            let told =
                "`profiles.backend.allow[0]` does not grant `rooms.export`: the rooms are not";
            warned(&(family(rooms) + &operation), told);
        }
        // Callers of every room have it as they have everything else of the project.
        assert_eq!(warnings(&(named(ANY) + &operation), &["rooms.export"]), [""; 0]);
        assert_eq!(warnings(&(family(ANY) + &operation), &["rooms.export"]), [""; 0]);
        // But for those whom something else narrows.
        let issuer = "[issuers.school]\nissuer = \"https://idp.example.org\"\naudience = \"w\"\n\
                      jwks = \"https://idp.example.org/keys\"\nprofile = \"backend\"\n";
        let of_issuer = named(ANY) + &operation + issuer;
        assert_eq!(warnings(&of_issuer, &["rooms.export"]), [""; 0]);
        let told = "`issuers.school.profile` grants `rooms.export`, which opens more than";
        warned(&(of_issuer + "rooms = { claim = \"rooms\" }\n"), told);
    }
    let own = named(ANY)
        .replace("[projects.classroom]", "[projects.classroom]\ntoken_profile = \"backend\"");
    let told = "`projects.classroom.token_profile` grants `rooms.export`, which opens more than";
    warned(&(own + &export("sdk", "room", room)), told);
    let quiet = named(SOME) + &export("room", "room", room);
    assert_eq!(warnings(&quiet, &["rooms.export"]), [""; 0]);
    // Where every request shows the SDK token of the project, it does so for this one as well.
    let console = quiet.replace(
        "keys = [{ access_key = \"AK\", secret_key = \"SK\" }]",
        "sdk_token = \"NETLESSSDK_x\"",
    );
    warned(&console, "with the SDK token of the project");
    let said = errors(&(named(SOME) + &export("task", "task", room)));
    assert!(said.contains("`operations[0].target` must be \"room\""), "{said}");
}

#[test]
fn a_project_with_a_fixed_sdk_token_mints_none() {
    let text = profile(&format!("{ANY}allow = [\"tokens.sdk\"]"));
    let text = text.replace(
        "keys = [{ access_key = \"AK\", secret_key = \"SK\" }]",
        "sdk_token = \"NETLESSSDK_x\"",
    );
    warned(&text, "`profiles.backend.allow[0]` grants nothing: the project has a fixed SDK token");
}

#[test]
fn a_token_profile_is_not_wider_than_those_who_mint() {
    let with = |shown: &str| {
        profile("rooms = [\"a\"]\nallow = [\"tokens.room\"]\nrole = \"writer\"")
            .replace("[projects.classroom]", "[projects.classroom]\ntoken_profile = \"shown\"")
            + &format!(
                "[profiles.shown]\nproject = \"classroom\"\nallow = [{shown}]\n{ANY}role = \"admin\"\n"
            )
    };
    let told = "`projects.classroom.token_profile` is wider than `profiles.backend`";
    warned(&with("\"rooms.get\", \"scenes.list\""), told);
    warned(&with("\"rooms.*\""), "what they have not themselves: rooms.get");
    // What needs a higher role than those have who mint, their tokens have not either.
    for shown in ["\"rooms.update\"", "\"tokens.room\"", "\"rooms.list\""] {
        assert_eq!(warnings(&with(shown), &[told]), [""; 0], "{shown}");
    }
    let same =
        with("\"rooms.get\"").replace("[\"tokens.room\"]", "[\"tokens.room\", \"rooms.get\"]");
    assert_eq!(warnings(&same, &[told]), [""; 0]);
}

#[test]
fn an_access_key_is_of_one_project() {
    let project = |name: &str, keys: &str| format!("[projects.{name}]\nkeys = [{keys}]\n");
    let key = |access: &str, more: &str| {
        format!("{{ access_key = \"{access}\", secret_key = \"SK\"{more} }}")
    };
    let retired = key("AK", ", state = \"retired\"");
    for other in [key("AK", ""), key("AK", ", state = \"verify_only\""), retired] {
        let office = project("office", &format!("{}, {other}", key("OTHER", "")));
        let said = errors(&(office + &project("school", &key("AK", ""))));
        let told = "`projects.school.keys[0].access_key` is that of `projects.office.keys[1]`";
        assert!(said.contains(told), "{said}");
    }
    load(&(project("office", &key("AK1", "")) + &project("school", &key("AK2", ""))));
}

#[test]
fn nor_is_an_sdk_token_of_two_or_its_access_key_that_of_another() {
    let token = |access_key: &str, nonce: &str| {
        let key = KeyPair::new(access_key.to_owned(), &Secret::new("SK".to_owned()));
        let minted = key.mint(
            TokenFields {
                kind: TokenKind::Sdk,
                role: "0",
                uuid: None,
                lifespan_ms: 0,
                nonce: nonce.to_owned(),
            },
            1_000,
        );
        minted.token.expose().to_owned()
    };
    let fixed = |name: &str, token: &str| format!("[projects.{name}]\nsdk_token = \"{token}\"\n");
    let keys = |name: &str, access_key: &str| {
        format!(
            "[projects.{name}]\nkeys = [{{ access_key = \"{access_key}\", secret_key = \"SK\" }}]\n"
        )
    };
    let (one, unread) = (token("AK", "1"), "NETLESSSDK_unread");
    for (office, school, told) in [
        (fixed("office", &one), fixed("school", &one), "`projects.school.sdk_token` has an access"),
        (fixed("office", &one), fixed("school", &token("AK", "2")), "`projects.school.sdk_token`"),
        (fixed("office", unread), fixed("school", unread), "`projects.school.sdk_token`"),
        (keys("office", "AK"), fixed("school", &one), "is that of `projects.office.keys[0]`"),
        (fixed("office", &one), keys("school", "AK"), "is that of `projects.office.sdk_token`"),
    ] {
        let said = errors(&(office + &school));
        assert!(said.contains(told) && said.contains("an access key is of one project"), "{said}");
        assert!(!said.contains(&one) && !said.contains(unread), "{said}");
    }
    load(&(fixed("office", &one) + &fixed("school", &token("BK", "1")) + &keys("club", "CK")));
}

#[test]
fn no_issuer_is_called_like_callers_of_another_kind() {
    for name in ["room", "task", "runtime"] {
        let said = errors(&format!(
            "[issuers.{name}]\nissuer = \"https://idp.example.org\"\naudience = \"w\"\n\
             jwks = \"https://idp.example.org/keys\"\nprofile = \"backend\"\n{}",
            profile("")
        ));
        let told = format!("`issuers.{name}` has a name that is kept for callers of another kind");
        assert!(said.contains(&told), "{said}");
    }
}
