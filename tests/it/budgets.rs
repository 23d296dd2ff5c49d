//! Budgets: what is used of them is told, given back, and outlives whatever ends the process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Answer, Client, Gate, Process, Setup, Upstream, answer, binary, ended, scenario_delay,
    wait_until,
};

pub(crate) const ROOM: &str = "/v5/tokens/rooms/faed3130727911ebaea37759ee91947c";
pub(crate) const READER: &str = r#"{"lifespan":600000,"role":"reader"}"#;
pub(crate) const CONVERSIONS: &str = "/v5/projector/tasks";
pub(crate) const SLIDES: &str = r#"{"resource":"https://example.org/a.pptx","type":"static"}"#;

/// A gateway whose profile `backend` has these budgets.
fn setup(upstream: &str, budgets: &str) -> Setup {
    let line = format!("[profiles.backend]\nbudgets = [{budgets}]\n");
    Setup::new(upstream)
        .with(&line)
        .with("[budgets]\nfile = \"./budgets.db\"\ntime_zone = \"Europe/Berlin\"\n")
}

/// Nobody is there: tokens are minted without it.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

pub(crate) fn tokens(most: u32) -> String {
    format!("{{ of = \"tokens\", most = {most}, per = \"month\", for = \"caller\" }}")
}

pub(crate) fn conversions(most: u32) -> String {
    format!("{{ of = \"conversions\", most = {most}, per = \"month\", for = \"profile\" }}")
}

fn requests(most: u32) -> String {
    format!("{{ of = \"requests\", most = {most}, per = \"month\" }}")
}

pub(crate) fn ask(gateway: &Process, key: &str) -> Answer {
    gateway.client().request("POST", ROOM, &[("token", key)], READER)
}

/// The rows of the page of budgets of one kind.
fn rows(gateway: &Process, of: &str) -> Vec<Value> {
    let page = gateway.admin("/budgets").json();
    let rows = page["counters"].as_array().unwrap();
    rows.iter().filter(|row| row["of"] == of).cloned().collect()
}

/// What is used, and what requests in flight hold, of the one counter of a kind.
pub(crate) fn used(gateway: &Process, of: &str) -> (u64, u64) {
    let rows = rows(gateway, of);
    assert!(rows.len() <= 1, "{rows:?}");
    let number = |name: &str| rows.first().map_or(0, |row| row[name].as_u64().unwrap());
    (number("used"), number("reserved"))
}

/// The number after `;name=` of an item of a `RateLimit` field.
pub(crate) fn number(field: &str, item: &str, name: &str) -> Option<u64> {
    let rest = field.split_once(&format!("\"{item}\""))?.1.split(',').next()?;
    rest.split_once(&format!(";{name}="))?.1.split(';').next()?.parse().ok()
}

#[test]
fn a_budget_that_is_used_up_is_told_with_when_it_begins_anew() {
    for (profile, status) in [("documented", 403), ("extended", 429)] {
        let gateway = setup(NOWHERE, &tokens(2))
            .with("[profiles.backend]\nlimit = { rate = \"900/s\" }\n")
            .with(&format!("[errors]\nprofile = \"{profile}\"\n"))
            .start();
        for left in [1, 0] {
            let answer = ask(&gateway, &gateway.key);
            assert_eq!(answer.status, 201, "{}", answer.text());
            let limit = answer.header("ratelimit");
            assert_eq!(number(limit, "tokens-month", "r"), Some(left), "{limit}");
            assert!(number(limit, "caller", "r").is_some(), "{limit}");
            let policy = answer.header("ratelimit-policy");
            assert!(
                policy.starts_with("\"caller\";q=900;w=1, \"tokens-month\";q=2;w="),
                "{policy}"
            );
            let window = number(policy, "tokens-month", "w").unwrap() / 3_600;
            assert!((28 * 24 - 1..=31 * 24 + 1).contains(&window), "{policy}");
        }
        let refused = ask(&gateway, &gateway.key);
        refused.assert_envelope(status, "quota_exceeded");
        let message = refused.member("message");
        assert!(
            message.contains("budget of this caller is used up: 2 tokens a month"),
            "{message}"
        );
        assert!(message.contains("-01T00:00:00+0"), "{message}");
        let limit = refused.header("ratelimit");
        assert_eq!(number(limit, "tokens-month", "r"), Some(0), "{limit}");
        let more_in = number(limit, "tokens-month", "t").unwrap();
        let retry: u64 = refused.header("retry-after").parse().unwrap();
        assert!(retry >= more_in && retry <= more_in + 61, "{retry} {more_in}");
        assert_eq!(
            gateway.metric("wbg_budget_refusals_total{profile=\"backend\",of=\"tokens\"}"),
            1.0
        );
        let line = gateway.access_line(refused.header("x-request-id"));
        assert_eq!(line["rule"], "profiles.backend.budgets");
        // What no budget is of goes on.
        let other = gateway.call("GET", "/v5/rooms", "");
        assert_ne!(other.member("code"), "quota_exceeded");
        assert!(!other.header("ratelimit").contains("month"), "{other:?}");
    }
}

