//! Who is narrow gets nothing wide, whatever it is that narrows: profile, issuer, claim or token.

use std::io::Write as _;

use serde_json::{Value, json};
use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::token::Claims;

use crate::support::{
    AUDIENCE, Answer, Process, Setup, Signer, Upstream, answer, claims, finished,
};

const A: &str = "faed3130727911ebaea37759ee91947c";
const B: &str = "d07bcaf0a17911ea9d7e23232cddf42d";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const SDK: &str = r#"{"accessKey":"sandbox","role":"reader","lifespan":1000}"#;
const TOKEN: &str = r#"{"role":"writer","lifespan":600000}"#;

/// What the service has and the table has not.
const ADDED: &str = r#"
[[operations]]
name = "rooms.export"
method = "POST"
path = "/v5/rooms/{uuid}/export"
token = "sdk"
role = "writer"
target = "room"

[[operations]]
name = "rooms.preview"
method = "POST"
path = "/v5/rooms/{uuid}/preview"
token = "room"
role = "writer"
target = "room"

[[operations]]
name = "rooms.stats"
method = "GET"
path = "/v5/room-stats"
token = "none"

[[operations]]
name = "tokens.renew"
method = "POST"
path = "/v5/tokens/rooms/{uuid}/renew"
token = "sdk"
role = "writer"
target = "room"
"#;

const EXPORT: &str = "/export?roomUUID=d07bcaf0a17911ea9d7e23232cddf42d";

/// A gateway, and callers who are narrow for every reason that there is.
struct World {
    gateway: Process,
    signer: Signer,
    listed: String,
    named: String,
}

impl World {
    /// With these projects' credentials.
    fn new(upstream: &Upstream, credentials: &str) -> Self {
        let families = r#"["rooms.*", "scenes.*", "tokens.*"]"#;
        let of = |name: &str, rest: &str| {
            format!("[profiles.{name}]\nproject = \"classroom\"\nrole = \"writer\"\n{rest}\n")
        };
        let mut setup = Setup::new(&upstream.url())
            .without("projects.classroom.keys")
            .with(&format!("[projects.classroom]\n{credentials}\n"));
        let listed = setup
            .caller("listed", &format!("allow = {families}\nrooms = [\"{A}\"]\nrole = \"writer\""));
        let by_name = r#"["rooms.get", "rooms.create", "rooms.export", "tokens.renew"]"#;
        let named = setup
            .caller("named", &format!("allow = {by_name}\nrooms = [\"{A}\"]\nrole = \"writer\""));
        let issuer = |name: &str, rest: &str| {
            format!(
                "[issuers.{name}]\nissuer = \"{name}\"\naudience = \"{AUDIENCE}\"\n\
                 secret = \"{SECRET}\"\n{rest}\n"
            )
        };
        let setup = setup
            .with(&of("whole", &format!("allow = {families}\nrooms = \"any\"")))
            .with(&of("sdk", "allow = [\"rooms.get\", \"tokens.sdk\"]\nrooms = \"any\""))
            .with(&of("claimed", &format!("allow = {families}\nrooms = {{ claim = \"rooms\" }}")))
            .with(&issuer("claiming", "profile = \"claimed\""))
            .with(&issuer("within", "profile = \"whole\"\nrooms = { claim = \"rooms\" }"))
            .with(&issuer("fixed", &format!("profile = \"whole\"\nrooms = [\"{A}\"]")))
            .with(&issuer("sdk-within", "profile = \"sdk\"\nrooms = { claim = \"rooms\" }"))
            .with(&issuer("everything", "profile = \"whole\""))
            .with(ADDED);
        Self { gateway: setup.start(), signer: Signer::hs256("any", SECRET), listed, named }
    }

    fn jwt(&self, issuer: &str) -> String {
        self.signer.token(&claims(issuer, &json!({ "rooms": [A] })))
    }

    fn call(&self, credential: &str, method: &str, path: &str, body: &str) -> Answer {
        self.gateway.client().request(method, path, &[("token", credential)], body)
    }

    /// Everybody who is narrow, by what narrows it.
    fn narrow(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("a list of the profile", self.listed.clone())];
        all.extend(["claiming", "within", "fixed"].map(|issuer| (issuer, self.jwt(issuer))));
        all
    }
}

const KEYS: &str = "keys = [{ access_key = \"sandbox\", secret_key = { env = \"CLASSROOM_SK\" } }]\n\
                    token_profile = \"whole\"";

/// Kind, role and uuid of the token that the service was shown last.
fn shown(upstream: &Upstream) -> (TokenKind, Option<Role>, Option<String>) {
    let received = upstream.received();
    let claims = Claims::read(received.last().unwrap().header("token")).unwrap();
    (claims.kind, claims.role(), claims.uuid().map(str::to_owned))
}

