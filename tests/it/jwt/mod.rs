//! Callers who prove themselves with a JWT of an identity provider, through the built binary.

mod guide;
mod hostile;
mod provider;
mod reading;
mod throttle;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use whiteboard_gateway::token::Claims;

use crate::support::{
    AUDIENCE, Answer, Client, Issuer, Process, Setup, Signer, Upstream, binary, claims, jwks,
    replace, wait_until,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Whose keys are in a file.
const SCHOOL: &str = "https://idp.example.org";

/// What a student may do: its own rooms, by a claim.
const STUDENT: &str = "[profiles.student]\nproject = \"classroom\"\nrole = \"writer\"\n\
                       allow = [\"rooms.get\", \"tokens.room\"]\nrooms = { claim = \"rooms\" }\n";

/// A gateway whose issuer `school` has this key in a file.
struct School {
    gateway: Process,
    signer: Arc<Signer>,
}

impl School {
    /// `more` are lines of the issuer, and what else there is.
    fn with(more: &str) -> Self {
        Self::of(Setup::new(&Upstream::json("200 OK", "{}").url()), more)
    }

    fn of(setup: Setup, more: &str) -> Self {
        let signer = Arc::new(Signer::es256("a"));
        fs::write(setup.folder.path().join("keys.json"), jwks(&[signer.jwk()])).unwrap();
        let issuer = section("school", SCHOOL, "key_file = \"keys.json\"", more);
        Self { gateway: setup.with(STUDENT).with(&issuer).start(), signer }
    }

    fn token(&self, changes: &Value) -> String {
        self.signer.token(&claims(SCHOOL, changes))
    }

    /// A request with a token of these claims, on a connection of its own.
    fn call(&self, changes: &Value, method: &str, path: &str, body: &str) -> Answer {
        self.gateway.client().call(&self.token(changes), method, path, body)
    }

    fn get(&self, changes: &Value, room: &str) -> Answer {
        self.call(changes, "GET", &format!("/v5/rooms/{room}"), "")
    }

    /// What only the log is told of a request.
    fn detail(&self, answer: &Answer) -> String {
        let line = self.gateway.access_line(answer.header("x-request-id"));
        line["detail"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn section(name: &str, issuer: &str, keys: &str, more: &str) -> String {
    format!("[issuers.{name}]\nissuer = \"{issuer}\"\naudience = \"{AUDIENCE}\"\n{keys}\n{more}\n")
}

#[test]
fn a_token_signs_in_wherever_its_keys_come_from() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let folder = setup.folder.path().to_owned();
    let [es, ed, rs] =
        [Signer::es256("es"), Signer::ed25519("ed"), Signer::rs256("rs")].map(Arc::new);
    let by_url = Issuer::serving(&[Arc::clone(&es)]);
    let by_discovery = Issuer::serving(&[Arc::clone(&ed)]);
    fs::write(folder.join("idp.pem"), rs.pem()).unwrap();
    let profile = "profile = \"backend\"";
    let gateway = setup
        .with(&by_url.section("url", &folder, profile))
        .with(&by_discovery.discovered("discovery", &folder, profile))
        .with(&section("file", "https://file.example", "key_file = \"idp.pem\"", profile))
        .with(&section("shared", "lessons", &format!("secret = \"{SECRET}\""), profile))
        .start();
    for (issuer, signer, name) in [
        (by_url.url(), &es, "url/ada"),
        (by_discovery.url(), &ed, "discovery/ada"),
        ("https://file.example", &rs, "file/ada"),
        ("lessons", &Arc::new(Signer::hs256("any", SECRET)), "shared/ada"),
    ] {
        let token = signer.token(&claims(issuer, &json!({})));
        let bearer = format!("Bearer {token}");
        for header in [
            ("authorization", bearer.as_str()),
            ("token", token.as_str()),
            ("x-api-key", token.as_str()),
        ] {
            let answer = gateway.client().request("GET", "/v5/rooms/r", &[header], "");
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            let line = gateway.access_line(answer.header("x-request-id"));
            assert_eq!(line["caller"], name);
        }
    }
    for request in upstream.received() {
        assert!(Claims::read(request.header("token")).is_ok(), "{request:?}");
    }
    assert!(!gateway.stdout().contains("eyJ") && !gateway.stderr().contains("eyJ"));
}

#[test]
fn the_profile_is_that_of_the_first_entry_which_the_claim_holds() {
    let school = School::with(
        "profile = { claim = \"realm_access.roles\", map = { teacher = \"backend\", pupil = \"student\" } }",
    );
    let create = |roles: Value| {
        let claims = json!({"realm_access": {"roles": roles}, "rooms": ["r"]});
        school.call(&claims, "POST", "/v5/rooms", "{}")
    };
    assert_eq!(create(json!("teacher")).status, 201);
    assert_eq!(create(json!(["pupil", "teacher"])).status, 201);
    let answer = create(json!(["pupil"]));
    answer.assert_envelope(403, "forbidden");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.contains("scope=\"rooms.create\""), "{challenge}");
    for roles in [json!([]), json!(null), json!(["Teacher", "backend"])] {
        create(roles).assert_envelope(403, "forbidden");
    }
    school.call(&json!({}), "POST", "/v5/rooms", "{}").assert_envelope(403, "forbidden");
    let answer = create(json!(7));
    answer.assert_envelope(403, "forbidden");
    assert!(!answer.text().contains("realm_access"), "{}", answer.text());
    let told = "the claim `realm_access.roles` holds a number, and a string or an array";
    assert!(school.detail(&answer).contains(told), "{}", school.detail(&answer));
}

#[test]
fn rooms_are_those_that_the_claim_of_the_profile_names() {
    let school = School::with("profile = \"student\"");
    let rooms = json!({"rooms": ["a", "b"]});
    assert_eq!(school.get(&rooms, "a").status, 200);
    assert_eq!(school.get(&json!({"rooms": "b"}), "b").status, 200);
    school.get(&rooms, "c").assert_envelope(404, "not_found");
    school.get(&json!({"rooms": ["any"]}), "a").assert_envelope(404, "not_found");
    school.get(&json!({}), "a").assert_envelope(404, "not_found");
    school.get(&json!({"rooms": [7]}), "a").assert_envelope(403, "forbidden");
    school.get(&json!({"rooms": ["a/b"]}), "a").assert_envelope(403, "forbidden");
    let list = school.call(&rooms, "GET", "/v5/rooms", "");
    list.assert_envelope(403, "forbidden");
}

#[test]
fn rooms_of_the_issuer_are_within_those_of_the_profile() {
    let school = School::with("profile = \"backend\"\nrooms = { claim = \"wb.rooms\" }");
    let rooms = json!({"wb": {"rooms": ["a"]}});
    assert_eq!(school.get(&rooms, "a").status, 200);
    school.get(&rooms, "b").assert_envelope(404, "not_found");
    school.get(&json!({"wb": {}}), "a").assert_envelope(404, "not_found");
    // Whose rooms are not all of them does nothing beyond rooms by a wildcard.
    school.call(&rooms, "POST", "/v5/rooms", "{}").assert_envelope(403, "forbidden");
    let both = School::with("profile = \"student\"\nrooms = [\"a\", \"b\"]");
    let named = json!({"rooms": ["b", "c"]});
    assert_eq!(both.get(&named, "b").status, 200);
    both.get(&named, "a").assert_envelope(404, "not_found");
    both.get(&named, "c").assert_envelope(404, "not_found");
}

#[test]
fn a_claim_caps_the_role_and_the_life_of_tokens() {
    let school = School::with(
        "profile = \"student\"\nrole = { claim = \"wb_role\" }\nmax_lifespan = { claim = \"wb_life\" }",
    );
    let mint = |role: Value, life: Value, asked: &str, lifespan: i64| {
        let claims = json!({"rooms": "r", "wb_role": role, "wb_life": life});
        let body = json!({"role": asked, "lifespan": lifespan}).to_string();
        school.call(&claims, "POST", "/v5/tokens/rooms/r", &body)
    };
    let answer = mint(json!("reader"), json!(60), "reader", 0);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("whiteboard-granted"), "role=reader; lifespan=60000");
    let token: String = serde_json::from_slice(&answer.body).unwrap();
    let minted = Claims::read(&token).unwrap();
    assert_eq!((minted.role_digit(), minted.uuid()), ("2", Some("r")));
    let left: i64 = minted.expire_at().unwrap().parse::<i64>().unwrap()
        - jiff::Timestamp::now().as_millisecond();
    assert!((1..=60_000).contains(&left), "{left}");
    mint(json!("reader"), json!(60), "writer", 1000).assert_envelope(403, "forbidden");
    assert_eq!(mint(json!("writer"), json!(60), "writer", 1000).status, 201);
    // No claim raises what the profile caps.
    mint(json!("admin"), json!(60), "admin", 1000).assert_envelope(403, "forbidden");
    let answer = mint(json!("admin"), json!(86_400), "writer", 0);
    assert_eq!(answer.header("whiteboard-granted"), "role=writer; lifespan=3600000");
    // What is missing grants nothing; what is of another type is refused.
    for (role, life) in [
        (json!(null), json!(60)),
        (json!("writer"), json!(null)),
        (json!("owner"), json!(60)),
        (json!("writer"), json!(0)),
        (json!("writer"), json!("60")),
        (json!(["writer", "reader"]), json!(60)),
    ] {
        let answer = mint(role.clone(), life.clone(), "reader", 1000);
        assert_eq!(answer.status, 403, "{role} {life}: {}", answer.text());
        answer.assert_envelope(403, "forbidden");
    }
}

#[test]
fn each_subject_has_a_limit_of_its_own() {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
        .with("[profiles.backend]\nlimit = { rate = \"2/h\" }\n");
    let school = School::of(setup, "profile = \"backend\"\ncaller = { claim = \"oid\" }");
    let call = |oid: &str| school.get(&json!({"oid": oid, "jti": oid}), "r");
    assert_eq!([call("one").status, call("one").status], [200, 200]);
    let answer = call("one");
    answer.assert_envelope(403, "rate_limited");
    assert!(answer.has("retry-after"), "{:?}", answer.headers);
    let line = school.gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["caller"], "school/one");
    assert_eq!(call("two").status, 200);
    assert_eq!(school.gateway.call("GET", "/v5/rooms/r", "").status, 200);
    // A caller without the id that it is to be known by is nobody.
    school.get(&json!({}), "r").assert_envelope(403, "forbidden");
}

