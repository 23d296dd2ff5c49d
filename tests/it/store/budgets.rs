//! Budgets in a store: several gateways together never give out more than there is, whatever
//! becomes of them, of their clocks and of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{profile, setup, token};
use crate::budgets::{
    CONVERSIONS, NOWHERE, SLIDES, Seen, ask, ask_on, conversions, number, tokens, used,
};
use crate::support::{Process, Redis, Setup, Upstream, answer, ended, scenario_delay, wait_until};

/// What keeps nothing back from the disk, and forgets nothing.
const LASTING: [&str; 2] = ["appendonly yes", "appendfsync always"];

/// A gateway in the making whose profile `backend` has these budgets, in this store.
fn with_budgets(upstream: &str, store: &str, budgets: &str) -> Setup {
    let line = format!("[profiles.backend]\nbudgets = [{budgets}]\n");
    setup(&format!("{store}\n"))
        .set("upstream.url", upstream)
        .with(&line)
        .with("[budgets]\ntime_zone = \"Europe/Berlin\"\n")
}

/// So patient that a busy machine is no store that does not answer.
fn patient(redis: &Redis) -> String {
    format!("url = \"{}\"\ntimeout = \"5s\"", redis.url())
}

/// Asks all gateways at once for tokens until each has refused; gives how many each key has got.
fn hammer(gateways: &[Process], keys: &[String]) -> Vec<usize> {
    let ask_until_refused = |gateway: &Process, key: &str| {
        let mut client = gateway.client();
        let mut got = 0;
        loop {
            let answer = token(&mut client, key);
            if answer.status != 201 {
                answer.assert_envelope(403, "quota_exceeded");
                return got;
            }
            got += 1;
        }
    };
    thread::scope(|scope| {
        let of_key = keys.iter().map(|key| {
            let ask = |gateway| scope.spawn(move || ask_until_refused(gateway, key));
            // Two connections to each.
            gateways.iter().chain(gateways).map(ask).collect::<Vec<_>>()
        });
        let running: Vec<_> = of_key.collect();
        let sum = |asking: Vec<thread::ScopedJoinHandle<'_, usize>>| {
            asking.into_iter().map(|one| one.join().unwrap()).sum()
        };
        running.into_iter().map(sum).collect()
    })
}

#[test]
fn two_gateways_give_out_together_what_there_is() {
    let redis = Redis::start();
    let shared = "{ of = \"tokens\", most = 220, per = \"month\", for = \"profile\" }";
    let budgets = format!("{}, {shared}", tokens(150));
    let mut setup = with_budgets(NOWHERE, &patient(&redis), &budgets);
    let keys = [setup.key.clone(), setup.key_of("other", "backend")];
    let gateways = [setup.copy().start(), setup.start()];
    let got = hammer(&gateways, &keys);
    assert_eq!(got.iter().sum::<usize>(), 220, "{got:?}");
    assert!(got.iter().all(|got| *got <= 150), "{got:?}");
    for gateway in &gateways {
        let page = gateway.admin("/budgets").json();
        assert_eq!((&page["time_zone"], &page["not_shown"]), (&"Europe/Berlin".into(), &0.into()));
        let mut shown: Vec<(String, u64)> = page["counters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let caller = row["caller"].as_str().or_else(|| row["for"].as_str()).unwrap();
                assert!(row["end"].as_str().unwrap().contains("-01T00:00:00+0"), "{row}");
                (caller.to_owned(), row["used"].as_u64().unwrap())
            })
            .collect();
        shown.sort();
        let [lessons, other] = got[..] else { panic!() };
        let expected = [("lessons", lessons), ("other", other), ("profile", 220)];
        assert_eq!(shown, expected.map(|(name, used)| (name.to_owned(), used as u64)));
    }
}

