//! Who calls and what for: credentials of each kind, good ones and bad ones, and requests for each
//! operation, each room and each role.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::fixture::{FIXTURE, NOW, NOW_MS, Signed, client_of, prefix, respelled};
use crate::oracle::{
    Asked, Decision, Kind, Life, Operation, PERMANENT, Person, Role, Rooms, Target, decide, minted,
    read,
};
use crate::world::{
    From, ISSUER_CLAIM, NONCES, PROFILE_CLAIM, ROOMS, TASKS, World, end, every_operation, life,
    often, role, role_text, secret, some,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Key,
    Jwt,
    Certificate,
    RoomToken,
    TaskToken,
}

/// Why no one is known by a credential.
pub(crate) type Unknown = (u16, &'static str);
const INVALID: Unknown = (401, "invalid_token");
const EXPIRED: Unknown = (401, "expired_token");
const NOBODY: Unknown = (401, "unauthenticated");
const CONTRADICTION: Unknown = (400, "malformed_request");
const NO_RIGHT: Unknown = (403, "forbidden");

/// Who asks, in the words of `policy explain`.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Caller(String),
    Claims(String, Map<String, Value>),
    /// It knows no whiteboard tokens, and no one without a good credential.
    Nobody,
}

/// What a credential is, whatever the configuration makes of it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// No one's in any configuration.
    Bad(Unknown),
    Key(usize),
    /// By whose authority, and made for whom.
    Certificate(usize, usize),
    Jwt {
        issuer: usize,
        claims: Map<String, Value>,
        /// Why no one takes it, if its issuer is known.
        bad: Option<Unknown>,
    },
    Token(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) source: Source,
    pub(crate) class: Class,
    /// Which client sends it: that of a certificate, or 0.
    pub(crate) client: usize,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// What must never come to the service.
    pub(crate) text: Option<String>,
    pub(crate) person: Result<Person, Unknown>,
    pub(crate) named: Named,
}

/// What is to be said of a path before its operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathIs {
    Right,
    /// No server should guess what it means.
    Malformed,
    /// It is that of an operation which this configuration does not add.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) credential: Credential,
    pub(crate) operation: Operation,
    pub(crate) uuid: String,
    /// The path as it is sent.
    pub(crate) path: String,
    pub(crate) path_is: PathIs,
    pub(crate) asked: Asked,
    pub(crate) body: String,
}

/// What was shown and given in this configuration before.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) credentials: Vec<Credential>,
    /// Tokens that callers got.
    pub(crate) given: Vec<String>,
}

impl Credential {
    pub(crate) fn draw(rng: &mut Rng, world: &World, given: &[String]) -> Self {
        let takes_tokens = world.projects.iter().any(|project| project.token_profile.is_some());
        let mut credential = match rng.u32(..100) {
            0..24 => Self::key(rng, world),
            24..46 => Self::jwt(rng, world),
            46..74 if world.tls => Self::certificate(rng, world),
            46..98 if takes_tokens || often(rng, 10) => Self::token(rng, world, given),
            46..98 => Self::jwt(rng, world),
            _ => Self::nobody(rng),
        };
        if !credential.fields.is_empty() && often(rng, 10) {
            // Of no scheme of ours, or nothing: neither counts beside a credential.
            let beside = [("authorization", "Basic YTpi"), ("token", ""), ("x-api-key", "")];
            let (name, value) = beside[rng.usize(..3)];
            if credential.fields.iter().all(|(field, _)| *field != name) {
                credential.fields.push((name, value.to_owned()));
            }
        }
        if world.tls && credential.text.is_some() && often(rng, 15) {
            // One in a header decides alone, whatever certificate there is.
            credential.client = 1 + rng.usize(..world.callers.len());
        }
        let is_free = |name: &&str| credential.fields.iter().all(|(field, _)| field != name);
        let free = ["token", "x-api-key"].into_iter().find(is_free);
        if let (Some(name), Some(_), true) = (free, &credential.text, often(rng, 2)) {
            let other = FIXTURE.keys[world.callers.len()].text.clone();
            if credential.text.as_ref() != Some(&other) {
                credential.fields.push((name, other));
                credential.source = Source::Bad(CONTRADICTION);
            }
        }
        credential.look(world);
        credential
    }