#[test]
fn an_expired_token_is_told_so_and_any_other_only_that_it_is_not_accepted() {
    let school = School::with("profile = \"backend\"");
    let now = jiff::Timestamp::now().as_second();
    let expired = school.get(&json!({"iat": now - 700, "exp": now - 100}), "r");
    expired.assert_envelope(401, "expired_token");
    let challenge = expired.header("www-authenticate");
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert!(challenge.contains("error_description=\"the token has expired\""), "{challenge}");
    let other = Signer::es256("a");
    let good = school.token(&json!({}));
    for (token, why) in [
        (school.token(&json!({"aud": "other"})), "the token is for another audience"),
        (school.token(&json!({"iss": "https://evil.example"})), "no issuer is named"),
        (other.token(&claims(SCHOOL, &json!({}))), "the signature does not hold"),
        (Signer::hs256("a", SECRET).token(&claims(SCHOOL, &json!({}))), "`HS256` is not one of"),
        (Signer::es256("b").token(&claims(SCHOOL, &json!({}))), "no key has the id `b`"),
        (
            other.token(&claims(SCHOOL, &json!({"iat": now - 700, "exp": now - 100}))),
            "the signature does not hold",
        ),
    ] {
        let answer = school.gateway.client().call(&token, "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "invalid_token");
        assert_eq!(answer.member("message"), "the token is not accepted here");
        assert!(school.detail(&answer).contains(why), "{why}: {}", school.detail(&answer));
    }
    assert_eq!(school.gateway.client().call(&good, "GET", "/v5/rooms/r", "").status, 200);
}

#[test]
fn a_file_of_keys_is_read_again_when_it_changes() {
    let school = School::with("profile = \"backend\"");
    let old = school.token(&json!({}));
    let status = |token: &str| school.gateway.client().call(token, "GET", "/v5/rooms/r", "").status;
    assert_eq!(status(&old), 200);
    let next = Signer::es256("b");
    replace(&school.gateway.folder.path().join("keys.json"), &jwks(&[next.jwk()]));
    let new = next.token(&claims(SCHOOL, &json!({})));
    let said = |text| school.gateway.stderr().contains(text);
    wait_until("the file is read", || said("the configuration was reloaded"));
    assert_eq!(status(&new), 200);
    assert_eq!(status(&old), 401, "what was verified with the old keys is forgotten");
    // What is no key set leaves the old one.
    replace(&school.gateway.folder.path().join("keys.json"), "{}");
    wait_until("the file is looked at", || said("the configuration was not reloaded"));
    assert_eq!(status(&new), 200);
}

#[test]
fn check_says_what_is_wrong_with_an_issuer() {
    let setup = Setup::new("http://127.0.0.1:9").with(STUDENT).with(&section(
        "school",
        SCHOOL,
        "key_file = \"keys.json\"",
        "profile = \"studend\"",
    ));
    setup.write();
    let check = || {
        let mut command = Command::new(binary());
        command.args(["check", "--config"]).arg(setup.path());
        command.env("CLASSROOM_SK", "sandbox-secret-key").output().unwrap()
    };
    let ran = check();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("`issuers.school.key_file` names a file that cannot be read"), "{said}");
    assert!(said.contains("names no profile: did you mean \"student\"?"), "{said}");
    fs::write(setup.folder.path().join("keys.json"), "{\"keys\":[]}").unwrap();
    let said = String::from_utf8(check().stderr).unwrap();
    assert!(
        said.contains("`issuers.school` cannot be used: the file of keys: the key set is empty"),
        "{said}"
    );
}

/// The status of a request with this token, on this connection.
fn status(client: &mut Client, token: &str) -> u16 {
    client.call(token, "GET", "/v5/rooms/r", "").status
}
