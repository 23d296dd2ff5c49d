//! What `policy diff` says of two configurations is what the oracle decides otherwise under the one
//! than under the other: each thing that is gained or lost, and nothing else.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::thread;

use fastrand::Rng;
use serde_json::{Map, Value, json};
use whiteboard_gateway::config::{self, Source};
use whiteboard_gateway::policy_diff::{PolicyDiff, PolicySide};

use crate::ask::{of_claims, of_profile};
use crate::number;
use crate::oracle::{
    Asked, Decision, Kind, Life, Operation, PERMANENT, Person, Role, Rooms, Target, Token, decide,
};
use crate::world::{
    From, ISSUER_CLAIM, PROFILE_CLAIM, ROOMS, TASKS, World, every_operation, life, often, role,
    role_text, some,
};

/// So many pairs are compared when nobody asks for more.
const PAIRS: u64 = 80;

/// In so many, each kind of change is in a twentieth of them.
const MANY: u64 = 1_000;

/// Changes a configuration.
type Dimension = fn(&mut Rng, &mut World);

/// The changes of a configuration, by what they change.
const DIMENSIONS: [(&str, Dimension); 14] = [
    ("an operation of a profile", allow),
    ("the rooms of a profile", rooms),
    ("the role of a profile", |rng, world| {
        let index = rng.usize(..world.profiles.len());
        world.profiles[index].role = role(rng);
    }),
    ("the life of a profile", |rng, world| {
        let index = rng.usize(..world.profiles.len());
        world.profiles[index].life = life(rng);
    }),
    ("what is over a cap", |rng, world| {
        let index = rng.usize(..world.profiles.len());
        let profile = &mut world.profiles[index];
        let what = if rng.bool() { &mut profile.clamps_role } else { &mut profile.clamps_life };
        *what = !*what;
    }),
    ("the project of a profile", project),
    ("a caller that comes or goes", |rng, world| {
        let index = rng.usize(..world.callers.len());
        let caller = &mut world.callers[index];
        caller.is_gone = !caller.is_gone;
    }),
    ("the profile of a caller", |rng, world| {
        let index = rng.usize(..world.callers.len());
        world.callers[index].profile = rng.usize(..world.profiles.len());
    }),
    ("the profiles of an issuer", |rng, world| {
        let (count, index) = (world.profiles.len(), rng.usize(..world.issuers.len()));
        let issuer = &mut world.issuers[index];
        if rng.bool() {
            issuer.groups = (0..2).map(|_| rng.usize(..count)).collect();
        }
        issuer.profile = if rng.bool() { From::Fixed(rng.usize(..count)) } else { From::Claim };
    }),
    ("the rooms of an issuer", |rng, world| {
        let index = rng.usize(..world.issuers.len());
        world.issuers[index].rooms = from(rng, |rng| some(rng, &ROOMS[..8]));
    }),
    ("the role of an issuer", |rng, world| {
        let index = rng.usize(..world.issuers.len());
        world.issuers[index].role = from(rng, role);
    }),
    ("the life of an issuer", |rng, world| {
        let index = rng.usize(..world.issuers.len());
        world.issuers[index].life = from(rng, life);
    }),
    ("the profile of whiteboard tokens", |rng, world| {
        let index = rng.usize(..world.projects.len());
        let of = |profile: &usize| world.profiles[*profile].project == index;
        let fit = (0..world.profiles.len()).filter(of).collect::<Vec<_>>();
        let chosen = rng.choice(fit).filter(|_| often(rng, 70));
        let project = &mut world.projects[index];
        project.token_profile = chosen.filter(|_| project.sdk_token.is_none());
    }),
    ("an operation that is added", added),
];

fn from<T>(rng: &mut Rng, draw: impl FnOnce(&mut Rng) -> T) -> From<T> {
    match rng.u32(..3) {
        0 => From::Profile,
        1 => From::Fixed(draw(rng)),
        _ => From::Claim,
    }
}

fn allow(rng: &mut Rng, world: &mut World) {
    let names: Vec<&str> = world.operations.iter().map(|row| row.name).collect();
    let name = names[rng.usize(..names.len())];
    let family = format!("{}.*", name.split('.').next().unwrap());
    let entry = if rng.bool() { name.to_owned() } else { family };
    let index = rng.usize(..world.profiles.len());
    let entries = &mut world.profiles[index].allow;
    match entries.iter().position(|one| *one == entry) {
        Some(at) => _ = entries.remove(at),
        None => entries.push(entry),
    }
}