#[test]
fn each_caller_has_its_own_and_all_of_a_profile_share_one() {
    let shared = "{ of = \"tokens\", most = 5, per = \"month\", for = \"profile\" }";
    let mut setup = setup(NOWHERE, &format!("{}, {shared}", tokens(3)));
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let passed = |key: &str| (0..10).filter(|_| ask(&gateway, key).status == 201).count();
    assert_eq!((passed(&gateway.key), passed(&other)), (3, 2));
    let refused = ask(&gateway, &other);
    assert!(refused.member("message").contains("all callers of this profile"), "{refused:?}");
    let limit = refused.header("ratelimit");
    assert_eq!(number(limit, "tokens-month-profile", "r"), Some(0), "{limit}");

    let rows = rows(&gateway, "tokens");
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row["for"].as_str(), row["caller"].as_str(), row["used"].as_u64()))
        .collect();
    for row in [
        (Some("caller"), Some("lessons"), Some(3)),
        (Some("caller"), Some("other"), Some(2)),
        (Some("profile"), None, Some(5)),
    ] {
        assert!(shown.contains(&row), "{row:?} in {shown:?}");
    }
    for row in &rows {
        assert_eq!(
            (row["profile"].as_str(), row["per"].as_str()),
            (Some("backend"), Some("month"))
        );
        assert!(row["end"].as_str().unwrap().contains("-01T00:00:00+0"), "{row}");
        assert_eq!(row["caller_id"].is_null(), row["for"] == "profile", "{row}");
    }
}

#[test]
fn what_is_used_outlives_the_process() {
    let setup = setup(NOWHERE, &tokens(5));
    let key = setup.key.clone();
    let mut gateway = setup.start();
    for (signal, round) in [("TERM", 1), ("KILL", 2)] {
        for _ in 0..2 {
            assert_eq!(ask(&gateway, &key).status, 201);
        }
        gateway.signal(signal);
        gateway.wait(Duration::from_secs(20));
        gateway = gateway.again();
        assert_eq!(used(&gateway, "tokens"), (2 * round, 0));
        let row = &rows(&gateway, "tokens")[0];
        assert_eq!(
            row["caller"], "lessons",
            "whom the configuration names is known before it calls"
        );
    }
    assert_eq!((ask(&gateway, &key).status, ask(&gateway, &key).status), (201, 403));
}

#[test]
fn a_reload_keeps_what_is_used_and_another_bound_counts_at_once() {
    let setup = setup(NOWHERE, &tokens(3));
    const MOST: &str = "profiles.backend.budgets.0.most";
    let before = setup.configuration();
    let gateway = setup.start();
    let passed = || (0..10).filter(|_| ask(&gateway, &gateway.key).status == 201).count();
    assert_eq!(passed(), 3);
    for (most, more) in [(3, 0), (5, 2), (4, 0), (6, 1)] {
        gateway.reload(&before.clone().set(MOST, most));
        assert_eq!(passed(), more, "of {most}");
    }
    // Without it for a while, it is still there.
    gateway.reload(&before.clone().without("profiles.backend.budgets"));
    assert_eq!(passed(), 10);
    gateway.reload(&before.set(MOST, 7));
    assert_eq!(passed(), 1);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 1.0);
}

