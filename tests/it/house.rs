//! The rules of the house that no compiler knows: who may import whom, which files make a circle,
//! where a status may be written down, how long a file and a function may be, and what is never
//! left behind.

mod arrows;
mod checks;
mod drawn;
mod figures;
mod functions;
mod images;
mod named;
mod names;
mod outputs;
mod package;
mod prose;
mod sleeps;
mod tokens;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use arrows::{Arrows, room};

/// Who may import whom: a module, and the modules of ours that its code may name.
///
/// `failure` is below everything, so that any step can end with one. `cli` and the binary see
/// everything. Test code may look anywhere.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Names and grammar of HTTP fields: `server` and `trace`, which know no `api`, read them as well.
    ("field", &[]),
    // The one reader of text; it does not know what a text is for.
    ("text", &[]),
    // Loops that are faster than what they look like.
    ("bulk", &[]),
    // The time of the system; it reads it, and decides nothing by it.
    ("clock", &[]),
    // Threads behind queues; it does not know what they do.
    ("background", &[]),
    ("failure", &["bulk", "field"]),
    ("certificate", &[]),
    ("trace", &["field"]),
    // The head of a request, before its caller is known.
    ("edge", &["api", "failure", "field", "token", "trace"]),
    // What a metric is; it knows none.
    ("metric", &[]),
    // What ends by the clock, whoever keeps it.
    ("expiry", &["metric"]),
    // It knows where something is and how to get there, not what it is for.
    ("net", &[]),
    ("otlp", &["field", "metric", "net", "trace"]),
    ("api", &["bulk", "failure", "text"]),
    ("token", &["api", "bulk", "failure", "metric"]),
    // It knows no limits: whoever keeps something there brings a script.
    ("store", &["metric", "net", "token"]),
    ("limit", &["api", "failure", "field", "metric", "store"]),
    // It knows no log: who records a request tells it what happened.
    ("overview", &["clock", "failure", "metric"]),
    (
        "telemetry",
        &["api", "background", "clock", "failure", "metric", "overview", "text", "trace"],
    ),
    ("budget", &["api", "background", "failure", "limit", "metric", "store"]),
    // A caller is somebody with rights: what claims grant is said in the words of `policy`.
    (
        "caller",
        &[
            "api",
            "bulk",
            "certificate",
            "clock",
            "failure",
            "field",
            "limit",
            "metric",
            "net",
            "policy",
            "text",
            "token",
        ],
    ),
    ("policy", &["api", "failure"]),
    // It asks the policy of two configurations, and says what else differs.
    ("policy_diff", &["api", "budget", "caller", "gateway", "limit", "policy", "token"]),
    ("upstream", &["api", "bulk", "failure", "field", "metric", "net", "text", "token", "trace"]),
    ("server", &["certificate", "expiry", "failure", "field", "metric", "net", "text"]),
    (
        "gateway",
        &[
            "api",
            "budget",
            "caller",
            "certificate",
            "clock",
            "edge",
            "expiry",
            "failure",
            "field",
            "limit",
            "metric",
            "net",
            "otlp",
            "policy",
            "server",
            "store",
            "telemetry",
            "text",
            "token",
            "trace",
            "upstream",
        ],
    ),
    // It shows what every module measures.
    (
        "admin",
        &[
            "api",
            "budget",
            "caller",
            "certificate",
            "clock",
            "expiry",
            "failure",
            "field",
            "gateway",
            "limit",
            "metric",
            "net",
            "otlp",
            "overview",
            "server",
            "store",
            "telemetry",
            "token",
            "upstream",
        ],
    ),
    ("sandbox", &["api", "clock", "failure", "field", "net", "server", "token"]),
    (
        "config",
        &[
            "admin",
            "api",
            "budget",
            "caller",
            "certificate",
            "clock",
            "edge",
            "failure",
            "gateway",
            "limit",
            "net",
            "otlp",
            "policy",
            "server",
            "store",
            "telemetry",
            "text",
            "token",
            "trace",
            "upstream",
        ],
    ),
];

