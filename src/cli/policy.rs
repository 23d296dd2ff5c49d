//! The commands about policy: the decision of the gateway, without the gateway.

mod decision;
mod diff;
mod expectations;
mod replay;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, OptionalAdminArgs};
use super::argument::{lifespan, roles};
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::{Lifespan, Role};
use crate::text;
use decision::{PolicyEvaluator, Question, Requester};

/// The commands about policy.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Say whether a caller may do something, and what each rule says to it.
    #[command(after_long_help = concat!(
        "The same code decides as in the gateway. Nothing is sent anywhere but with --admin, which asks\n",
        "a gateway that runs, as an operator: --key FILE or WBG_ADMIN_KEY has the key. The exit code is\n",
        "1 when the answer is no.\n\n",
        "Example:\n  whiteboard-gateway policy explain --caller lessons PATCH /v5/rooms/a1b2",
    ))]
    Explain(Box<ExplainArgs>),
    /// Hold a table of expectations against the configuration: exit code 0 when all are met.
    #[command(after_long_help = concat!(
        "Each expectation is a [[case]] of a TOML file: `caller`, or `issuer` and `claims`;\n",
        "`request = \"GET /v5/rooms\"`; `expect`, which is \"allow\" or the code of a refusal;\n",
        "and, where they matter, `rule`, `role`, `lifespan` and `grant`.\n\n",
        "Example:\n  whiteboard-gateway policy test expectations.toml",
    ))]
    Test(PolicyTestArgs),
    /// Say who could do what under another configuration that they cannot do now, and the reverse.
    #[command(after_long_help = concat!(
        "Every class of requests is compared that the two decide differently; none is left out.\n",
        "Variables of the environment count for both. The exit code is 0 when no one can do more\n",
        "than before, 1 when someone can, and 2 when one of the two is wrong.\n\n",
        "Example:\n  whiteboard-gateway policy diff gateway.toml proposed.toml",
    ))]
    Diff(diff::DiffArgs),
    /// Say which requests of access lines would be decided otherwise under another configuration.
    #[command(after_long_help = concat!(
        "Of a request, an access line shows the caller and the operation; with log.decision = true\n",
        "also the room and the token that was asked for. What hangs on more than that cannot be\n",
        "told, and is counted. The exit code is 0 when no request is decided otherwise, 1 when one\n",
        "is, and 2 when the configuration is wrong.\n\n",
        "Example:\n  whiteboard-gateway policy replay --log access.jsonl proposed.toml",
    ))]
    Replay(replay::ReplayArgs),
}

impl PolicyCommand {
    pub(super) fn run(self, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
        match self {
            Self::Explain(args) => explain(&args, world),
            Self::Test(args) => test(&args, world),
            Self::Diff(args) => diff::run(&args, world),
            Self::Replay(args) => replay::run(&args, world),
        }
    }
}

/// The arguments of `policy explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The method of the request.
    pub method: String,
    /// The path of the request.
    pub path: String,
    /// A caller of the configuration.
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present_any = ["issuer", "token"],
        conflicts_with_all = ["issuer", "token"]
    )]
    pub caller: Option<String>,
    /// An issuer of the configuration, whose token makes the caller.
    #[arg(long, value_name = "NAME", requires = "claims")]
    pub issuer: Option<String>,
    /// The claims of that token, as a JSON object in a file.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    pub claims: Option<PathBuf>,
    /// A file with the credential itself, a JWT for instance; `-` for standard input. Says which
    /// check it fails. The keys of its issuer are fetched for it.
    #[arg(long, value_name = "FILE", conflicts_with = "issuer")]
    pub token: Option<PathBuf>,
    /// The role that is asked for, where the request asks for a token.
    #[arg(long, value_parser = roles())]
    pub role: Option<Role>,
    /// The lifespan that is asked for, such as 2h; 0 is permanent.
    #[arg(long, value_parser = lifespan)]
    pub lifespan: Option<Lifespan>,
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The gateway that is asked instead.
    #[command(flatten)]
    pub admin: OptionalAdminArgs,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `policy test`.
#[derive(Args)]
pub struct PolicyTestArgs {
    /// The file of expectations.
    pub file: PathBuf,
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when it is allowed, 1 when it is not.
fn explain(args: &ExplainArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let admin = args.admin.named();
    let from_input = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new("-"));
    let both =
        from_input(&args.token) && admin.as_ref().is_some_and(|admin| from_input(&admin.key));
    ensure!(!both, "standard input holds one of --key and --token: put the other into a file");
    let client = admin.map(|admin| AdminClient::new(&admin, world)).transpose()?;
    let claims = args.claims.as_deref().map(claims).transpose()?.unwrap_or_default();
    let credential = args.token.as_deref().map(|file| world.secret_in(file, "the token"));
    let credential = credential.transpose()?;
    let requester = match (&args.caller, &args.issuer, &credential) {
        (Some(caller), ..) => Requester::Caller(caller),
        (None, Some(issuer), _) => Requester::Claims { issuer, claims: &claims },
        (None, None, Some(credential)) => Requester::Credential(credential, world.now),
        (None, None, None) => {
            return Err(anyhow!("say who asks: --caller, --token, or --issuer and --claims"));
        }
    };
    let (role, lifespan) = (args.role, args.lifespan);
    let question = Question { requester, method: &args.method, path: &args.path, role, lifespan };
    let answer = match client {
        Some(client) => decision::ask(&client, &question)?,
        None => PolicyEvaluator::open(args.config.as_deref())?.decide(&question)?.json(),
    };
    world.answer(args.json, || answer.clone(), || decision::text(&answer) + "\n")?;
    Ok(if decision::allows(&answer) { CommandOutcome::Done } else { CommandOutcome::No })
}

fn claims(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let bytes = text::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let text = text::decode(&bytes).map_err(|why| anyhow!("{} {why}", path.display()))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(claims),
        // Not what it holds: claims are about someone.
        Ok(_) | Err(_) => Err(anyhow!("{} is no JSON object of claims", path.display())),
    }
}

/// Exit code 0 when every expectation is met, 1 when one is not.
fn test(args: &PolicyTestArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let evaluator = PolicyEvaluator::open(args.config.as_deref())?;
    let cases = expectations::read(&args.file)?;
    let mut told = Vec::new();
    let mut failed = 0;
    for case in &cases {
        let verdict = evaluator.decide(&case.question()?).with_context(|| case.name())?;
        let wrong = case.compare(&verdict);
        failed += usize::from(!wrong.is_empty());
        if args.json {
            told.push(json!({ "case": case.name(), "wrong": wrong, "verdict": verdict.json() }));
            continue;
        }
        if wrong.is_empty() {
            writeln!(world.output, "ok      {}", case.name())?;
        } else {
            writeln!(world.output, "FAILED  {}", case.name())?;
            for difference in &wrong {
                writeln!(world.output, "        {difference}")?;
            }
            let verdict = decision::text(&verdict.json());
            for line in verdict.lines() {
                writeln!(world.output, "        | {line}")?;
            }
        }
    }
    let passed = cases.len() - failed;
    if args.json {
        let all = json!({ "passed": passed, "failed": failed, "cases": told });
        writeln!(world.output, "{all:#}")?;
    } else {
        writeln!(world.output, "{passed} passed, {failed} failed")?;
    }
    Ok(if failed == 0 { CommandOutcome::Done } else { CommandOutcome::No })
}
