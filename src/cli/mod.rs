//! The command line: what can be asked, and one file for each command that answers.
//!
//! A command gets its arguments and a [`World`], writes its answer there and says how it went. It
//! is the only place of the crate that talks to a terminal, and the only one where an error is an
//! `anyhow::Error`. A secret never comes in through an argument, where every user of the machine
//! could read it; and no type of an argument has `Debug`, since a token may be in it.

mod argument;
mod check;
mod completions;
mod health;
mod inspect;
mod jwt;
mod key;
mod leak;
mod mint;
mod openapi;
mod operations;
mod policy;
mod sandbox;
mod serve;
mod world;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::api::{Lifespan, Role, TokenKind};
use crate::config::{self, Source};
use crate::net::Url;

use argument::{duration, kinds, lifespan, name, roles};
pub use world::World;

/// The exit code of a usage error, or of a command that could not do its work.
pub const FAILED: u8 = 2;

/// How a command went that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// As asked: exit code 0.
    Done,
    /// The command was a question, and the answer is no: exit code 1.
    No,
    /// What it looked at is wrong, and it has said so: exit code 2.
    Wrong,
    /// It was told twice to stop, and did not wait: exit code 130, as after SIGINT.
    CutShort,
}

/// The version, the commit and the kind of build, as `--version` says them.
const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WBG_COMMIT"),
    ", ",
    env!("WBG_BUILD"),
    " build)"
);

/// An authenticating reverse proxy and API gateway in front of Agora's Interactive Whiteboard
/// RESTful API.
#[derive(Parser)]
#[command(name = "whiteboard-gateway", version = BUILD, max_term_width = 100)]
#[command(after_long_help = concat!(
    "Example:\n  whiteboard-gateway serve --sandbox\n\n",
    "Exit codes: 0 done, 1 the answer is no, 2 wrong usage or an error",
))]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Serve: the gateway in front of the whiteboard service, or of the embedded sandbox.
    #[command(after_long_help = "Example:\n  whiteboard-gateway serve --config gateway.toml")]
    Serve(ServeArgs),
    /// Check a configuration without starting: exit code 0 good, 1 with warnings, 2 with errors.
    #[command(after_long_help = concat!(
        "With --online it also asks, all at once and each for five seconds at most: the keys of\n",
        "each issuer, the store for a write and a script, the service for GET /v5/rooms?limit=1 with\n",
        "a token of each project, the collector to take an empty report, and the upstream for its\n",
        "certificate. A line says each question, of whom, the answer and the time; the exit code is\n",
        "2 when one fails.\n\n",
        "Example:\n  whiteboard-gateway check --online --config gateway.toml",
    ))]
    Check(check::CheckArgs),
    /// Serve the sandbox alone: a stand-in for api.netless.link to develop against.
    #[command(after_long_help = "Example:\n  whiteboard-gateway sandbox --listen 127.0.0.1:8081")]
    Sandbox(SandboxArgs),
    /// Ask a gateway on this machine whether it is well: exit code 0 when it is, 1 when not.
    #[command(after_long_help = concat!(
        "For the health checks of containers, which have neither a shell nor curl.\n\n",
        "Example:\n  whiteboard-gateway health http://127.0.0.1:9090/readyz",
    ))]
    Health(HealthArgs),
    /// Say why a caller may do something or not, and test that it stays so.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway policy test expectations.toml")]
    Policy(PolicyCommand),
    /// Make API keys for callers.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway key new --name lessons")]
    Key(KeyCommand),
    /// Mint and inspect whiteboard tokens.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway token inspect < token.txt")]
    Token(TokenCommand),
    /// Inspect JWTs of identity providers.
    #[command(subcommand, disable_help_subcommand = true)]
    #[command(after_long_help = "Example:\n  whiteboard-gateway jwt inspect token.jwt")]
    Jwt(jwt::JwtCommand),
    /// Print the OpenAPI 3.1 document of what the gateway serves.
    #[command(after_long_help = "Example:\n  whiteboard-gateway openapi --output openapi.json")]
    Openapi(OpenapiArgs),
    /// Print the table of operations: method, path, whiteboard token, least role, body, success.
    #[command(after_long_help = "Example:\n  whiteboard-gateway operations")]
    Operations(OperationsArgs),
    /// Print what a shell reads to complete the command line.
    #[command(after_long_help = concat!(
        "Where a shell looks for it:\n",
        "  bash  /etc/bash_completion.d/whiteboard-gateway\n",
        "  zsh   _whiteboard-gateway in a directory of $fpath\n",
        "  fish  /etc/fish/completions/whiteboard-gateway.fish\n",
        "For this shell alone: source <(whiteboard-gateway completions bash)\n\n",
        "Example:\n  whiteboard-gateway completions bash",
    ))]
    Completions(completions::CompletionsArgs),
    /// Print the manual, or write a page for each command.
    #[command(
        after_long_help = "Example:\n  whiteboard-gateway man --directory /usr/local/share/man/man1"
    )]
    Man(completions::ManArgs),
}

