//! The gateway at the end of a long link, over real sockets: a network of its own, in which packets
//! take as long as they do from Europe to China, some addresses are dead, and name servers hang.
//!
//! It takes a name space of one's own and a tun device (`link/world.py`). Where the machine gives
//! neither, these say NOT RUN; the same times by a clock of their own are in `src/net/dial/tests.rs`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::house::root;
use crate::support::{Setup, binary};

const NAMESPACE: [&str; 2] = ["-rnm", "--"];

/// Whether this machine gives a name space and a tun device.
fn has_networks() -> bool {
    let tries = "ip tuntap add dev link0 mode tun && mount --bind /etc/hosts /etc/hosts";
    let mut command = Command::new("unshare");
    command.args(NAMESPACE).args(["sh", "-c", tries]);
    let ran = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has = ran.is_ok_and(|status| status.success())
        && std::path::Path::new("/usr/bin/python3").exists();
    if !has {
        eprintln!("NOT RUN: there is no network of one's own here");
    }
    has
}

/// What came of requests to a gateway behind such a link, whose service is at this host.
fn world(host: &str, more: &str, options: &[&str]) -> Value {
    let setup = Setup::new(&format!("http://{host}:8099")).with(more);
    let mut command = Command::new("unshare");
    command.args(NAMESPACE).arg("/usr/bin/python3").arg(root().join("tests/it/link/world.py"));
    let serve = setup.command("serve");
    command.args(options).arg(&setup.key).arg("--").arg(binary()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The seconds of each request, all of which must be answered.
fn answered(world: &Value) -> Vec<f64> {
    let answers = world["answers"].as_array().unwrap().iter();
    answers
        .map(|answer| {
            assert_eq!(answer["status"], 200, "{answer}");
            answer["seconds"].as_f64().unwrap()
        })
        .collect()
}

/// With all defaults. Divided by the number of addresses, the time for a connection is 250 ms and
/// 125 ms here, and every request fails.
#[test]
fn a_long_link_to_many_good_addresses_is_no_failure() {
    if !has_networks() {
        return;
    }
    for (round_trip, addresses) in [("0.28", "4"), ("0.16", "8")] {
        let options = ["--round-trip", round_trip, "--addresses", addresses, "--requests", "3"];
        let world = world("service.test", "", &options);
        for seconds in answered(&world) {
            let least = 2.0 * round_trip.parse::<f64>().unwrap();
            assert!((least..least + 1.0).contains(&seconds), "{round_trip}: {world}");
        }
    }
}

#[test]
fn dead_addresses_before_a_good_one_cost_a_quarter_of_a_second_each_and_once() {
    if !has_networks() {
        return;
    }
    let options = ["--round-trip", "0.05", "--addresses", "4", "--dead", "3", "--requests", "3"];
    let world = world("service.test", "", &options);
    let seconds = answered(&world);
    assert!((0.75..1.4).contains(&seconds[0]), "{world}");
    assert!(seconds[1..].iter().all(|seconds| *seconds < 0.5), "what worked is first: {world}");
}

/// The system's resolver waits for ten seconds for each name server, and cannot be called off.
#[test]
fn a_resolver_that_hangs_ends_requests_in_their_time_and_holds_up_no_stop() {
    if !has_networks() {
        return;
    }
    let options = ["--round-trip", "0.01", "--addresses", "1", "--requests", "2", "--then-stop"];
    let bounds = "[upstream.retry]\nattempts = 1\n";
    let world = world("hangs.test", bounds, &options);
    for answer in world["answers"].as_array().unwrap() {
        assert_eq!(answer["status"], 500, "{world}");
        let body = answer["body"].as_str().unwrap();
        assert!(body.contains("upstream_timeout"), "{world}");
        assert!(answer["seconds"].as_f64().unwrap() < 2.5, "{world}");
    }
    assert_eq!(world["exit"], 0, "{world}");
    // pre_drain is none here, and nothing is in flight.
    assert!(world["seconds"].as_f64().unwrap() < 2.0, "{world}");
}
