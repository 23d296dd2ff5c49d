//! Whole requests through the built binary, with everything on that a real configuration has: what
//! the gateway's process executes for one, hyper and tokio included.
//!
//! The requests come one after the other on one connection, so that each run does the same.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use whiteboard_gateway::caller::ApiKey;

use crate::budgets::Counts;
use crate::callgrind::{self, Count};
use crate::credentials::{Credentials, ISSUER};

/// How many of each are counted; and how many before, which are not.
const COUNTED: u64 = 1000;
const BEFORE: u64 = 50;

/// Generous: valgrind is slow, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

const UUID: &str = "4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";

/// Counts each: the difference between a run with few of them and one with many.
pub(crate) fn count(credentials: &Credentials, folder: &Path, binary: &Path) -> Counts {
    let upstream = upstream();
    let config = config(credentials, upstream);
    let kinds = kinds(credentials);
    // Warm alone, then with each: as many at once as there are cores.
    let plans: Vec<Option<usize>> =
        std::iter::once(None).chain((0..kinds.len()).map(Some)).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut counts = Vec::new();
    for some in plans.chunks(cores) {
        counts.extend(thread::scope(|scope| {
            let run = |plan: &Option<usize>| {
                let (kinds, config, plan) = (&kinds, &config, *plan);
                scope.spawn(move || one(kinds, plan, config, [folder, binary]))
            };
            let running: Vec<_> = some.iter().map(run).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        }));
    }
    let (warm, rest) = counts.split_first().unwrap();
    let named = kinds.iter().zip(rest);
    named.map(|(kind, count)| (kind.name.to_owned(), (*count - *warm).per(COUNTED))).collect()
}

/// A kind of request.
struct Kind {
    name: &'static str,
    request: Vec<u8>,
    /// What it is answered with, once the first was.
    status: &'static str,
}

fn kinds(credentials: &Credentials) -> Vec<Kind> {
    let get = |name, credential: &str, status| {
        let request = format!(
            "GET /v5/rooms/{UUID} HTTP/1.1\r\nHost: gateway.example.org\r\n{credential}\
             Accept: application/json\r\n\r\n"
        );
        Kind { name, request: request.into_bytes(), status }
    };
    let post = |name, path: &str, body: &str, status| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.example.org\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            credentials.key,
            body.len()
        );
        Kind { name, request: request.into_bytes(), status }
    };
    let bearer = |credential: &str| format!("Authorization: Bearer {credential}\r\n");
    let mint = r#"{"role":"reader","lifespan":60000}"#;
    vec![
        get("get a room, API key", &bearer(credentials.key), "200"),
        get("get a room, known JWT", &bearer(&credentials.jwt("ES256")), "200"),
        post("create a room", "/v5/rooms", r#"{"name":"lesson","isRecord":true}"#, "201"),
        post("mint a token", &format!("/v5/tokens/rooms/{UUID}"), mint, "201"),
        get("refused: no key", "", "401"),
        get("refused: unknown key", &bearer(credentials.unknown), "401"),
        post("refused: forbidden", "/v5/tokens/teams", mint, "403"),
        get("refused: over the limit", &bearer(credentials.limited), "403"),
    ]
}

/// The configuration but for the port.
fn config(credentials: &Credentials, upstream: u16) -> String {
    let caller = |name: &str, key: &str| {
        let key = ApiKey::parse(key).ok().unwrap();
        let (id, digest) = (key.id(), key.digest());
        format!(
            "[callers.{name}]\nprofile = \"{name}\"\nkeys = [{{ id = \"{id}\", digest = \"{digest}\" }}]\n"
        )
    };
    let profile = |name: &str, limit: &str| {
        format!(
            "[profiles.{name}]\nproject = \"bench\"\nallow = [\"rooms.*\", \"tokens.room\"]\n\
             rooms = \"any\"\nrole = \"admin\"\nmax_lifespan = \"1h\"\nlimit = {{ {limit} }}\n"
        )
    };
    [
        format!("[upstream]\nurl = \"http://127.0.0.1:{upstream}\"\nregion = \"us-sv\"\n"),
        "[log]\naccess = \"off\"\n[admin]\naddress = \"off\"\n".to_owned(),
        "[projects.bench]\nkeys = [{ access_key = \"bench\", secret_key = { env = \"SECRET\" } }]\n"
            .to_owned(),
        profile("bench", "rate = \"1000000/s\", burst = 1000000"),
        profile("limited", "rate = \"1/d\""),
        caller("bench", credentials.key),
        caller("limited", credentials.limited),
        format!(
            "[issuers.school]\nissuer = \"{ISSUER}\"\naudience = \"whiteboard\"\n\
             key_file = {:?}\nalgorithms = [\"ES256\"]\nprofile = \"bench\"\n",
            credentials.pem("ES256")
        ),
    ]
    .concat()
}

/// One run: a few of each kind, and many of one.
fn one(kinds: &[Kind], many: Option<usize>, config: &str, [folder, binary]: [&Path; 2]) -> Count {
    let name = many.map_or_else(|| "warm".to_owned(), |many| many.to_string());
    let (path, out) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.out")));
    let listen = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\nworkers = 1\npre_drain = \"1ms\"\nhead_timeout = \"60s\"\n{config}"
    );
    std::fs::write(&path, listen).unwrap();
    let mut command = callgrind::command(&out, &[], binary);
    command.args(["serve", "--config"]).arg(&path).env("SECRET", "bench-secret-key");
    command.stderr(Stdio::piped());
    let mut gateway = Gateway(command.spawn().expect("valgrind is not installed"));
    let mut client = gateway.connect();
    for kind in kinds {
        (0..BEFORE).for_each(|_| _ = ask(&mut client, &kind.request));
        assert_eq!(ask(&mut client, &kind.request), kind.status, "{}", kind.name);
    }
    if let Some(many) = many {
        for _ in 0..COUNTED {
            assert_eq!(ask(&mut client, &kinds[many].request), kinds[many].status);
        }
    }
    drop(client);
    gateway.end();
    callgrind::read(&out)
}

/// The gateway under callgrind; it is not left behind.
struct Gateway(Child);

impl Gateway {
    /// Connects, once it says where it listens.
    fn connect(&mut self) -> TcpStream {
        let said = BufReader::new(self.0.stderr.take().unwrap());
        let mut said = said.lines().map_while(Result::ok);
        let line = said.find(|line| line.contains("\"listening\"")).expect("it does not listen");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        // What it says later is read as well, so that it never waits to say it.
        thread::spawn(move || said.for_each(drop));
        let stream = TcpStream::connect(line["address"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn end(mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(self.0.wait().unwrap().success(), "the gateway did not end as it should");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Sends a request, reads the answer and returns its status.
fn ask(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).unwrap();
    let mut buffer = Vec::new();
    let head = read_message(stream, &mut buffer).expect("the gateway closed the connection");
    head[9..12].to_owned()
}

/// Reads a head and as much body as it says; `None` at the end.
fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    buffer.clear();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        buffer.extend_from_slice(&piece[..count]);
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if buffer.len() >= end + 4 + length {
            return Some(head);
        }
    }
}

/// A whiteboard service that answers everything with 300 bytes; its port.
fn upstream() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    let body = format!(r#"{{"uuid":"{UUID}","name":"{}"}}"#, "x".repeat(240));
    while let Some(head) = read_message(&mut stream, &mut buffer) {
        let status = if head.starts_with("post") { "201 Created" } else { "200 OK" };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n\
             Content-Length: {}\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
             X-Powered-By: whiteboard\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
