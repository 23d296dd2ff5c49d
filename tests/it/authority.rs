//! Authority is that of the moment of the effect: what ends while a request waits for its body, for
//! a retry, for a connection or for the rest of an upload does not count any more.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::faults::Shown;
use crate::support::faulty::{Fault, Faulty, Then};
use crate::support::{
    Answer, Authority, Client, Configuration, Issuer, Process, Setup, Signer, TlsClient, Upstream,
    answer, claims, jwks, value, wait_until,
};

const ROOM: &str = "/v5/rooms/r";

/// What is done by a request with a body: a token is minted here, a room is closed at the service.
const EFFECTS: [(&str, &str); 2] = [
    ("POST /v5/tokens/rooms/r", r#"{"role":"admin","lifespan":600000}"#),
    ("PATCH /v5/rooms/r", r#"{"isBan":true}"#),
];

/// The configuration as it stands.
fn text(gateway: &Process) -> String {
    fs::read_to_string(gateway.config_path()).unwrap()
}

/// Begins each effect with a credential, lets something happen, and then sends the bodies.
fn meanwhile<T: Read + Write>(
    mut connect: impl FnMut() -> Client<T>,
    credential: &[(&str, &str)],
    happens: impl FnOnce(),
) -> [Answer; 2] {
    let begun = EFFECTS.map(|(line, body)| {
        let mut client = connect();
        client.announce(line, credential, body.len());
        (client, line, body)
    });
    happens();
    begun.map(|(mut client, line, body)| {
        client.send(body.as_bytes());
        client.answer(line.split(' ').next().unwrap()).unwrap()
    })
}

#[track_caller]
fn all_refused(answers: &[Answer], code: &str, upstream: &Upstream) {
    for answer in answers {
        answer.assert_envelope(401, code);
        assert!(!answer.text().contains("NETLESS"), "{}", answer.text());
    }
    let sent = upstream.received();
    assert!(sent.iter().all(|request| !request.line.starts_with("PATCH")), "{sent:?}");
}

/// A gateway with a caller `other` that is about to go.
fn with_other(upstream: &Upstream) -> (Process, String, Configuration) {
    let mut setup = Setup::new(&upstream.url());
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    (setup.start(), other, before)
}

#[test]
fn a_key_that_is_deleted_while_its_body_is_awaited_gets_nothing() {
    let upstream = Upstream::json("200 OK", "{}");
    let (gateway, other, before) = with_other(&upstream);
    let credential = [("token", other.as_str())];
    let answers = meanwhile(|| gateway.client(), &credential, || gateway.reload(&before));
    all_refused(&answers, "invalid_token", &upstream);
    let line = gateway.access_line(answers[0].header("x-request-id"));
    assert!(line["caller"].is_null(), "{line}");
}

#[test]
fn a_key_whose_grace_ends_while_its_body_is_awaited_gets_nothing() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let old = setup.key.clone();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let gateway = setup.set("callers.lessons.keys.0.until", until.to_string()).start();
    let credential = [("token", old.as_str())];
    let over = || gateway.call("GET", ROOM, "").status == 401;
    let answers =
        meanwhile(|| gateway.client(), &credential, || wait_until("its grace is over", over));
    all_refused(&answers, "expired_token", &upstream);
}

/// A gateway with an issuer whose key is in a file.
fn school(upstream: &Upstream) -> (Process, Arc<Signer>) {
    let (setup, signer) = (Setup::new(&upstream.url()), Arc::new(Signer::es256("a")));
    fs::write(setup.folder.path().join("keys.json"), jwks(&[signer.jwk()])).unwrap();
    let issuer = "[issuers.school]\nissuer = \"https://idp.example\"\naudience = \"whiteboard\"\n\
                  key_file = \"keys.json\"\nleeway = \"1s\"\n\
                  profile = { claim = \"role\", map = { teacher = \"backend\" } }\n";
    (setup.with(issuer).start(), signer)
}

fn signed(signer: &Signer, changes: &Value) -> String {
    signer.token(&claims("https://idp.example", changes))
}

#[test]
fn a_jwt_that_ends_while_its_body_is_awaited_gets_nothing() {
    let upstream = Upstream::json("200 OK", "{}");
    let (gateway, signer) = school(&upstream);
    let end = jiff::Timestamp::now().as_second() + 2;
    let token = signed(&signer, &json!({"role": "teacher", "exp": end}));
    let credential = [("token", token.as_str())];
    let over = || gateway.client().request("GET", ROOM, &credential, "").status == 401;
    let answers = meanwhile(|| gateway.client(), &credential, || wait_until("it ends", over));
    all_refused(&answers, "expired_token", &upstream);
}

#[test]
fn a_jwt_within_its_leeway_is_taken_as_long_as_it_waits() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let signer = Signer::es256("a");
    fs::write(setup.folder.path().join("keys.json"), jwks(&[signer.jwk()])).unwrap();
    let issuer = "[issuers.school]\nissuer = \"https://idp.example\"\naudience = \"whiteboard\"\n\
                  key_file = \"keys.json\"\nleeway = \"60s\"\nprofile = \"backend\"\n";
    let gateway = setup.with(issuer).start();
    let end = jiff::Timestamp::now().as_second() - 5;
    let token = signed(&signer, &json!({"exp": end, "iat": end - 60}));
    let answers = meanwhile(|| gateway.client(), &[("token", &token)], || ());
    assert_eq!(answers.map(|answer| answer.status), [201, 201]);
}