/// The arguments of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE", conflicts_with = "sandbox")]
    pub config: Option<PathBuf>,
    /// Serve in front of the embedded sandbox, with keys made for this run: nothing else is needed.
    #[arg(long)]
    pub sandbox: bool,
    /// Keep the keys of the sandbox's two callers in this file, which is made when it is not there:
    /// the next run has the same.
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    pub keys: Option<PathBuf>,
    /// The port of the sandbox on 127.0.0.1; a free one when left out.
    #[arg(long, value_name = "PORT", requires = "sandbox")]
    pub sandbox_port: Option<u16>,
}

/// The arguments of `sandbox`.
#[derive(Args)]
pub struct SandboxArgs {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// The access key (AK) whose tokens are taken.
    #[arg(long, value_name = "AK", default_value = "sandbox")]
    pub access_key: String,
    /// Where the secret key is; `sandbox-secret-key` when left out.
    #[command(flatten)]
    pub secret_key: SecretKeySource,
    /// How long a conversion takes for each step, such as 500ms.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub pace: Duration,
    /// Take a Room token only when the access key that created the room has signed it.
    #[arg(long)]
    pub strict_keys: bool,
    /// A PEM file with a certificate chain, to speak TLS with HTTP/2.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The PEM file with its private key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// The arguments of `health`.
#[derive(Args)]
pub struct HealthArgs {
    /// The URL to ask, such as that of /readyz. Left out: /livez of the admin listener at
    /// WBG__ADMIN__ADDRESS, or at 127.0.0.1:9090.
    #[arg(value_parser = health::url)]
    pub url: Option<Url>,
    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = health::patience)]
    pub timeout: Duration,
}

/// The commands about policy.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Say whether a caller may do something, and what each rule says to it.
    #[command(after_long_help = concat!(
        "The same code decides as in the gateway; nothing is sent anywhere. The exit code is 1\n",
        "when the answer is no.\n\n",
        "Example:\n  whiteboard-gateway policy explain --caller lessons PATCH /v5/rooms/a1b2",
    ))]
    Explain(ExplainArgs),
    /// Hold a table of expectations against the configuration: exit code 0 when all are met.
    #[command(after_long_help = concat!(
        "Each expectation is a [[case]] of a TOML file: `caller`, or `issuer` and `claims`;\n",
        "`request = \"GET /v5/rooms\"`; `expect`, which is \"allow\" or the code of a refusal;\n",
        "and, where they matter, `rule`, `role`, `lifespan` and `grant`.\n\n",
        "Example:\n  whiteboard-gateway policy test expectations.toml",
    ))]
    Test(PolicyTestArgs),
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

