//! The tests that the page of security names are there: a rule whose test was renamed or lost is
//! noticed.

use std::fs;
use std::path::Path;

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
