//! When the store does not answer: what each profile says happens, soon, and is over when it
//! answers again.

use std::time::{Duration, Instant};

use super::{passed, profile, setup, token};
use crate::support::{Process, Redis, Slow, wait_until};

/// A gateway, and a caller for each thing that can be said.
struct Three {
    gateway: Process,
    local: String,
    open: String,
    closed: String,
}

/// One of two gateways. Its deadline is one that a busy machine keeps.
fn three(store: &str) -> Three {
    let mut setup = setup(&format!("{store}\nreplicas = 2\ntimeout = \"200ms\""));
    let mut caller = |on_store_error: &str| {
        let limit = "limit = { rate = \"6/h\", burst = 6 }";
        let lines = format!("{limit}\non_store_error = \"{on_store_error}\"");
        setup.caller(on_store_error, &profile(&lines))
    };
    let (local, open, closed) = (caller("local"), caller("open"), caller("closed"));
    Three { gateway: setup.start(), local, open, closed }
}

impl Three {
    /// Takes one of each caller, and sees that the store has decided.
    fn assert_shared(&self) {
        let mut client = self.gateway.client();
        for key in [&self.local, &self.open, &self.closed] {
            let answer = token(&mut client, key);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert!(answer.header("ratelimit").starts_with("\"caller\";r="), "{answer:?}");
        }
    }

    /// Sends requests until the store is given up; none of them waits for it for long.
    fn until_it_is_given_up(&self, most: Duration) {
        let mut client = self.gateway.client();
        wait_until("the store is given up", || {
            let begin = Instant::now();
            let answer = token(&mut client, &self.open);
            assert!(begin.elapsed() < most, "it took {:?}", begin.elapsed());
            assert_eq!(answer.status, 201);
            self.gateway.metric("wbg_ratelimit_degraded") == 1.0 && !answer.has("ratelimit")
        });
    }

    /// What was configured, one after the other.
    fn assert_degraded(&self, most: Duration) {
        let begin = Instant::now();
        let mut client = self.gateway.client();
        // The part of one of two gateways is three; one of them was used before.
        let answers: Vec<_> = (0..6).map(|_| token(&mut client, &self.local)).collect();
        let passed = answers.iter().filter(|answer| answer.status == 201).count();
        assert!((1..=3).contains(&passed), "{passed} passed");
        answers[5].assert_envelope(403, "rate_limited");
        assert!(answers[5].has("retry-after"));
        for _ in 0..10 {
            assert_eq!(token(&mut client, &self.open).status, 201);
            let refused = token(&mut client, &self.closed);
            refused.assert_envelope(500, "store_unavailable");
            let retry: u64 = refused.header("retry-after").parse().unwrap();
            assert!((1..=2).contains(&retry), "{retry}");
            assert!(!refused.has("ratelimit"));
        }
        for answer in &answers {
            assert!(!answer.has("ratelimit") && !answer.has("ratelimit-policy"), "{answer:?}");
        }
        assert!(begin.elapsed() < most, "26 requests took {:?}", begin.elapsed());
        let ready = self.gateway.admin("/readyz");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
        assert_eq!(ready.json()["store"]["answers"], false);
        assert!(!ready.json()["store"]["error"].is_null());
        self.until_it_is_logged("the store does not answer");
    }

    /// Waits until the store decides again.
    fn until_it_is_back(&self) {
        let mut client = self.gateway.client();
        wait_until("the store decides again", || token(&mut client, &self.open).has("ratelimit"));
        wait_until("it is said", || self.gateway.metric("wbg_ratelimit_degraded") == 0.0);
        assert_eq!(self.gateway.admin("/readyz").json()["store"]["answers"], true);
        self.until_it_is_logged("the store answers again");
    }

    fn until_it_is_logged(&self, what: &str) {
        wait_until("it is logged", || self.gateway.stderr().contains(what));
    }
}

/// Far more than a deadline, for machines that are busy; far less than a second that a server may
/// be slow by.
const SOON: Duration = Duration::from_millis(800);

#[test]
fn a_store_that_is_killed_is_done_without_until_it_is_back() {
    let mut redis = Redis::start();
    let three = three(&format!("url = \"{}\"", redis.url()));
    three.assert_shared();
    redis.kill();
    three.until_it_is_given_up(SOON);
    three.assert_degraded(Duration::from_secs(5));
    redis.revive();
    three.until_it_is_back();
}

#[test]
fn a_store_that_is_stopped_is_waited_for_no_longer_than_its_deadline() {
    let redis = Redis::start();
    let three = three(&format!("url = \"{}\"", redis.url()));
    three.assert_shared();
    redis.signal("STOP");
    three.until_it_is_given_up(SOON);
    three.assert_degraded(Duration::from_secs(5));
    redis.signal("CONT");
    three.until_it_is_back();
}