/// The commands about whiteboard tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Mint a whiteboard token from an access key and its secret key, without any server.
    #[command(after_long_help = concat!(
        "The secret key comes from an environment variable, a file, or standard input.\n\n",
        "Example:\n  whiteboard-gateway token mint --kind room --role reader --lifespan 2h \\\n",
        "    --uuid faed3130727911ebaea37759ee91947c \\\n",
        "    --access-key MmWsWx4s --secret-key-env CLASSROOM_SK",
    ))]
    Mint(MintArgs),
    /// Say what a whiteboard token holds, whether it is good, and why not.
    #[command(after_long_help = concat!(
        "Without a secret key the signature is not checked, and what is printed is only what\n",
        "the token claims. The exit code is 1 when anything is wrong with it.\n\n",
        "With --audit the question is who got it: the exit code is 1 when the files do not tell.\n\n",
        "Example:\n  whiteboard-gateway token inspect --secret-key-env SK < token.txt",
    ))]
    Inspect(inspect::InspectArgs),
}

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

/// Where the secret key (SK) of a project is.
#[derive(Args)]
#[group(multiple = false)]
pub struct SecretKeySource {
    /// The environment variable that holds the secret key.
    #[arg(long, value_name = "VARIABLE")]
    pub secret_key_env: Option<String>,
    /// The file that holds the secret key.
    #[arg(long, value_name = "PATH")]
    pub secret_key_file: Option<PathBuf>,
}

/// The arguments of `openapi`.
#[derive(Args)]
pub struct OpenapiArgs {
    /// The file to write; standard output when left out.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The URL at which the gateway is called.
    #[arg(long, value_name = "URL", default_value = crate::api::openapi::DEFAULT_SERVER)]
    pub server: String,
}

/// The arguments of `operations`.
#[derive(Args)]
#[group(multiple = false)]
pub struct OperationsArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
    /// Print the Markdown table that stands in the README.
    #[arg(long)]
    pub markdown: bool,
}

/// Runs a command on the streams, the environment and the clock of this process.
///
/// # Errors
/// Whatever kept the command from its work, with what the user can do about it.
pub fn run(command_line: CommandLine) -> anyhow::Result<CommandOutcome> {
    World::with_process(|world| command_line.command.run(world))
}

impl Command {
    fn run(self, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
        match self {
            Self::Serve(args) => serve::run(&args),
            Self::Check(args) => check::run(&args, world),
            Self::Sandbox(args) => sandbox::run(&args, world),
            Self::Health(args) => health::run(&args, world),
            Self::Policy(PolicyCommand::Explain(args)) => policy::explain(&args, world),
            Self::Policy(PolicyCommand::Test(args)) => policy::test(&args, world),
            Self::Key(KeyCommand::New(args)) => key::new(&args, world),
            Self::Key(KeyCommand::Hash(args)) => key::hash(&args, world),
            Self::Token(TokenCommand::Mint(args)) => mint::run(&args, world),
            Self::Token(TokenCommand::Inspect(args)) => inspect::run(&args, world),
            Self::Jwt(jwt::JwtCommand::Inspect(args)) => jwt::inspect(&args, world),
            Self::Openapi(args) => openapi::run(&args, world),
            Self::Operations(args) => operations::run(&args, world),
            Self::Completions(args) => {
                completions::completions(&args, CommandLine::command(), world.output)?;
                Ok(CommandOutcome::Done)
            }
            Self::Man(args) => {
                completions::man(&args, CommandLine::command(), world.output)?;
                Ok(CommandOutcome::Done)
            }
        }
    }
}

impl From<CommandOutcome> for ExitCode {
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Done => Self::SUCCESS,
            CommandOutcome::No => Self::FAILURE,
            CommandOutcome::Wrong => Self::from(FAILED),
            CommandOutcome::CutShort => Self::from(130),
        }
    }
}

/// Whether an error says that nobody reads the output any more.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The configuration that the arguments name, or the one in the usual places.
fn source(named: Option<&Path>) -> anyhow::Result<Source> {
    Ok(Source::File(match named {
        Some(path) => path.to_owned(),
        None => config::search()?,
    }))
}

#[cfg(test)]
mod tests;
