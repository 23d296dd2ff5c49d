//! The last look is after the last wait: what ends while a token waits for its record, or for what it
//! is paid with, hands out nothing, and whoever is still allowed pays once.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::budgets::{NOWHERE, READER, ROOM, number, used};
use crate::support::{Answer, Client, Process, Redis, Setup, Slow, Upstream, answer, wait_until};

/// As much as a pipe holds.
const PIPE: usize = 64 * 1024;

/// An audit that takes no record until it is read.
struct Pipe(File);

impl Pipe {
    fn full(folder: &Path) -> Self {
        let path = folder.join("audit");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // For both, so that it is open for whoever writes, and stays so.
        let mut pipe = OpenOptions::new().read(true).write(true).open(path).unwrap();
        pipe.write_all(&[b'\n'; PIPE]).unwrap();
        Self(pipe)
    }

    /// Reads it from now on; what comes.
    fn read(self) -> Arc<Mutex<Vec<String>>> {
        let records = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&records);
        thread::spawn(move || {
            let lines = BufReader::new(self.0).lines().map_while(Result::ok);
            lines.filter(|line| !line.is_empty()).for_each(|line| read.lock().unwrap().push(line));
        });
        records
    }
}

/// What the callers share: five tokens.
const BUDGET: &str =
    "budgets = [{ of = \"tokens\", most = 5, per = \"month\", for = \"profile\" }]\n";

/// What each of them has.
const LIMIT: &str = "limit = { rate = \"1/h\", burst = 9 }\n";

/// A gateway in the making on one worker, whose callers pay in these.
fn paid(upstream: &str, with: &[&str]) -> Setup {
    Setup::new(upstream)
        .set("listen.workers", 1)
        .with(&format!("[profiles.backend]\n{}", with.concat()))
}

/// Asks for a token, and does not wait for it.
fn asks(gateway: &Process, key: &str) -> Client {
    let mut client = gateway.client();
    let length = READER.len();
    let head = format!("host: g\r\ntoken: {key}\r\ncontent-length: {length}");
    client.send(format!("POST {ROOM} HTTP/1.1\r\n{head}\r\n\r\n{READER}").as_bytes());
    client
}

/// What whoever is gone gets, and whoever stays and pays once.
#[track_caller]
fn assert_one_is_served([gone, stays]: [Client; 2]) -> Answer {
    let [gone, stays] = [gone, stays].map(|mut client| client.answer("POST").unwrap());
    gone.assert_envelope(401, "invalid_token");
    assert!(!gone.text().contains("NETLESS"), "{}", gone.text());
    assert_eq!(stays.status, 201, "{}", stays.text());
    let left = number(stays.header("ratelimit"), "caller", "r");
    assert!(left.is_none_or(|left| left == 8), "{left:?}");
    stays
}

/// Has two ask for tokens whose records are not taken until one of them is no caller any more.
fn while_the_record_waits(setup: Setup, is_asked: impl Fn() -> bool) {
    let pipe = Pipe::full(setup.folder.path());
    let mut setup = setup
        .with("[audit]\nfile = \"./audit\"\nmode = \"required\"\n")
        .with("[budgets]\nfile = \"./budgets.db\"\n");
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let clients = [&other, &gateway.key].map(|key| asks(&gateway, key));
    wait_until("both are on their way", || used(&gateway, "tokens") == (0, 2) && is_asked());
    gateway.reload(&before);
    let records = pipe.read();
    let stays = assert_one_is_served(clients);
    wait_until("what came to nothing is given back", || used(&gateway, "tokens") == (1, 0));
    // That a token was made for whoever is gone is on record.
    let says = |part: &str| records.lock().unwrap().iter().any(|record| record.contains(part));
    wait_until("both are on record", || {
        says("\"caller\":\"other\"") && says(stays.header("x-request-id"))
    });
}

#[test]
fn a_key_that_is_deleted_while_its_record_is_written_gets_no_token() {
    while_the_record_waits(paid(NOWHERE, &[LIMIT, BUDGET]), || true);
}

#[test]
fn nor_does_it_get_one_that_the_service_has_minted() {
    let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let mint = |kind, uuid| {
        let minted = key.mint(
            TokenFields { kind, role: "0", uuid, lifespan_ms: 0, nonce: "n".to_owned() },
            1_000,
        );
        minted.token.expose().to_owned()
    };
    let (fixed, minted) = (mint(TokenKind::Sdk, None), mint(TokenKind::Room, Some("r")));
    let upstream = Upstream::scripted(move |_, stream| {
        stream.write_all(answer("201 Created", &format!("\"{minted}\"")).as_bytes()).is_ok()
    });
    let setup = paid(&upstream.url(), &[LIMIT, BUDGET])
        .with_sdk_token(&fixed)
        .take_out("profiles.backend.allow", "tokens.sdk");
    while_the_record_waits(setup, || upstream.received().len() == 2);
}

/// Has two ask for tokens, which a store holds up until one of them is no caller any more.
fn while_the_store_waits(pays_in: &str) -> (Process, Redis) {
    let redis = Redis::start();
    let slow = Slow::before(&redis);
    let url = format!("url = \"redis://{}\"", slow.address);
    let mut setup = paid(NOWHERE, &[pays_in])
        .with(&format!("[store]\n{url}\ntimeout = \"5s\"\nlease = false\n"));
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    // It is known from here on.
    wait_until("the store answers", || gateway.admin("/readyz").json()["store"]["answers"] == true);
    slow.hold();
    let clients = [&other, &gateway.key].map(|key| asks(&gateway, key));
    wait_until("the store has taken it", || redis.ask(&["DBSIZE"]).trim() != ":0");
    gateway.reload(&before);
    slow.delay(Duration::ZERO);
    assert_one_is_served(clients);
    if pays_in == BUDGET {
        wait_until("what came to nothing is given back", || used(&gateway, "tokens") == (1, 0));
    }
    (gateway, redis)
}

#[test]
fn a_key_that_is_deleted_while_a_slow_store_takes_its_budget_gets_no_token() {
    while_the_store_waits(BUDGET);
}

#[test]
fn nor_does_one_while_a_slow_store_takes_its_limit() {
    let (gateway, _redis) = while_the_store_waits(LIMIT);
    let left = asks(&gateway, &gateway.key).answer("POST").unwrap();
    assert_eq!(number(left.header("ratelimit"), "caller", "r"), Some(7));
}