fn rooms(rng: &mut Rng, world: &mut World) {
    let index = rng.usize(..world.profiles.len());
    world.profiles[index].rooms = match rng.u32(..4) {
        0 => Rooms::Any,
        1 => Rooms::Claim(PROFILE_CLAIM),
        _ => Rooms::These(some(rng, &ROOMS[..8])),
    };
}

fn project(rng: &mut Rng, world: &mut World) {
    let index = rng.usize(..world.profiles.len());
    let project = 1 - world.profiles[index].project;
    // Its callers reach another project, and whoever shows tokens of the first has another profile.
    world.profiles[index].project = project;
    world.profiles[index].keys = world.projects[project].sdk_token.is_none();
    for one in &mut world.projects {
        one.token_profile = one.token_profile.filter(|profile| *profile != index);
    }
}

fn added(rng: &mut Rng, world: &mut World) {
    let all: Vec<Operation> = every_operation().filter(|row| row.added).collect();
    let mut row = all[rng.usize(..all.len())].clone();
    let known = world.operations.iter().position(|one| one.name == row.name);
    // The same, with another token.
    if let (Some(at), true) = (known, often(rng, 60)) {
        row.token = match rng.u32(..3) {
            0 => Token::Shows(Kind::Sdk, role(rng)),
            1 => Token::ShowsNone,
            _ if row.target == Target::Room => Token::Shows(Kind::Room, role(rng)),
            _ => Token::Shows(Kind::Sdk, role(rng)),
        };
        world.operations[at] = row;
        return;
    }
    match known {
        Some(at) => {
            world.operations.remove(at);
            let left: Vec<&str> = world.operations.iter().map(|row| row.name).collect();
            let names_any = |entry: &String| {
                let family = entry.strip_suffix(".*");
                left.iter().any(|name| name == entry || family == name.split('.').next())
            };
            world.profiles.iter_mut().for_each(|profile| profile.allow.retain(names_any));
        }
        None => world.operations.push(row),
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    /// In a project, with a token that opens so much (of operations that are added).
    Passed(String, u8, u8),
    Given(String, Role, Life),
}

impl Outcome {
    /// Whether it is more than another.
    fn is_more(&self, than: &Self) -> bool {
        match (self, than) {
            (Self::Nothing, _) => false,
            (_, Self::Nothing) => true,
            (Self::Passed(project, a, b), Self::Passed(other, c, d)) => {
                project != other || a > c || b > d
            }
            (Self::Given(project, role, life), Self::Given(other, c, d)) => {
                project != other || role > c || life > d
            }
            _ => true,
        }
    }
}

/// What the oracle says comes of it.
fn outcome(
    world: &World,
    person: Option<&Person>,
    row: &Operation,
    uuid: &str,
    (role, life): (Role, Life),
) -> Outcome {
    let known = world.operations.iter().find(|one| one.name == row.name);
    let (Some(person), Some(row)) = (person, known) else { return Outcome::Nothing };
    let asked = Asked { role, life, access_key: None };
    let decided = |row: &Operation| decide(&world.profiles, person, row, uuid, &asked);
    let Some(profile) = person.profile.map(|index| &world.profiles[index]) else {
        return Outcome::Nothing;
    };
    let project = format!("q{}", profile.project);
    match decided(row) {
        Decision::Refused(..) => Outcome::Nothing,
        Decision::Given(role, life) => Outcome::Given(project, role, life),
        Decision::Passed { .. } if !row.added => Outcome::Passed(project, 0, 0),
        Decision::Passed { .. } => {
            let Token::Shows(kind, role) = row.token else {
                return Outcome::Passed(project, 0, 0);
            };
            let wide = Operation { token: Token::Shows(Kind::Sdk, role), ..row.clone() };
            let falls_back =
                kind == Kind::Room && matches!(decided(&wide), Decision::Passed { .. });
            let opens = match kind {
                _ if !profile.keys => 3,
                Kind::Sdk => 3,
                _ if falls_back => 2,
                _ => 1,
            };
            Outcome::Passed(project, opens, role as u8 + 1)
        }
    }
}

/// What a right of the report comes to.
fn of_right(right: &Value, (role, life): (Role, Life)) -> Outcome {
    if right.is_null() {
        return Outcome::Nothing;
    }
    let project = right["project"].as_str().unwrap().to_owned();
    let read = |text: &Value| match text.as_str() {
        Some("admin") => Role::Admin,
        Some("writer") => Role::Writer,
        _ => Role::Reader,
    };
    if let Some(cap) = right["lifespan"].as_u64() {
        let (cap, highest) = (if cap == 0 { PERMANENT } else { cap }, read(&right["role"]));
        let refused = |over: bool, what: &str| over && right["overCap"][what] == "refuse";
        if refused(role > highest, "role") || refused(life > cap, "lifespan") {
            return Outcome::Nothing;
        }
        return Outcome::Given(project, role.min(highest), life.min(cap));
    }
    let opens = match right["shown"].as_str() {
        None | Some("no token") => 0,
        Some("a token of the room or task") => 1,
        Some("a token of the room, or else an SDK token") => 2,
        Some(_) => 3,
    };
    let role = right["shownRole"].as_str().map_or(0, |_| read(&right["shownRole"]) as u8 + 1);
    Outcome::Passed(project, opens, role)
}

/// Somebody, as each of the two knows them, and as the report names them.
struct Principal {
    key: String,
    persons: [Option<Person>; 2],
    says: BTreeMap<&'static str, String>,
    claims: Value,
    /// The profiles that they have in each, also where a claim of a wrong type is in the way.
    profiles: [Option<usize>; 2],
    /// The rooms that a list names which counts for them.
    listed: BTreeSet<String>,
}

impl Principal {
    fn new(worlds: &[World; 2], key: String, persons: [Option<Person>; 2], claims: Value) -> Self {
        let issuer = key.strip_prefix("issuer i").and_then(|index| index.parse::<usize>().ok());
        let profiles = [0, 1].map(|side| match (issuer, &claims) {
            (Some(index), Value::Object(claims)) if !worlds[side].issuers[index].is_gone => {
                let mut right = claims.clone();
                right.retain(|_, value| !value.is_object());
                of_claims(&worlds[side], index, &right).ok().and_then(|person| person.profile)
            }
            _ => persons[side].as_ref().and_then(|person| person.profile),
        });
        let listed = worlds.iter().zip(profiles).map(|(world, profile)| {
            let mut listed = BTreeSet::new();
            if let Some(Rooms::These(rooms)) = profile.map(|index| &world.profiles[index].rooms) {
                listed.extend(rooms.iter().cloned());
            }
            if let Some(From::Fixed(rooms)) = issuer.map(|index| &world.issuers[index].rooms) {
                listed.extend(rooms.iter().cloned());
            }
            listed
        });
        let listed = listed.flatten().collect();
        Self { key, persons, says: BTreeMap::new(), claims, profiles, listed }
    }
}

fn principals(rng: &mut Rng, worlds: &[World; 2]) -> Vec<Principal> {
    let mut all = Vec::new();
    for index in 0..worlds[0].callers.len() {
        let persons = worlds.each_ref().map(|world| {
            let caller = &world.callers[index];
            let known = caller.has_key && !caller.is_over || caller.certificate.is_some();
            (known && !caller.is_gone).then(|| of_profile(caller.profile))
        });
        all.push(Principal::new(worlds, format!("caller c{index}"), persons, Value::Null));
    }
    for index in 0..worlds[0].issuers.len() {
        for _ in 0..8 {
            let claims = claims(rng, worlds, index);
            let persons = worlds.each_ref().map(|world| {
                of_claims(world, index, &claims).ok().filter(|_| !world.issuers[index].is_gone)
            });
            let claims = Value::Object(claims);
            all.push(Principal::new(worlds, format!("issuer i{index}"), persons, claims));
        }
    }
    for index in 0..worlds[0].projects.len() {
        for role in [Role::Reader, Role::Writer, Role::Admin] {
            let only = if rng.bool() {
                (Kind::Room, ROOMS[rng.usize(..ROOMS.len())].to_owned())
            } else {
                (Kind::Task, TASKS[rng.usize(..TASKS.len())].to_owned())
            };
            let persons = worlds.each_ref().map(|world| {
                let profile = world.projects[index].token_profile?;
                Some(Person { only: Some(only.clone()), role: Some(role), ..of_profile(profile) })
            });
            let says = BTreeMap::from([("role", format!("is {}", role_text(role)))]);
            let principal = Principal::new(worlds, format!("tokens q{index}"), persons, json!({}));
            all.push(Principal { says, ..principal });
        }
    }
    all
}

/// Claims of a token, with lives around those that count.
fn claims(rng: &mut Rng, worlds: &[World; 2], issuer: usize) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!("somebody"));
    let groups = some(rng, &["a", "b", "c"]);
    if often(rng, 90) {
        claims.insert("groups".to_owned(), json!(groups));
    }
    for name in [ISSUER_CLAIM, PROFILE_CLAIM] {
        match rng.u32(..10) {
            0 => {}
            1 => _ = claims.insert(name.to_owned(), json!({})),
            _ => _ = claims.insert(name.to_owned(), json!(some(rng, &ROOMS))),
        }
    }
    if often(rng, 85) {
        claims.insert("wb_role".to_owned(), json!(role_text(role(rng))));
    }
    match rng.u32(..10) {
        0 => {}
        1 => _ = claims.insert("wb_life".to_owned(), json!({})),
        _ => {
            let mut caps = Vec::new();
            for world in worlds {
                let person = of_claims(world, issuer, &without_life(&claims)).ok();
                let profile = person.and_then(|person| person.profile);
                caps.extend(profile.map(|profile| world.profiles[profile].life));
                if let From::Fixed(life) = world.issuers[issuer].life {
                    caps.push(life);
                }
            }
            caps.retain(|life| *life != PERMANENT);
            let around = rng.choice(caps).map_or(1, |cap| cap / 1000 + rng.u64(..3) - 1);
            claims.insert("wb_life".to_owned(), json!(around.max(1)));
        }
    }
    claims
}