    /// Whom it makes of its holder in a configuration, and how that says it.
    pub(crate) fn look(&mut self, world: &World) {
        let holder = |index: &usize| world.callers.get(*index).filter(|caller| !caller.is_gone);
        let named = |index: usize| Named::Caller(format!("c{index}"));
        (self.person, self.named) = match &self.source {
            Source::Bad(why) => (Err(*why), Named::Nobody),
            Source::Key(index) => match holder(index).filter(|caller| caller.has_key) {
                None => (Err(INVALID), Named::Nobody),
                Some(caller) if caller.is_over => (Err(EXPIRED), named(*index)),
                Some(caller) => (Ok(of_profile(caller.profile)), named(*index)),
            },
            Source::Certificate(authority, of) => match world.of_certificate(*authority, *of) {
                None => (Err(INVALID), Named::Nobody),
                Some(index) => {
                    let caller = &world.callers[index];
                    // One whose keys are all over is not known by its name.
                    let by_name = !(caller.has_key && caller.is_over);
                    let named = if by_name { named(index) } else { Named::Nobody };
                    (Ok(of_profile(caller.profile)), named)
                }
            },
            Source::Jwt { issuer, .. } if world.issuers[*issuer].is_gone => {
                (Err(INVALID), Named::Nobody)
            }
            Source::Jwt { bad: Some(why), .. } => (Err(*why), Named::Nobody),
            Source::Jwt { issuer, claims, .. } => {
                let named = Named::Claims(format!("i{issuer}"), claims.clone());
                (of_claims(world, *issuer, claims), named)
            }
            Source::Token(text) => (of_token(world, text), Named::Nobody),
        };
    }

    /// A text in one of the fields that credentials come in, or the same in two.
    fn shows(rng: &mut Rng, class: Class, text: String) -> Self {
        let fields = [
            ("authorization", format!("Bearer {text}")),
            ("token", text.clone()),
            ("x-api-key", text.clone()),
        ];
        let from = rng.usize(..fields.len());
        let count = if often(rng, 5) { 2 } else { 1 };
        let fields = fields.iter().cycle().skip(from).take(count).cloned().collect();
        Self { text: Some(text), fields, ..Self::of(class, Source::Bad(INVALID)) }
    }

    fn of(class: Class, source: Source) -> Self {
        let (person, named, fields) = (Err(INVALID), Named::Nobody, Vec::new());
        Self { source, class, client: 0, fields, text: None, person, named }
    }

    fn nobody(rng: &mut Rng) -> Self {
        let fields = match rng.u32(..3) {
            0 => Vec::new(),
            1 => vec![("token", String::new())],
            _ => vec![("authorization", "Basic YTpi".to_owned())],
        };
        let why = if fields.is_empty() { NOBODY } else { INVALID };
        Self { fields, ..Self::of(Class::Key, Source::Bad(why)) }
    }

    fn key(rng: &mut Rng, world: &World) -> Self {
        let holders = (0..world.callers.len()).filter(|one| world.callers[*one].has_key);
        let holder = rng.choice(holders.collect::<Vec<_>>()).filter(|_| !often(rng, 5));
        let index = holder.unwrap_or(world.callers.len());
        let mut text = FIXTURE.keys[index].text.clone();
        let mut source = Source::Key(index);
        if often(rng, 3) {
            // Mistyped: the checksum tells.
            text.push('0');
            source = Source::Bad(INVALID);
        } else if often(rng, 3) {
            text = FIXTURE.keys[index].of_another_secret();
            source = Source::Bad(INVALID);
        }
        Self { source, ..Self::shows(rng, Class::Key, text) }
    }

