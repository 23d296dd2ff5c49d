//! The shadow of a profile: the same requests with it and without it come to the same answers, show the
//! service the same, and leave the same in every limit; and what is recorded is the oracle's decision
//! about that profile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::runtime::{Builder, LocalOptions};
use whiteboard_gateway::telemetry::AccessLog;

use crate::ask::{Request, Source};
use crate::check::{Checked, given};
use crate::gateway::{Answer, Sent, Started};
use crate::number;
use crate::oracle::{Asked, Decision, PERMANENT, Person, Read, Role, Rooms, Token, decide, read};
use crate::upstream::{Came, Service};
use crate::world::{World, often, secret};

/// So many configurations are run when nobody asks for more.
const WORLDS: u64 = 40;

/// So many requests are of one.
const REQUESTS: usize = 24;

/// What came of the requests of a configuration.
struct Run {
    /// What everybody saw of each.
    seen: Vec<String>,
    /// What the access line of each has in `would`, where a profile has a shadow.
    would: Vec<Option<String>>,
    /// What it must have there.
    must: Vec<Option<&'static str>>,
}

/// The shadow of each profile: another one of the same project, without one.
fn shadows(world: &World) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    let project = |index: usize| world.profiles[index].project;
    let count = world.profiles.len();
    for own in 0..count {
        let fits = |other: &usize| {
            *other != own && project(*other) == project(own) && !found.contains_key(other)
        };
        let is_one = found.values().any(|other| *other == own);
        let other = (0..count).rev().find(fits).filter(|_| !is_one);
        other.into_iter().for_each(|other| _ = found.insert(own, other));
    }
    found
}

/// The configuration of a world, with shadows or without, under limits or not.
fn text(world: &World, shadows: &BTreeMap<usize, usize>, limited: bool) -> String {
    world.text_with(|index| {
        let mut more = String::new();
        if let Some(shadow) = shadows.get(&index) {
            _ = writeln!(more, "shadow = \"p{shadow}\"");
        }
        if limited {
            let most = 2 + index;
            _ = writeln!(
                more,
                "limit = {{ rate = \"{most}/d\" }}\nshared_limit = {{ rate = \"5/d\" }}"
            );
        }
        more
    })
}

fn run(seed: u64, with_shadows: bool, limited: bool) -> Option<Run> {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let world = World::draw(&mut rng);
    let shadows = if with_shadows { shadows(&world) } else { BTreeMap::new() };
    let text = text(&world, &shadows, limited);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(requests(&mut rng, &world, &shadows, text))
}

async fn requests(
    rng: &mut Rng,
    world: &World,
    shadows: &BTreeMap<usize, usize>,
    text: String,
) -> Option<Run> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.jsonl");
    let service = Service::begin(&world.operations);
    let access = AccessLog::File(log.clone());
    let mut started =
        Started::open_with(text, access).ok().filter(|_| !world.contradicts_itself())?;
    let mut checked = Checked::default();
    let (mut seen, mut must, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        let request = Request::draw(rng, world, &checked.seen);
        let sent = Sent {
            client: request.credential.client,
            method: request.operation.method,
            path: &request.path,
            fields: &request.credential.fields,
            body: &request.body,
            http2: often(rng, 40),
            midway: None,
        };
        let answer = started.call(&sent).await.unwrap();
        seen.push(format!("{} -> {} {:?}", request.path, said(&answer), shown(&service.take())));
        must.push(would(world, shadows, &request));
        ids.push(field(&answer, "x-request-id"));
        given(&answer, &mut checked);
        checked.seen.credentials.push(request.credential);
    }
    // The clock goes on when there is nothing else to do: lines are handed over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(started.flush(Duration::from_secs(60)));
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let would = ids.iter().map(|id| {
        let line = lines.iter().find(|line| line["request_id"] == **id).expect("a line");
        line["would"].as_str().map(str::to_owned)
    });
    Some(Run { seen, would: would.collect(), must })
}