/// The floors of a room, the highest first: a file or a folder may name what is on its own floor or
/// below, never what is above. What is on none is held to the rule of cycles alone.
const FLOORS: &[(&str, &[&[&str]])] = &[
    (
        "net",
        &[
            &["client"],
            &["dial"],
            &["resolve", "tls", "tunnel"],
            &["egress"],
            &["address", "endpoint"],
        ],
    ),
    (
        "upstream",
        &[
            &["forward"],
            &["exchange"],
            &["attempt"],
            &["response"],
            &["connection"],
            &["request", "resilience"],
        ],
    ),
];

/// Rooms with files in cycles, and how many: to become less, never more.
const CYCLES: &[(&str, usize)] = &[];

/// Rooms with arrows that lead up their floors, and how many: to become less, never more.
const UPWARD: &[(&str, usize)] = &[];

/// Functions that are longer than one can be, each with its room: to become none.
const LONG: &[(&str, &str)] = &[];

/// Where a literal status may stand, and why.
const STATUSES: &[(&str, &str)] = &[
    ("failure/", "every failure gets its status there, in one table"),
    ("api/", "the table says the status of each success"),
    ("upstream/connection/http1/response.rs", "it reads where answers of a third party end"),
    ("upstream/response/normalize.rs", "it reads the statuses of a third party; it gives none"),
    ("sandbox/", "it plays that third party"),
    ("caller/jwt/jwks_client.rs", "it reads the statuses of an identity provider; it gives none"),
    ("net/tunnel.rs", "it reads the statuses of a proxy; it gives none"),
    ("cli/admin_client.rs", "it reads the statuses of an admin API; it gives none"),
    ("otlp/export.rs", "it reads the statuses of a collector; it gives none"),
    ("config/", "it reads the statuses that a user may write down"),
];

/// The most lines of a file, its tests not counted.
const LONGEST: usize = 500;

/// The most lines of a function, comments and empty ones not counted.
const LONGEST_FUNCTION: usize = 70;

/// What reads text, and is written in `text/` alone: files and variables, and byte order marks. Each
/// place that reads by itself has a rule of its own for them.
const READS_TEXT: &[&str] = &[
    "fs::read(",
    "read_to_string(",
    ".read_line(",
    ".read_to_end(",
    "env::var(",
    "env::vars",
    "xef\\xbb\\xbf",
    "0xef, 0xbb, 0xbf",
    "u{feff}",
];

/// What is never left behind. In pieces, since this file is looked at as well.
const NEVER: [&str; 3] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME")];

/// A file of the library, without comments and without its tests.
struct Source {
    /// Under `src/`, with `/` between.
    path: String,
    /// All of it but its tests.
    text: String,
    /// The same without comments.
    code: String,
    lines: usize,
}

impl Source {
    /// Every source file; those that are all tests are left out.
    fn all() -> Vec<Self> {
        let root = root().join("src");
        let mut sources = Vec::new();
        for file in files(&root) {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            if path.ends_with(".rs") && !path.ends_with("tests.rs") {
                sources.push(Self::new(path, &fs::read_to_string(&file).unwrap()));
            }
        }
        assert!(sources.len() > 20, "the sources are not where they were");
        sources
    }

    fn new(path: String, text: &str) -> Self {
        let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let text = &text[..tests];
        let code = text.lines().map(|line| match line.split_once("//") {
            // A URL in a text is cut as well, which hides nothing that is looked for.
            Some((code, _)) => code,
            None => line,
        });
        let code = code.flat_map(|line| [line, "\n"]).collect();
        Self { path, code, lines: text.lines().count(), text: text.to_owned() }
    }

    /// Whether it is in a folder that only tests have.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
    }

    /// The module of the crate's root that the file belongs to; `None` for the root itself.
    fn module(&self) -> Option<&str> {
        match self.path.split_once('/') {
            Some((module, _)) => Some(module),
            None => self.path.strip_suffix(".rs").filter(|name| !["lib", "main"].contains(name)),
        }
    }

    /// The modules of the crate's root that it names.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            let rest = &self.code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                None => found.extend(word(rest)),
                Some(group) => found.extend(first_words(group)),
            }
        }
        found.retain(|name| Some(name.as_str()) != self.module());
        found
    }

    /// How many `super::` in a row lead out of the file's module of the crate's root.
    fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { folders } else { folders + 1 }
    }
}

