//! Which file of the library names which: what files import and what they name by a path, read
//! from their tokens.
//!
//! An arrow leads to the file that *defines* a name. A name that a module only hands on (`pub use`)
//! stands for its own file, and neither handing on nor `mod` is an arrow: else each module would be
//! a circle with its parts. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::tokens::{is_word, tokens, without_tests};

type Path = Vec<String>;

/// A file as others name it, and what it names.
struct File {
    path: String,
    module: Path,
    /// From the root of the crate; and whether it is handed on.
    names: Vec<(bool, Path)>,
}

/// The arrows between the files of each room: a module of the crate's root.
pub(super) struct Arrows(BTreeMap<String, BTreeSet<String>>);

impl Arrows {
    pub(super) fn between(sources: &[Source]) -> Self {
        let files: Vec<File> =
            sources.iter().filter(|source| !source.is_test()).map(File::new).collect();
        let modules: BTreeMap<&Path, &File> =
            files.iter().map(|file| (&file.module, file)).collect();
        let handed_on: BTreeMap<Path, &Path> = files
            .iter()
            .flat_map(|file| file.names.iter().map(move |name| (file, name)))
            .filter(|(_, (handed_on, _))| *handed_on)
            .filter_map(|(file, (_, path))| {
                Some(([file.module.as_slice(), std::slice::from_ref(path.last()?)].concat(), path))
            })
            .collect();
        let mut arrows = BTreeMap::new();
        for file in &files {
            let named = file.names.iter().filter(|(handed_on, _)| !handed_on);
            let defined = named.filter_map(|(_, path)| defines(path.clone(), &modules, &handed_on));
            let own = defined.filter(|path| *path != file.path && room(path) == room(&file.path));
            arrows.insert(file.path.clone(), own.map(str::to_owned).collect());
        }
        Self(arrows)
    }

    /// The files from which arrows lead back to themselves.
    pub(super) fn in_a_cycle(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|file| self.reaches(file, file)).collect()
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&str> = self.0[from].iter().map(String::as_str).collect();
        while let Some(file) = left.pop() {
            if file == to {
                return true;
            }
            if seen.insert(file) {
                left.extend(self.0[file].iter().map(String::as_str));
            }
        }
        false
    }

    /// Each arrow: from, to.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())))
    }
}

/// The module of the crate's root that a file belongs to.
pub(super) fn room(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The file that defines a name; `None` for what is not ours.
fn defines<'a>(
    mut path: Path,
    modules: &BTreeMap<&Path, &'a File>,
    handed_on: &BTreeMap<Path, &Path>,
) -> Option<&'a str> {
    // A name can be handed on from module to module; it cannot go round forever.
    for _ in 0..8 {
        let (length, file) = (0..=path.len()).rev().find_map(|length| {
            modules.get(&path[..length].to_vec()).map(|file| (length, &file.path))
        })?;
        match path.get(..=length).and_then(|name| handed_on.get(name)) {
            None => return Some(file),
            Some(other) => path = [other.as_slice(), &path[length + 1..]].concat(),
        }
    }
    None
}

impl File {
    fn new(source: &Source) -> Self {
        let mut module: Path =
            source.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
            module.pop();
        }
        let tokens = without_tests(&tokens(&source.text));
        let parts: BTreeSet<&str> = (0..tokens.len().saturating_sub(2))
            .filter(|at| tokens[*at] == "mod" && tokens[at + 2] == ";")
            .map(|at| tokens[at + 1].as_str())
            .collect();
        let mut names = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(1);
                let handed_on = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                let mut paths = Vec::new();
                tree(&tokens[at + 1..end], &[], &mut paths);
                names.extend(paths.into_iter().map(|path| (handed_on, path)));
                at = end;
            } else if at == 0 || tokens[at - 1] != "::" {
                let path: Path = tokens[at..].chunks(2).map_while(continued).collect();
                let path = match tokens.get(at + 2 * path.len()) {
                    // The last one has no `::` behind it.
                    Some(last) if is_word(last) => [path, vec![last.clone()]].concat(),
                    _ => path,
                };
                if path.len() > 1 {
                    names.push((false, path));
                }
            }
            at += 1;
        }
        let names = names
            .into_iter()
            .filter_map(|(handed_on, path)| Some((handed_on, from_root(&module, &parts, &path)?)))
            .collect();
        Self { path: source.path.clone(), module, names }
    }
}

/// The word of `word::`.
fn continued(pair: &[String]) -> Option<String> {
    match pair {
        [word, colons] if is_word(word) && colons == "::" => Some(word.clone()),
        _ => None,
    }
}

/// A path as it is from the root of the crate; `None` for one that leads out of it.
fn from_root(module: &[String], parts: &BTreeSet<&str>, path: &[String]) -> Option<Path> {
    let up = path.iter().take_while(|word| *word == "super").count();
    let rest = |skip: usize| path[skip..].iter().filter(|word| *word != "self" && *word != "*");
    let base = match path.first()?.as_str() {
        "crate" => return Some(rest(1).cloned().collect()),
        "self" => module,
        "super" => &module[..module.len().checked_sub(up)?],
        first if parts.contains(first) => module,
        _ => return None,
    };
    Some(base.iter().chain(rest(up)).cloned().collect())
}

/// The paths of a tree of imports.
fn tree(tokens: &[String], before: &[String], paths: &mut Vec<Path>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                let mut depth = 0;
                let mut from = at + 1;
                for (end, token) in tokens.iter().enumerate().skip(at) {
                    depth += i32::from(token == "{") - i32::from(token == "}");
                    if depth == 0 || (depth == 1 && token == ",") {
                        tree(&tokens[from..end], &path, paths);
                        from = end + 1;
                    }
                    if depth == 0 {
                        break;
                    }
                }
                return;
            }
            "::" => {}
            "as" => break,
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if path.len() > before.len() {
        paths.push(path);
    }
}

#[test]
fn the_arrows_lead_to_where_a_name_is_defined() {
    let source = |path: &str, text: &str| Source::new(path.to_owned(), text);
    let sources = [
        source("a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::{B, c_like};\nstruct Own;"),
        source(
            "a/b.rs",
            "use super::{Own, c::{C, D as E}};\n// super::d::D\nconst X: &str = \"super::d::D\";",
        ),
        source("a/c.rs", "fn c(x: &'static str) { let q = '\\''; super::B::new(q) }"),
        source(
            "a/d.rs",
            "#[cfg(test)]\nuse super::c::C;\nuse crate::a::Own;\nuse std::fmt;\nuse crate::e::E;",
        ),
        source("e.rs", "use crate::a::B;\n#[cfg(test)]\nmod tests { use super::*; }"),
    ];
    let arrows = Arrows::between(&sources);
    let all: Vec<_> = arrows.all().collect();
    let expected = [
        ("a/b.rs", "a/c.rs"),
        ("a/b.rs", "a/mod.rs"),
        ("a/c.rs", "a/b.rs"),
        ("a/d.rs", "a/mod.rs"),
    ];
    assert_eq!(all, expected);
    assert_eq!(arrows.in_a_cycle(), ["a/b.rs", "a/c.rs"]);
}
