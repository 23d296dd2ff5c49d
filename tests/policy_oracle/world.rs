//! A whole configuration, drawn from a seed: two projects, profiles, callers, issuers and operations
//! that are added, as the oracle knows it and as the gateway reads it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;

use crate::fixture::{
    CALLERS, DOMAIN, FIXTURE, ISSUERS, NOW_MS, SHARED, Signed, dns, sha256, spiffe,
};
use crate::oracle::{
    Kind, Life, Operation, PERMANENT, Profile, Read, Role, Rooms, TABLE, Target, Token,
};

/// The rooms that there are, and what else may stand in their place. Whatever is no uuid can be a
/// word that means something at the service.
/// The last can be no entry of a list in the configuration, where it would mean something else.
pub(crate) const ROOMS: [&str; 9] = [
    "d07bcaf0a17911ea9d7e23232cddf42d",
    "faed3130727911ebaea37759ee91947c",
    "11111111111111111111111111111111",
    "5d10677e-c1a6-4bbe-9d6f-6b0e0f4a3d10",
    "00d4e015df4c488480c3f8a24d053eb1",
    "D07BCAF0A17911EA9D7E23232CDDF42D",
    "d07bcaf0-a179-11ea-9d7e-23232cddf42d",
    "all",
    "any",
];

pub(crate) const TASKS: [&str; 4] = [
    "00d4e015df4c488480c3f8a24d053eb1",
    "22222222222222222222222222222222",
    "d07bcaf0a17911ea9d7e23232cddf42d",
    "last",
];

/// The claim that names the rooms of a profile, and that of an issuer.
pub(crate) const PROFILE_CLAIM: &str = "wb_rooms";
pub(crate) const ISSUER_CLAIM: &str = "rooms";

/// Operations that a configuration can add.
#[rustfmt::skip]
const ADDED: [Operation; 9] = [
    added("rooms.export", "POST", "/v5/rooms/{uuid}/export", Target::Room, Token::Shows(Kind::Room, Role::Writer)),
    added("rooms.dump", "GET", "/v5/rooms/{uuid}/dump", Target::Room, Token::Shows(Kind::Sdk, Role::Writer)),
    added("rooms.usage", "GET", "/v5/usage", Target::Project, Token::Shows(Kind::Sdk, Role::Reader)),
    added("scenes.peek", "GET", "/v5/peek/{uuid}", Target::Room, Token::ShowsNone),
    added("conversions.log", "GET", "/v5/projector/tasks/{uuid}/log", Target::Task, Token::Shows(Kind::Task, Role::Writer)),
    added("tokens.renew", "POST", "/v5/tokens/renew", Target::Project, Token::Shows(Kind::Sdk, Role::Admin)),
    added("tokens.peek", "GET", "/v5/tokened/{uuid}", Target::Room, Token::Shows(Kind::Room, Role::Reader)),
    added("sessions.open", "POST", "/v5/tokens/rooms/{uuid}/session", Target::Room, Token::Shows(Kind::Room, Role::Reader)),
    added("rooms_archive.list", "GET", "/v5/archive", Target::Project, Token::Shows(Kind::Sdk, Role::Writer)),
];

/// The documented operations, and those that can be added.
pub(crate) fn every_operation() -> impl Iterator<Item = Operation> {
    TABLE.into_iter().chain(ADDED)
}

const fn added(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    target: Target,
    token: Token,
) -> Operation {
    Operation { name, method, path, target, token, added: true }
}

/// Nonces as back ends draw them.
pub(crate) const NONCES: [&str; 3] = ["f9e0b2f0-1c5d-11ec-9621-0242ac130002", "42", "0.1234567"];

/// The access key of whoever gave a project its SDK token.
pub(crate) const CONSOLE: &str = "console-access-key";

#[derive(Clone)]
pub(crate) struct Project {
    /// None where there is only an SDK token.
    pub(crate) keys: Vec<AccessKey>,
    pub(crate) sdk_token: Option<String>,
    pub(crate) token_profile: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct AccessKey {
    pub(crate) name: String,
    pub(crate) state: &'static str,
}

/// The secret key of an access key.
pub(crate) fn secret(access_key: &str) -> String {
    format!("the secret of {access_key}")
}

#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) profile: usize,
    pub(crate) has_key: bool,
    /// The key's time is over.
    pub(crate) is_over: bool,
    pub(crate) certificate: Option<Name>,
    /// The configuration has no such caller any more.
    pub(crate) is_gone: bool,
}

