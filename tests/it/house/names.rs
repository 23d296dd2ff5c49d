//! Names: a type name stands for one thing, the type of an error ends in `Error`, no file is named
//! after a metaphor, no function takes more than five parameters.
//!
//! What is not so yet stands in `names.txt`, a line a case: rule, room, name. That list only gets
//! shorter: a new case fails, and so does a line that is not needed any more. `UPDATE_NAMES=1` takes
//! those lines away, and never adds one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::arrows::room;
use super::tokens::{is_word, tokens, without_tests};
use super::{Source, root};

/// What each section has under the same name: it is always said of which module (`limit::Settings`).
const OF_EACH_MODULE: &str = "Settings";

/// What a caller is answered with when its request fails: named by what it means to the caller.
const FAILURE: &str = "Failure";

/// The most parameters of a function, `self` not counted.
const MOST_PARAMETERS: usize = 5;

/// Words that no one who looks for a rule would look for, nor any RFC has.
const METAPHORS: &[&str] = &[
    "answer",
    "book",
    "breach",
    "cutter",
    "farewell",
    "fate",
    "front",
    "guard",
    "heard",
    "holder",
    "house",
    "keeper",
    "kept",
    "ledger",
    "line",
    "link",
    "notes",
    "parcel",
    "passing",
    "patience",
    "place",
    "places",
    "purse",
    "site",
    "spares",
    "spread",
    "standing",
    "tallies",
    "tally",
    "told",
    "trail",
    "unanswered",
    "unread",
    "voice",
    "watched",
    "watches",
    "way",
    "word",
];

/// What the code of a file says about names.
#[derive(Default)]
struct Names {
    /// The types that it defines.
    types: BTreeSet<String>,
    /// The types that it uses as errors: `impl Error for`, `derive(Error)`, `Result<_, E>`.
    errors: BTreeSet<String>,
    /// Its functions with too many parameters.
    wide: BTreeSet<String>,
}

impl Names {
    fn of(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut names = Self::default();
        // Whether each block that is open is that of an `impl` or a `trait`.
        let mut blocks = Vec::new();
        let mut associated = false;
        let mut derives_error = false;
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
            let begins = ["", "}", "{", ";", "]", ")", "pub", "unsafe"].contains(&before);
            let rest = &tokens[at + 1..];
            match token.as_str() {
                "{" => blocks.push(std::mem::take(&mut associated)),
                "}" => _ = blocks.pop(),
                "impl" if begins => {
                    associated = true;
                    names.errors.extend(has_error(rest));
                }
                "derive" => derives_error = group(rest).iter().any(|word| word == "Error"),
                "struct" | "enum" | "trait" | "type" if begins && is_type(rest) => {
                    associated |= token == "trait";
                    if token != "type" || blocks.last() != Some(&true) {
                        names.types.insert(rest[0].clone());
                    }
                    if std::mem::take(&mut derives_error) {
                        names.errors.insert(rest[0].clone());
                    }
                }
                "Result" => names.errors.extend(error_of_result(rest)),
                "fn" if parameters(rest) > MOST_PARAMETERS => {
                    names.wide.insert(rest[0].clone());
                }
                _ => {}
            }
        }
        names
    }
}

fn is_type(rest: &[String]) -> bool {
    rest.first().is_some_and(|name| name.starts_with(char::is_uppercase))
}

/// The type in `Error for Type`, behind `impl`.
fn has_error(rest: &[String]) -> Option<String> {
    let head = &rest[..rest.iter().position(|token| token == "{")?];
    let at = head.windows(2).position(|pair| pair == ["Error", "for"])?;
    last_name(&head[at + 2..])
}

/// The name at the end of the path that tokens begin with.
fn last_name(tokens: &[String]) -> Option<String> {
    let path = tokens.iter().skip_while(|token| ["&", "'", "mut"].contains(&token.as_str()));
    let path = path.take_while(|token| is_word(token) || *token == "::");
    path.last().filter(|name| is_word(name)).cloned()
}

/// What is within the brackets that tokens begin with.
fn group(tokens: &[String]) -> &[String] {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let arrow = at > 0 && ["-", "="].contains(&tokens[at - 1].as_str());
        match token.as_str() {
            "(" | "[" | "{" | "<" => depth += 1,
            ">" if arrow => {}
            ")" | "]" | "}" | ">" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return tokens.get(1..at).unwrap_or_default();
        }
    }
    &[]
}