/// The identifier that a text begins with.
fn word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first word of each entry of a group of imports, which ends with its closing brace.
fn first_words(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut words: Vec<String> = word(group).into_iter().collect();
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.extend(word(&group[at + 1..])),
            _ => {}
        }
    }
    words
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, build products and the repository's own left out.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                found.extend(files(&path));
            }
        } else if entry.file_type().unwrap().is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_module_imports_only_what_it_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in Source::all() {
        let Some(module) = source.module().filter(|module| *module != "cli") else { continue };
        let Some(allowed) = allowed.get(module) else {
            wrong.push(format!("{}: the table does not know the module `{module}`", source.path));
            continue;
        };
        for import in source.imports() {
            if !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: `{module}` must not import `{import}`", source.path));
            }
        }
        if source.code.contains(&"super::".repeat(source.depth())) {
            wrong.push(format!("{}: what another module has is named by `crate::`", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn text_is_read_by_one_reader() {
    let mut wrong = Vec::new();
    let others = |source: &&Source| source.module() != Some("text") && !source.is_test();
    for source in Source::all().iter().filter(others) {
        for call in READS_TEXT.iter().filter(|call| source.code.contains(*call)) {
            wrong.push(format!("{}: `{call}` stands in text/ alone", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_a_module_may_import_makes_no_cycle() {
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        MAY_IMPORT.iter().map(|(module, may)| (*module, may.iter().copied().collect())).collect();
    // Take away what imports nothing that is left, until nothing is left.
    while !left.is_empty() {
        let modules: BTreeSet<&str> = left.keys().copied().collect();
        let before = left.len();
        left.retain(|_, may| !may.is_disjoint(&modules));
        assert!(left.len() < before, "a cycle among {modules:?}");
    }
}

/// Compares what there is with what is still allowed, room by room: an allowance that is not needed
/// any more is as wrong as one that is exceeded.
fn within<'a>(
    there: impl Iterator<Item = (&'a str, String)>,
    allowed: &[(&str, usize)],
) -> Result<(), String> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (room, what) in there {
        found.entry(room).or_default().push(what);
    }
    let allowed: BTreeMap<&str, usize> = allowed.iter().copied().collect();
    let rooms: BTreeSet<&str> = found.keys().chain(allowed.keys()).copied().collect();
    let wrong = rooms.into_iter().filter_map(|room| {
        let there = found.get(room).map_or(&[][..], Vec::as_slice);
        let allowed = allowed.get(room).copied().unwrap_or(0);
        match there.len().cmp(&allowed) {
            Ordering::Equal => None,
            Ordering::Less => Some(format!("{room}: lower {allowed} to {}", there.len())),
            Ordering::Greater => Some(format!("{room}: only {allowed} may be there: {there:#?}")),
        }
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[test]
fn an_allowance_is_neither_exceeded_nor_kept_when_it_is_not_needed() {
    let there = || [("a", "x".to_owned()), ("a", "y".to_owned())].into_iter();
    assert_eq!(within(there(), &[("a", 2)]), Ok(()));
    assert!(within(there(), &[]).unwrap_err().starts_with("a: only 0 may be there"));
    assert_eq!(within(there(), &[("a", 3)]), Err("a: lower 3 to 2".to_owned()));
    assert_eq!(within(there(), &[("a", 2), ("b", 1)]), Err("b: lower 1 to 0".to_owned()));
}

#[test]
fn the_files_of_a_room_make_no_cycle() {
    let arrows = Arrows::between(&Source::all());
    let cycles = arrows.in_a_cycle().into_iter().map(|path| (room(path), path.to_owned()));
    within(cycles, CYCLES).unwrap_or_else(|wrong| panic!("files in cycles\n{wrong}"));
}

/// The floor that a file is on.
fn floor(path: &str) -> Option<usize> {
    let (_, floors) = FLOORS.iter().find(|(name, _)| *name == room(path))?;
    let within = path.split_once('/')?.1;
    let first = within.split(['/', '.']).next()?;
    floors.iter().position(|floor| floor.contains(&first))
}

#[test]
fn no_arrow_leads_up_the_floors_of_a_room() {
    let arrows = Arrows::between(&Source::all());
    let up = arrows.all().filter(|(from, to)| floor(to) < floor(from) && floor(to).is_some());
    let up = up.map(|(from, to)| (room(from), format!("{from} -> {to}")));
    within(up, UPWARD).unwrap_or_else(|wrong| panic!("arrows up\n{wrong}"));
    for (path, expected) in [
        ("upstream/forward.rs", Some(0)),
        ("upstream/connection/http1/mod.rs", Some(4)),
        ("upstream/mod.rs", None),
        ("gateway/mod.rs", None),
    ] {
        assert_eq!(floor(path), expected, "{path}");
    }
}

#[test]
fn no_function_is_too_long_to_be_read() {
    let sources = Source::all();
    let long: BTreeSet<(&str, String)> = sources
        .iter()
        .filter(|source| !source.is_test())
        .flat_map(|source| functions::of(source).into_iter().map(|one| (room(&source.path), one)))
        .filter(|(_, function)| function.lines > LONGEST_FUNCTION)
        .map(|(room, function)| (room, function.name))
        .collect();
    let allowed = LONG.iter().map(|(room, name)| (*room, (*name).to_owned())).collect();
    assert_eq!(
        long, allowed,
        "over {LONGEST_FUNCTION} lines of code: split new ones, take old ones off the list"
    );
}

#[test]
fn a_status_is_written_down_where_it_is_decided() {
    let mut wrong = Vec::new();
    for source in Source::all() {
        if STATUSES.iter().any(|(path, _)| source.path.starts_with(path)) {
            continue;
        }
        for name in ["StatusCode::", "from_u16("] {
            for (at, _) in source.code.match_indices(name) {
                let next = source.code[at + name.len()..].chars().next().unwrap_or_default();
                if next.is_ascii_uppercase() || next.is_ascii_digit() {
                    let line = source.code[..at].matches('\n').count() + 1;
                    wrong.push(format!("src/{}:{line}: a literal status", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_names_of_fields_are_written_down_once() {
    let elsewhere: Vec<String> = Source::all()
        .iter()
        .filter(|source| !source.path.starts_with("field/"))
        .filter(|source| source.code.contains("HeaderName::from_static("))
        .map(|source| format!("src/{}: a name belongs into field/", source.path))
        .collect();
    assert!(elsewhere.is_empty(), "\n{}", elsewhere.join("\n"));
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = Source::all()
        .iter()
        .filter(|source| source.lines > LONGEST)
        .map(|source| format!("src/{}: {} lines of code", source.path, source.lines))
        .collect();
    assert!(long.is_empty(), "split these, over {LONGEST}:\n{}", long.join("\n"));
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let mut left = Vec::new();
    for file in files(&root()) {
        let text = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&text);
        for (line, text) in text.lines().enumerate() {
            if NEVER.iter().any(|never| text.contains(never)) {
                left.push(format!("{}:{}: {}", file.display(), line + 1, text.trim()));
            }
        }
    }
    assert!(left.is_empty(), "\n{}", left.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent: Vec<PathBuf> = files(&root().join("src"))
        .into_iter()
        .chain(files(&root().join("tests/it")))
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_rules_see_what_they_look_for() {
    let text = "use crate::api::{Role, crate_like};\nuse crate::{caller, token::{Secret, Project},\n    limit};\n\
                // crate::sandbox\nfn f() { crate::config::read() }\n#[cfg(test)]\nmod tests { use crate::admin; }";
    let source = Source::new("policy/decide.rs".to_owned(), text);
    let imports: Vec<String> = source.imports().into_iter().collect();
    assert_eq!(imports, ["api", "caller", "config", "limit", "token"]);
    assert_eq!((source.module(), source.depth(), source.lines), (Some("policy"), 2, 5));
    for (path, module, depth) in [
        ("lib.rs", None, 1),
        ("gateway.rs", Some("gateway"), 1),
        ("policy/mod.rs", Some("policy"), 1),
    ] {
        let source = Source::new(path.to_owned(), text);
        assert_eq!((source.module(), source.depth()), (module, depth));
    }
}
