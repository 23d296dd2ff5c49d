//! The script, asked directly: what it takes, and what it leaves alone.

use crate::support::Redis;

const GCRA: &str = include_str!("../../../src/limit/shared/gcra.lua");

/// Runs it; gives the whole numbers that it answers with.
fn run(redis: &Redis, keys: &[&str], arguments: &[i64]) -> Vec<i64> {
    let (count, arguments) = (keys.len().to_string(), arguments.iter().map(i64::to_string));
    let arguments: Vec<String> = arguments.collect();
    let mut words = vec!["EVAL", GCRA, &count];
    words.extend(keys);
    words.extend(arguments.iter().map(String::as_str));
    let answer = redis.ask(&words);
    assert!(answer.starts_with('*'), "{answer}");
    answer.lines().filter_map(|line| line.strip_prefix(':')?.parse().ok()).collect()
}

fn value(redis: &Redis, key: &str) -> String {
    redis.ask(&["GET", key]).lines().nth(1).unwrap_or_default().to_owned()
}

/// A request an hour, so that nothing is earned while a test runs, and three at once.
const HOURLY: [i64; 3] = [1, 3_600_000_000, 3 * 3_600_000_000];

/// The same, with only one at once.
const ONE: [i64; 3] = [1, 3_600_000_000, 3_600_000_000];

fn wanted(count: i64, rates: &[[i64; 3]]) -> Vec<i64> {
    [count].into_iter().chain(rates.iter().flatten().copied()).collect()
}

#[test]
fn a_burst_passes_and_then_none_until_one_is_earned() {
    let redis = Redis::start();
    let once = wanted(1, &[HOURLY]);
    for left in [2, 1] {
        assert_eq!(run(&redis, &["a"], &once), [1, 0, 0, left]);
    }
    let last = run(&redis, &["a"], &once);
    assert_eq!((&last[..2], last[3]), (&[1, 1][..], 0), "it says that it is the last");
    let [taken, empty, wait, left] = run(&redis, &["a"], &once)[..] else { panic!() };
    assert_eq!((taken, empty, left), (0, 1, 0));
    assert!((3_590_000_000..=3_600_000_000).contains(&wait), "{wait}");
}

#[test]
fn a_refusal_writes_nothing_anywhere() {
    let redis = Redis::start();
    let both = wanted(1, &[HOURLY, ONE]);
    assert_eq!(run(&redis, &["narrow", "wide"], &both)[0], 1);
    let before = ["narrow", "wide"].map(|key| value(&redis, key));
    let refused = run(&redis, &["narrow", "wide"], &both);
    assert_eq!((refused[0], refused[1]), (0, 2), "the wide one refuses: {refused:?}");
    assert_eq!(refused[3..], [2, 0], "what the narrow one has left is told");
    assert_eq!(["narrow", "wide"].map(|key| value(&redis, key)), before);
    // And a key that is not there is not made.
    run(&redis, &["other", "wide"], &both);
    assert_eq!(redis.ask(&["EXISTS", "other"]).lines().next(), Some(":0"));
}

#[test]
fn a_lease_takes_what_is_there_and_no_more() {
    let redis = Redis::start();
    let many = wanted(10, &[HOURLY, [1, 3_600_000_000, 2 * 3_600_000_000]]);
    let answer = run(&redis, &["narrow", "wide"], &many);
    assert_eq!((answer[0], &answer[3..]), (2, &[1, 0][..]));
}

#[test]
fn a_clock_that_jumped_keeps_nobody_out_and_what_is_earned_back_is_forgotten() {
    let redis = Redis::start();
    // As far ahead as a clock that was a year fast has left it.
    redis.ask(&["SET", "a", "9000000000000000"]);
    let quick = wanted(1, &[[100, 1_000_000, 50_000]]);
    let [taken, empty, wait, _] = run(&redis, &["a"], &quick)[..] else { panic!() };
    assert_eq!((taken, empty, wait), (0, 1, 10_000), "at most a used-up burst");
    redis.ask(&["DEL", "a"]);
    assert_eq!(run(&redis, &["a"], &quick)[0], 1);
    let life: i64 = redis.ask(&["PTTL", "a"])[1..].lines().next().unwrap().parse().unwrap();
    assert!(life <= 10, "it lives for {life} ms: when it is over, the limit is full");
}
