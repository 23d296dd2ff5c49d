//! The pictures of `docs/architecture.md`: what a module may import, and its floor.

use std::collections::BTreeSet;
use std::fs;

use super::{MAY_IMPORT, root};
use crate::docs::Page;

const PAGE: &str = "docs/architecture.md";

/// The most characters of a line there.
const WIDTH: usize = 100;

/// The two pictures: floors, and arrows.
fn pictures() -> [String; 2] {
    let section = Page::read(PAGE).section("\n## The modules\n");
    let blocks = section.texts("");
    [blocks[0].to_owned(), blocks[1].to_owned()]
}

/// What modules may import, as the page has it: a line for each that imports something, with lines
/// that continue it.
fn arrows() -> String {
    let mut rows: Vec<_> = MAY_IMPORT.iter().filter(|(_, may)| !may.is_empty()).collect();
    rows.sort_unstable();
    let mut drawn = String::new();
    for (module, may) in rows {
        let mut line = format!(" {module} ──►");
        let indent = " ".repeat(line.chars().count());
        for name in may.iter().collect::<BTreeSet<_>>() {
            if line.chars().count() + 1 + name.len() > WIDTH {
                drawn.push_str(&format!("{line}\n"));
                line.clone_from(&indent);
            }
            line.push_str(&format!(" {name}"));
        }
        drawn.push_str(&format!("{line}\n"));
    }
    drawn
}

/// The floors, the highest first: a number, then the modules of that floor or of the one above, until
/// what they are for, which is behind three blanks.
fn floors(block: &str) -> Vec<Vec<&str>> {
    let mut floors: Vec<Vec<&str>> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (number, rest) = line.split_at(5);
        if !number.trim().is_empty() {
            floors.push(Vec::new());
        }
        let names = rest.split("   ").next().unwrap_or_default();
        floors.last_mut().expect("a numbered floor").extend(names.split_whitespace());
    }
    floors
}

#[test]
fn the_page_of_the_architecture_draws_what_a_module_may_import() {
    let [_, picture] = pictures();
    let expected = arrows();
    if picture.trim_end() != expected.trim_end() && std::env::var_os("UPDATE_OUTPUTS").is_some() {
        let path = root().join(PAGE);
        let text =
            fs::read_to_string(&path).unwrap().replacen(picture.trim_end(), expected.trim_end(), 1);
        fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        picture.trim_end() == expected.trim_end(),
        "{PAGE} must draw this (UPDATE_OUTPUTS=1 writes it):\n{expected}"
    );
}

#[test]
fn each_module_is_drawn_above_what_it_may_import() {
    let [picture, _] = pictures();
    let floors = floors(&picture);
    let height = |module: &str| {
        let at = floors.iter().position(|floor| floor.contains(&module));
        floors.len() - at.unwrap_or_else(|| panic!("{module} is on no floor"))
    };
    for (module, may) in MAY_IMPORT {
        for below in *may {
            assert!(height(below) < height(module), "{module} imports {below}");
        }
    }
    let drawn: usize = floors.iter().map(Vec::len).sum();
    assert_eq!(drawn, MAY_IMPORT.len() + 1, "every module once, and cli");
    assert_eq!(floors[0], ["cli"]);
}

#[test]
fn floors_are_read_line_by_line() {
    let floors = floors("\n 10  a  b      what they are\n  9  c    ground, which is\n     d  e\n");
    assert_eq!(floors, [vec!["a", "b"], vec!["c", "d", "e"]]);
}