/// A name in certificates that is a caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// In the certificate made for this one.
    of: usize,
    /// The SPIFFE id, and not the DNS name.
    is_spiffe: bool,
    /// The authority whose word counts, if not that of each.
    authority: Option<usize>,
}

/// As the configuration calls the authorities of callers.
const AUTHORITIES: [&str; 2] = ["ours", "partner"];

/// A token that is taken no more.
#[derive(Clone, Debug)]
pub(crate) enum Denied {
    Nonce { access_key: String, nonce: &'static str },
    Token { token: String, says: Read },
}

/// Where an issuer takes a right from.
#[derive(Clone, Debug)]
pub(crate) enum From<T> {
    Profile,
    Fixed(T),
    Claim,
}

#[derive(Clone)]
pub(crate) struct Issuer {
    /// One profile, or those of the entries `a`, `b`, ... of the claim `groups`, in this order.
    pub(crate) profile: From<usize>,
    pub(crate) groups: Vec<usize>,
    pub(crate) rooms: From<BTreeSet<String>>,
    pub(crate) role: From<Role>,
    pub(crate) life: From<Life>,
    pub(crate) is_gone: bool,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) operations: Vec<Operation>,
    pub(crate) projects: Vec<Project>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) callers: Vec<Caller>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) tls: bool,
    /// Certificates of the partner's authority count as well as ours.
    pub(crate) has_partner: bool,
    /// Ids of the trust domain are ours alone to give.
    pub(crate) trust_domain: bool,
    pub(crate) denied: Vec<Denied>,
}

/// So many in a hundred.
pub(crate) fn often(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

pub(crate) fn some<'a>(rng: &mut Rng, of: &[&'a str]) -> BTreeSet<String> {
    let few: Vec<&'a str> = of.iter().filter(|_| often(rng, 40)).copied().collect();
    few.into_iter().map(str::to_owned).collect()
}

/// Some rooms, for a list in the configuration.
fn some_rooms(rng: &mut Rng) -> BTreeSet<String> {
    some(rng, &ROOMS[..ROOMS.len() - 1])
}

pub(crate) fn role(rng: &mut Rng) -> Role {
    [Role::Reader, Role::Writer, Role::Admin, Role::Admin][rng.usize(..4)]
}

pub(crate) fn life(rng: &mut Rng) -> Life {
    [90_000, 600_000, 3_600_000, 86_400_000, PERMANENT][rng.usize(..5)]
}

