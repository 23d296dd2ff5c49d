//! What `policy test` says of a request is what the gateway does with it, whatever the configuration.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::{AUDIENCE, Answer, Client, Setup, Signer, Upstream, binary, claims, finished};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ROOMS: [&str; 3] =
    ["faed3130727911ebaea37759ee91947c", "d07bcaf0a17911ea9d7e23232cddf42d", "a1b2"];

/// Numbers that are the same in each run (Numerical Recipes' generator).
struct Dice(u32);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % most
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn some(&mut self, all: &[&str]) -> Vec<String> {
        let chosen = all.iter().filter(|_| self.below(2) == 0);
        chosen.map(|one| format!("\"{one}\"")).collect()
    }
}

const FAMILIES: [&str; 6] =
    ["rooms.*", "scenes.*", "screenshots.*", "conversions.*", "legacy_conversions.*", "tokens.*"];
const NAMES: [&str; 8] = [
    "rooms.get",
    "rooms.create",
    "rooms.export",
    "tokens.room",
    "tokens.renew",
    "scenes.list",
    "conversions.get",
    "conversions.start",
];
/// What takes `rooms = "any"`.
const WIDE: [&str; 3] = ["tokens.sdk", "tokens.task", "rooms.list"];

const ADDED: &str = r#"
[[operations]]
name = "rooms.export"
method = "POST"
path = "/v5/rooms/{uuid}/export"
token = "sdk"
role = "reader"
target = "room"
[[operations]]
name = "tokens.renew"
method = "POST"
path = "/v5/tokens/rooms/{uuid}/renew"
token = "room"
role = "reader"
target = "room"
"#;

