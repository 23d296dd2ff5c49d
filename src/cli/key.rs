//! `key new` and `key hash`: keys of callers and operators, and what the configuration keeps of them.

use std::fmt;

use anyhow::{Context as _, anyhow, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::argument::name;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::caller::{self, ApiKey, Digest, KeyId};

/// The commands about API keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make an API key and print it this once, with what to paste into the configuration.
    #[command(after_long_help = concat!(
        "The gateway keeps the digest, which is no secret; the key itself is stored nowhere.\n\n",
        "Example:\n  whiteboard-gateway key new --name lessons --profile backend",
    ))]
    New(KeyNewArgs),
    /// Read an API key from standard input and print what to paste into the configuration.
    #[command(after_long_help = concat!(
        "The key is never an argument: every user of the machine could read it there.\n\n",
        "Example:\n  whiteboard-gateway key hash --name lessons <key.txt",
    ))]
    Hash(KeyHashArgs),
}

/// The arguments of `key new`.
#[derive(Args)]
pub struct KeyNewArgs {
    /// Make a key for the sandbox (wbg_test_…) instead of a real one (wbg_live_…).
    #[arg(long)]
    pub test: bool,
    /// Make a key for an operator of the admin API (wbg_admin_…) of this name, and no caller's.
    #[arg(long, value_name = "NAME", value_parser = name, conflicts_with_all = ["test", "name", "profile"])]
    pub operator: Option<String>,
    /// What that operator may do.
    #[arg(long, value_name = "ROLE", default_value = "viewer", requires = "operator")]
    #[arg(value_parser = ["viewer", "operator"])]
    pub role: String,
    /// Whose key it is.
    #[command(flatten)]
    pub owner: Owner,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `key hash`.
#[derive(Args)]
pub struct KeyHashArgs {
    /// Whose key it is.
    #[command(flatten)]
    pub owner: Owner,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    /// What somebody wrote who took the key for an argument; caught so that no message repeats it.
    #[arg(hide = true)]
    pub misplaced: Vec<String>,
}

/// Whose key it is: what the configuration to paste says.
#[derive(Args)]
pub struct Owner {
    /// The caller's name, for [callers.NAME].
    #[arg(long, value_name = "CALLER", default_value = "my-app", value_parser = name)]
    pub name: String,
    /// The name of the profile that says what the caller may do.
    #[arg(long, value_name = "PROFILE", default_value = "backend", value_parser = name)]
    pub profile: String,
}

/// What the configuration keeps of a key.
struct StoredKey<'a> {
    id: KeyId,
    digest: Digest,
    owner: KeyOwner<'a>,
}

/// Whose it is.
#[derive(Clone, Copy)]
enum KeyOwner<'a> {
    Caller { name: &'a str, profile: &'a str },
    Operator { name: &'a str, role: &'a str },
}

/// Makes a key and prints it, this once.
pub(super) fn new(args: &KeyNewArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let (made, owner) = match &args.operator {
        Some(name) => {
            let owner = KeyOwner::Operator { name, role: &args.role };
            (caller::generate_for_operator(), owner)
        }
        None => (caller::generate(!args.test), KeyOwner::of(&args.owner)),
    };
    let key = made.map_err(|_| anyhow!("the operating system gives no randomness"))?;
    let kept = StoredKey::of(&ApiKey::parse(key.expose())?, owner);
    let key = key.expose();
    let shown = || format!("The API key, shown this once and stored nowhere:\n\n  {key}\n\n{kept}");
    let document = || {
        let mut document = kept.json();
        document["key"] = key.into();
        document
    };
    world.answer(args.json, document, shown)?;
    Ok(CommandOutcome::Done)
}

/// Reads a key and prints what to keep of it.
pub(super) fn hash(args: &KeyHashArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    ensure!(
        args.misplaced.is_empty(),
        "the key is read from standard input. An argument can be read by every user of this \
         machine: if a key stood there, replace it"
    );
    let key = world.read_secret("the API key")?;
    let key = ApiKey::parse(key.expose()).context("standard input holds no API key")?;
    let owner = match key.is_operators() {
        true => KeyOwner::Operator { name: &args.owner.name, role: "viewer" },
        false => KeyOwner::of(&args.owner),
    };
    let kept = StoredKey::of(&key, owner);
    world.answer(args.json, || kept.json(), || kept.to_string())?;
    Ok(CommandOutcome::Done)
}

impl<'a> KeyOwner<'a> {
    fn of(Owner { name, profile }: &'a Owner) -> Self {
        Self::Caller { name, profile }
    }
}

impl fmt::Display for StoredKey<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, digest, .. } = self;
        write!(
            out,
            "id:     {id}\ndigest: {digest}\n\nPaste into the configuration:\n\n{}",
            self.toml()
        )
    }
}

impl<'a> StoredKey<'a> {
    fn of(key: &ApiKey<'_>, owner: KeyOwner<'a>) -> Self {
        Self { id: key.id(), digest: key.digest(), owner }
    }

    fn json(&self) -> Value {
        let mut document = json!({
            "id": self.id.to_string(), "digest": self.digest.to_string(), "toml": self.toml(),
        });
        let members = match self.owner {
            KeyOwner::Caller { name, profile } => [("caller", name), ("profile", profile)],
            KeyOwner::Operator { name, role } => [("operator", name), ("role", role)],
        };
        for (name, value) in members {
            document[name] = value.into();
        }
        document
    }

    /// Names, ids and digests hold nothing that TOML would have escaped.
    fn toml(&self) -> String {
        let Self { id, digest, owner } = self;
        let head = match owner {
            KeyOwner::Caller { name, profile } => {
                format!("[callers.{name}]\nprofile = \"{profile}\"\n")
            }
            KeyOwner::Operator { name, role } => {
                format!("[operators.{name}]\nrole = \"{role}\"\n")
            }
        };
        format!("{head}keys = [\n  {{ id = \"{id}\", digest = \"{digest}\" }},\n]\n")
    }
}