#[test]
fn a_store_that_takes_a_second_is_no_store() {
    let redis = Redis::start();
    let slow = Slow::before(&redis);
    let three = three(&format!("url = \"redis://{}\"", slow.address));
    three.assert_shared();
    slow.delay(Duration::from_secs(1));
    three.until_it_is_given_up(SOON);
    three.assert_degraded(Duration::from_secs(5));
    slow.delay(Duration::ZERO);
    three.until_it_is_back();
}

#[test]
fn a_gateway_starts_without_its_store() {
    let mut redis = Redis::start();
    redis.kill();
    let three = three(&format!("url = \"{}\"", redis.url()));
    three.until_it_is_given_up(SOON);
    redis.revive();
    three.until_it_is_back();
    three.assert_shared();
}

#[test]
fn a_server_that_is_full_or_only_to_be_read_is_no_store() {
    let master = Redis::start();
    let redis = Redis::start();
    let three = three(&format!("url = \"{}\"", redis.url()));
    three.assert_shared();
    redis.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    three.until_it_is_given_up(SOON);
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    three.until_it_is_back();
}

#[test]
fn a_server_that_forgot_the_script_is_told_it_again() {
    let redis = Redis::start();
    let three = three(&format!("url = \"{}\"", redis.url()));
    three.assert_shared();
    redis.ask(&["SCRIPT", "FLUSH"]);
    three.assert_shared();
    assert_eq!(three.gateway.metric("wbg_store_calls_total{result=\"failed\"}"), 0.0);
}

#[test]
fn a_reload_keeps_the_connection_and_a_changed_rate_starts_clean() {
    let redis = Redis::start();
    let connections = || {
        let told = redis.ask(&["CLIENT", "LIST", "TYPE", "normal"]);
        let ids = told.lines().filter(|line| line.contains("cmd=evalsha"));
        ids.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut setup = setup(&format!("url = \"{}\"\ntimeout = \"2s\"", redis.url()));
    setup = setup.set("listen.workers", 1);
    let key = setup.caller("reloaded", &profile("limit = { rate = \"3/h\", burst = 3 }"));
    let first = setup.configuration();
    let gateway = setup.start();
    assert_eq!(passed(&gateway, &key, 4), 3);
    let before = connections();
    assert_eq!(before.len(), 1, "a worker has one");
    gateway.reload(&first.clone().set("profiles.backend.role", "writer"));
    assert_eq!(passed(&gateway, &key, 2), 0);
    assert_eq!(connections(), before);
    gateway.reload(&first.clone().set("profiles.reloaded.limit.rate", "4/h"));
    assert_eq!(passed(&gateway, &key, 4), 3);
    assert_eq!(connections(), before);
    gateway.reload(&first.set("store.timeout", "3s"));
    assert_eq!(passed(&gateway, &key, 1), 0, "the first rate counts again");
    wait_until("the old connection is gone", || connections() != before);
}

#[test]
fn the_sentinels_say_where_the_store_is_now() {
    let mut master = Redis::start();
    let replica = Redis::with(&[&format!("replicaof 127.0.0.1 {}", master.port)]);
    wait_until("the replica follows", || {
        replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let sentinel = Redis::sentinel_of(&master);
    wait_until("the sentinel knows the replica", || {
        let told = sentinel.ask(&["SENTINEL", "REPLICAS", "gateways"]);
        told.contains(&replica.port.to_string())
    });
    let store = format!(
        "url = \"redis://127.0.0.1:{}\"\nmode = \"sentinel\"\nmaster = \"gateways\"",
        sentinel.port
    );
    let three = three(&store);
    three.assert_shared();
    master.kill();
    three.until_it_is_given_up(SOON);
    three.until_it_is_back();
    assert!(replica.ask(&["ROLE"]).contains("master"), "the other one has taken its place");
}

#[test]
fn the_clock_of_a_gateway_is_not_asked() {
    let redis = Redis::start();
    let mut setup = setup(&format!("url = \"{}\"\ntimeout = \"2s\"", redis.url()));
    let limit = "limit = { rate = \"10/h\", burst = 10 }";
    let key = setup.caller("clocked", &profile(limit));
    let right = setup.copy().start();
    // An hour ahead: whoever asked this clock would find the limit full again.
    let ahead = setup.start_at("+1h");
    assert_eq!(passed(&right, &key, 6), 6);
    assert_eq!(passed(&ahead, &key, 6), 4);
    assert_eq!(passed(&right, &key, 2), 0);
    let last = token(&mut ahead.client(), &key);
    let line = ahead.access_line(last.header("x-request-id"));
    let now = jiff::Timestamp::now();
    let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
    assert!(time.as_second() - now.as_second() > 3000, "its clock is not ahead: {line}");
}