#[test]
fn two_gateways_give_out_together_what_there_is_in_a_cluster() {
    let nodes = Redis::cluster(&[]);
    let urls: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", node.url())).collect();
    let store = format!("url = [{}]\nmode = \"cluster\"\ntimeout = \"5s\"", urls.join(", "));
    let mut setup = setup(&store);
    let budgets = "budgets = [{ of = \"tokens\", most = 60, per = \"month\" }, \
                   { of = \"requests\", most = 50, per = \"day\", for = \"profile\" }]";
    let keys: Vec<String> =
        (0..6).map(|place| setup.caller(&format!("class-{place}"), &profile(budgets))).collect();
    let gateways = [setup.copy().start(), setup.start()];
    assert_eq!(hammer(&gateways, &keys), [50; 6]);
    let with_keys = nodes.iter().filter(|node| !node.ask(&["DBSIZE"]).starts_with(":0"));
    assert!(with_keys.count() > 1, "they are spread over the servers");
    let page = gateways[0].admin("/budgets").json();
    assert_eq!(page["counters"].as_array().unwrap().len(), 12, "{page}");
}

#[test]
fn what_is_left_is_told_as_from_a_file_and_a_restart_forgets_nothing() {
    let redis = Redis::start();
    let setup = with_budgets(NOWHERE, &patient(&redis), &tokens(4));
    let key = setup.key.clone();
    let mut gateway = setup.start();
    for (signal, left) in [("TERM", 3), ("KILL", 2)] {
        let answer = ask(&gateway, &key);
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(number(answer.header("ratelimit"), "tokens-month", "r"), Some(left));
        assert_eq!(number(answer.header("ratelimit-policy"), "tokens-month", "q"), Some(4));
        gateway.signal(signal);
        gateway.wait(Duration::from_secs(20));
        gateway = gateway.again();
    }
    assert_eq!(used(&gateway, "tokens"), (2, 0));
    assert_eq!([ask(&gateway, &key).status, ask(&gateway, &key).status], [201, 201]);
    let refused = ask(&gateway, &key);
    refused.assert_envelope(403, "quota_exceeded");
    let more_in = number(refused.header("ratelimit"), "tokens-month", "t").unwrap();
    let retry: u64 = refused.header("retry-after").parse().unwrap();
    assert!(retry >= more_in && retry <= more_in + 61, "{retry} {more_in}");
}

#[test]
fn a_store_that_is_gone_gives_out_nothing_and_is_back_with_all_that_it_knew() {
    for (errors, status) in [("documented", 500), ("extended", 503)] {
        let mut redis = Redis::with(&LASTING);
        let store = format!("url = \"{}\"\ntimeout = \"200ms\"", redis.url());
        let mut setup = with_budgets(NOWHERE, &store, &tokens(5))
            .with(&format!("[errors]\nprofile = \"{errors}\"\n"));
        let free = setup.caller("free", &profile(""));
        let gateway = setup.start();
        assert_eq!(
            [ask(&gateway, &gateway.key).status, ask(&gateway, &gateway.key).status],
            [201; 2]
        );
        redis.kill();
        for _ in 0..5 {
            let refused = ask(&gateway, &gateway.key);
            refused.assert_envelope(status, "store_unavailable");
            assert_eq!(refused.header("retry-after"), "1");
            assert!(!refused.has("ratelimit"));
            // Whatever is of no budget goes on.
            assert_eq!(ask(&gateway, &free).status, 201);
            assert_ne!(gateway.call("GET", "/v5/rooms", "").member("code"), "store_unavailable");
        }
        let ready = gateway.admin("/readyz");
        assert_eq!((ready.status, &ready.json()["store"]["answers"]), (200, &false.into()));
        assert_eq!(gateway.metric("wbg_ratelimit_degraded"), 1.0);
        gateway.admin("/budgets").assert_envelope(503, "store_unavailable");
        wait_until("it is said", || gateway.stderr().contains("the store does not answer"));
        redis.revive();
        wait_until("it goes on", || ask(&gateway, &gateway.key).status == 201);
        wait_until("it is said", || gateway.stderr().contains("the store answers again"));
        assert_eq!(used(&gateway, "tokens"), (3, 0), "not more than it gave");
    }
}

