//! Configurations: no text and no variable makes the reader fail, and what it says of them never
//! repeats a value, in which a secret may stand.
//!
//! An input is a file, and behind the line `# environment` variables as `NAME=value`. Wherever the
//! secret below stands as a value, what is wrong or doubtful is told without it.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use toml::de::{DeTable, DeValue};
use whiteboard_gateway::config::{Source, load};

/// Lower case, so that it could be any name.
const SECRET: &str = "pl4nted-s3cret-9c1x7q5k2m";

/// A part of the secret that is too long to be there by chance.
const PART: usize = 8;

/// A directory of this process alone, with nothing in it but the file: paths in the file are
/// relative to it.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("fuzz-config-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for the configuration");
    directory.join("gateway.toml")
});

/// One input.
pub fn run(input: &str) {
    let (text, variables) = input.split_once("# environment\n").unwrap_or((input, ""));
    let environment: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    fs::write(&*FILE, text).expect("the file is written");
    let told = match load(&Source::File(FILE.clone()), &environment) {
        Ok(loaded) => {
            assert_eq!(loaded.version.len(), 12);
            assert!(loaded.files.contains(&FILE));
            format!("{:?}", loaded.warnings)
        }
        Err(errors) => {
            assert!(errors.iter().next().is_some(), "a refusal says why");
            format!("{errors}\n{errors:?}")
        }
    };
    let names = environment.iter().any(|(name, _)| repeats(name));
    if !names && !named(text) {
        assert!(!repeats(&told), "{told}");
    }
}

/// Whether a text holds a part of the secret, in either case: variables are lower-cased.
fn repeats(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET
        .as_bytes()
        .windows(PART)
        .any(|part| text.contains(str::from_utf8(part).unwrap_or(SECRET)))
}

/// Whether the secret stands in a key, which a message may name.
fn named(text: &str) -> bool {
    let (table, errors) = DeTable::parse_recoverable(text);
    errors.is_empty() && in_keys(table.get_ref())
}

fn in_keys(table: &DeTable<'_>) -> bool {
    table.iter().any(|(key, value)| repeats(key.get_ref()) || in_keys_of(value.get_ref()))
}

fn in_keys_of(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(table) => in_keys(table),
        DeValue::Array(array) => array.iter().any(|item| in_keys_of(item.get_ref())),
        _ => false,
    }
}