#[test]
fn a_jwt_whose_key_is_withdrawn_while_its_body_is_awaited_gets_nothing() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let [gone, new] = ["gone", "new"].map(|id| Arc::new(Signer::es256(id)));
    let issuer = Issuer::serving(&[Arc::clone(&gone)]);
    let section = issuer.section("idp", setup.folder.path(), "profile = \"backend\"");
    let gateway = setup.with(&section).start();
    let token = gone.token(&issuer.claims(&json!({})));
    let answers = meanwhile(
        || gateway.client(),
        &[("token", &token)],
        || {
            issuer.publish(&[Arc::clone(&new)]);
            let token = new.token(&issuer.claims(&json!({})));
            let known = || gateway.client().request("GET", ROOM, &[("token", &token)], "");
            wait_until("the new key is known", || known().status == 200);
        },
    );
    all_refused(&answers, "invalid_token", &upstream);
}

#[test]
fn a_whiteboard_token_that_ends_while_its_body_is_awaited_changes_no_room() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway =
        Setup::new(&upstream.url()).set("projects.classroom.token_profile", "backend").start();
    let minted =
        gateway.call("POST", "/v5/tokens/rooms/r", r#"{"role":"admin","lifespan":2000}"#).json();
    let credential = [("token", minted.as_str().unwrap())];
    let mut client = gateway.client();
    let (line, body) = EFFECTS[1];
    client.announce(line, &credential, body.len());
    let over = || gateway.client().request("GET", ROOM, &credential, "").status == 401;
    wait_until("it ends", over);
    client.send(body.as_bytes());
    all_refused(&[client.answer("PATCH").unwrap()], "expired_token", &upstream);
}

/// A gateway with TLS, which takes certificates of an authority that has revoked none.
fn secured(upstream: &Upstream, servers: &Authority, clients: &Authority) -> Process {
    let setup = Setup::new(&upstream.url()).with(
        "[callers.app]\nprofile = \"backend\"\ncertificates = [{ dns = \"app.example.org\" }]\n\
         [listen.tls]\ncertificate = \"server.pem\"\nkey = \"server-key.pem\"\n\
         client_ca = \"clients.pem\"\nclient_crl = \"crl.pem\"\n",
    );
    let server = servers.server();
    for (name, text) in [
        ("server.pem", &server.pem),
        ("server-key.pem", &server.key),
        ("clients.pem", &clients.pem),
        ("crl.pem", &clients.revoked(&[], Duration::DAY)),
    ] {
        fs::write(setup.folder.path().join(name), text).unwrap();
    }
    setup.start()
}