fn without_life(claims: &Map<String, Value>) -> Map<String, Value> {
    let mut claims = claims.clone();
    claims.insert("wb_life".to_owned(), json!(1));
    claims
}

/// The changes of a report by whom they are of: the profiles before and after, then the change.
struct Told(BTreeMap<String, Vec<(Value, Value, Value)>>);

impl Told {
    fn of(report: &Value) -> Self {
        let mut told: BTreeMap<String, Vec<(Value, Value, Value)>> = BTreeMap::new();
        for group in report["groups"].as_array().unwrap() {
            let keys = match (&group["callers"], &group["issuer"], &group["tokensOf"]) {
                (Value::Array(names), ..) => {
                    names.iter().map(|name| format!("caller {}", name.as_str().unwrap())).collect()
                }
                (_, Value::String(name), _) => vec![format!("issuer {name}")],
                (.., project) => vec![format!("tokens {}", project.as_str().unwrap())],
            };
            for key in keys {
                for change in group["changes"].as_array().unwrap() {
                    let before = group["before"]["profile"].clone();
                    let after = group["after"]["profile"].clone();
                    told.entry(key.clone()).or_default().push((before, after, change.clone()));
                }
            }
        }
        Self(told)
    }

    /// The place of the change that speaks of a request.
    fn find(&self, who: &Principal, row: &Operation, uuid: &str) -> Option<usize> {
        // Of a token that both refuse for what it holds, a report says nothing.
        who.persons.iter().flatten().next()?;
        let name =
            |profile: Option<usize>| profile.map_or(Value::Null, |at| json!(format!("p{at}")));
        let [before, after] = who.profiles.map(name);
        let is_issuer = who.key.starts_with("issuer");
        let speaks = |(old, new, change): &&(Value, Value, Value)| {
            change["operation"] == row.name
                && (!is_issuer || (*old == before && *new == after))
                && is_about(&change["on"], who, row, uuid)
                && change["when"].as_array().unwrap().iter().any(|when| says(when, who, uuid))
        };
        self.0.get(&who.key)?.iter().position(|one| speaks(&one))
    }
}

