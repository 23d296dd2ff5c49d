//! Secrets: where they stand, and what they are.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::build::Build;
use super::command::{SecretCommand, TIME};
use super::file::{FromTree, KeyPath, Location, Node, Notation, Report, any_of, section};
use super::placeholder::is_placeholder;
use super::value::FilePath;
use crate::text;
use crate::token::Secret;

/// A secret, or where it is. No `Debug`.
pub(super) enum SecretSource {
    Inline(Secret),
    Variable(String),
    File(FilePath),
    Command(SecretCommand),
}

const ALLOWED: &str =
    "{ env = \"NAME\" }, { file = \"path\" }, { exec = [\"command\"] } or a string";

section! {
    struct SecretReference {
        env: Option<String>;
        file: Option<FilePath>;
        exec: Option<SecretCommand>;
    }
}

impl FromTree for SecretSource {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.form() {
            Notation::Text(text) => Some(Self::Inline(Secret::new(text.to_owned()))),
            Notation::Table(_) => {
                let SecretReference { env, file, exec, .. } = SecretReference::read(node, report)?;
                match (env, file, exec) {
                    (Some(name), None, None) => Some(Self::Variable(name)),
                    (None, Some(path), None) => Some(Self::File(path)),
                    (None, None, Some(command)) => Some(Self::Command(command)),
                    _ if report.was_removed(&node.path.key("exec")) => None,
                    _ => node.refuse(ALLOWED, "exactly one of env, file and exec", report),
                }
            }
            other => node.refuse(ALLOWED, other.found(), report),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut reference = SecretReference::schema(generator);
        reference.insert("minProperties".to_owned(), 1.into());
        reference.insert("maxProperties".to_owned(), 1.into());
        any_of([json_schema!({ "type": "string", "x-secret": true }), reference])
    }
}

impl Build<'_> {
    /// Finds a secret where the configuration says it is; `None` when it is not there, which is
    /// reported.
    pub(super) fn secret(&mut self, path: &KeyPath, source: SecretSource) -> Option<Secret> {
        let (path, secret) = match source {
            SecretSource::Inline(secret) => {
                let why = "is in the file itself: write { env = \"NAME\" } or \
                           { file = \"path\" }, so that the file can be shown and kept";
                self.warn_if(self.is_in_file(path), path, why);
                (path.clone(), secret)
            }
            SecretSource::Variable(name) => {
                let path = path.key("env");
                let Some((_, value)) = self.environment.iter().find(|(set, _)| *set == name) else {
                    self.wrong(&path, "names a variable that is not set");
                    return None;
                };
                self.files.hash(value.as_bytes());
                (path, Secret::new(value.clone()))
            }
            SecretSource::File(file) => {
                let path = path.key("file");
                let file = self.path(&file);
                let bytes = self.readable(&path, &file)?;
                self.private(&path, &file);
                let text = text::decode(&bytes).map(str::to_owned);
                let why = |why| self.wrong(&path, format_args!("names a file that {why}"));
                let text = text.map_err(why).ok()?;
                (path, Secret::new(text))
            }
            SecretSource::Command(command) => {
                let path = path.key("exec");
                let printed = command.run(self.files.directory(), TIME);
                let why = |why| self.wrong(&path, format_args!("names a command that {why}"));
                let printed = printed.map_err(why).ok()?;
                self.files.hash(&printed);
                let text = text::decode(&printed).map(str::to_owned);
                let why =
                    |why| self.wrong(&path, format_args!("names a command whose output {why}"));
                (path.clone(), Secret::new(text.map_err(why).ok()?))
            }
        };
        match text::value(secret.expose()) {
            Ok("") => self.wrong(&path, "is an empty secret"),
            Ok(value) => {
                let why = "whoever it is for will refuse it; put the real secret there";
                self.check_placeholder(&path, is_placeholder(value), why);
                return Some(Secret::new(value.to_owned()));
            }
            Err(why) => self.wrong(&path, format_args!("is a secret that {why}")),
        }
        None
    }

    /// Whether a secret stands in a file that someone may show; ours holds none.
    pub(super) fn is_in_file(&self, path: &KeyPath) -> bool {
        !matches!(self.report.locations.of(path), Location::Variable(_)) && !self.embedded
    }
}