/// What stands between the commas of a group that belong to no group within.
fn parts(mut tokens: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "(" | "[" | "{" | "<" => at += group(&tokens[at..]).len() + 1,
            "," => {
                parts.push(&tokens[from..at]);
                tokens = &tokens[at + 1..];
                (from, at) = (0, 0);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&tokens[from..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// `E` of `Result<_, E>`, behind `Result`.
fn error_of_result(rest: &[String]) -> Option<String> {
    if rest.first()? != "<" {
        return None;
    }
    match parts(group(rest))[..] {
        [_, error] => last_name(error),
        _ => None,
    }
}

/// How many parameters a function has, behind `fn`.
fn parameters(rest: &[String]) -> usize {
    let Some(name) = rest.first().filter(|name| is_word(name)) else { return 0 };
    let mut rest = &rest[1..];
    if rest.first().is_some_and(|token| token == "<") {
        rest = &rest[group(rest).len() + 2..];
    }
    assert_eq!(rest.first().map(String::as_str), Some("("), "behind fn {name}");
    let own = |part: &&&[String]| !part.iter().take(5).any(|token| token == "self");
    parts(group(rest)).iter().filter(own).count()
}

/// A case: rule, room, name.
type Case = (&'static str, String, String);

/// Each case, with where it is and what to do.
fn cases(sources: &[Source]) -> BTreeMap<Case, String> {
    let all: Vec<(&Source, Names)> = sources
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source, Names::of(&source.text)))
        .collect();
    let mut defined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (source, names) in &all {
        for name in &names.types {
            defined.entry(name).or_default().push(&source.path);
        }
    }
    let mut cases = BTreeMap::new();
    let mut found = |rule, path: &str, name: &str, what| {
        cases.insert((rule, room(path).to_owned(), name.to_owned()), what);
    };
    for (name, paths) in &defined {
        if paths.len() > 1 && *name != OF_EACH_MODULE {
            for path in paths {
                let what = format!("defined in {paths:?}: give each thing a name of its own");
                found("type", path, name, what);
            }
        }
    }
    let errors = all.iter().flat_map(|(_, names)| &names.errors);
    for name in errors.filter(|name| !name.ends_with("Error") && *name != FAILURE) {
        for path in defined.get(name.as_str()).into_iter().flatten() {
            let what = format!("an error, defined in src/{path}: let its name end in `Error`");
            found("error", path, name, what);
        }
    }
    for (source, names) in &all {
        for name in &names.wide {
            let what = format!(
                "in src/{}: make a type of the parameters that belong together",
                source.path
            );
            found("parameters", &source.path, name, what);
        }
        for part in source.path.trim_end_matches(".rs").split('/') {
            if METAPHORS.contains(&part) {
                let what = format!("src/{}: name the file after its rule", source.path);
                found("file", &source.path, part, what);
            }
        }
    }
    cases
}

#[test]
fn names_are_those_of_the_trade() {
    let path = root().join("tests/it/house/names.txt");
    let text = fs::read_to_string(&path).unwrap();
    let cases = cases(&Source::all());
    let line = |(rule, room, name): &Case| format!("{rule} {room} {name}");
    let there: BTreeMap<String, &String> =
        cases.iter().map(|(case, what)| (line(case), what)).collect();
    let allowed: BTreeSet<&str> = text.lines().collect();
    let new = there.iter().filter(|(case, _)| !allowed.contains(case.as_str()));
    let new: Vec<String> = new.map(|(case, what)| format!("{case}: {what}")).collect();
    assert!(new.is_empty(), "new names that the house does not take:\n{}", new.join("\n"));
    if std::env::var_os("UPDATE_NAMES").is_some() {
        let left: String = there
            .keys()
            .filter(|case| allowed.contains(case.as_str()))
            .fold(String::new(), |text, case| text + case + "\n");
        fs::write(&path, left).unwrap();
        return;
    }
    let stale: Vec<&&str> = allowed.iter().filter(|line| !there.contains_key(**line)).collect();
    assert!(
        stale.is_empty(),
        "done, so take these lines off tests/it/house/names.txt (UPDATE_NAMES=1 does it): {stale:#?}"
    );
}

#[test]
fn names_are_read_of_code() {
    let text = "struct One;\n#[derive(Debug, thiserror::Error)]\npub enum Two { #[error(\"x\")] A }\n\
        impl<T> std::error::Error for Three<T> {}\nimpl Iterator for One { type Item = u8; }\n\
        trait Four { type Error; fn f(&mut self, a: u8, b: Map<K, fn(u8) -> u8>, c: [u8; 2], d: (u8, u8), e: u8); }\n\
        type Five = Result<(u8, u8), crate::a::Six>;\n\
        fn g<F: Fn(u8) -> u8>(a: u8, b: u8, c: u8, d: u8, e: u8, f: F) -> impl Into<u8> { struct Seven; a }\n\
        // struct Eight;\n#[cfg(test)]\nstruct Nine;\n";
    let names = Names::of(text);
    assert!(names.types.iter().eq(["Five", "Four", "One", "Seven", "Two"]), "{:?}", names.types);
    assert!(names.errors.iter().eq(["Six", "Three", "Two"]), "{:?}", names.errors);
    assert!(names.wide.iter().eq(["g"]), "{:?}", names.wide);
}

#[test]
fn a_name_that_stands_for_two_things_is_a_case_of_each_room() {
    let source = |path: &str, text: &str| Source::new(path.to_owned(), text);
    let found = cases(&[
        source(
            "a/b.rs",
            "struct One;\nstruct Settings;\nstruct Fault;\nfn f() -> Result<(), Fault> {}",
        ),
        source("c/word.rs", "enum One {}\nstruct Settings;"),
    ]);
    let found: Vec<_> = found.keys().map(|(rule, room, name)| (*rule, &**room, &**name)).collect();
    let expected = [
        ("error", "a", "Fault"),
        ("file", "c", "word"),
        ("type", "a", "One"),
        ("type", "c", "One"),
    ];
    assert_eq!(found, expected);
}