fn field(answer: &Answer, name: &str) -> String {
    let line = answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A token without what is drawn for it.
fn token(text: &str) -> Option<String> {
    let Read { kind, role, uuid, end, access_key, .. } =
        read(text, |access_key| Some(secret(access_key)))?;
    Some(format!("{kind:?} {role:?} {uuid:?} {end} {access_key}"))
}

/// An answer without what is drawn for it.
fn said(answer: &Answer) -> String {
    let drawn = ["x-request-id:", "date:", "content-length:"];
    let head = answer.head.lines().filter(|line| !drawn.iter().any(|name| line.starts_with(name)));
    let head: Vec<&str> = head.collect();
    let mut body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    if let Some(text) = body.as_str().and_then(token) {
        body = text.into();
    }
    body.as_object_mut().map(|body| body.remove("requestId"));
    format!("{head:?} {}", without_nonces(&body.to_string()))
}

/// What the service says of tokens that it was shown has their nonces, which are drawn.
fn without_nonces(text: &str) -> String {
    let mut parts = text.split("nonce=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "nonce=" + part.trim_start_matches(|c| c != '&'))
}

/// What the service was shown.
fn shown(came: &[Came]) -> Vec<String> {
    let told = came.iter().map(|came| {
        let shown = came.shown.as_ref().map(|(text, _)| token(text));
        format!("{} {} {} {shown:?} {}", came.method, came.path, came.body, came.taken)
    });
    told.collect()
}

/// What the access line of a request must say of the shadow of its caller's profile.
fn would(
    world: &World,
    shadows: &BTreeMap<usize, usize>,
    request: &Request,
) -> Option<&'static str> {
    let person = request.credential.person.as_ref().ok()?;
    let shadow = *shadows.get(&person.profile?)?;
    if request.path_is != crate::ask::PathIs::Right {
        return None;
    }
    let own = &world.profiles[person.profile?];
    let reads = |index: usize| matches!(world.profiles[index].rooms, Rooms::Claim(_));
    let unread = reads(shadow)
        && !matches!(own.rooms, Rooms::Claim(_))
        && matches!(request.credential.source, Source::Jwt { .. });
    let by = |claimed: &[&String]| {
        let claimed = claimed.iter().map(|room| (*room).clone()).collect();
        let claimed = if unread { claimed } else { person.claimed.clone() };
        let person = Person { profile: Some(shadow), claimed, ..person.clone() };
        decide_as(world, &person, person_of(world, request), request)
    };
    let (without, with) = (by(&[]), by(&[&request.uuid]));
    let refuses = |code: &str| code != "allow" && code != "cannot tell";
    Some(if refuses(without) == refuses(with) { without } else { "cannot tell" })
}

/// Whether the profile that decides lets a request come to its body.
fn person_of(world: &World, request: &Request) -> bool {
    let person = request.credential.person.as_ref().unwrap();
    !matches!(comes_to_its_body(world, person, request), Decision::Refused(..))
}

fn comes_to_its_body(world: &World, person: &Person, request: &Request) -> Decision {
    let least = Asked { role: Role::Reader, life: 1, access_key: None };
    let person = Person { life: person.life.or(Some(PERMANENT)), ..person.clone() };
    decide(&world.profiles, &person, &request.operation, &request.uuid, &least)
}

/// What a profile decides about a request whose body was read, or was not.
fn decide_as(world: &World, person: &Person, read: bool, request: &Request) -> &'static str {
    if let Decision::Refused(_, code) = comes_to_its_body(world, person, request) {
        return code;
    }
    if !matches!(request.operation.token, Token::Gives(_)) {
        return "allow";
    }
    if !read {
        return "cannot tell";
    }
    let asked = Asked { access_key: None, ..request.asked.clone() };
    match decide(&world.profiles, person, &request.operation, &request.uuid, &asked) {
        Decision::Refused(_, code) => code,
        _ => "allow",
    }
}

/// Runs a seed with shadows and without; gives how many requests were recorded with each word.
fn compare(seed: u64, counts: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let limited = seed % 4 == 3;
    let (Some(with), Some(without)) = (run(seed, true, limited), run(seed, false, limited)) else {
        return Ok(());
    };
    for (index, (one, other)) in with.seen.iter().zip(&without.seen).enumerate() {
        if one != other {
            return Err(format!("seed {seed}, {index}:\n  with a shadow {one}\n  without {other}"));
        }
    }
    for (index, (would, must)) in with.would.iter().zip(&with.must).enumerate() {
        *counts.entry(would.clone().unwrap_or_default()).or_default() += 1;
        // Under limits an allowance cannot be told, and the rest is what it is.
        let right = would.as_deref() == *must
            || limited && matches!(*must, Some("allow")) && would.as_deref() == Some("cannot tell");
        if !right {
            let asked = &with.seen[index];
            return Err(format!("seed {seed}, {index}: {would:?}, must be {must:?}\n  {asked}"));
        }
    }
    Ok(())
}

#[test]
fn a_shadow_changes_nothing_and_records_the_oracles_decision() {
    let worlds = number("SHADOW_WORLDS").unwrap_or(WORLDS);
    let one = number("SHADOW_SEED");
    let next = AtomicU64::new(one.unwrap_or(0));
    let end = one.map_or(worlds, |seed| seed + 1);
    let total = Mutex::new((BTreeMap::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < end
                {
                    let mut counts = BTreeMap::new();
                    let came = compare(seed, &mut counts);
                    let mut total = total.lock().unwrap();
                    counts
                        .into_iter()
                        .for_each(|(word, count)| *total.0.entry(word).or_default() += count);
                    total.1.extend(came.err());
                }
            });
        }
    });
    let (counts, broken): (BTreeMap<String, u64>, Vec<String>) = total.into_inner().unwrap();
    eprintln!("recorded: {counts:?}");
    let said = broken.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(broken.is_empty(), "\n{said}\n  replay one: SHADOW_SEED=… (shadow)");
    if one.is_none() {
        for word in ["allow", "forbidden", "not_found", "cannot tell"] {
            assert!(counts.contains_key(word), "never {word}: {counts:?}");
        }
    }
}
