//! `status`: what a gateway does and whether it is well, asked of its admin API. And `reload`, which an
//! operator asks for there.

mod activity;

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admin_client::{AdminArgs, AdminClient};
use super::outcome::CommandOutcome;
use super::world::World;

/// The arguments of `status`.
#[derive(Args)]
pub struct StatusArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Show it anew every two seconds, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Print a JSON object; with --watch one in a line each time.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `reload`.
#[derive(Args)]
pub struct ReloadArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Why, for the audit.
    #[arg(long, value_name = "REASON")]
    pub why: String,
}

/// How often it is shown.
const EVERY: Duration = Duration::from_secs(2);

/// Exit code 0 when the gateway is ready, 1 when it is not.
pub(super) fn run(args: &StatusArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let client = AdminClient::new(&args.admin, world)?;
    if !args.watch {
        let status = read(&client)?;
        let shown = if args.json { format!("{status:#}\n") } else { text(&status) };
        write!(world.output, "{shown}")?;
        let ready = status["ready"] == true;
        return Ok(if ready { CommandOutcome::Done } else { CommandOutcome::No });
    }
    loop {
        // One that is away may come again.
        let shown = match read(&client) {
            Ok(status) if args.json => format!("{status}\n"),
            Ok(status) => format!("{CLEAR}{}", text(&status)),
            Err(why) if args.json => format!("{}\n", json!({ "error": format!("{why:#}") })),
            Err(why) => format!("{CLEAR}{why:#}\n"),
        };
        write!(world.output, "{shown}")?;
        world.output.flush()?;
        thread::sleep(EVERY);
    }
}

/// What empties a terminal and begins at its top.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Exit code 0 when the configuration was loaded, 1 when it was not.
pub(super) fn reload(args: &ReloadArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let client = AdminClient::new(&args.admin, world)?;
    let done = client.post("reload", &json!({ "why": args.why }))?;
    let version = done["version"].as_str().unwrap_or_default();
    Ok(match done["error"].as_str() {
        None => {
            writeln!(world.output, "loaded: the configuration {version} counts")?;
            CommandOutcome::Done
        }
        Some(why) => {
            writeln!(world.output, "failed: the configuration {version} still counts\n{why}")?;
            CommandOutcome::No
        }
    })
}

/// The status, with the traffic and the failures of the last hour where the gateway tells them.
fn read(client: &AdminClient) -> anyhow::Result<Value> {
    let mut status = client.get("status")?;
    for more in ["traffic", "failures"] {
        if let Some(document) = client.get_if_there(more)? {
            status[more] = document;
        }
    }
    Ok(status)
}

/// For people.
fn text(status: &Value) -> String {
    let said = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (mut out, config) = (String::new(), &status["config"]);
    let [version, commit, build] = ["version", "commit", "build"].map(|name| said(&status[name]));
    let mut line = |name: &str, text: &str| _ = writeln!(out, "{name:<14} {text}");
    line("gateway", &format!("{version} (commit {commit}, {build} build), {}", since(status)));
    let why = status["why"].as_str().map(|why| format!("no: {why}"));
    line("ready", why.as_deref().unwrap_or("yes"));
    line("configuration", &format!("{} {}", said(&config["file"]), said(&config["version"])));
    match (&config["last_reload"]["at"], &config["last_reload"]["error"]) {
        (Value::String(at), Value::String(why)) => {
            line(
                "last reload",
                &format!("failed at {at}: {}", why.replace('\n', "\n               ")),
            );
        }
        (Value::String(at), _) => line("last reload", &format!("loaded at {at}")),
        _ => {}
    }
    let [workers, connections] = ["workers", "connections"].map(|name| status[name].to_string());
    line("workers", &format!("{workers}, with {connections} connections"));
    for (name, project) in members(&status["projects"]) {
        line("project", &format!("{name}: {}", project_text(project)));
    }
    for (name, issuer) in members(&status["issuers"]) {
        let well = if issuer["usable"] == true { "usable" } else { "not usable" };
        let error = issuer["error"].as_str().map(|why| format!("; {why}")).unwrap_or_default();
        line("issuer", &format!("{name}: {well}, {} keys{error}", issuer["keys"]));
    }
    for (region, state) in members(&status["breakers"]) {
        line("breaker", &format!("{region}: {}", said(state)));
    }
    if let Some(store) = status["store"].as_object() {
        let answers = store.get("answers").is_some_and(|answers| *answers == true);
        let error = store.get("error").and_then(Value::as_str).unwrap_or_default();
        line("store", if answers { "answers" } else { error });
    }
    for one in status["certificates"].as_array().into_iter().flatten() {
        line("certificate", &format!("{}: ends {}", said(&one["listener"]), said(&one["ends"])));
    }
    for one in status["budgets"]["counters"].as_array().into_iter().flatten() {
        let whose = one["caller"].as_str().unwrap_or("all");
        let [profile, of, per] = ["profile", "of", "per"].map(|name| said(&one[name]));
        let used = format!("{} of {}", one["used"], one["most"]);
        line("budget", &format!("{profile}, {whose}: {used} {of} a {per}"));
    }
    out.push_str(&activity::traffic(&status["traffic"]));
    out.push_str(&activity::failures(&status["failures"]));
    out
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn project_text(project: &Value) -> String {
    let mut text = if project["usable"] == true { "usable" } else { "not usable" }.to_owned();
    for (member, words) in [
        ("sdk_token_ends", "its SDK token ends"),
        ("refused_since", "refused by the service since"),
    ] {
        if let Some(at) = project[member].as_str() {
            _ = write!(text, ", {words} {at}");
        }
    }
    text
}

/// How long it runs, by its own clock.
fn since(status: &Value) -> String {
    let at = |name: &str| status[name].as_str()?.parse::<Timestamp>().ok();
    match (at("since"), at("time")) {
        (Some(since), Some(now)) => {
            let minutes = now.duration_since(since).as_mins();
            let (days, hours) = (minutes / 1440, minutes / 60 % 24);
            format!("up {days}d {hours}h {}m", minutes % 60)
        }
        _ => "up".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_is_said() {
        let text = text(&json!({
            "version": "1.2.3", "commit": "abc", "build": "release", "ready": false,
            "why": "sdk_token_ended", "since": "2026-01-01T00:00:00Z", "time": "2026-01-02T03:04:05Z",
            "workers": 2, "connections": 5,
            "config": { "file": "a.toml", "version": "63c2", "last_reload":
                { "at": "2026-01-02T00:00:00Z", "error": "a.toml:1: wrong" } },
            "projects": { "p": { "usable": false, "sdk_token_ends": "2026-01-01T00:00:00Z" } },
            "issuers": { "school": { "usable": false, "keys": 0, "error": "refused" } },
            "breakers": { "us-sv": "open" },
            "store": { "answers": false, "error": "it is away" },
            "certificates": [{ "listener": "listen", "ends": "2026-02-01T00:00:00Z" }],
            "budgets": { "counters": [{ "profile": "b", "caller": null, "of": "tokens", "per": "day",
                "used": 3, "most": 5 }] },
        }));
        for part in [
            "1.2.3 (commit abc, release build), up 1d 3h 4m",
            "ready          no: sdk_token_ended",
            "failed at 2026-01-02T00:00:00Z: a.toml:1: wrong",
            "workers        2, with 5 connections",
            "p: not usable, its SDK token ends 2026-01-01T00:00:00Z",
            "school: not usable, 0 keys; refused",
            "us-sv: open",
            "store          it is away",
            "listen: ends 2026-02-01T00:00:00Z",
            "b, all: 3 of 5 tokens a day",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