impl World {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut operations = TABLE.to_vec();
        operations.extend(ADDED.into_iter().filter(|_| often(rng, 60)));
        let mut projects = vec![keys(rng, 0)];
        projects.push(if often(rng, 35) { console() } else { keys(rng, 1) });
        let count = rng.usize(2..5);
        let profiles: Vec<_> =
            (0..count).map(|index| profile(rng, &operations, &projects, index)).collect();
        let of = |rng: &mut Rng, project: usize| {
            let fit = (0..count).filter(|index| profiles[*index].project == project);
            rng.choice(fit.collect::<Vec<_>>())
        };
        for (index, project) in projects.iter_mut().enumerate() {
            if project.sdk_token.is_none() && often(rng, 80) {
                project.token_profile = of(rng, index);
            }
        }
        let tls = often(rng, 60);
        let has_partner = tls && often(rng, 50);
        let trust_domain = has_partner && often(rng, 50);
        let mut callers: Vec<Caller> = Vec::new();
        for index in 0..rng.usize(2..=CALLERS) {
            let before = callers.last().and_then(|caller| caller.certificate.as_ref());
            callers.push(Caller {
                profile: rng.usize(..count),
                has_key: !tls || often(rng, 60),
                is_over: often(rng, 5),
                certificate: (tls && often(rng, 85))
                    .then(|| Name::draw(rng, index, before, (has_partner, trust_domain))),
                is_gone: false,
            });
        }
        let issuers = (0..rng.usize(1..=ISSUERS)).map(|_| Issuer {
            profile: if often(rng, 60) { From::Fixed(rng.usize(..count)) } else { From::Claim },
            groups: (0..2).map(|_| rng.usize(..count)).collect(),
            rooms: match rng.u32(..10) {
                0..5 => From::Profile,
                5..7 => From::Fixed(some_rooms(rng)),
                _ => From::Claim,
            },
            role: match rng.u32(..4) {
                0 => From::Fixed(role(rng)),
                1 => From::Claim,
                _ => From::Profile,
            },
            life: match rng.u32(..4) {
                0 => From::Fixed(life(rng)),
                1 => From::Claim,
                _ => From::Profile,
            },
            is_gone: false,
        });
        let issuers = issuers.collect();
        let denied = projects.iter().flat_map(|project| &project.keys).filter_map(|key| {
            let nonce = NONCES[rng.usize(..NONCES.len())];
            often(rng, 8).then(|| Denied::Nonce { access_key: key.name.clone(), nonce })
        });
        let denied = denied.collect();
        Self {
            operations,
            projects,
            profiles,
            callers,
            issuers,
            tls,
            has_partner,
            trust_domain,
            denied,
        }
    }

    /// Whose caller a certificate is that an authority has issued: of the one that has a name in it.
    pub(crate) fn of_certificate(&self, authority: usize, of: usize) -> Option<usize> {
        if authority == 1 && !self.has_partner {
            return None;
        }
        let counts = |name: &Name| {
            let theirs = name.is_spiffe && self.trust_domain && authority != 0;
            name.of == of && name.authority.is_none_or(|one| one == authority) && !theirs
        };
        let has =
            |caller: &&Caller| !caller.is_gone && caller.certificate.as_ref().is_some_and(counts);
        let mut found = self.callers.iter().enumerate().filter(|(_, caller)| has(caller));
        let (index, _) = found.next()?;
        found.next().is_none().then_some(index)
    }

    /// Whether a token is taken no more, under whatever prefix.
    pub(crate) fn denies(&self, token: &Read) -> bool {
        self.denied.iter().any(|denied| match denied {
            Denied::Nonce { access_key, nonce } => {
                *access_key == token.access_key && *nonce == token.nonce
            }
            Denied::Token { says, .. } => Read { kind: token.kind, ..says.clone() } == *token,
        })
    }

    /// Whether the configuration must be refused.
    pub(crate) fn contradicts_itself(&self) -> bool {
        self.profiles.iter().any(|profile| profile.contradicts_itself(&self.operations))
    }

    /// The configuration as the gateway reads it.
    pub(crate) fn text(&self) -> String {
        self.text_with(|_| String::new())
    }

    /// The same with more lines in the section of each profile.
    pub(crate) fn text_with(&self, more: impl Fn(usize) -> String) -> String {
        let mut text = "[upstream]\nregion = \"us-sv\"\nurl = \"http://127.0.0.1:9\"\n".to_owned();
        if self.tls {
            let path = |name| FIXTURE.path(name);
            let (certificate, key) = (path("certificate.pem"), path("key.pem"));
            let [ours, partner] = [path("authority.pem"), path("partner.pem")];
            let authorities = if self.has_partner {
                format!("{{ ours = {ours:?}, partner = {partner:?} }}")
            } else {
                format!("{ours:?}")
            };
            _ = writeln!(
                text,
                "[listen.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\
                 client_ca = {authorities}"
            );
            if self.trust_domain {
                _ = writeln!(text, "trust_domains = {{ {DOMAIN:?} = \"ours\" }}");
            }
        }
        for (index, project) in self.projects.iter().enumerate() {
            _ = writeln!(text, "[projects.q{index}]\n{}", project.text());
        }
        for (index, profile) in self.profiles.iter().enumerate() {
            _ = writeln!(text, "[profiles.p{index}]\n{}{}", more(index), profile_text(profile));
        }
        let callers = self.callers.iter().enumerate().filter(|(_, caller)| !caller.is_gone);
        for (index, caller) in callers {
            _ = writeln!(text, "[callers.c{index}]\n{}", caller.text(index));
        }
        let issuers = self.issuers.iter().enumerate().filter(|(_, issuer)| !issuer.is_gone);
        for (index, issuer) in issuers {
            _ = writeln!(text, "[issuers.i{index}]\n{}", issuer.text(index));
        }
        for operation in self.operations.iter().filter(|operation| operation.added) {
            _ = writeln!(text, "[[operations]]\n{}", operation_text(operation));
        }
        for denied in &self.denied {
            _ = writeln!(text, "[[denied]]\n{}", denied.text());
        }
        text
    }
}

fn keys(rng: &mut Rng, project: usize) -> Project {
    let states: &[&str] = match rng.u32(..4) {
        0 => &["active", "active"],
        1 => &["verify_only", "active"],
        2 => &["active", "retired"],
        _ => &["active"],
    };
    let name = |index| format!("access-key-{project}-{index}");
    let keys = states.iter().enumerate();
    let keys = keys.map(|(index, state)| AccessKey { name: name(index), state }).collect();
    Project { keys, sdk_token: None, token_profile: None }
}

