//! What a build is made of: the commit, and the kind of build. Both are in `--version`, in the first
//! line of the log and in the metrics.
#![allow(clippy::print_stdout, reason = "that is how Cargo is told")]

use std::env;
use std::path::Path;
use std::process::Command;

/// What the binary is made of.
const SOURCES: [&str; 5] = ["src", "config", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    for variable in ["WBG_COMMIT", "WBG_BUILD"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let commit = given("WBG_COMMIT").or_else(commit);
    println!("cargo::rustc-env=WBG_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    let build = given("WBG_BUILD").or_else(kind);
    println!("cargo::rustc-env=WBG_BUILD={}", build.as_deref().unwrap_or("unknown"));
    // Another commit, or other sources, another word. What does not exist would make every build a
    // new one.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    for path in SOURCES.into_iter().chain(log.as_deref()).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// A variable that whoever builds sets, unless it is empty.
fn given(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The commit, with `+dirty` where the sources are not those of the commit; `None` outside of git.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = [&["status", "--porcelain", "--"], &SOURCES[..]].concat();
    Some(if git(&status).is_some() { format!("{commit}+dirty") } else { commit })
}

/// `default` for what `cargo build --release` makes, `pgo` where the compiler was given a profile of
/// what runs (docs/release.md), else the name of Cargo's profile, as the folder of the build has it.
fn kind() -> Option<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if flags.contains("profile-use") {
        return Some("pgo".to_owned());
    }
    let out = env::var("OUT_DIR").ok()?;
    // …/PROFILE/build/PACKAGE/out
    let folder = Path::new(&out).ancestors().nth(3)?.file_name()?.to_str()?;
    Some(if folder == "release" { "default" } else { folder }.to_owned())
}

/// What git says; `None` where there is none, as in an archive of the sources, or it says nothing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let said = said.trim();
    (output.status.success() && !said.is_empty()).then(|| said.to_owned())
}