#[test]
fn nobody_narrow_gets_an_sdk_token_or_lists_rooms_or_has_more_than_its_room_from_a_family() {
    let upstream = Upstream::json("201 Created", "{}");
    let world = World::new(&upstream, KEYS);
    let own = world.call(&world.listed, "POST", &format!("/v5/tokens/rooms/{A}"), TOKEN);
    let own: String = serde_json::from_slice(&own.body).unwrap();
    let mut narrow = world.narrow();
    narrow.push(("its own token", own.clone()));
    narrow.push(("a claim beside tokens.sdk", world.jwt("sdk-within")));
    for (why, credential) in &narrow {
        for (method, path, body) in [
            ("POST", "/v5/tokens/teams", SDK),
            ("POST", &*format!("/v5/tokens/tasks/{A}"), TOKEN),
            ("GET", "/v5/rooms", ""),
            ("GET", "/v5/rooms/", ""),
            ("GET", "/v5/rooms?beginUUID=0&limit=1", ""),
            ("POST", "/v5/rooms", "{}"),
            ("POST", &format!("/v5/rooms/{A}{EXPORT}"), "{\"uuid\":\"another\"}"),
            ("POST", &format!("/v5/rooms/{A}/export/"), "{}"),
            ("POST", &format!("/v5/rooms/%66{}/export", &A[1..]), "{}"),
            ("POST", &format!("/v5/tokens/rooms/{A}/renew"), TOKEN),
            ("GET", "/v5/room-stats", ""),
        ] {
            let refused = world.call(credential, method, path, body);
            assert_eq!(refused.status, 403, "{why}: {method} {path}: {}", refused.text());
            refused.assert_envelope(403, "forbidden");
        }
    }
    assert_eq!(upstream.received().len(), 0, "what is refused shows the service nothing");
    // And what is as narrow as they are, they have.
    for (why, credential) in world.narrow().iter().chain([&("its own token", own)]) {
        for (path, body) in [
            (format!("/v5/rooms/{A}/preview?x=1"), "{}"),
            (format!("/v5/rooms/{A}/scenes"), "{\"path\":\"/a\",\"scenes\":[]}"),
        ] {
            assert_eq!(world.call(credential, "POST", &path, body).status, 201, "{why}: {path}");
            let expected = (TokenKind::Room, Some(Role::Writer), Some(A.to_owned()));
            assert_eq!(shown(&upstream), expected, "{why}: {path}");
        }
        let other = format!("/v5/rooms/{B}/preview");
        world.call(credential, "POST", &other, "{}").assert_envelope(404, "not_found");
    }
}

#[test]
fn whoever_is_good_for_every_room_has_what_families_say() {
    let upstream = Upstream::json("201 Created", "{}");
    let world = World::new(&upstream, KEYS);
    let whole = world.jwt("everything");
    for (path, body) in [("/v5/rooms", "{}"), (&*format!("/v5/rooms/{A}{EXPORT}"), "{}")] {
        assert_eq!(world.call(&whole, "POST", path, body).status, 201, "{path}");
        assert_eq!(shown(&upstream).0, TokenKind::Sdk, "{path}");
    }
    // But neither SDK tokens nor an added operation that hands out tokens.
    for path in ["/v5/tokens/teams", &*format!("/v5/tokens/rooms/{A}/renew")] {
        world.call(&whole, "POST", path, SDK).assert_envelope(403, "forbidden");
    }
}

#[test]
fn what_is_wide_is_granted_by_its_name() {
    let upstream = Upstream::json("201 Created", "{}");
    let world = World::new(&upstream, KEYS);
    for path in [
        "/v5/rooms".to_owned(),
        format!("/v5/rooms/{A}/export"),
        format!("/v5/tokens/rooms/{A}/renew"),
    ] {
        assert_eq!(world.call(&world.named, "POST", &path, "{}").status, 201, "{path}");
        assert_eq!(shown(&upstream).0, TokenKind::Sdk, "{path}");
    }
    for path in [format!("/v5/rooms/{B}/export"), format!("/v5/tokens/rooms/{B}/renew")] {
        world.call(&world.named, "POST", &path, "{}").assert_envelope(404, "not_found");
    }
}

#[test]
fn where_every_request_shows_an_sdk_token_an_added_operation_is_named() {
    let upstream = Upstream::json("201 Created", "{}");
    let world = World::new(&upstream, "sdk_token = \"NETLESSSDK_console\"");
    for (why, credential) in world.narrow() {
        let preview = format!("/v5/rooms/{A}/preview");
        world.call(&credential, "POST", &preview, "{}").assert_envelope(403, "forbidden");
        assert_eq!(
            world.call(&credential, "GET", &format!("/v5/rooms/{A}"), "").status,
            200,
            "{why}"
        );
        assert_eq!(upstream.received().last().unwrap().header("token"), "NETLESSSDK_console");
    }
}

