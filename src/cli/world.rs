//! What a command touches of the world outside: streams, environment, clock. It comes in through
//! the door, so that tests can give their own.

use std::fs;
use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::SecretKeySource;
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
            environment: &|name| std::env::var(name).ok(),
            now: Timestamp::now(),
        })?;
        output.flush()?;
        Ok(done)
    }

    /// Reads a line of standard input that nobody else shall see.
    pub(super) fn read_secret(&mut self, what: &str) -> anyhow::Result<Secret> {
        if let Some(prompt) = &mut self.prompt {
            write!(prompt, "Paste {what} and press Enter: ")?;
            prompt.flush()?;
        }
        let mut line = Zeroizing::new(String::new());
        let read = self.input.take(LONGEST).read_line(&mut line);
        // Not the error itself: that of bytes that are no UTF-8 may one day quote them.
        ensure!(read.is_ok(), "standard input cannot be read as text");
        secret(&line).with_context(|| format!("standard input holds nothing: pass {what} there"))
    }

    /// Reads a secret from a file, or from standard input for `-`. Its path is not repeated in an
    /// error: people put the secret there.
    pub(super) fn secret_in(&mut self, file: &Path, what: &str) -> anyhow::Result<Secret> {
        if file == Path::new("-") {
            return self.read_secret(what);
        }
        let text = fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|error| anyhow!("the file of {what} cannot be read: {}", error.kind()))?;
        secret(&text).with_context(|| format!("the file of {what} is empty"))
    }

    /// Reads the secret key from where the arguments say; `None` when they say nothing.
    ///
    /// Neither a variable's name nor a path is repeated in an error: people put the secret there.
    pub(super) fn secret_key(&self, source: &SecretKeySource) -> anyhow::Result<Option<Secret>> {
        let text = match (&source.secret_key_env, &source.secret_key_file) {
            (None, None) => return Ok(None),
            (Some(variable), _) => {
                let value = (self.environment)(variable).map(Zeroizing::new);
                value.context("the variable that --secret-key-env names is not set")?
            }
            (None, Some(path)) => match fs::read_to_string(path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) => {
                    bail!("the file of --secret-key-file cannot be read: {}", error.kind())
                }
            },
        };
        secret(&text).context("the secret key is empty").map(Some)
    }
}

/// Neither secrets nor tokens hold spaces; what stands around them is of the editor or the shell.
fn secret(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
}
