//! The Dockerfile: no engine builds it here, so it is held to what can be seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ran, read};
use crate::house::{files, root};

struct Instruction {
    name: String,
    words: String,
}

/// The instructions of a Dockerfile, each on one line.
fn instructions(text: &str) -> Vec<Instruction> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let instruction = |line: &str| {
        let line = line.trim();
        let (name, words) = line.split_once(' ').unwrap_or((line, ""));
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Instruction { name: name.to_owned(), words }
    };
    joined.lines().filter(|line| !line.trim().is_empty()).map(instruction).collect()
}

fn dockerfile() -> Vec<Instruction> {
    instructions(&read("deploy/Dockerfile"))
}

/// Those of the last stage, which is the image.
fn image() -> Vec<Instruction> {
    let mut all = dockerfile();
    let last = all.iter().rposition(|one| one.name == "FROM").unwrap();
    all.split_off(last)
}

fn of_image(name: &str) -> String {
    let found: Vec<String> =
        image().into_iter().filter(|one| one.name == name).map(|one| one.words).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.into_iter().next().unwrap()
}

fn argument(name: &str) -> String {
    let start = format!("{name}=");
    let found = dockerfile().into_iter().filter(|one| one.name == "ARG");
    let mut found = found.filter_map(|one| Some(one.words.strip_prefix(&start)?.to_owned()));
    found.next().unwrap_or_else(|| panic!("no ARG {name}"))
}

/// The paths of the repository that are copied.
fn copied() -> Vec<PathBuf> {
    let copies = dockerfile().into_iter().filter(|one| one.name == "COPY");
    let ours = copies.filter(|one| !one.words.contains("--from="));
    let mut paths = Vec::new();
    for copy in ours {
        let mut words: Vec<&str> = copy.words.split(' ').collect();
        words.pop();
        paths.extend(words.into_iter().map(PathBuf::from));
    }
    paths
}

#[test]
fn a_linter_has_nothing_to_say_of_the_dockerfile() {
    let told = ran(Command::new("hadolint").arg(root().join("deploy/Dockerfile")));
    assert_eq!(told, "");
}

#[test]
fn what_is_copied_is_there_and_reaches_the_builder() {
    let ignored = read(".dockerignore");
    let let_in: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let copied = copied();
    assert!(copied.len() >= 5, "{copied:?}");
    for path in &copied {
        assert!(root().join(path).exists(), "{path:?} is not there");
        let is_let_in = let_in.iter().any(|name| path.starts_with(name));
        assert!(is_let_in, "{path:?} is left out by .dockerignore");
    }
    for name in let_in {
        assert!(copied.iter().any(|path| path.starts_with(name)), "nobody copies {name}");
    }
}

#[test]
fn what_the_build_reads_is_copied() {
    let copied = copied();
    let is_copied = |path: &Path| copied.iter().any(|copied| path.starts_with(copied));
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut read = 0;
    for target in manifest["bin"].as_array().unwrap() {
        assert!(is_copied(Path::new(target["path"].as_str().unwrap())), "{target:?}");
    }
    // Cargo looks for these only where the manifest does not say where they are, so a build without
    // them works, and a change of them builds nothing anew.
    for kind in ["bench", "test", "example"] {
        for target in manifest[kind].as_array().unwrap() {
            let path = target.get("path").unwrap_or_else(|| panic!("{target:?} has no path"));
            assert!(!is_copied(Path::new(path.as_str().unwrap())), "{target:?}");
        }
    }
    for script in ["build", "bom", "functions", "pgo/x86_64-unknown-linux-gnu.profdata.xz"] {
        assert!(is_copied(&Path::new("deploy").join(script)), "{script}");
    }
    for file in files(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        // Tests read the documentation, which no build needs.
        let within = file.strip_prefix(root()).unwrap();
        if file.ends_with("config/reference.rs")
            || within.iter().any(|part| part == "tests" || part == "tests.rs")
        {
            continue;
        }
        let (text, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        for part in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1) {
            let Some((named, _)) = part.split_once("\")") else { continue };
            let Ok(path) = file.parent().unwrap().join(named).canonicalize() else { continue };
            let root = root().canonicalize().unwrap();
            let path = path.strip_prefix(root).unwrap();
            assert!(is_copied(path), "{path:?}, which {} includes", file.display());
            read += 1;
        }
    }
    assert!(read > 0, "nothing is included");
}

#[test]
fn it_is_built_by_the_compiler_that_the_manifest_names_for_the_debian_that_it_runs_on() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = &manifest["package"];
    let version = package["rust-version"].as_str().unwrap();
    let builder = argument("RUST_IMAGE");
    assert!(builder.contains(&format!("/rust:{version}.")), "{builder} is not of {version}");
    assert!(builder.ends_with("-trixie"), "{builder}");
    let runtime = argument("RUNTIME_IMAGE");
    assert!(runtime.contains("-debian13:"), "trixie is Debian 13: {runtime}");
    let labels = of_image("LABEL");
    assert!(labels.contains(&format!("base.name=\"{runtime}\"")), "{labels}");
    assert_eq!(argument("VERSION"), package["version"].as_str().unwrap());
    let functions = read("deploy/functions");
    let tool = format!("auditable_version={} ", argument("AUDITABLE_VERSION"));
    assert!(functions.contains(&tool), "{tool}");
    let compiler = read("deploy/pgo/x86_64-unknown-linux-gnu.rustc");
    let of_image = builder.split(':').nth(1).and_then(|tag| tag.split('-').next()).unwrap();
    assert!(compiler.starts_with(&format!("rustc {of_image} ")), "the profile is of {compiler}");
    assert!(labels.contains(package["description"].as_str().unwrap()), "{labels}");
    assert!(labels.contains(package["license"].as_str().unwrap()), "{labels}");
}

#[test]
fn the_image_needs_neither_root_nor_a_shell() {
    let user = of_image("USER");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && !ids.contains(&0), "{user}");
    for name in ["ENTRYPOINT", "CMD"] {
        assert!(of_image(name).starts_with('['), "{name} takes a shell");
    }
    let health = of_image("HEALTHCHECK");
    let (_, check) = health.split_once(" CMD ").unwrap();
    assert_eq!(check, format!("[{}, \"health\"]", of_image("ENTRYPOINT").trim_matches(['[', ']'])));
    assert!(image().iter().all(|one| one.name != "RUN"), "there is nothing to run it with");
    assert_eq!(of_image("STOPSIGNAL"), "SIGTERM");
    assert_eq!(of_image("EXPOSE"), "8080 9090");
}

/// A variable wins over the file, so one in the image would make lines of the file mean nothing.
#[test]
fn the_image_sets_no_key_of_the_configuration() {
    assert!(image().iter().all(|one| !one.words.contains("WBG__")));
}

#[test]
fn instructions_are_read_as_a_builder_reads_them() {
    let read = instructions("# a\nFROM a AS b\nRUN c \\\n    d\n\nCMD [\"e\"]\n");
    let read: Vec<_> = read.iter().map(|one| (one.name.as_str(), one.words.as_str())).collect();
    assert_eq!(read, [("FROM", "a AS b"), ("RUN", "c d"), ("CMD", "[\"e\"]")]);
}