#[test]
fn a_certificate_that_is_revoked_or_ends_while_its_body_is_awaited_gets_nothing() {
    let upstream = Upstream::json("200 OK", "{}");
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    let gateway = secured(&upstream, &servers, &clients);
    let name = "app.example.org".try_into().unwrap();
    let short = clients.issue(|one| {
        one.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        one.not_after = OffsetDateTime::now_utc() + Duration::seconds(3);
    });
    let connect = TlsClient::new(&servers, Some(&short));
    let answers = meanwhile(
        || connect.connect(gateway.address),
        &[],
        || {
            let mut client = connect.connect(gateway.address);
            wait_until("it ends", || client.request("GET", ROOM, &[], "").status == 401);
        },
    );
    all_refused(&answers, "expired_token", &upstream);

    let revoked = clients.client("app.example.org");
    let connect = TlsClient::new(&servers, Some(&revoked));
    let answers = meanwhile(
        || connect.connect(gateway.address),
        &[],
        || {
            let list = clients.revoked(&[&revoked], Duration::DAY);
            fs::write(gateway.folder.path().join("crl.pem"), list).unwrap();
            gateway.reload(&text(&gateway));
        },
    );
    all_refused(&answers, "invalid_token", &upstream);
}

#[test]
fn what_is_granted_is_what_the_new_configuration_grants() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    // What may be granted beside a list of rooms.
    let allow = vec!["tokens.room", "rooms.update"];
    let gateway = setup.set("profiles.backend.allow", allow).start();
    let before = gateway.configuration();
    let credential = [("token", gateway.key.as_str())];
    let change = |path: &str, other: &str| {
        let answers = meanwhile(
            || gateway.client(),
            &credential,
            || gateway.reload(&before.clone().set(path, value(other))),
        );
        gateway.reload(&before);
        answers
    };
    let [token, _] = change("profiles.backend.max_lifespan", "\"1m\"");
    assert_eq!(token.status, 201, "{}", token.text());
    assert_eq!(token.header("whiteboard-granted"), "role=admin; lifespan=60000");

    let [token, room] = change("profiles.backend.role", "\"reader\"");
    token.assert_envelope(403, "forbidden");
    room.assert_envelope(403, "forbidden");

    let [token, room] = change("profiles.backend.rooms", "[\"other\"]");
    token.assert_envelope(404, "not_found");
    room.assert_envelope(404, "not_found");

    let [token, _] = change("projects.classroom.keys.0.access_key", "\"another\"");
    let token = token.json();
    let claims = whiteboard_gateway::token::Claims::read(token.as_str().unwrap()).unwrap();
    assert_eq!(claims.access_key(), "another", "a key that was removed signs nothing");
}

#[test]
fn an_operation_that_is_gone_is_not_found() {
    let added = "[[operations]]\nname = \"rooms.tag\"\nmethod = \"POST\"\n\
                 path = \"/v5/rooms/{uuid}/tag\"\ntarget = \"room\"\ntoken = \"room\"\n\
                 role = \"writer\"\nbody = \"json\"\n";
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url());
    let before = setup.configuration();
    let gateway = setup.with(added).start();
    let mut client = gateway.client();
    client.announce("POST /v5/rooms/r/tag", &[("token", &gateway.key)], 2);
    gateway.reload(&before);
    client.send(b"{}");
    let answer = client.answer("POST").unwrap();
    answer.assert_envelope(404, "not_found");
    assert_eq!(upstream.received().len(), 0);
    let line = gateway.access_line(answer.header("x-request-id"));
    assert!(line["operation"].as_str().is_none_or(|name| name != "rooms.tag"), "{line}");
}

