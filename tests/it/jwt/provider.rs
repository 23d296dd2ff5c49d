//! Keys that come from a provider: rotated, slow, late, away.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::status;
use crate::support::{Issuer, Mood, Process, Setup, Signer, Upstream, scenario_delay, wait_until};

fn gateway(issuer: &Issuer) -> Process {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url());
    let section = issuer.section("school", setup.folder.path(), "profile = \"backend\"");
    setup.with(&section).with("[limits]\nfailed_credentials = \"off\"\n").start()
}

/// What `/readyz` says of the issuer.
fn ready(gateway: &Process) -> serde_json::Value {
    let answer = gateway.admin("/readyz");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["issuers"]["school"].clone()
}

/// Clients that call with ever new tokens while the provider rotates its keys, in this mood.
fn rotate_while_requests_flow(mood: Mood) {
    let [old, new] = ["old", "new"].map(|id| Arc::new(Signer::es256(id)));
    let issuer = Issuer::serving(&[Arc::clone(&old)]);
    let gateway = gateway(&issuer);
    let (rotated, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (before, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let refused = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in 0..6 {
            let (old, new, issuer, gateway) = (&old, &new, &issuer, &gateway);
            let (rotated, over, refused) = (&rotated, &over, &refused);
            let (before, after) = (&before, &after);
            scope.spawn(move || {
                let mut connection = gateway.client();
                let mut count = 0;
                while !over.load(Ordering::SeqCst) {
                    count += 1;
                    let claims = issuer.claims(&json!({"sub": format!("{client}/{count}")}));
                    let new_key = rotated.load(Ordering::SeqCst);
                    let token = if new_key { new } else { old }.token(&claims);
                    let answer = connection.call(&token, "GET", "/v5/rooms/r", "");
                    let counter = if new_key { after } else { before };
                    counter.fetch_add(1, Ordering::SeqCst);
                    if answer.status != 200 {
                        refused.lock().unwrap().push(answer.text());
                    }
                }
            });
        }
        wait_until("tokens of the old key flow", || before.load(Ordering::SeqCst) >= 60);
        let at_rest = issuer.fetches();
        issuer.mood(mood);
        issuer.publish(&[Arc::clone(&old), Arc::clone(&new)]);
        rotated.store(true, Ordering::SeqCst);
        wait_until("tokens of the new key flow", || after.load(Ordering::SeqCst) >= 60);
        over.store(true, Ordering::SeqCst);
        assert_eq!((at_rest, issuer.fetches()), (1, 2), "one fetch for everybody");
    });
    let refused = refused.into_inner().unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(ready(&gateway)["keys"], 2);
}

#[test]
fn no_valid_token_is_refused_while_keys_are_rotated() {
    rotate_while_requests_flow(Mood::Up);
}

#[test]
fn no_valid_token_is_refused_while_a_slow_provider_rotates_its_keys() {
    rotate_while_requests_flow(Mood::Slow(Duration::from_millis(500)));
}

#[test]
fn a_forger_of_the_next_key_delays_it_for_five_seconds_and_one_fetch() {
    let [old, next, forger] = ["old", "next", "next"].map(|id| Arc::new(Signer::es256(id)));
    let issuer = Issuer::serving(&[Arc::clone(&old)]);
    let gateway = gateway(&issuer);
    let mut client = gateway.client();
    let mut count = 0;
    let mut token = |signer: &Signer| {
        count += 1;
        signer.token(&issuer.claims(&json!({"jti": count})))
    };
    assert_eq!(status(&mut client, &token(&old)), 200);
    assert_eq!(status(&mut client, &token(&forger)), 401);
    let fetched = Instant::now();
    issuer.publish(&[Arc::clone(&old), Arc::clone(&next)]);
    // On and on, with the id of the new key and with others.
    while status(&mut client, &token(&next)) != 200 {
        assert_eq!(status(&mut client, &token(&forger)), 401);
        assert_eq!(status(&mut client, &token(&Signer::es256("another"))), 401);
        assert!(fetched.elapsed() < Duration::from_secs(8), "the new key is shut out");
        scenario_delay(Duration::from_millis(50));
    }
    assert_eq!(issuer.fetches(), 3, "the first, the forger's, and the one that brought it");
}

#[test]
fn a_provider_that_is_down_at_the_start_keeps_nobody_else_waiting() {
    let signer = Arc::new(Signer::es256("a"));
    let issuer = Issuer::absent(&[Arc::clone(&signer)]);
    let gateway = gateway(&issuer);
    let token = signer.token(&issuer.claims(&json!({})));
    let answer = gateway.client().call(&token, "GET", "/v5/rooms/r", "");
    answer.assert_envelope(500, "auth_unavailable");
    assert!(answer.has("retry-after") && !answer.has("www-authenticate"), "{:?}", answer.headers);
    assert_eq!(gateway.call("GET", "/v5/rooms/r", "").status, 200);
    let told = ready(&gateway);
    assert_eq!((&told["usable"], &told["keys"]), (&json!(false), &json!(0)), "{told}");
    assert!(told["error"].as_str().unwrap().contains("could not be connected to"), "{told}");
    issuer.listen();
    let mut client = gateway.client();
    wait_until("the keys have come", || status(&mut client, &token) == 200);
    let told = ready(&gateway);
    assert_eq!((&told["usable"], &told["error"]), (&json!(true), &json!(null)), "{told}");
}

#[test]
fn a_provider_that_goes_away_later_is_not_missed() {
    let signer = Arc::new(Signer::es256("a"));
    let issuer = Issuer::serving(&[Arc::clone(&signer)]);
    let gateway = gateway(&issuer);
    let mut client = gateway.client();
    let token = |sub: &str| signer.token(&issuer.claims(&json!({"sub": sub})));
    assert_eq!(status(&mut client, &token("ada")), 200);
    for (mood, sub) in [(Mood::Down, "bob"), (Mood::Failing, "eve")] {
        issuer.mood(mood);
        assert_eq!(status(&mut client, &token("ada")), 200);
        assert_eq!(status(&mut client, &token(sub)), 200);
        let unknown = Signer::es256(sub).token(&issuer.claims(&json!({})));
        let answer = client.call(&unknown, "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "invalid_token");
        assert_eq!(status(&mut client, &token("zoe")), 200);
    }
    let told = ready(&gateway);
    assert_eq!((&told["usable"], &told["keys"]), (&json!(true), &json!(1)), "{told}");
    assert!(told["error"].is_string(), "{told}");
    // Nor does a reload begin without any keys.
    gateway.reload(&std::fs::read_to_string(gateway.config_path()).unwrap());
    assert_eq!(status(&mut client, &token("joe")), 200);
}

#[test]
fn forged_key_ids_make_one_fetch() {
    let signer = Arc::new(Signer::es256("a"));
    let issuer = Issuer::serving(&[Arc::clone(&signer)]);
    let gateway = gateway(&issuer);
    let mut client = gateway.client();
    let good = signer.token(&issuer.claims(&json!({})));
    assert_eq!(status(&mut client, &good), 200);
    for forged in 0..100 {
        let token = Signer::ed25519(&format!("forged {forged}")).token(&issuer.claims(&json!({})));
        assert_eq!(status(&mut client, &token), 401);
    }
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(status(&mut client, &good), 200);
}