#[test]
fn what_came_to_nothing_goes_back_to_a_store_that_was_away_meanwhile() {
    // Once for a gateway that is told to stop as well.
    for stops in [false, true] {
        let redis = Redis::start();
        let fails = Arc::new(AtomicBool::new(false));
        let may_fail = Arc::clone(&fails);
        let upstream = Upstream::scripted(move |_, stream| {
            wait_until("it may fail", || may_fail.load(Ordering::SeqCst));
            let failed = answer("500 Oh", "{\"message\":\"x\"}");
            std::io::Write::write_all(stream, failed.as_bytes()).is_ok()
        });
        let store = format!("url = \"{}\"\ntimeout = \"200ms\"", redis.url());
        let mut gateway = with_budgets(&upstream.url(), &store, &conversions(50)).start();
        thread::scope(|scope| {
            let asked = scope.spawn(|| gateway.call("POST", CONVERSIONS, SLIDES).status);
            wait_until("it is taken", || used(&gateway, "conversions") == (1, 0));
            redis.signal("STOP");
            fails.store(true, Ordering::SeqCst);
            assert_eq!(asked.join().unwrap(), 500, "nobody waits for what goes back");
        });
        if stops {
            gateway.signal("TERM");
        }
        let late = || gateway.metric("wbg_store_calls_total{result=\"late\"}") > 0.0;
        if !stops {
            wait_until("it has tried in vain", late);
        }
        redis.signal("CONT");
        if stops {
            gateway.wait(Duration::from_secs(30));
            gateway = gateway.again();
        }
        wait_until("it is back", || used(&gateway, "conversions") == (0, 0));
        let lost = "wbg_budget_losses_total{profile=\"backend\",of=\"conversions\"}";
        assert_eq!(gateway.metric(lost), 0.0);
    }
}

#[test]
fn the_hour_is_the_stores_and_not_that_of_a_gateway() {
    // The test is over before the hour is.
    wait_until("an hour has just begun, or is far from its end", || {
        jiff::Timestamp::now().as_second().rem_euclid(3600) < 3592
    });
    let redis = Redis::start();
    let hourly = "{ of = \"tokens\", most = 10, per = \"hour\" }";
    let setup = with_budgets(NOWHERE, &patient(&redis), hourly);
    let (ahead, behind) = (setup.copy().start_at("+1h"), setup.copy().start_at("-1h"));
    let key = setup.key.clone();
    let right = setup.start();
    let passed = |gateway: &Process, tries: usize| {
        (0..tries).filter(|_| ask(gateway, &key).status == 201).count()
    };
    assert_eq!([passed(&right, 2), passed(&ahead, 3), passed(&behind, 3)], [2, 3, 3]);
    assert_eq!([passed(&ahead, 9), passed(&behind, 9), passed(&right, 9)], [2, 0, 0]);
    let end = |gateway: &Process| gateway.admin("/budgets").json()["counters"][0]["end"].clone();
    for wrong in [&ahead, &behind] {
        assert_eq!((used(wrong, "tokens"), end(wrong)), (used(&right, "tokens"), end(&right)));
        let refused = ask(wrong, &key);
        let more_in = number(refused.header("ratelimit"), "tokens-hour", "t").unwrap();
        assert!(more_in <= 3600, "{more_in}");
        let line = wrong.access_line(refused.header("x-request-id"));
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        let off = time.as_second() - jiff::Timestamp::now().as_second();
        assert!(off.abs() > 3000, "its clock is not wrong: {line}");
    }
}