#[test]
fn a_request_that_begins_again_is_counted_once() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url())
        .with(
            "[profiles.backend]\nlimit = { rate = \"1/h\", burst = 3 }\n\
             budgets = [{ of = \"tokens\", most = 2, per = \"month\" }]\n",
        )
        .with("[budgets]\nfile = \"./budgets.db\"\n");
    let gateway = setup.start();
    let [(line, body), _] = EFFECTS;
    let mut client = gateway.client();
    client.announce(line, &[("token", &gateway.key)], body.len());
    gateway.reload(&format!("{}\n# another\n", text(&gateway)));
    client.send(body.as_bytes());
    let begun_again = client.answer("POST").unwrap();
    assert_eq!(begun_again.status, 201, "{}", begun_again.text());
    let left = begun_again.header("ratelimit");
    assert!(left.contains("\"caller\";r=2") && left.contains("\"tokens-month\";r=1"), "{left}");
    let next = gateway.call("POST", "/v5/tokens/rooms/r", body);
    let left = next.header("ratelimit");
    assert!(left.contains("\"caller\";r=1") && left.contains("\"tokens-month\";r=0"), "{left}");
}

/// An upstream whose first answer is a failure that makes for a retry, after it was told to go on.
fn failing_first(happens: Arc<Mutex<Box<dyn FnMut() + Send>>>) -> Upstream {
    let asked = AtomicUsize::new(0);
    Upstream::scripted(move |_, stream| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            happens.lock().unwrap()();
            let told = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
            return stream.write_all(told.as_bytes()).is_ok();
        }
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    })
}

#[test]
fn nothing_is_retried_for_a_caller_that_is_gone() {
    let happens: Arc<Mutex<Box<dyn FnMut() + Send>>> = Arc::new(Mutex::new(Box::new(|| ())));
    let upstream = failing_first(Arc::clone(&happens));
    let (gateway, other, before) = with_other(&upstream);
    let gateway = Arc::new(gateway);
    // Weak, so that no thread of the upstream keeps it beyond the test.
    let reloads = Arc::downgrade(&gateway);
    *happens.lock().unwrap() = Box::new(move || reloads.upgrade().unwrap().reload(&before));
    let answer = gateway.client().request("GET", ROOM, &[("token", &other)], "");
    answer.assert_envelope(401, "invalid_token");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_retry_after_a_harmless_reload_goes_on() {
    let happens: Arc<Mutex<Box<dyn FnMut() + Send>>> = Arc::new(Mutex::new(Box::new(|| ())));
    let upstream = failing_first(Arc::clone(&happens));
    let gateway = Arc::new(Setup::new(&upstream.url()).start());
    let reloads = Arc::downgrade(&gateway);
    *happens.lock().unwrap() = Box::new(move || {
        let gateway = reloads.upgrade().unwrap();
        gateway.reload(&text(&gateway));
    });
    let answer = gateway.call("GET", ROOM, "");
    assert_eq!((answer.status, upstream.received().len()), (200, 2), "{}", answer.text());
}

/// Passes bytes on to an address, once it may.
fn gate(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (came, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, may) = (Arc::clone(&came), Arc::clone(&open));
    thread::spawn(move || {
        for one in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let may = Arc::clone(&may);
            thread::spawn(move || {
                wait_until("the gate opens", || may.load(Ordering::SeqCst));
                let other = TcpStream::connect(to).unwrap();
                let copy = |mut from: TcpStream, mut to: TcpStream| {
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                };
                copy(one.try_clone().unwrap(), other.try_clone().unwrap());
                copy(other, one);
            });
        }
    });
    (address, came, open)
}

#[test]
fn nothing_is_sent_for_a_caller_that_went_while_a_connection_was_made() {
    let tls = Shown::Good.tls(&["http/1.1"]);
    let well = Faulty::start(Fault::Connection(|_| Then::Close), Some(tls));
    well.mend();
    let (address, came, open) = gate(well.address);
    let mut setup = Setup::new(&format!("https://{address}"));
    let trusts = Shown::trusted(setup.folder.path());
    // Offered HTTP/2, a worker would make one connection for both.
    let times = format!("[upstream]\n{trusts}connect_timeout = \"15s\"\nhttp2 = false\n");
    setup = setup.with(&times);
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let asking = |key: String| {
        let mut client = gateway.client();
        thread::spawn(move || client.request("GET", ROOM, &[("token", &key)], ""))
    };
    let [gone, stays] = [other, gateway.key.clone()].map(asking);
    wait_until("both want a connection", || came.load(Ordering::SeqCst) == 2);
    gateway.reload(&before);
    open.store(true, Ordering::SeqCst);
    gone.join().unwrap().assert_envelope(401, "invalid_token");
    assert_eq!(stays.join().unwrap().status, 200);
    assert_eq!(well.asked("GET"), 1);
}