/// What a request comes to, and how much of each budget it has used then.
#[test]
fn what_came_to_nothing_is_given_back_unless_it_may_have_been_done() {
    const REFUSED: &str = r#"{"message":"no such resource"}"#;
    type Script = fn(&mut std::net::TcpStream) -> bool;
    fn say(stream: &mut std::net::TcpStream, status: &str, body: &str) -> bool {
        std::io::Write::write_all(stream, answer(status, body).as_bytes()).is_ok()
    }
    let cases: [(&str, Script, u16, u64, u64); 6] = [
        ("success", |stream| say(stream, "201 Created", "{\"uuid\":\"a\"}"), 201, 1, 1),
        ("a refusal of the service's", |stream| say(stream, "400 Bad Request", REFUSED), 400, 0, 1),
        (
            "a failure of the service's",
            |stream| say(stream, "500 Oh", "{\"message\":\"x\"}"),
            500,
            0,
            0,
        ),
        (
            "our token is not taken",
            |stream| say(stream, "401 Oh", "{\"message\":\"x\"}"),
            500,
            0,
            0,
        ),
        // It was sent, and nobody knows.
        ("no answer", |_| false, 500, 1, 1),
        (
            "half an answer",
            |stream| {
                std::io::Write::write_all(
                    stream,
                    b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\n{",
                )
                .unwrap();
                false
            },
            500,
            1,
            1,
        ),
    ];
    for (what, script, status, started, made) in cases {
        let upstream = Upstream::scripted(move |_, stream| script(stream));
        let budgets = format!("{}, {}", conversions(50), requests(50));
        let gateway = setup(&upstream.url(), &budgets).start();
        let answer = gateway.call("POST", CONVERSIONS, SLIDES);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(used(&gateway, "conversions"), (started, 0), "{what}");
        assert_eq!(used(&gateway, "requests"), (made, 0), "{what}");
        let back =
            gateway.metric("wbg_budget_refunds_total{profile=\"backend\",of=\"conversions\"}");
        assert_eq!(back, 1.0 - started as f64, "{what}");
        // Neither a look at a conversion nor its end is a start.
        gateway.call("GET", CONVERSIONS, "");
        assert_eq!(used(&gateway, "conversions"), (started, 0), "{what}");
    }
    // Nothing was sent, so nothing was done.
    let gateway = setup(NOWHERE, &conversions(50)).start();
    assert_eq!(gateway.call("POST", CONVERSIONS, SLIDES).status, 500);
    assert_eq!(used(&gateway, "conversions"), (0, 0));
}

#[test]
fn a_conversion_whose_caller_went_away_stays_used() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        std::io::Write::write_all(stream, answer("500 Oh", "{}").as_bytes()).is_ok()
    });
    let gateway = setup(&upstream.url(), &conversions(50)).start();
    let mut client = gateway.client();
    let head = format!(
        "POST {CONVERSIONS} HTTP/1.1\r\nhost: gateway\r\ntoken: {}\r\ncontent-length: {}\r\n\r\n{SLIDES}",
        gateway.key,
        SLIDES.len()
    );
    client.send(head.as_bytes());
    wait_until("the service is asked", || !upstream.received().is_empty());
    assert_eq!(used(&gateway, "conversions"), (0, 1), "held while it is in flight");
    client.reset();
    wait_until("the caller has gone", || {
        gateway.access_lines().iter().any(|line| line["code"] == "caller_gone")
    });
    gate.open();
    wait_until("it is settled", || used(&gateway, "conversions") == (1, 0));
}

#[test]
fn a_token_that_could_not_be_recorded_is_not_paid_for() {
    let gateway = setup(NOWHERE, &tokens(5))
        .with("[audit]\nfile = \"/dev/full\"\nmode = \"required\"\n")
        .start();
    ask(&gateway, &gateway.key).assert_envelope(500, "audit_unavailable");
    assert_eq!(used(&gateway, "tokens"), (0, 0));
}

#[test]
fn what_cannot_be_written_down_is_not_given_out() {
    let setup = setup(NOWHERE, &tokens(50));
    setup.write();
    let mut command = Command::new("bash");
    // A file that must not grow is an error then, and not the end of the process.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\"", binary()]);
    command.arg(setup.path()).env("CLASSROOM_SK", "sandbox-secret-key");
    let gateway = Process::of(command, setup.folder, setup.key);
    assert_eq!(ask(&gateway, &gateway.key).status, 201);
    let limit = |bytes: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &gateway.id().to_string(), &format!("--fsize={bytes}")]);
        assert!(command.status().unwrap().success());
    };
    limit("0:unlimited");
    for _ in 0..3 {
        let refused = ask(&gateway, &gateway.key);
        refused.assert_envelope(500, "store_unavailable");
        assert_eq!(refused.header("retry-after"), "1");
    }
    limit("unlimited:unlimited");
    assert_eq!(ask(&gateway, &gateway.key).status, 201, "and it goes on by itself");
    assert_eq!(used(&gateway, "tokens"), (2, 0));
    let told = gateway.stderr().matches("budgets cannot be written").count();
    assert_eq!(told, 1, "once, however many are refused");
}

#[test]
fn one_process_alone_keeps_budgets_in_a_file() {
    let gateway = setup(NOWHERE, &tokens(5)).start();
    let mut command = Command::new(binary());
    command.args(["serve", "--config"]).arg(gateway.config_path());
    command.env("CLASSROOM_SK", "sandbox-secret-key");
    let told = ended(command);
    assert_eq!(told.status.code(), Some(2));
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("budgets.db") && told.contains("another process has it open"), "{told}");
}