/// Kills one of two gateways under load again and again, and counts after each time.
fn kill_at_random(times: u32, most: u32) {
    const CLIENTS: u32 = 3;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let redis = Redis::start();
    let setup = with_budgets(NOWHERE, &patient(&redis), &tokens(most));
    let key = setup.key.clone();
    let other = setup.copy().start();
    let mut gateway = setup.start();
    let (mut before, mut given, mut used_up) = (0, 0, 0);
    for round in 0..times {
        let (seen, calm) = (Seen::default(), AtomicBool::new(false));
        let of_other = thread::scope(|scope| {
            for client in (0..CLIENTS).map(|_| gateway.client()) {
                scope.spawn(|| ask_on(client, &key, &seen));
            }
            let asking = scope.spawn(|| {
                let mut got = 0;
                while !calm.load(Ordering::SeqCst) {
                    got += u64::from(ask(&other, &key).status == 201);
                }
                got
            });
            let answers = random.u32(0..60);
            let answered =
                || seen.given.load(Ordering::SeqCst) + seen.refused.load(Ordering::SeqCst);
            wait_until("enough is answered", || answered() >= answers);
            scenario_delay(Duration::from_micros(random.u64(0..8_000)));
            gateway.signal("KILL");
            gateway.wait(Duration::from_secs(20));
            calm.store(true, Ordering::SeqCst);
            asking.join().unwrap()
        });
        gateway = gateway.again();
        let [sent, of_killed, refused] = [&seen.sent, &seen.given, &seen.refused]
            .map(|counter| u64::from(counter.load(Ordering::SeqCst)));
        let in_flight = sent - of_killed - refused;
        given += of_killed + of_other;
        let (after, reserved) = used(&gateway, "tokens");
        let about = format!(
            "seed {seed}, round {round}: {before} before, {of_killed} and {of_other} given, \
             {in_flight} in flight, {after} after"
        );
        assert!(in_flight <= u64::from(CLIENTS) && reserved == 0, "{about}");
        let known = before + of_killed + of_other;
        assert!((known..=known + in_flight).contains(&after), "{about}");
        assert!(given <= u64::from(most), "{about}: {given} in all");
        before = after;
        if after >= u64::from(most) {
            used_up += 1;
            redis.ask(&["FLUSHALL"]);
            (before, given) = (0, 0);
        }
    }
    eprintln!("{times} kills, {used_up} budgets used up");
}

#[test]
fn a_gateway_that_is_killed_loses_no_more_than_was_in_flight_there() {
    kill_at_random(10, 250);
}

/// `tests/run` runs it.
#[test]
#[ignore = "takes a minute: cargo nextest run --run-ignored only -E 'test(two_hundred_crashes)'"]
fn two_hundred_crashes_of_a_gateway_give_out_nothing_twice() {
    kill_at_random(200, 400);
}

#[test]
fn check_and_the_log_say_where_budgets_are_and_whether_they_stay_there() {
    let forgetful = Redis::start();
    let setup = with_budgets(NOWHERE, &patient(&forgetful), &tokens(5));
    let told = String::from_utf8(ended(setup.command("check")).stdout).unwrap();
    let line = "1 token a month for each caller (Europe/Berlin), kept in the store";
    let line = line.replace("1 token", "5 tokens");
    assert!(told.contains(&line), "{told}");
    let gateway = setup.start();
    let forgets = "the store keeps no append-only file";
    wait_until("it is warned", || gateway.stderr().contains(forgets));
    assert_eq!(gateway.stderr().matches(forgets).count(), 1, "by one of its workers");
    let evicting = Redis::with(&[&LASTING[..], &["maxmemory-policy allkeys-lru"]].concat());
    let gateway = with_budgets(NOWHERE, &patient(&evicting), &tokens(5)).start();
    wait_until("it is warned", || gateway.stderr().contains("the store evicts keys"));
    assert!(!gateway.stderr().contains(forgets));
}

#[test]
fn with_a_file_as_well_budgets_are_in_the_file() {
    let redis = Redis::start();
    let setup = with_budgets(NOWHERE, &patient(&redis), &tokens(5));
    let gateway = setup.with("[budgets]\nfile = \"./budgets.db\"\n").start();
    assert_eq!(ask(&gateway, &gateway.key).status, 201);
    assert_eq!(used(&gateway, "tokens"), (1, 0));
    assert!(gateway.folder.path().join("budgets.db").exists());
    assert!(!redis.ask(&["KEYS", "*"]).contains("budget"));
}