fn is_about(on: &Value, who: &Principal, row: &Operation, uuid: &str) -> bool {
    let has = |list: &Value| list.as_array().unwrap().iter().any(|one| one == uuid);
    let only = who.persons.iter().flatten().find_map(|person| person.only.as_ref());
    // A Task token is none for the room of the same uuid.
    let own = only.is_some_and(|(kind, own)| {
        own == uuid && (*kind == Kind::Room) == (row.target == Target::Room)
    });
    match on {
        Value::String(text) => match text.as_str() {
            "project" => row.target == Target::Project,
            "tasks" => row.target == Target::Task,
            "other rooms" => row.target == Target::Room && !who.listed.contains(uuid),
            "own other room" => row.target == Target::Room && own && !who.listed.contains(uuid),
            "own task" => row.target == Target::Task && own,
            other => panic!("{other}"),
        },
        Value::Object(on) if on.contains_key("rooms") => has(&on["rooms"]),
        Value::Object(on) => own && has(&on["ownRoom"]),
        other => panic!("{other}"),
    }
}

/// Whether claims are those of a case of the report.
fn says(when: &Value, who: &Principal, uuid: &str) -> bool {
    when.as_object().unwrap().iter().all(|(name, told)| {
        let told = told.as_str().unwrap();
        if let Some(said) = who.says.get(name.as_str()) {
            return said == told;
        }
        match &who.claims[name] {
            Value::Null => told == "is absent",
            Value::Array(rooms) if rooms.iter().any(|room| room == uuid) => {
                told == "names the room"
            }
            Value::Array(_) => told == "is absent",
            Value::String(word) => *told == format!("is {word}"),
            Value::Number(seconds) => *told == format!("is {seconds} s"),
            _ => told == "is of a wrong type",
        }
    })
}