/// A project of which there is only an SDK token.
fn console() -> Project {
    let token = Signed {
        kind: Kind::Sdk,
        access_key: CONSOLE,
        secret: &secret(CONSOLE),
        nonce: "made in the console",
        role: Role::Admin,
        uuid: None,
        end: PERMANENT,
    };
    Project { keys: Vec::new(), sdk_token: Some(token.text()), token_profile: None }
}

fn profile(rng: &mut Rng, operations: &[Operation], projects: &[Project], index: usize) -> Profile {
    let families: BTreeSet<&str> =
        operations.iter().filter_map(|row| row.name.split_once('.')).map(|(of, _)| of).collect();
    let names = if often(rng, 30) { 70 } else { 25 };
    let mut allow: Vec<String> = families
        .into_iter()
        .filter(|_| often(rng, 50))
        .map(|family| format!("{family}.*"))
        .collect();
    let named = operations.iter().filter(|_| often(rng, names));
    allow.extend(named.map(|row| row.name.to_owned()));
    rng.shuffle(&mut allow);
    let rooms = match rng.u32(..10) {
        0 => Rooms::These(BTreeSet::new()),
        1..4 => Rooms::These(some_rooms(rng)),
        4..6 => Rooms::Claim(PROFILE_CLAIM),
        _ => Rooms::Any,
    };
    let project = if index < projects.len() { index } else { rng.usize(..projects.len()) };
    let mut profile = Profile {
        project,
        keys: projects[project].sdk_token.is_none(),
        allow,
        rooms,
        role: role(rng),
        life: life(rng),
        clamps_life: often(rng, 60),
        clamps_role: often(rng, 40),
    };
    if profile.contradicts_itself(operations) && !often(rng, 2) {
        let wide = ["tokens.sdk", "tokens.task", "rooms.list"];
        profile.allow.retain(|entry| !wide.contains(&entry.as_str()));
    }
    profile
}