    fn certificate(rng: &mut Rng, world: &World) -> Self {
        let known = [0, 1].map(|authority| {
            let callers = 0..world.callers.len();
            callers.map(move |of| (authority, of)).collect::<Vec<_>>()
        });
        let all = known.concat();
        let good = all.iter().filter(|(by, of)| world.of_certificate(*by, *of).is_some());
        let (authority, of) = match rng.u32(..100) {
            0..4 => (rng.usize(..2), world.callers.len()),
            4..9 => rng.choice(&all).copied().unwrap_or_default(),
            _ => rng.choice(good.collect::<Vec<_>>()).copied().unwrap_or_default(),
        };
        let mut credential = Self {
            client: client_of(authority, of),
            ..Self::of(Class::Certificate, Source::Certificate(authority, of))
        };
        if often(rng, 6) {
            // A proxy that passes on whoever has no credential lends no one its own.
            let empty = [("token", ""), ("x-api-key", ""), ("authorization", "Basic YTpi")];
            let (name, value) = empty[rng.usize(..3)];
            credential.fields.push((name, value.to_owned()));
            credential.source = Source::Bad(INVALID);
        }
        credential
    }

    fn jwt(rng: &mut Rng, world: &World) -> Self {
        let index = rng.usize(..world.issuers.len());
        let mut claims = Map::new();
        let mut says = |name: &str, value: Value| _ = claims.insert(name.to_owned(), value);
        says("sub", json!(["ada", "grace", "edsger"][rng.usize(..3)]));
        // What a claim is to say is mostly there, sometimes missing, and seldom of another type.
        let mut claim = |rng: &mut Rng, name: &str, value: Value| match rng.u32(..100) {
            0..2 => says(name, json!(7.5)),
            2..12 => {}
            _ => says(name, value),
        };
        let groups = ["b", "a", "z"].into_iter().filter(|_| often(rng, 50)).collect::<Vec<_>>();
        claim(rng, "groups", json!(groups));
        for name in [PROFILE_CLAIM, ISSUER_CLAIM] {
            let rooms = some(rng, &ROOMS);
            claim(rng, name, json!(rooms));
        }
        let words = [role_text(role(rng)), role_text(role(rng)), "any".to_owned()];
        let word = if often(rng, 4) { 2 } else { rng.usize(..2) };
        claim(rng, "wb_role", json!(words[word]));
        let seconds = if often(rng, 4) { 0 } else { [60, 600, 7200][rng.usize(..3)] };
        claim(rng, "wb_life", json!(seconds));
        let mut signed = claims.clone();
        let over = often(rng, 4);
        let expires = if over { NOW - 600 } else { NOW + 600 };
        for (name, value) in [
            ("iss", json!(format!("https://i{index}.example"))),
            ("aud", json!("board")),
            ("iat", json!(NOW - 3600)),
            ("exp", json!(expires)),
        ] {
            signed.insert(name.to_owned(), value);
        }
        let forged = often(rng, 4);
        let signer = if forged { &FIXTURE.forger } else { &FIXTURE.signers[index] };
        let bad = [(forged, INVALID), (over, EXPIRED)].into_iter().find(|(bad, _)| *bad);
        let bad = bad.map(|(_, why)| why);
        let shown = Self::shows(rng, Class::Jwt, signer.token(&Value::Object(signed)));
        Self { source: Source::Jwt { issuer: index, claims, bad }, ..shown }
    }

    /// A whiteboard token: one that the gateway gave, or one that a back end signed.
    fn token(rng: &mut Rng, world: &World, given: &[String]) -> Self {
        let given = rng.choice(given.to_vec()).filter(|_| often(rng, 50));
        // The prefix is under no signature; in what the gateway gave, the nonce says what it was.
        let rename = if given.is_some() { 30 } else { 8 };
        let signed = given.unwrap_or_else(|| signed(rng, world));
        let renamed = often(rng, rename).then(|| {
            let rest = signed.split_once('_').map(|(_, rest)| rest).unwrap_or_default();
            let other =
                if signed.starts_with(prefix(Kind::Room)) { Kind::Task } else { Kind::Room };
            format!("{}{rest}", prefix(other))
        });
        let mut text = renamed.unwrap_or(signed);
        if often(rng, 20) {
            text = respelled(&text);
        }
        let task = text.starts_with(prefix(Kind::Task));
        let class = if task { Class::TaskToken } else { Class::RoomToken };
        Self { source: Source::Token(text.clone()), ..Self::shows(rng, class, text) }
    }
}

