//! What a build is made of: the commit, and the kind of build. Both are in `--version`, in the first
//! line of the log and in the metrics.
#![allow(clippy::print_stdout, reason = "that is how Cargo is told")]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WBG_COMMIT");
    let commit = env::var("WBG_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=WBG_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=WBG_BUILD={}", kind().as_deref().unwrap_or("unknown"));
    // Another commit, another word. What does not exist would make every build a new one.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists());
    if let Some(log) = log {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// The name of the profile: `debug` or `release`, or that of a profile of one's own, as the folder of
/// the build has it.
fn kind() -> Option<String> {
    let out = env::var("OUT_DIR").ok()?;
    // …/PROFILE/build/PACKAGE/out
    let folder = Path::new(&out).ancestors().nth(3)?;
    Some(folder.file_name()?.to_str()?.to_owned())
}

/// What git says; `None` where there is none, as in an archive of the sources.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let said = said.trim();
    (output.status.success() && !said.is_empty()).then(|| said.to_owned())
}