/// What is compared of a pair, and what is wrong.
#[derive(Default)]
struct Report {
    pairs: u64,
    differ: u64,
    points: u64,
    gained: u64,
    lost: u64,
    dimensions: BTreeMap<&'static str, u64>,
    broken: Vec<String>,
}

fn side(world: &World) -> PolicySide {
    let source = Source::Embedded { name: "oracle.toml", text: world.text().leak() };
    let settings =
        config::load(&source, &[]).map_err(|errors| errors.to_string()).unwrap().settings;
    PolicySide::of(&settings.gateway, jiff::Timestamp::from_second(1_800_000_000).unwrap()).unwrap()
}

/// Two configurations, and what was changed between them.
fn draw(rng: &mut Rng) -> ([World; 2], Vec<&'static str>) {
    loop {
        let old = World::draw(rng);
        let mut new = old.clone();
        let mut changed = Vec::new();
        for _ in 0..[0, 1, 1, 1, 2, 2, 3, 4][rng.usize(..8)] {
            let (name, change) = DIMENSIONS[rng.usize(..DIMENSIONS.len())];
            change(rng, &mut new);
            changed.push(name);
        }
        if !old.contradicts_itself() && !new.contradicts_itself() {
            return ([old, new], changed);
        }
    }
}

fn compare(seed: u64) -> Report {
    let mut rng = Rng::with_seed(seed);
    let (worlds, changed) = draw(&mut rng);
    let [old, new] = worlds.each_ref().map(side);
    let diff = PolicyDiff::between(&old, &new);
    let json = diff.json();
    let told = Told::of(&json);
    let mut report = Report { pairs: 1, ..Report::default() };
    report.differ = u64::from(diff.is_wider() || diff.is_narrower());
    for name in changed.into_iter().collect::<BTreeSet<_>>() {
        report.dimensions.insert(name, 1);
    }
    for who in principals(&mut rng, &worlds) {
        for row in every_operation() {
            for uuid in uuids(&mut rng, &who, &row) {
                check(&worlds, &told, (&who, &row, &uuid), &mut report);
            }
        }
    }
    if !report.broken.is_empty() {
        report.broken.truncate(2);
        let texts = worlds.each_ref().map(World::text);
        report.broken.push(format!("{}\n---\n{}\n{diff}", texts[0], texts[1]));
    }
    report.broken.iter_mut().for_each(|what| {
        *what = format!(
            "seed {seed}: {what}\n  replay it: DIFF_SEED={seed} cargo nextest run --test \
             policy_oracle --no-capture difference\n"
        );
    });
    report
}

/// Some rooms or tasks, the own one among them.
fn uuids(rng: &mut Rng, who: &Principal, row: &Operation) -> Vec<String> {
    let own = who.persons.iter().flatten().find_map(|person| person.only.clone());
    let mut some: Vec<String> = match row.target {
        Target::Project => return vec![String::new()],
        Target::Task => vec![TASKS[rng.usize(..TASKS.len())].to_owned()],
        Target::Room => {
            rng.choose_multiple(ROOMS.iter(), 4).into_iter().map(|one| (*one).to_owned()).collect()
        }
    };
    some.extend(own.map(|(_, own)| own));
    some
}