#[test]
fn check_tells_the_budgets_and_opens_nothing() {
    let setup = setup(NOWHERE, &format!("{}, {}", tokens(1), conversions(20)));
    let told = ended(setup.command("check"));
    let told = String::from_utf8(told.stdout).unwrap();
    for line in [
        "budget: profiles.backend: 1 token a month for each caller (Europe/Berlin), kept in ",
        "budget: profiles.backend: 20 conversions a month for all callers together (",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(!setup.folder.path().join("budgets.db").exists());
}

// Crashes.

/// What the clients of one round have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sent: AtomicU32,
    pub(crate) given: AtomicU32,
    pub(crate) refused: AtomicU32,
}

/// Asks for tokens on a connection until it breaks.
pub(crate) fn ask_on(mut client: Client, key: &str, seen: &Seen) {
    let request = format!(
        "POST {ROOM} HTTP/1.1\r\nhost: gateway\r\ntoken: {key}\r\ncontent-length: {}\r\n\r\n{READER}",
        READER.len()
    );
    loop {
        seen.sent.fetch_add(1, Ordering::SeqCst);
        if client.try_send(request.as_bytes()).is_err() {
            return;
        }
        match client.answer("POST") {
            Some(answer) if answer.status == 201 => seen.given.fetch_add(1, Ordering::SeqCst),
            Some(answer) if answer.member("code") == "quota_exceeded" => {
                seen.refused.fetch_add(1, Ordering::SeqCst)
            }
            Some(answer) => panic!("{}", answer.text()),
            None => return,
        };
    }
}

/// Kills a gateway under load again and again, and counts after each time.
///
/// What is given out never exceeds the budget; the counter never says less than was given out, nor
/// more than that, what was in flight, and what was written ahead.
fn kill_at_random(times: u32, most: u32, ahead: u32) {
    const CLIENTS: u32 = 4;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut setup = setup(NOWHERE, &tokens(most));
    if ahead > 0 {
        setup = setup.set("budgets.ahead", ahead);
    }
    let key = setup.key.clone();
    let mut gateway = setup.start();
    let (mut before, mut given, mut used_up, mut taken) = (0, 0, 0, 0);
    for round in 0..times {
        let seen = Seen::default();
        let clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| ask_on(client, &key, &seen));
            }
            // However fast the machine is: after so many answers, and at any point after that.
            let answers = random.u32(0..60);
            let answered =
                || seen.given.load(Ordering::SeqCst) + seen.refused.load(Ordering::SeqCst);
            wait_until("enough is answered", || answered() >= answers);
            scenario_delay(Duration::from_micros(random.u64(0..8_000)));
            gateway.signal("KILL");
        });
        gateway.wait(Duration::from_secs(20));
        if random.u8(0..4) == 0 {
            // Once more, while it starts.
            let mut child = gateway.command().spawn().unwrap();
            scenario_delay(Duration::from_micros(random.u64(0..30_000)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        gateway = gateway.again();
        let count = |counter: &AtomicU32| u64::from(counter.load(Ordering::SeqCst));
        let in_flight = count(&seen.sent) - count(&seen.given) - count(&seen.refused);
        let (after, reserved) = used(&gateway, "tokens");
        let about = format!(
            "seed {seed}, round {round}: {before} before, {} given, {in_flight} in flight, {after} after",
            count(&seen.given)
        );
        assert!(in_flight <= u64::from(CLIENTS) && reserved == 0, "{about}");
        assert!(after >= before + count(&seen.given), "{about}");
        assert!(after <= before + count(&seen.given) + in_flight + u64::from(ahead), "{about}");
        given += count(&seen.given);
        taken += count(&seen.given);
        assert!(given <= u64::from(most), "{about}: {given} in all");
        // What was in flight had taken its part, and may not have got as far as the disk.
        let full = after + in_flight >= u64::from(most);
        assert!(count(&seen.refused) == 0 || full, "{about}");
        before = after;
        if after >= u64::from(most) {
            // Begin anew, with a file that is not there yet.
            used_up += 1;
            gateway.signal("KILL");
            gateway.wait(Duration::from_secs(20));
            fs::remove_file(gateway.folder.path().join("budgets.db")).unwrap();
            gateway = gateway.again();
            (before, given) = (0, 0);
        }
    }
    eprintln!("{times} kills, {taken} tokens given, {used_up} budgets used up");
    assert!(taken > 0);
    assert!(Path::new(&gateway.folder.path().join("budgets.db")).exists());
}

#[test]
fn a_crash_gives_out_nothing_twice_and_loses_no_more_than_was_in_flight() {
    kill_at_random(12, 150, 0);
}

#[test]
fn a_crash_loses_no_more_than_was_written_ahead_besides() {
    kill_at_random(8, 1_000, 64);
}

/// `tests/run` runs it: a minute is long for every other day.
#[test]
#[ignore = "takes a minute: cargo nextest run --run-ignored only -E 'test(two_hundred_crashes)'"]
fn two_hundred_crashes_give_out_nothing_twice() {
    kill_at_random(200, 400, 0);
}
