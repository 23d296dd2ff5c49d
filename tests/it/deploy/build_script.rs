//! What the build script says of a build: the commit, with `+dirty` for sources that no commit has,
//! and the kind of build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ran;
use crate::house::root;

/// The build script as a program, and a tree for it that has what a binary is made of.
struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    fn new() -> Self {
        let script = Self { folder: tempfile::tempdir().unwrap() };
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "-o"]).arg(script.folder.path().join("build-script"));
        ran(rustc.arg(root().join("build.rs")));
        for name in ["src", "config", "docs"] {
            fs::create_dir_all(script.tree().join(name)).unwrap();
            fs::write(script.tree().join(name).join("file"), "one").unwrap();
        }
        script
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
        ran(git.current_dir(self.tree())).trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a"]);
        self.git(&["rev-parse", "--short=12", "HEAD"])
    }

    /// The commit and the kind of build that it gives to the compiler.
    fn says(&self, profile: &str, variables: &[(&str, &str)]) -> [String; 2] {
        let mut script = Command::new(self.folder.path().join("build-script"));
        let out = Path::new("/target").join(profile).join("build/whiteboard-gateway-0/out");
        script.current_dir(self.tree()).env("OUT_DIR", out);
        // An outer repository is none of its own, nor are the variables of this build.
        script.env("GIT_CEILING_DIRECTORIES", self.folder.path());
        for variable in ["WBG_COMMIT", "WBG_BUILD", "CARGO_ENCODED_RUSTFLAGS"] {
            script.env_remove(variable);
        }
        let printed = ran(script.envs(variables.iter().copied()));
        ["WBG_COMMIT", "WBG_BUILD"].map(|name| {
            let start = format!("cargo::rustc-env={name}=");
            let given = printed.lines().find_map(|line| line.strip_prefix(&start));
            given.unwrap_or_else(|| panic!("no {name} in {printed}")).to_owned()
        })
    }
}

#[test]
fn the_commit_is_that_of_the_sources_or_unknown() {
    let script = Script::new();
    let commit = |variables: &[(&str, &str)]| script.says("release", variables)[0].clone();
    assert_eq!(commit(&[]), "unknown", "outside of git");
    script.git(&["init", "--quiet"]);
    assert_eq!(commit(&[]), "unknown", "before the first commit");
    let first = script.commit();
    assert_eq!((commit(&[]), first.len()), (first.clone(), 12));
    fs::write(script.tree().join("docs/file"), "two").unwrap();
    assert_eq!(commit(&[]), first, "what is no part of the binary has changed");
    fs::write(script.tree().join("src/file"), "two").unwrap();
    assert_eq!(commit(&[]), format!("{first}+dirty"));
    let second = script.commit();
    assert_eq!(commit(&[]), second);
    fs::write(script.tree().join("src/another"), "two").unwrap();
    assert_eq!(commit(&[]), format!("{second}+dirty"), "a file that git does not know");
    assert_eq!(commit(&[("WBG_COMMIT", "abcdef1")]), "abcdef1", "whoever builds an archive knows");
    assert_eq!(commit(&[("WBG_COMMIT", "")]), format!("{second}+dirty"));
}

#[test]
fn the_kind_of_build_is_what_the_compiler_was_asked_for() {
    let script = Script::new();
    let kind = |profile, variables: &[(&str, &str)]| script.says(profile, variables)[1].clone();
    let profiled = ("CARGO_ENCODED_RUSTFLAGS", "-Ccodegen-units=1\x1f-Cprofile-use=/a.profdata");
    assert_eq!(kind("release", &[]), "default");
    assert_eq!(kind("debug", &[]), "debug");
    assert_eq!(kind("of-ones-own", &[]), "of-ones-own");
    assert_eq!(kind("release", &[profiled]), "pgo");
    assert_eq!(kind("release", &[("CARGO_ENCODED_RUSTFLAGS", "-Copt-level=3")]), "default");
    assert_eq!(kind("release", &[profiled, ("WBG_BUILD", "pgo+bolt")]), "pgo+bolt");
}
