//! What `cargo package` takes: enough to build the binary and to run its unit tests, with the pages
//! of its users, and none of the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{files, root};

/// The files of the package, by their paths from the root.
fn packaged() -> BTreeSet<PathBuf> {
    let mut list = Command::new(env!("CARGO"));
    list.args(["package", "--list", "--offline", "--locked", "--allow-dirty"]);
    let output = list.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// The files that a source is compiled with, by their paths from the root.
fn compiled_in(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(source).unwrap();
    let names = text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let path = |(name, _): (&str, &str)| {
        let mut path = source.parent().unwrap().strip_prefix(root()).unwrap().to_path_buf();
        for part in Path::new(name).components() {
            match part {
                Component::ParentDir => _ = path.pop(),
                part => path.push(part),
            }
        }
        path
    };
    names.map(path).collect()
}

#[test]
fn the_package_has_what_its_sources_are_compiled_with() {
    let packaged = packaged();
    let sources = files(&root().join("src"));
    let rust = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "rs");
    let rust: Vec<PathBuf> = sources.into_iter().filter(rust).collect();
    let mut needed: BTreeSet<PathBuf> = rust.iter().flat_map(|path| compiled_in(path)).collect();
    assert!(needed.len() > 8, "{needed:?}");
    needed.extend(rust.iter().map(|path| path.strip_prefix(root()).unwrap().to_path_buf()));
    needed.extend(["Cargo.lock", "LICENSE", "README.md", "build.rs"].map(PathBuf::from));
    let missing: Vec<&PathBuf> = needed.difference(&packaged).collect();
    assert!(missing.is_empty(), "add to `include` in Cargo.toml: {missing:?}");
}

#[test]
fn the_package_has_none_of_the_tests_and_nothing_of_a_checkout() {
    let packaged = packaged();
    let may = ["config", "docs", "src"];
    let vectors = Path::new("tests/token-vectors.json");
    let strange: Vec<&PathBuf> = packaged
        .iter()
        .filter(|path| {
            let folder = path.parent().and_then(|parent| parent.iter().next());
            folder.is_some_and(|folder| may.iter().all(|may| folder != *may))
        })
        .filter(|path| *path != vectors)
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}