/// A token that a back end has signed, with some key of a project.
fn signed(rng: &mut Rng, world: &World) -> String {
    let usable = world.projects.iter().filter(|project| project.token_profile.is_some());
    let usable = rng.choice(usable.collect::<Vec<_>>()).filter(|_| !often(rng, 5));
    let keys = usable.map(|project| project.keys.as_slice()).unwrap_or_default();
    let key = rng.choice(keys).map_or("access-key-9-0", |key| key.name.as_str());
    let kind = match rng.u32(..100) {
        0..3 => Kind::Sdk,
        3..50 => Kind::Task,
        _ => Kind::Room,
    };
    let uuids: &[&str] = if kind == Kind::Task { &TASKS } else { &ROOMS };
    let uuid = uuids[rng.usize(..uuids.len())];
    let over = often(rng, 4);
    let token = Signed {
        kind,
        access_key: key,
        secret: &if often(rng, 4) { "another".to_owned() } else { secret(key) },
        nonce: NONCES[rng.usize(..NONCES.len())],
        role: role(rng),
        uuid: (kind != Kind::Sdk).then_some(uuid),
        end: if over { NOW_MS - 1000 } else { end(life(rng)) },
    };
    token.text()
}

/// Somebody who may do all that a profile grants.
pub(crate) const fn of_profile(profile: usize) -> Person {
    Person {
        profile: Some(profile),
        rooms: Rooms::Any,
        claimed: BTreeSet::new(),
        only: None,
        role: Some(Role::Admin),
        life: Some(PERMANENT),
    }
}

/// Whom a whiteboard token speaks for.
fn of_token(world: &World, text: &str) -> Result<Person, Unknown> {
    let usable = |access_key: &str| {
        world.projects.iter().find(|project| {
            let mut keys = project.keys.iter().filter(|key| key.state != "retired");
            keys.any(|key| key.name == access_key)
        })
    };
    let known = |access_key: &str| usable(access_key).map(|_| secret(access_key));
    let token = read(text, known).ok_or(INVALID)?;
    let profile = usable(&token.access_key).and_then(|project| project.token_profile);
    let profile = profile.filter(|_| token.kind != Kind::Sdk).ok_or(INVALID)?;
    // What we mint says its kind in the nonce.
    if minted(&token.nonce).is_some_and(|(kind, _)| kind != token.kind) {
        return Err(INVALID);
    }
    if token.end <= NOW_MS {
        return Err(EXPIRED);
    }
    if world.denies(&token) {
        return Err(INVALID);
    }
    let only = token.uuid.map(|uuid| (token.kind, uuid));
    Ok(Person { only, role: Some(token.role), ..of_profile(profile) })
}