/// A service that takes no Room token.
fn taking_sdk_tokens() -> Upstream {
    Upstream::scripted(|request, stream| {
        let told = match request.header("token").starts_with("NETLESSSDK_") {
            true => answer("200 OK", "{}"),
            false => answer("401 No", "{\"message\":\"invalid signature of token\"}"),
        };
        stream.write_all(told.as_bytes()).is_ok()
    })
}

#[test]
fn an_sdk_token_takes_the_place_of_a_room_token_for_a_rooms_id_alone() {
    let upstream = taking_sdk_tokens();
    let world = World::new(&upstream, KEYS);
    let whole = world.jwt("everything");
    let get = |path: &str| world.call(&whole, "GET", path, "");
    for room in ["all", "search%3Fx%3D1", &A[1..], &format!("{A}0"), "undefined"] {
        let refused = get(&format!("/v5/rooms/{room}"));
        assert_eq!(refused.member("code"), "upstream_credential", "{room}: {}", refused.text());
        assert_eq!(shown(&upstream).0, TokenKind::Room, "{room}");
    }
    for room in [A, &A.to_uppercase(), "faed3130-7279-11eb-aea3-7759ee91947c"] {
        assert_eq!(get(&format!("/v5/rooms/{room}")).status, 200, "{room}");
        assert_eq!(shown(&upstream), (TokenKind::Sdk, Some(Role::Writer), None), "{room}");
    }
}

#[test]
fn the_query_and_body_of_an_added_operation_meet_no_sdk_token_of_somebody_narrow() {
    let upstream = taking_sdk_tokens();
    let world = World::new(&upstream, KEYS);
    for (why, credential) in world.narrow() {
        // For its own room, by an operation whose query and body are known.
        assert_eq!(
            world.call(&credential, "GET", &format!("/v5/rooms/{A}"), "").status,
            200,
            "{why}"
        );
        let before = upstream.received().len();
        let refused =
            world.call(&credential, "POST", &format!("/v5/rooms/{A}/preview?x={B}"), "{}");
        assert_eq!(refused.member("code"), "upstream_credential", "{why}: {}", refused.text());
        for request in &upstream.received()[before..] {
            assert!(!request.header("token").starts_with("NETLESSSDK_"), "{why}: {request:?}");
        }
    }
    let whole = world.jwt("everything");
    assert_eq!(world.call(&whole, "POST", &format!("/v5/rooms/{A}/preview"), "{}").status, 201);
}

#[test]
fn another_spelling_of_a_room_opens_no_more() {
    let upstream = Upstream::json("200 OK", "{}");
    let world = World::new(&upstream, KEYS);
    let own = world.call(&world.listed, "POST", &format!("/v5/tokens/rooms/{A}"), TOKEN);
    let own: String = serde_json::from_slice(&own.body).unwrap();
    let mut all = world.narrow();
    all.push(("its own token", own));
    for (why, credential) in all {
        for other in
            [A.to_uppercase(), "faed3130-7279-11eb-aea3-7759ee91947c".to_owned(), format!("{A}%20")]
        {
            let refused = world.call(&credential, "GET", &format!("/v5/rooms/{other}"), "");
            refused.assert_envelope(404, "not_found");
        }
        let encoded: String = A.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = world.call(&credential, "GET", &format!("/v5/rooms/{encoded}/"), "");
        assert_eq!(answer.status, 200, "{why}: {}", answer.text());
        assert_eq!(shown(&upstream).2.as_deref(), Some(A), "{why}");
    }
}

#[test]
fn check_refuses_sdk_tokens_beside_rooms_that_are_not_all_of_them() {
    for rooms in ["[\"a\"]", "{ claim = \"wb_rooms\" }"] {
        let setup = Setup::new("http://127.0.0.1:9").with(&format!(
            "[profiles.claimed]\nproject = \"classroom\"\nallow = [\"rooms.get\", \"tokens.sdk\"]\nrooms = {rooms}\n"
        ));
        let output = finished(setup.command("check"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("`profiles.claimed.allow[1]` needs rooms = \"any\""), "{said}");
    }
}

#[test]
fn a_whiteboard_token_mints_no_others_and_the_refusal_says_so() {
    let upstream = Upstream::json("200 OK", "{}");
    let world = World::new(&upstream, KEYS);
    let own = world.call(&world.listed, "POST", &format!("/v5/tokens/rooms/{A}"), TOKEN);
    let own: String = serde_json::from_slice(&own.body).unwrap();
    let refused = world.call(&own, "POST", &format!("/v5/tokens/rooms/{A}"), TOKEN);
    refused.assert_envelope(403, "forbidden");
    let body: Value = refused.json();
    assert_eq!(body["rule"], "profiles.whole.allow");
    assert!(refused.member("message").contains("a whiteboard token mints no others"));
}
