//! What a command touches of the world outside: streams, environment, clock. It comes in through
//! the door, so that tests can give their own.

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use super::argument::SecretKeySource;
use crate::text::{self, TextError};
use crate::token::Secret;

/// The most bytes that are read of a secret or a token: real ones have a few hundred.
const LONGEST: u64 = 64 * 1024;

/// Streams, environment and clock.
pub struct World<'a> {
    /// Standard input.
    pub input: &'a mut dyn BufRead,
    /// Standard output: answers, and nothing else.
    pub output: &'a mut dyn Write,
    /// Where somebody is asked for something: standard error, when a person sits at the input.
    pub prompt: Option<&'a mut dyn Write>,
    /// The environment variable of a name.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The time.
    pub now: Timestamp,
}

impl World<'_> {
    /// Hands out the world of this process. Standard output is not locked: a command that serves
    /// has other threads that write to it.
    pub(super) fn with_process<T>(
        run: impl FnOnce(&mut World<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut input = io::stdin().lock();
        let mut prompt = io::stderr();
        let asks = input.is_terminal();
        let mut output = io::stdout();
        let done = run(&mut World {
            input: &mut input,
            output: &mut output,
            prompt: asks.then_some(&mut prompt as &mut dyn Write),
            environment: &|name| text::variable(name),
            now: Timestamp::now(),
        })?;
        output.flush()?;
        Ok(done)
    }

    /// Prints an answer: as indented JSON for programs, or as the text for people.
    pub(super) fn answer(
        &mut self,
        as_json: bool,
        value: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let text = if as_json { format!("{:#}\n", value()) } else { text() };
        self.output.write_all(text.as_bytes())
    }

    /// Reads a line of standard input that nobody else shall see.
    pub(super) fn read_secret(&mut self, what: &str) -> anyhow::Result<Secret> {
        if let Some(prompt) = &mut self.prompt {
            write!(prompt, "Paste {what} and press Enter: ")?;
            prompt.flush()?;
        }
        let line = text::line(self.input, LONGEST).context("standard input cannot be read")?;
        let line = secret(&line).map_err(|why| anyhow!("standard input {why}"))?;
        line.with_context(|| format!("standard input holds nothing: pass {what} there"))
    }

    /// Reads a secret from a file, or from standard input for `-`. Its path is not repeated in an
    /// error: people put the secret there.
    pub(super) fn secret_in(&mut self, file: &Path, what: &str) -> anyhow::Result<Secret> {
        if file == Path::new("-") {
            return self.read_secret(what);
        }
        let bytes = text::read(file)
            .map_err(|error| anyhow!("the file of {what} cannot be read: {}", error.kind()))?;
        let secret = secret(&bytes).map_err(|why| anyhow!("the file of {what} {why}"))?;
        secret.with_context(|| format!("the file of {what} is empty"))
    }

    /// Reads the secret key from where the arguments say; `None` when they say nothing.
    ///
    /// Neither a variable's name nor a path is repeated in an error: people put the secret there.
    pub(super) fn secret_key(&self, source: &SecretKeySource) -> anyhow::Result<Option<Secret>> {
        let (from, read) = match (&source.secret_key_env, &source.secret_key_file) {
            (None, None) => return Ok(None),
            (Some(variable), _) => {
                let value = (self.environment)(variable).map(Zeroizing::new);
                let value = value.context("the variable that --secret-key-env names is not set")?;
                ("the variable of --secret-key-env", secret(value.as_bytes()))
            }
            (None, Some(path)) => match text::read(path) {
                Ok(bytes) => ("the file of --secret-key-file", secret(&bytes)),
                Err(error) => {
                    bail!("the file of --secret-key-file cannot be read: {}", error.kind())
                }
            },
        };
        let secret = read.map_err(|why| anyhow!("{from} {why}"))?;
        secret.context("the secret key is empty").map(Some)
    }
}

/// A secret or a token as one value; `None` when there is nothing.
fn secret(bytes: &[u8]) -> Result<Option<Secret>, TextError> {
    let value = text::value(text::decode(bytes)?)?;
    Ok((!value.is_empty()).then(|| Secret::new(value.to_owned())))
}
