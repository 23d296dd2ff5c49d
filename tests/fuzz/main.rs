//! The targets of the fuzzer, run without it: every seed, and for as many seconds as
//! `FUZZ_SECONDS` says inputs that are made of seeds and of the words of the dictionary.
//!
//! It learns nothing from the way an input takes through the code, as the fuzzer does; but it is
//! built with everything else, by a plain toolchain, in no time. An input that makes a target fail
//! is kept in `fuzz/artifacts`; `FUZZ_INPUT` runs one that is kept.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a finding, and says what it knows; targets are another crate's"
)]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

mod mutation;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutation::Mutator;

/// A target that takes longer for one input has a fault. Real ones take microseconds; this is for
/// a build without optimization on a machine with much else to do.
const LONGEST: Duration = Duration::from_secs(5);

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder("seeds").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs a target.
fn run(target: &str, act: fn(&[u8])) {
    if let Some(input) = std::env::var_os("FUZZ_INPUT") {
        return act(&fs::read(input).unwrap());
    }
    let seeds = seeds(target);
    assert!(seeds.len() >= 4, "{target} has {} seeds", seeds.len());
    for seed in &seeds {
        act_on(target, act, seed);
    }
    let seconds = std::env::var("FUZZ_SECONDS").map_or(0.0, |text| text.parse().unwrap());
    let words = fs::read_to_string(folder("dictionaries").join(target)).unwrap_or_default();
    let mut mutator = Mutator::new(seeds, &words);
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed().as_secs_f64() < seconds {
        let input = mutator.input();
        act_on(target, act, &input);
        count += 1;
    }
    eprintln!("{target}: {count} inputs in {seconds} s");
}

/// Runs one input; what makes the target fail is kept.
fn act_on(target: &str, act: fn(&[u8]), input: &[u8]) {
    let begun = Instant::now();
    let failed = catch_unwind(AssertUnwindSafe(|| act(input)));
    let failed = match failed {
        Ok(()) if begun.elapsed() < LONGEST => return,
        Ok(()) => Box::new(format!("it took {:?}", begun.elapsed())),
        Err(why) => why,
    };
    let kept = folder("artifacts").join(target);
    fs::create_dir_all(&kept).unwrap();
    let kept = kept.join(format!("found-{:08x}", crc32fast::hash(input)));
    fs::write(&kept, input).unwrap();
    eprintln!("{}: {:?}", kept.display(), String::from_utf8_lossy(input));
    resume_unwind(failed);
}

/// For targets that read text.
fn text(input: &[u8], act: fn(&str)) {
    if let Ok(input) = str::from_utf8(input) {
        act(input);
    }
}

/// A test for each target, and their names.
macro_rules! targets {
    ($($name:ident: $act:expr,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                run(stringify!($name), $act);
            }
        )*
    };
}

targets! {
    answer: targets::answer::run,
    api_key: |input| text(input, targets::api_key::run),
    body: targets::body::run,
    certificate: targets::certificate::run,
    client: |input| text(input, targets::client::run),
    config: |input| text(input, targets::config::run),
    framing: targets::framing::run,
    head: targets::head::run,
    json: targets::json::run,
    jwt: |input| text(input, targets::jwt::run),
    key_set: targets::key_set::run,
    name: |input| text(input, targets::name::run),
    origin: |input| text(input, targets::origin::run),
    path: |input| text(input, targets::path::run),
    proxy_protocol: targets::proxy_protocol::run,
    query: |input| text(input, targets::query::run),
    redact: |input| text(input, targets::redact::run),
    token_forge: |input| text(input, targets::token_forge::run),
    token_read: |input| text(input, targets::token_read::run),
    traceparent: targets::traceparent::run,
    via: targets::via::run,
    upstream_answer: targets::upstream_answer::run,
}

#[test]
fn every_target_of_the_fuzzer_is_run_and_told() {
    let listed = |path: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder(path)).unwrap();
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| name(entry.unwrap().path())).collect()
    };
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("seeds"), names);
    assert!(listed("dictionaries").is_subset(&names));
    let page = fs::read_to_string(folder("../docs/fuzzing.md")).unwrap();
    let table = page.split_once("\n## ").unwrap().0.lines();
    let told = table.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    assert_eq!(told.map(str::to_owned).collect::<BTreeSet<_>>(), names);
}
