//! A cluster: slots that move while gateways run, and a server that is gone.

use super::{profile, setup, token};
use crate::support::{Process, Redis, Setup, wait_until};

/// A gateway on the cluster, and callers of so many profiles, whose keys are all over it.
fn gateway(nodes: &[Redis], profiles: usize) -> (Process, Vec<String>) {
    let urls: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", node.url())).collect();
    let store = format!("url = [{}]\nmode = \"cluster\"\ntimeout = \"2s\"", urls.join(", "));
    let mut setup = setup(&store).set("listen.workers", 1);
    let add = |setup: &mut Setup, place| {
        let limit = "limit = { rate = \"100/h\", burst = 100 }";
        setup.caller(&format!("profile-{place}"), &profile(limit))
    };
    let keys = (0..profiles).map(|place| add(&mut setup, place)).collect();
    (setup.start(), keys)
}

/// How many requests a caller has left; `None` when the store was not asked.
fn left(gateway: &Process, key: &str) -> Option<u32> {
    let answer = token(&mut gateway.client(), key);
    let field = answer.header("ratelimit").strip_prefix("\"caller\";r=")?;
    field.split(';').next()?.parse().ok()
}

fn id(node: &Redis) -> String {
    node.ask(&["CLUSTER", "MYID"]).lines().nth(1).unwrap().to_owned()
}

/// The slot of a profile, the node that has it, and another.
fn slot<'a>(nodes: &'a [Redis], profile: &str) -> (String, &'a Redis, &'a Redis) {
    let tag = format!("{{{profile}}}");
    let answer = nodes[0].ask(&["CLUSTER", "KEYSLOT", &tag]);
    let has = |node: &&Redis| !node.ask(&["EXISTS", &tag]).contains("MOVED");
    let owner = nodes.iter().find(has).unwrap();
    let other = nodes.iter().find(|node| node.port != owner.port).unwrap();
    (answer.trim_start_matches(':').trim().to_owned(), owner, other)
}

#[test]
fn a_slot_that_moves_or_has_moved_is_followed() {
    let nodes = Redis::cluster(&[]);
    let (gateway, keys) = gateway(&nodes, 2);
    // Both are asked for the first time once their slots are elsewhere.
    let (moved, _, to) = slot(&nodes, "profile-0");
    for node in &nodes {
        assert!(node.ask(&["CLUSTER", "SETSLOT", &moved, "NODE", &id(to)]).contains("OK"));
    }
    assert_eq!([left(&gateway, &keys[0]), left(&gateway, &keys[0])], [Some(99), Some(98)]);
    let (moving, from, to) = slot(&nodes, "profile-1");
    assert!(to.ask(&["CLUSTER", "SETSLOT", &moving, "IMPORTING", &id(from)]).contains("OK"));
    assert!(from.ask(&["CLUSTER", "SETSLOT", &moving, "MIGRATING", &id(to)]).contains("OK"));
    assert_eq!([left(&gateway, &keys[1]), left(&gateway, &keys[1])], [Some(99), Some(98)]);
    assert_eq!(to.ask(&["CLUSTER", "COUNTKEYSINSLOT", &moving]), ":1\r\n", "it is there already");
}

#[test]
fn a_server_that_is_gone_is_missed_by_its_own_profiles_alone() {
    let mut nodes = Redis::cluster(&["cluster-require-full-coverage no"]);
    let (gateway, keys) = gateway(&nodes, 12);
    let shared = |key: &String| left(&gateway, key).is_some();
    assert!(keys.iter().all(shared));
    nodes[1].kill();
    wait_until("some do without it", || !keys.iter().all(shared));
    for _ in 0..3 {
        let with = keys.iter().filter(|key| shared(key)).count();
        assert!((1..12).contains(&with), "{with} of 12 are shared");
    }
    assert_eq!(gateway.metric("wbg_ratelimit_degraded"), 1.0);
    nodes[1].revive();
    wait_until("all are shared again", || keys.iter().all(shared));
}