const UPLOAD: &str = "[[operations]]\nname = \"rooms.import\"\nmethod = \"POST\"\n\
    path = \"/v5/rooms/{uuid}/import\"\ntarget = \"room\"\ntoken = \"room\"\nrole = \"writer\"\n\
    body = \"opaque\"\n";

/// Uploads whose end comes after something has happened: with its length, and in chunks.
fn upload(gateway: &Process, key: &str, framing: &str, happens: impl FnOnce()) -> Option<Answer> {
    let mut client = gateway.client();
    let head = format!(
        "POST /v5/rooms/r/import HTTP/1.1\r\nhost: g\r\ntoken: {key}\r\nexpect: 100-continue\r\n\
         {framing}\r\n\r\n"
    );
    let (first, last) = match framing {
        "content-length: 10" => ("01234", "56789"),
        _ => ("5\r\n01234\r\n", "5\r\n56789\r\n0\r\n\r\n"),
    };
    client.send(head.as_bytes());
    client.send(first.as_bytes());
    happens();
    client.send(last.as_bytes());
    client.answer("POST")
}

#[test]
fn an_upload_whose_caller_is_gone_at_its_end_is_broken_off() {
    let begun = Arc::new(AtomicUsize::new(0));
    let whole = Arc::new(AtomicUsize::new(0));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&whole));
    let upstream = Upstream::raw(move |mut stream| {
        let mut received = Vec::new();
        let mut more = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut more) {
            received.extend_from_slice(&more[..count]);
            if received.ends_with(b"01234") || received.ends_with(b"01234\r\n") {
                begins.fetch_add(1, Ordering::SeqCst);
            }
            if received.ends_with(b"56789") || received.ends_with(b"0\r\n\r\n") {
                ends.fetch_add(1, Ordering::SeqCst);
                stream.write_all(answer("201 Created", "{}").as_bytes()).unwrap();
            }
        }
    });
    let mut setup = Setup::new(&upstream.url()).with(UPLOAD);
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let after = text(&gateway);
    for (round, framing) in ["content-length: 10", "transfer-encoding: chunked"].iter().enumerate()
    {
        let passes = |count| {
            wait_until("the first piece is there", || begun.load(Ordering::SeqCst) == count);
        };
        let refused = upload(&gateway, &other, framing, || {
            passes(3 * round + 1);
            gateway.reload(&before);
        });
        refused.unwrap().assert_envelope(401, "invalid_token");
        assert_eq!(whole.load(Ordering::SeqCst), 2 * round);
        // Whoever is still allowed is not disturbed, by a change or by none.
        let passed = upload(&gateway, &gateway.key, framing, || {
            passes(3 * round + 2);
            gateway.reload(&after);
        });
        assert_eq!(passed.unwrap().status, 201);
        let passed = upload(&gateway, &other, framing, || passes(3 * round + 3));
        assert_eq!(passed.unwrap().status, 201);
        assert_eq!(whole.load(Ordering::SeqCst), 2 * round + 2);
    }
}

#[test]
fn an_upload_over_http2_is_broken_off_as_well() {
    let tls = Shown::Good.tls(&["h2"]);
    let upstream = Faulty::start(Fault::Stream(|_, _| Then::Keep), Some(tls));
    let mut setup = Setup::new(&format!("https://{}", upstream.address)).with(UPLOAD);
    let trusts = Shown::trusted(setup.folder.path());
    setup = setup.with(&format!("[upstream]\n{trusts}"));
    let before = setup.configuration();
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let refused = upload(&gateway, &other, "content-length: 10", || {
        wait_until("it has begun", || upstream.asked("POST") == 1);
        gateway.reload(&before);
    });
    refused.unwrap().assert_envelope(401, "invalid_token");
}
