//! The tests that the page of security names are there, the files that the map of the code names, and
//! the lines that mutants change: one that was renamed or lost is noticed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{files, root};

/// The modules that a source file is, as the names of its tests begin.
fn modules(path: &Path) -> Option<Vec<String>> {
    let inside = |folder: &str| path.strip_prefix(root().join(folder)).ok();
    let inside = inside("src").or_else(|| inside("tests/it"))?.with_extension("");
    let mut modules: Vec<String> =
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if modules.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        modules.pop();
    }
    Some(modules)
}

/// Whether there is a test of this name, or a module with tests.
fn is_there(name: &str, sources: &[(Vec<String>, String)]) -> bool {
    let parts: Vec<&str> = name.split("::").filter(|part| !part.is_empty()).collect();
    sources.iter().any(|(modules, text)| {
        let Some((begin, rest)) = parts.split_at_checked(modules.len()) else { return false };
        let test = |name: &str| {
            [format!("test]\nfn {name}("), format!("]\nasync fn {name}(")]
                .iter()
                .any(|line| text.contains(line.as_str()))
        };
        begin == modules
            && match rest {
                [] => text.contains("#[test]"),
                ["tests"] => text.contains("mod tests {"),
                ["tests", name] | [name] => test(name),
                _ => false,
            }
    })
}

#[test]
fn every_test_that_the_page_of_security_names_is_there() {
    let rust = files(&root()).into_iter().filter(|path| path.extension() == Some("rs".as_ref()));
    let source = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some((modules(&path)?, lines.join("\n")))
    };
    let sources: Vec<_> = rust.filter_map(source).collect();
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (_, section) = page.split_once("\n## What keeps each rule\n").expect("the section");
    let rows = section.split("\n## ").next().unwrap_or_default().lines();
    let rows: Vec<&str> = rows.filter(|line| line.starts_with("| ")).skip(2).collect();
    let mut missing = Vec::new();
    for row in &rows {
        let named = row.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
        missing.extend(named.filter(|name| !is_there(name, &sources)));
    }
    assert!(rows.len() > 20, "the table was not found: {rows:?}");
    assert!(missing.is_empty(), "the page names tests that are not there: {missing:?}");
}

/// The names of files in a text: words in backticks that end as sources do.
fn files_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split('`').skip(1).step_by(2);
    words.filter(|word| word.ends_with(".rs") || word.ends_with(".lua"))
}

#[test]
fn every_file_that_the_map_of_the_code_names_is_there() {
    let sources = files(&root());
    let is_there = |folder: &Path, name: &str| {
        sources.iter().any(|file| file.starts_with(folder) && file.ends_with(name))
    };
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let mut missing = Vec::new();
    let mut seen = 0;
    for section in page.split("\n### ") {
        // A section of a module names its files by what they are called in it.
        let module = section.strip_prefix('`').and_then(|title| title.split_once("/`"));
        let folder = module.map(|(module, _)| root().join("src").join(module));
        for name in files_in(section) {
            seen += 1;
            let in_module = folder.as_deref().is_some_and(|folder| is_there(folder, name));
            // `room/file.rs` is of another one.
            let elsewhere = (folder.is_none() || name.contains('/')) && is_there(&root(), name);
            if !in_module && !elsewhere {
                missing.push(format!("{}: {name}", folder.as_deref().unwrap_or(&root()).display()));
            }
        }
    }
    assert!(seen > 80, "the map was not read: {seen}");
    assert!(missing.is_empty(), "the map names files that are not there: {missing:#?}");
}

#[test]
fn every_mutant_can_be_applied() {
    let patches = files(&root().join("tests"));
    let patches: Vec<_> =
        patches.iter().filter(|path| path.extension() == Some("patch".as_ref())).collect();
    assert!(patches.len() > 50, "{patches:?}");
    let stale = |path: &&&std::path::PathBuf| {
        let mut patch = Command::new("patch");
        patch.args(["--dry-run", "--silent", "--force", "--fuzz=0", "-p1", "--input"]).arg(path);
        !patch.current_dir(root()).output().unwrap().status.success()
    };
    let stale: Vec<_> = patches.iter().filter(stale).collect();
    assert!(stale.is_empty(), "these are about lines that are no more: {stale:#?}");
}