fn check(
    worlds: &[World; 2],
    told: &Told,
    (who, row, uuid): (&Principal, &Operation, &str),
    report: &mut Report,
) {
    let change = told.find(who, row, uuid).map(|at| &told.0[&who.key][at].2);
    let mints = matches!(row.token, Token::Gives(_));
    let asked = if mints { asked(worlds, who) } else { vec![(Role::Reader, 1)] };
    let (mut gained, mut lost) = (false, false);
    for ask in asked {
        let [before, after] =
            [0, 1].map(|at| outcome(&worlds[at], who.persons[at].as_ref(), row, uuid, ask));
        let said = |key: &str, or: &Outcome| match change {
            Some(change) => of_right(&change[key], ask),
            None => or.clone(),
        };
        // What is not told of is as it was.
        let (was, is) = (said("before", &before), said("after", &before));
        let right = (after.is_more(&before), before.is_more(&after));
        let told = (is.is_more(&was), was.is_more(&is));
        report.points += 1;
        report.gained += u64::from(right.0);
        report.lost += u64::from(right.1);
        gained |= right.0;
        lost |= right.1;
        if right != told {
            report.broken.push(format!(
                "{} asks for {} {uuid} {ask:?} with {} {:?}\n  oracle: {before:?}, then {after:?}\n  \
                 policy diff: {change:#?}",
                who.key, row.name, who.claims, who.says
            ));
            return;
        }
    }
    if let Some(change) = change
        && (change["gained"] != gained || change["lost"] != lost)
    {
        report.broken.push(format!("{} {}: {gained} {lost} {change:#?}", who.key, row.name));
    }
}

/// Each role, and the lives around each cap that can count.
fn asked(worlds: &[World; 2], who: &Principal) -> Vec<(Role, Life)> {
    let mut lives = BTreeSet::from([1, PERMANENT]);
    let profiles = worlds.iter().zip(&who.persons).filter_map(|(world, person)| {
        Some((person.as_ref()?.life, world.profiles[person.as_ref()?.profile?].life))
    });
    for (own, profile) in profiles {
        for cap in [own, Some(profile)].into_iter().flatten().filter(|cap| *cap != PERMANENT) {
            lives.extend([cap - 1, cap, cap + 1]);
        }
    }
    let roles = [Role::Reader, Role::Writer, Role::Admin];
    roles.into_iter().flat_map(|role| lives.iter().map(move |life| (role, *life))).collect()
}

#[test]
fn what_policy_diff_says_is_gained_or_lost_is_what_the_oracle_decides_otherwise() {
    if let Some(seed) = number("DIFF_SEED") {
        let report = compare(seed);
        assert!(report.broken.is_empty(), "\n{}", report.broken.join("\n"));
        return;
    }
    let pairs = number("DIFF_PAIRS").unwrap_or(PAIRS);
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Memory::Relaxed)
                    && seed < pairs
                {
                    let report = compare(seed);
                    let mut total = total.lock().unwrap();
                    total.merge(report);
                    if !total.broken.is_empty() {
                        break;
                    }
                }
            });
        }
    });
    let report = total.into_inner().unwrap();
    let Report { pairs: compared, differ, points, gained, lost, dimensions, .. } = &report;
    eprintln!(
        "{compared} pairs, {differ} of which differ in what somebody can do; {points} requests, of \
         which {gained} get more than before and {lost} less"
    );
    for (name, count) in dimensions {
        eprintln!("{count:>8} {name}");
    }
    assert!(report.broken.is_empty(), "\n{}", report.broken.join("\n"));
    assert!(differ * 2 >= *compared, "too few differ");
    for (name, _) in DIMENSIONS {
        let count = dimensions.get(name).copied().unwrap_or_default();
        let enough = (count * 20).cmp(compared) != Ordering::Less;
        assert!(pairs < MANY || enough, "too few change {name}");
    }
}

impl Report {
    fn merge(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.differ += other.differ;
        self.points += other.points;
        self.gained += other.gained;
        self.lost += other.lost;
        for (name, count) in other.dimensions {
            *self.dimensions.entry(name).or_default() += count;
        }
        self.broken.extend(other.broken);
    }
}
