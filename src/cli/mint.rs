//! `token mint`: a whiteboard token from an access key and its secret key, without any server.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::argument::{SecretKeySource, kinds, lifespan, roles};
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::{Lifespan, Role, RoomId, TaskId, TokenKind};
use crate::clock::timestamp;
use crate::token::{self, KeyPair, TokenFields};

/// The arguments of `token mint`.
#[derive(Args)]
pub struct MintArgs {
    /// What the token opens: the whole project, one room, or one conversion task.
    #[arg(long, value_parser = kinds())]
    pub kind: TokenKind,
    /// What its bearer may do.
    #[arg(long, value_parser = roles())]
    pub role: Role,
    /// How long it lives, such as 90s, 30m, 2h or 7d; 0 makes a permanent one.
    #[arg(long, value_parser = lifespan)]
    pub lifespan: Lifespan,
    /// The room or task; not for an SDK token.
    #[arg(long)]
    pub uuid: Option<String>,
    /// The access key (AK) of the project.
    #[arg(long, value_name = "AK")]
    pub access_key: String,
    /// Where the secret key is.
    #[command(flatten)]
    pub secret_key: SecretKeySource,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Mints the token and prints it alone on a line, so that a shell can take it into a variable.
pub(super) fn run(args: &MintArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let uuid = args.target()?;
    let secret_key = match world.secret_key(&args.secret_key)? {
        Some(secret_key) => secret_key,
        None => world.read_secret("the secret key")?,
    };
    let key = KeyPair::new(args.access_key.clone(), &secret_key);
    // The parser of the argument keeps it below 2^53.
    let lifespan_ms = i64::try_from(args.lifespan.to_wire())?;
    let now_ms = u64::try_from(world.now.as_millisecond())?;
    let role = args.role.digit();
    let minted = key.mint(
        TokenFields { kind: args.kind, role, uuid, lifespan_ms, nonce: token::nonce()? },
        now_ms,
    );
    if args.json {
        let expire_at = minted.expire_at_ms.and_then(timestamp);
        let document = json!({
            "token": minted.token.expose(),
            "kind": args.kind,
            "role": args.role,
            "uuid": uuid,
            "accessKey": args.access_key,
            "nonce": minted.nonce,
            "expireAt": expire_at.map(|at| at.to_string()),
            "expireAtMs": minted.expire_at_ms,
        });
        writeln!(world.output, "{document:#}")?;
    } else {
        writeln!(world.output, "{}", minted.token.expose())?;
    }
    Ok(CommandOutcome::Done)
}

impl MintArgs {
    /// The room or task, which a kind has or has not.
    fn target(&self) -> anyhow::Result<Option<&str>> {
        match (self.kind, self.uuid.as_deref()) {
            (TokenKind::Sdk, None) => {}
            (TokenKind::Sdk, Some(_)) => {
                bail!("an SDK token opens the whole project: leave --uuid out")
            }
            (TokenKind::Room, Some(uuid)) => _ = RoomId::new(uuid)?,
            (TokenKind::Task, Some(uuid)) => _ = TaskId::new(uuid)?,
            (kind, None) => bail!("a {kind} token is for one {kind}: name it with --uuid"),
        }
        Ok(self.uuid.as_deref())
    }
}