/// Whom the claims of a good JWT make, as `docs/jwt.md` says it.
pub(crate) fn of_claims(
    world: &World,
    issuer: usize,
    claims: &Map<String, Value>,
) -> Result<Person, Unknown> {
    let issuer = &world.issuers[issuer];
    let texts = |name: &str| match claims.get(name) {
        None => Ok(BTreeSet::new()),
        Some(Value::Array(texts)) => {
            Ok(texts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(_) => Err(NO_RIGHT),
    };
    let profile = match issuer.profile {
        From::Fixed(profile) => Some(profile),
        From::Profile | From::Claim => {
            let groups: BTreeSet<String> = texts("groups")?;
            let mut entries = ["a", "b"].into_iter().zip(&issuer.groups);
            entries.find(|(group, _)| groups.contains(*group)).map(|(_, profile)| *profile)
        }
    };
    let from_claim = |index: usize| matches!(world.profiles[index].rooms, Rooms::Claim(_));
    Ok(Person {
        profile,
        rooms: match &issuer.rooms {
            From::Profile => Rooms::Any,
            From::Fixed(rooms) => Rooms::These(rooms.clone()),
            From::Claim => Rooms::These(texts(ISSUER_CLAIM)?),
        },
        claimed: match profile {
            Some(index) if from_claim(index) => texts(PROFILE_CLAIM)?,
            _ => BTreeSet::new(),
        },
        only: None,
        role: match issuer.role {
            From::Profile => Some(Role::Admin),
            From::Fixed(role) => Some(role),
            From::Claim => match claims.get("wb_role").map(Value::as_str) {
                None => None,
                Some(Some("admin")) => Some(Role::Admin),
                Some(Some("writer")) => Some(Role::Writer),
                Some(Some("reader")) => Some(Role::Reader),
                Some(_) => return Err(NO_RIGHT),
            },
        },
        life: match issuer.life {
            From::Profile => Some(PERMANENT),
            From::Fixed(life) => Some(life),
            From::Claim => match claims.get("wb_life").map(Value::as_u64) {
                None => None,
                Some(Some(seconds)) if seconds > 0 => Some(seconds * 1000),
                Some(_) => return Err(NO_RIGHT),
            },
        },
    })
}

impl Request {
    /// What another configuration makes of it.
    pub(crate) fn look(&mut self, world: &World) {
        self.credential.look(world);
        let known = world.operations.iter().any(|row| row.name == self.operation.name);
        if self.path_is == PathIs::Right && !known {
            self.path_is = PathIs::Unknown;
        }
    }

    pub(crate) fn draw(rng: &mut Rng, world: &World, seen: &Seen) -> Self {
        // What was verified before is remembered, and must mean the same again.
        let again = rng.choice(&seen.credentials).filter(|_| often(rng, 20));
        let credential = again.cloned();
        let credential = credential.unwrap_or_else(|| Credential::draw(rng, world, &seen.given));
        let profile = credential.person.as_ref().ok().and_then(|person| person.profile);
        let project = profile.map(|index| &world.projects[world.profiles[index].project]);
        let access_key = project.filter(|_| often(rng, 30)).and_then(|project| {
            let own = rng.choice(project.active().collect::<Vec<_>>())?;
            // That of another project, one that signs no more, and one of no one.
            let keys = world.projects.iter().flat_map(|project| &project.keys);
            let mut others: Vec<&str> = keys.map(|key| key.name.as_str()).collect();
            others.retain(|name| project.active().all(|own| own != *name));
            others.push("access-key-9-9");
            let foreign = rng.choice(others).filter(|_| often(rng, 30));
            Some((foreign.unwrap_or(own).to_owned(), foreign.is_none()))
        });
        let asked = Asked {
            role: [Role::Reader, Role::Writer, Role::Admin][rng.usize(..3)],
            life: [1, 60_000, 3_600_000, 86_400_000, PERMANENT][rng.usize(..5)],
            access_key,
        };
        // As if the key did not matter, for it is to matter alone.
        let by_any_key = Asked { access_key: None, role: asked.role, life: asked.life };
        let mut target = Self::target(rng, world, &credential, &by_any_key);
        if often(rng, 2) {
            let every: Vec<_> = every_operation().collect();
            let row = every[rng.usize(..every.len())].clone();
            let uuid = if row.target == Target::Project { "" } else { "somewhere" };
            target = (row, uuid.to_owned());
        }
        let (operation, uuid) = target;
        let known = world.operations.iter().any(|row| row.name == operation.name);
        let (segment, malformed) = written(rng, &uuid, operation.target != Target::Project);
        let elsewhere = often(rng, 1);
        let path_is = match (malformed, known && !elsewhere) {
            (true, _) => PathIs::Malformed,
            (false, false) => PathIs::Unknown,
            (false, true) => PathIs::Right,
        };
        let mut path = operation.path.replace("{uuid}", &segment);
        if elsewhere {
            // Paths are compared as they are.
            path = path.replace("/v5/", "/V5/");
        }
        if often(rng, 3) {
            path.push('/');
        }
        if operation.name == "legacy_conversions.get" {
            path.push_str("?type=static");
        }
        let body = body(&operation, &asked);
        Self { credential, operation, uuid, path, path_is, asked, body }
    }

    /// An operation and what it is about: mostly what this caller may do, else anything.
    fn target(
        rng: &mut Rng,
        world: &World,
        credential: &Credential,
        asked: &Asked,
    ) -> (Operation, String) {
        let profile = |person: &Person| person.profile.map(|index| &world.profiles[index]);
        let person = credential.person.as_ref().ok();
        let own_rooms: Vec<&str> = match person.and_then(|one| Some((one, profile(one)?))) {
            Some((person, profile)) => {
                ROOMS.into_iter().filter(|room| person.has(profile, Target::Room, room)).collect()
            }
            None => Vec::new(),
        };
        let draw = |rng: &mut Rng| {
            let operation = world.operations[rng.usize(..world.operations.len())].clone();
            let own = person.and_then(|person| person.only.as_ref());
            let uuid = match (operation.target, own) {
                (Target::Project, _) => "",
                (_, Some((_, uuid))) if often(rng, 70) => uuid.as_str(),
                (Target::Room, _) => {
                    let own = rng.choice(&own_rooms).filter(|_| often(rng, 50));
                    own.copied().unwrap_or_else(|| ROOMS[rng.usize(..ROOMS.len())])
                }
                (Target::Task, _) => TASKS[rng.usize(..TASKS.len())],
            };
            (operation, uuid.to_owned())
        };
        let mut target = draw(rng);
        let Some((person, profile)) = person.and_then(|one| Some((one, profile(one)?))) else {
            return target;
        };
        // Half of the time what is granted, sometimes what is refused for its own room or task.
        let wanted: &dyn Fn(bool, bool) -> bool = match rng.u32(..100) {
            0..58 => &|granted, _| granted,
            58..76 => &|granted, own| !granted && own,
            _ => return target,
        };
        for _ in 0..30 {
            let (operation, uuid) = &target;
            let decision = decide(&world.profiles, person, operation, uuid, asked);
            let granted = !matches!(decision, Decision::Refused(..));
            if wanted(granted, person.has(profile, operation.target, uuid)) {
                break;
            }
            target = draw(rng);
        }
        target
    }
}

/// A uuid as it stands in a path, and whether that is malformed.
fn written(rng: &mut Rng, uuid: &str, there: bool) -> (String, bool) {
    if !there || !often(rng, 8) {
        return (uuid.to_owned(), false);
    }
    match rng.u32(..5) {
        0 => (format!("{uuid}%2F.."), true),
        1 => ("%2e%2E".to_owned(), true),
        2 => (format!("{uuid}%00"), true),
        3 => (format!("{uuid}%5c"), true),
        _ => {
            // Percent-encoded for no need: the same segment.
            let first = uuid.as_bytes().first().copied().unwrap_or(b'a');
            (format!("%{first:02x}{}", &uuid[1..]), false)
        }
    }
}

fn body(operation: &Operation, asked: &Asked) -> String {
    let lifespan: Life = if asked.life == PERMANENT { 0 } else { asked.life };
    let token = |name: &str| {
        let mut body = json!({"role": role_text(asked.role), "lifespan": lifespan});
        if let Some((access_key, _)) = &asked.access_key {
            body[name] = json!(access_key);
        }
        body
    };
    let body = match operation.name {
        "tokens.sdk" => token("accessKey"),
        "tokens.room" | "tokens.task" => token("ak"),
        "rooms.update" => json!({"isBan": true}),
        "screenshots.scene" | "screenshots.directory" => json!({"width": 10, "height": 10}),
        "scenes.add" => json!({"path": "/a", "scenes": [{"name": "b"}]}),
        "scenes.switch" => json!({"scenePath": "/a/b"}),
        "conversions.start" | "legacy_conversions.start" => {
            json!({"resource": "https://example.org/a.pdf", "type": "static"})
        }
        "conversions.prioritize" => json!({"priority": "highest"}),
        _ if matches!(operation.method, "POST" | "PATCH" | "PUT") => json!({}),
        _ => return String::new(),
    };
    body.to_string()
}
