//! What a process does that may have few file descriptors, or comes to have none left: it starts and
//! serves, or says why not; and without any left it is a full house.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Process, Setup, Upstream, ended, scenario_delay, wait_until};

fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).set("log.level", "info")
}

/// The command, which may have so many descriptors open: the soft limit and the hard one.
fn limited(command: &Command, limits: &str) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={limits}")).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

fn started(setup: Setup, limits: &str) -> Process {
    let command = limited(&setup.command("serve"), limits);
    Process::of(command, setup.folder, setup.key)
}

/// From now on it may have so many open; the hard limit stays, so that it can be raised again.
fn limit(gateway: &Process, most: usize) {
    let limit = format!("--nofile={most}:");
    let id = gateway.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
}

fn open(gateway: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap().count()
}

/// Asks without a credential; `None` where nobody answers.
fn try_refused(gateway: &Process) -> Option<Client> {
    let mut client = gateway.client();
    client.try_send(b"GET /v5/rooms HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
    client.answer("GET").filter(|answer| answer.status == 401)?;
    Some(client)
}

fn call(gateway: &Process) -> Answer {
    gateway.call("GET", "/v5/rooms", "")
}

/// How often a line of the log has these words.
fn lines(gateway: &Process, words: &str) -> usize {
    gateway.stderr().matches(words).count()
}

#[test]
fn few_descriptors_keep_it_from_starting_clearly_or_it_serves() {
    let upstream = Upstream::json("200 OK", "[]");
    let (mut served, mut refused) = (0, 0);
    for most in [5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32, 48, 64, 72, 80, 96] {
        let setup = setup(&upstream);
        let limits = format!("{most}:{most}");
        match Process::try_of(limited(&setup.command("serve"), &limits), setup.folder, setup.key) {
            Err((status, log)) => {
                refused += 1;
                assert_eq!(status.code(), Some(2), "{most}: {log}");
                assert!(!log.contains("\"listening\""), "{most}: {log}");
                let last = log.lines().last().unwrap();
                let says = ["the limit of open files", "Too many open files", "(os error 24)"];
                assert!(says.iter().any(|words| last.contains(words)), "{most}: {last}");
            }
            Ok(gateway) => {
                served += 1;
                assert_eq!(call(&gateway).status, 200, "{most}: {}", gateway.stderr());
                assert_eq!(gateway.admin("/livez").status, 200, "{most}");
            }
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} did not start");
}

#[test]
fn sixteen_descriptors_are_said_to_be_too_few() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = setup(&upstream);
    let output = ended(limited(&setup.command("serve"), "16:16"));
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("listening"), "{log}");
    assert!(log.lines().last().unwrap().contains("open files"), "{log}");
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = started(setup(&upstream), "64:4096");
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4096"), "{line}");
    gateway.until_logged("the limit of open files is 4096");
    assert_eq!(lines(&gateway, "the limit of open files is 4096"), 1, "{}", gateway.stderr());
}

#[test]
fn a_hundred_and_thirty_who_were_refused_lock_nobody_out_of_a_hundred_descriptors() {
    // So that each request needs a connection to the service, and a descriptor.
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
         connection: close\r\n\r\n[]",
    );
    let gateway = started(setup(&upstream), "100:100");
    let idle: Vec<Client> = (0..130).filter_map(|_| try_refused(&gateway)).collect();
    assert!(!idle.is_empty());
    scenario_delay(Duration::from_millis(1_500));
    for number in 0..20 {
        let begun = Instant::now();
        let answer = call(&gateway);
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        assert_eq!(gateway.admin("/livez").status, 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{number}: {:?}", begun.elapsed());
    }
    assert!(open(&gateway) <= 100 - 8, "some are kept aside: {}", open(&gateway));
    gateway.until_metric_reaches("wbg_connections_cut_total{reason=\"crowded_out\"}", 1.0);
    assert_eq!(lines(&gateway, "no connection can be accepted"), 0, "{}", gateway.stderr());
    drop(idle);
}

#[test]
fn a_process_without_descriptors_is_a_full_house_and_says_so_once() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    // Each worker has a connection to the service, unless all of these came to one of them.
    for _ in 0..40 {
        assert_eq!(call(&gateway).status, 200);
    }
    let mut idle: Vec<Client> = (0..40).filter_map(|_| try_refused(&gateway)).collect();
    assert_eq!(idle.len(), 40);
    scenario_delay(Duration::from_millis(1_500));
    let some = open(&gateway);
    limit(&gateway, some);
    let over = Instant::now() + Duration::from_secs(4);
    let mut served = 0;
    while Instant::now() < over {
        let answer = call(&gateway);
        assert_eq!(answer.status, 200, "after {served}: {}", answer.text());
        served += 1;
        // Each of these needs another's place.
        idle.extend(try_refused(&gateway));
        scenario_delay(Duration::from_millis(20));
    }
    assert!(served >= 20, "{served}");
    let none_left = "no connection can be accepted";
    gateway.until_logged(none_left);
    assert_eq!(lines(&gateway, none_left), 1, "{}", gateway.stderr());
    limit(&gateway, 4_096);
    wait_until("the end of it is said", || lines(&gateway, "connections are accepted again") > 0);
    assert_eq!(lines(&gateway, "connections are accepted again"), 1, "{}", gateway.stderr());
    assert_eq!(lines(&gateway, none_left), 1, "{}", gateway.stderr());
    let cut = gateway.metric("wbg_connections_cut_total{reason=\"no_descriptor\"}");
    assert!(cut >= 1.0, "{cut}");
}