impl Project {
    fn text(&self) -> String {
        if let Some(token) = &self.sdk_token {
            return format!("sdk_token = {token:?}");
        }
        let keys = self.keys.iter().map(|key| {
            let (name, state) = (&key.name, key.state);
            let secret = secret(name);
            format!("{{ access_key = {name:?}, secret_key = {secret:?}, state = {state:?} }}")
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        let token_profile = self.token_profile.map(|index| format!("token_profile = \"p{index}\""));
        format!("keys = [{keys}]\n{}", token_profile.unwrap_or_default())
    }

    /// The access keys that sign.
    pub(crate) fn active(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(|key| key.state == "active").map(|key| key.name.as_str())
    }
}

fn listed(rooms: &BTreeSet<String>) -> String {
    format!("{:?}", rooms.iter().collect::<Vec<_>>())
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Reader => "reader",
        Role::Writer => "writer",
        Role::Admin => "admin",
    }
}

pub(crate) fn role_text(role: Role) -> String {
    word(role).to_owned()
}

fn life_text(life: Life) -> String {
    if life == PERMANENT { "permanent".to_owned() } else { format!("{}s", life / 1000) }
}

fn profile_text(profile: &Profile) -> String {
    let excess = |clamps| if clamps { "clamp" } else { "refuse" };
    let rooms = match &profile.rooms {
        Rooms::Any => "rooms = \"any\"\n".to_owned(),
        Rooms::These(rooms) if rooms.is_empty() => String::new(),
        Rooms::These(rooms) => format!("rooms = {}\n", listed(rooms)),
        Rooms::Claim(claim) => format!("rooms = {{ claim = {claim:?} }}\n"),
    };
    format!(
        "project = \"q{}\"\nallow = {:?}\n{rooms}role = {:?}\nmax_lifespan = {:?}\n\
         over_cap = {{ lifespan = {:?}, role = {:?} }}",
        profile.project,
        profile.allow,
        word(profile.role),
        life_text(profile.life),
        excess(profile.clamps_life),
        excess(profile.clamps_role),
    )
}

impl Caller {
    fn text(&self, index: usize) -> String {
        let mut text = format!("profile = \"p{}\"", self.profile);
        if self.has_key {
            let key = &FIXTURE.keys[index];
            let until = if self.is_over { ", until = \"2020-01-01T00:00:00Z\"" } else { "" };
            _ = write!(
                text,
                "\nkeys = [{{ id = {:?}, digest = {:?}{until} }}]",
                key.id, key.digest
            );
        }
        if let Some(Name { of, is_spiffe, authority }) = &self.certificate {
            let (form, name) = if *is_spiffe { ("spiffe", spiffe(*of)) } else { ("dns", dns(*of)) };
            let authority = authority.map(|one| format!(", authority = {:?}", AUTHORITIES[one]));
            let authority = authority.unwrap_or_default();
            _ = write!(text, "\ncertificates = [{{ {form} = {name:?}{authority} }}]");
        }
        text
    }
}

impl Name {
    /// A name for a caller; the one before may have the same from the other authority.
    fn draw(
        rng: &mut Rng,
        caller: usize,
        before: Option<&Self>,
        (has_partner, trust_domain): (bool, bool),
    ) -> Self {
        let own = before.filter(|name| name.of + 1 == caller);
        let other = own.and_then(|name| Some((name, name.authority?)));
        if let Some((name, authority)) = other.filter(|_| often(rng, 50)) {
            return Self { authority: Some(1 - authority), ..name.clone() };
        }
        let is_spiffe = often(rng, 50);
        // Whose the ids of the domain are is said once.
        let says = has_partner && !(is_spiffe && trust_domain) && often(rng, 70);
        Self { of: caller, is_spiffe, authority: says.then(|| rng.usize(..2)) }
    }
}

impl Denied {
    fn text(&self) -> String {
        match self {
            Self::Nonce { access_key, nonce } => {
                format!("access_key = {access_key:?}\nnonce = {nonce:?}")
            }
            Self::Token { token, .. } => format!("sha256 = {:?}", sha256(token)),
        }
    }
}

impl Issuer {
    fn text(&self, index: usize) -> String {
        let mut text = format!("issuer = \"https://i{index}.example\"\naudience = \"board\"\n");
        // Each signs in another way.
        if index == 0 {
            _ = writeln!(text, "secret = {SHARED:?}");
        } else {
            _ = writeln!(text, "key_file = {:?}", FIXTURE.path("keys.json"));
        }
        match &self.profile {
            From::Fixed(profile) => _ = writeln!(text, "profile = \"p{profile}\""),
            From::Profile | From::Claim => {
                let entries = self.groups.iter().zip(["a", "b"]);
                let entries = entries.map(|(profile, group)| format!("{group} = \"p{profile}\""));
                let entries = entries.collect::<Vec<_>>().join(", ");
                _ = writeln!(text, "profile = {{ claim = \"groups\", map = {{ {entries} }} }}");
            }
        }
        let mut right = |key: &str, fixed: Option<String>, claim: &str, from_claim: bool| {
            if from_claim {
                _ = writeln!(text, "{key} = {{ claim = {claim:?} }}");
            } else if let Some(fixed) = fixed {
                _ = writeln!(text, "{key} = {fixed}");
            }
        };
        let rooms = if let From::Fixed(rooms) = &self.rooms { Some(listed(rooms)) } else { None };
        right("rooms", rooms, ISSUER_CLAIM, matches!(self.rooms, From::Claim));
        let role = if let From::Fixed(role) = self.role { Some(role) } else { None };
        let role = role.map(|role| format!("{:?}", word(role)));
        right("role", role, "wb_role", matches!(self.role, From::Claim));
        let life = if let From::Fixed(life) = self.life { Some(life) } else { None };
        let life = life.map(|life| format!("{:?}", life_text(life)));
        right("max_lifespan", life, "wb_life", matches!(self.life, From::Claim));
        text
    }
}

fn operation_text(operation: &Operation) -> String {
    let Operation { name, method, path, target, token, .. } = operation;
    let token = match token {
        Token::Shows(kind, role) => {
            let kind = format!("{kind:?}").to_lowercase();
            format!("token = {kind:?}\nrole = {:?}", word(*role))
        }
        Token::ShowsNone | Token::Gives(_) => "token = \"none\"".to_owned(),
    };
    let target = match target {
        Target::Project => "",
        Target::Room => "\ntarget = \"room\"",
        Target::Task => "\ntarget = \"task\"",
    };
    format!("name = {name:?}\nmethod = {method:?}\npath = {path:?}\n{token}{target}")
}

/// When a token ends that lives so long from now.
pub(crate) fn end(life: Life) -> Life {
    if life == PERMANENT { PERMANENT } else { NOW_MS + life }
}