/// Requests that are right but for who may do them.
const REQUESTS: [(&str, &str, &str); 21] = [
    ("POST", "/v5/tokens/teams", TOKEN),
    ("POST", "/v5/tokens/rooms/{uuid}", TOKEN),
    ("POST", "/v5/tokens/tasks/{uuid}", TOKEN),
    ("POST", "/v5/rooms", "{}"),
    ("GET", "/v5/rooms", ""),
    ("GET", "/v5/rooms/{uuid}", ""),
    ("PATCH", "/v5/rooms/{uuid}", r#"{"isBan":true}"#),
    ("POST", "/v5/rooms/{uuid}/screenshots", r#"{"width":1,"height":1,"path":"/a"}"#),
    ("GET", "/v5/rooms/{uuid}/scenes", ""),
    ("PATCH", "/v5/rooms/{uuid}/scene-state", r#"{"scenePath":"/a"}"#),
    ("POST", "/v5/projector/tasks", r#"{"resource":"https://a/b","type":"static"}"#),
    ("GET", "/v5/projector/tasks", ""),
    ("GET", "/v5/projector/tasks/{uuid}", ""),
    ("DELETE", "/v5/projector/tasks/{uuid}", ""),
    ("PUT", "/v5/projector/tasks/{uuid}/priority", r#"{"priority":"highest"}"#),
    ("POST", "/v5/services/conversion/tasks", r#"{"resource":"https://a/b","type":"static"}"#),
    ("GET", "/v5/services/conversion/tasks/{uuid}?type=static", ""),
    ("POST", "/v5/rooms/{uuid}/export", "{}"),
    ("POST", "/v5/tokens/rooms/{uuid}/renew", "{}"),
    ("PUT", "/v5/rooms/{uuid}", ""),
    ("GET", "/v5/nothing", ""),
];
const TOKEN: &str = "TOKEN";

/// A configuration, and the key of each of its callers.
fn setup(dice: &mut Dice, upstream: &Upstream) -> (Setup, Vec<(String, String)>) {
    let mut setup = Setup::new(&upstream.url());
    if dice.one(&["keys", "keys", "SDK token"]) == "SDK token" {
        setup = setup.with_sdk_token("NETLESSSDK_console");
    }
    let mut callers = Vec::new();
    for name in ["one", "two", "three"] {
        let rooms = [
            "\"any\"",
            "\"any\"",
            "[\"faed3130727911ebaea37759ee91947c\"]",
            "{ claim = \"rooms\" }",
        ];
        let rooms = dice.one(&rooms);
        let mut allow = dice.some(&FAMILIES);
        allow.extend(dice.some(&NAMES));
        if rooms == "\"any\"" {
            allow.extend(dice.some(&WIDE));
        }
        let over = dice.one(&["clamp", "refuse"]);
        let profile = format!(
            "allow = [{}]\nrooms = {rooms}\nrole = \"{}\"\nmax_lifespan = \"{}\"\n\
             over_cap = {{ role = \"{over}\", lifespan = \"{over}\" }}",
            allow.join(", "),
            dice.one(&["admin", "writer", "reader"]),
            dice.one(&["1h", "2h", "permanent"]),
        );
        let key = setup.caller(name, &profile);
        callers.push((name.to_owned(), key));
        let rooms = dice.one(&["", "rooms = { claim = \"rooms\" }\n"]);
        let role = dice.one(&["", "role = \"writer\"\n", "role = { claim = \"wb_role\" }\n"]);
        setup = setup.with(&format!(
            "[issuers.of-{name}]\nissuer = \"of-{name}\"\naudience = \"{AUDIENCE}\"\n\
             secret = \"{SECRET}\"\nprofile = \"{name}\"\n{rooms}{role}"
        ));
    }
    (setup.with(ADDED).set("operations.0.token", dice.one(&["sdk", "room"])), callers)
}

/// A case of `policy test`: who asks, what for, and what the gateway said.
fn case(
    dice: &mut Dice,
    client: &mut Client,
    callers: &[(String, String)],
) -> (String, &'static str) {
    let (name, key) = &callers[dice.below(callers.len())];
    let (method, path, body) = REQUESTS[dice.below(REQUESTS.len())];
    let path = path.replace("{uuid}", dice.one(&ROOMS));
    let role = dice.one(&["admin", "writer", "reader"]);
    let lifespan = dice.one(&["0", "1m", "90m"]);
    let millis = [("0", 0), ("1m", 60_000), ("90m", 5_400_000)];
    let millis = millis.iter().find(|(text, _)| *text == lifespan).unwrap().1;
    let asked = json!({ "role": role, "lifespan": millis }).to_string();
    let body = if body == TOKEN { &asked } else { body };
    let signed =
        json!({ "rooms": [ROOMS[dice.below(3)]], "wb_role": dice.one(&["admin", "reader"]) });
    let (who, credential) = if dice.below(2) == 0 {
        (format!("caller = \"{name}\""), key.clone())
    } else {
        let issuer = format!("of-{name}");
        let token = Signer::hs256("any", SECRET).token(&claims(&issuer, &signed));
        let told = format!(
            "issuer = \"{issuer}\"\nclaims = {{ sub = \"ada\", rooms = {}, wb_role = {} }}",
            signed["rooms"], signed["wb_role"]
        );
        (told, token)
    };
    let answer: Answer = client.request(method, &path, &[("token", &credential)], body);
    let (expected, kind) = match answer.status {
        200 | 201 => ("allow".to_owned(), "granted"),
        _ => (answer.member("code"), "refused"),
    };
    let mut case = format!(
        "[[case]]\n{who}\nrequest = \"{method} {path}\"\nrole = \"{role}\"\n\
         lifespan = \"{lifespan}\"\nexpect = \"{expected}\"\n"
    );
    if kind == "refused"
        && let Some(rule) = answer.json()["rule"].as_str()
    {
        writeln!(case, "rule = \"{rule}\"").unwrap();
    }
    let granted = answer.header("whiteboard-granted");
    if !granted.is_empty() {
        writeln!(case, "grant = \"{granted}\"").unwrap();
    }
    (case, kind)
}

#[test]
fn the_explanation_is_what_the_gateway_does() {
    let upstream = Upstream::json("200 OK", "{}");
    let (mut granted, mut refused) = (0, 0);
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let (setup, callers) = setup(&mut dice, &upstream);
        let gateway = setup.start();
        let (mut client, mut cases) = (gateway.client(), String::new());
        for _ in 0..300 {
            let (case, kind) = case(&mut dice, &mut client, &callers);
            *(if kind == "granted" { &mut granted } else { &mut refused }) += 1;
            cases.push_str(&case);
        }
        let file = gateway.folder.path().join("expectations.toml");
        fs::write(&file, cases).unwrap();
        let mut command = Command::new(binary());
        command.args(["policy", "test"]).arg(&file).arg("--config").arg(gateway.config_path());
        command.env("CLASSROOM_SK", "sandbox-secret-key");
        let output = finished(command);
        let told =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        let config = fs::read_to_string(gateway.config_path()).unwrap();
        assert_eq!(output.status.code(), Some(0), "seed {seed}\n{config}\n{told}");
    }
    assert!(granted > 400 && refused > 400, "{granted} granted, {refused} refused");
}

#[test]
fn a_name_that_is_nearly_right_is_told_what_was_meant() {
    let setup = Setup::new("http://127.0.0.1:1").with(&format!(
        "[issuers.school]\nissuer = \"school\"\naudience = \"{AUDIENCE}\"\nsecret = \"{SECRET}\"\n\
         profile = \"backend\"\n"
    ));
    let folder = setup.folder.path().to_owned();
    fs::write(folder.join("claims.json"), r#"{"sub":"ada"}"#).unwrap();
    for (who, meant) in [
        (&["--caller", "lesson"][..], "did you mean `lessons`?"),
        (&["--caller", "nobody"], "there are lessons"),
        (&["--issuer", "shcool", "--claims", "claims.json"], "did you mean `school`?"),
    ] {
        setup.write();
        let mut explain = Command::new(binary());
        explain.args(["policy", "explain", "GET", "/v5/rooms", "--config", "gateway.toml"]);
        explain.args(who).current_dir(&folder).env("CLASSROOM_SK", "sk");
        let output = finished(explain);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{who:?}: {said}");
        assert!(said.contains(meant), "{who:?}: {said}");
    }
}
