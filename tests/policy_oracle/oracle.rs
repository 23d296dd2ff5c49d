//! The policy, said a second time: what `docs/policy.md` and the API's own matrix promise, in as few
//! words as possible, with a reader of whiteboard tokens of its own. Nothing here comes from `src/`.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::hmac;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Reader,
    Writer,
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Sdk,
    Room,
    Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Project,
    Room,
    Task,
}

/// What an operation does with whiteboard tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The service is shown one of this kind and role.
    Shows(Kind, Role),
    /// The service is shown none.
    ShowsNone,
    /// The caller gets one.
    Gives(Kind),
}

/// Milliseconds; [`PERMANENT`] has no end.
pub(crate) type Life = u64;
pub(crate) const PERMANENT: Life = u64::MAX;
/// How long a token lives that the service is shown.
pub(crate) const SHOWN_FOR: Life = 600_000;

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) target: Target,
    pub(crate) token: Token,
    /// It comes from the configuration.
    pub(crate) added: bool,
}

type Text = &'static str;
const fn row(name: Text, request: (Text, Text), target: Target, token: Token) -> Operation {
    Operation { name, method: request.0, path: request.1, target, token, added: false }
}

use Kind::{Room as R, Sdk as S, Task as T};
use Role::{Admin, Reader, Writer};
use Token::{Gives, Shows};

/// The documented operations, from the matrix of the API.
#[rustfmt::skip]
pub(crate) const TABLE: [Operation; 19] = [
    row("tokens.sdk", ("POST", "/v5/tokens/teams"), Target::Project, Gives(S)),
    row("tokens.room", ("POST", "/v5/tokens/rooms/{uuid}"), Target::Room, Gives(R)),
    row("tokens.task", ("POST", "/v5/tokens/tasks/{uuid}"), Target::Task, Gives(T)),
    row("rooms.create", ("POST", "/v5/rooms"), Target::Project, Shows(S, Writer)),
    row("rooms.list", ("GET", "/v5/rooms"), Target::Project, Shows(S, Writer)),
    row("rooms.get", ("GET", "/v5/rooms/{uuid}"), Target::Room, Shows(R, Writer)),
    row("rooms.update", ("PATCH", "/v5/rooms/{uuid}"), Target::Room, Shows(R, Admin)),
    row("screenshots.scene", ("POST", "/v5/rooms/{uuid}/screenshots"), Target::Room, Shows(R, Writer)),
    row("screenshots.directory", ("POST", "/v5/rooms/{uuid}/screenshot-list"), Target::Room, Shows(R, Writer)),
    row("scenes.list", ("GET", "/v5/rooms/{uuid}/scenes"), Target::Room, Shows(R, Writer)),
    row("scenes.add", ("POST", "/v5/rooms/{uuid}/scenes"), Target::Room, Shows(R, Writer)),
    row("scenes.switch", ("PATCH", "/v5/rooms/{uuid}/scene-state"), Target::Room, Shows(R, Writer)),
    row("conversions.start", ("POST", "/v5/projector/tasks"), Target::Project, Shows(S, Writer)),
    row("conversions.list", ("GET", "/v5/projector/tasks"), Target::Project, Shows(S, Writer)),
    row("conversions.get", ("GET", "/v5/projector/tasks/{uuid}"), Target::Task, Shows(T, Reader)),
    row("conversions.cancel", ("DELETE", "/v5/projector/tasks/{uuid}"), Target::Task, Shows(S, Admin)),
    row("conversions.prioritize", ("PUT", "/v5/projector/tasks/{uuid}/priority"), Target::Task, Shows(S, Writer)),
    row("legacy_conversions.start", ("POST", "/v5/services/conversion/tasks"), Target::Project, Shows(S, Writer)),
    row("legacy_conversions.get", ("GET", "/v5/services/conversion/tasks/{uuid}"), Target::Task, Shows(T, Reader)),
];

impl Operation {
    fn is_of(&self, entry: &str) -> bool {
        self.name.split('.').next() == entry.strip_suffix(".*")
    }

    /// Whether it hands out tokens: here, or as the service sees fit.
    pub(crate) fn hands_out(&self) -> bool {
        let path = self.path.to_ascii_lowercase();
        path.starts_with("/v5/tokens/") || self.name.starts_with("tokens.")
    }

    /// Whether a family in `allow` is enough, or only its name. `keys`: the project has some.
    fn comes_with_its_family(&self, narrow: bool, keys: bool) -> bool {
        let of_one_room = self.target == Target::Room
            && (matches!(self.token, Shows(R, _) | Gives(R)) && (keys || !self.added)
                || self.token == Token::ShowsNone);
        self.name != "tokens.sdk" && !(self.added && self.hands_out()) && (!narrow || of_one_room)
    }

    /// Whether someone who is not good for the whole project can never have it.
    fn is_wide(&self) -> bool {
        self.name == "rooms.list" || matches!(self.token, Gives(S | T))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rooms {
    Any,
    /// No others; also those of a claim, once it was read.
    These(BTreeSet<String>),
    /// Those that this claim names.
    Claim(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) project: usize,
    /// The project has keys, and not only an SDK token: else the service mints, and no SDK tokens, and
    /// is shown that one with each request.
    pub(crate) keys: bool,
    pub(crate) allow: Vec<String>,
    pub(crate) rooms: Rooms,
    pub(crate) role: Role,
    pub(crate) life: Life,
    pub(crate) clamps_life: bool,
    pub(crate) clamps_role: bool,
}

impl Profile {
    /// Whether the configuration is refused: who has some rooms is promised the whole project.
    pub(crate) fn contradicts_itself(&self, table: &[Operation]) -> bool {
        let named = |row: &&Operation| self.allow.iter().any(|entry| entry == row.name);
        self.rooms != Rooms::Any && table.iter().filter(named).any(Operation::is_wide)
    }
}

/// What a credential says of whoever shows it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) profile: Option<usize>,
    pub(crate) rooms: Rooms,
    /// What the claim holds that the profile's rooms come from.
    pub(crate) claimed: BTreeSet<String>,
    /// The one room or task that it is the token of.
    pub(crate) only: Option<(Kind, String)>,
    pub(crate) role: Option<Role>,
    pub(crate) life: Option<Life>,
}

/// What a token operation is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) role: Role,
    pub(crate) life: Life,
    /// An access key, and whether it is an active one of the project's.
    pub(crate) access_key: Option<(String, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Refused(u16, &'static str),
    Given(Role, Life),
    /// It is passed on; `named` where `allow` has its name and not its family.
    Passed {
        named: bool,
    },
}

pub(crate) const FORBIDDEN: Decision = Decision::Refused(403, "forbidden");
pub(crate) const UNKNOWN: Decision = Decision::Refused(404, "not_found");

impl Person {
    /// Good for less than the whole project, whichever part says so.
    pub(crate) fn is_narrow(&self, profile: &Profile) -> bool {
        self.only.is_some() || self.rooms != Rooms::Any || profile.rooms != Rooms::Any
    }

    /// Whether it is good for a room or a task.
    pub(crate) fn has(&self, profile: &Profile, target: Target, uuid: &str) -> bool {
        let within = |rooms: &Rooms| match rooms {
            Rooms::Any => true,
            Rooms::These(rooms) => rooms.contains(uuid),
            Rooms::Claim(_) => self.claimed.contains(uuid),
        };
        let own = self.only.as_ref().is_none_or(|(kind, own)| {
            own == uuid && matches!((kind, target), (R, Target::Room) | (T, Target::Task))
        });
        own && (target != Target::Room || within(&self.rooms) && within(&profile.rooms))
    }
}

/// What must come of a request for an operation of the table.
pub(crate) fn decide(
    profiles: &[Profile],
    person: &Person,
    operation: &Operation,
    uuid: &str,
    asked: &Asked,
) -> Decision {
    let Some(profile) = person.profile.map(|index| &profiles[index]) else { return FORBIDDEN };
    let narrow = person.is_narrow(profile);
    let gives = matches!(operation.token, Gives(_));
    let named = profile.allow.iter().any(|entry| entry == operation.name);
    let by_family = profile.allow.iter().any(|entry| operation.is_of(entry))
        && operation.comes_with_its_family(narrow, profile.keys);
    let never = narrow && operation.is_wide() || operation.hands_out() && person.only.is_some();
    if never || !(named || by_family) {
        return FORBIDDEN;
    }
    if !person.has(profile, operation.target, uuid) {
        return if operation.target == Target::Project { FORBIDDEN } else { UNKNOWN };
    }
    let Some(role) = person.role.map(|role| role.min(profile.role)) else { return FORBIDDEN };
    if let Shows(_, least) = operation.token {
        return if role < least { FORBIDDEN } else { Decision::Passed { named } };
    }
    if !gives {
        return Decision::Passed { named };
    }
    let Some(life) = person.life.map(|life| life.min(profile.life)) else { return FORBIDDEN };
    let refused = asked.role > role && !profile.clamps_role
        || asked.life > life && !profile.clamps_life
        || asked.access_key.as_ref().is_some_and(|(_, ours)| !ours)
        || operation.token == Gives(S) && !profile.keys;
    if refused { FORBIDDEN } else { Decision::Given(asked.role.min(role), asked.life.min(life)) }
}

/// What a whiteboard token says whose signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) kind: Kind,
    pub(crate) access_key: String,
    pub(crate) nonce: String,
    pub(crate) role: Role,
    pub(crate) uuid: Option<String>,
    pub(crate) end: Life,
}

/// Reads a token, if `secret` knows the secret key of its access key and has signed it.
pub(crate) fn read(text: &str, secret: impl Fn(&str) -> Option<String>) -> Option<Read> {
    let prefixes = [("NETLESSSDK_", S), ("NETLESSROOM_", R), ("NETLESSTASK_", T)];
    let (rest, kind) =
        prefixes.into_iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, kind)))?;
    let payload = String::from_utf8(base64url(rest.trim_end_matches('='))?).ok()?;
    let mut fields = BTreeMap::new();
    for pair in payload.split('&') {
        let (name, value) = pair.split_once('=')?;
        if fields.insert(unescaped(name)?, unescaped(value)?).is_some() {
            return None;
        }
    }
    let signature = fields.remove("sig")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret(fields.get("ak")?)?.as_bytes());
    let signed = hmac::sign(&key, serde_json::to_string(&fields).ok()?.as_bytes());
    let hex: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let role =
        [Admin, Writer, Reader][fields.get("role")?.parse::<usize>().ok().filter(|r| *r < 3)?];
    let end = fields.get("expireAt").map_or(Some(PERMANENT), |at| at.parse().ok())?;
    let (access_key, nonce) = (fields.get("ak")?.clone(), fields.get("nonce")?.clone());
    let uuid = fields.get("uuid").cloned();
    let right = hex == signature && (kind == S) == uuid.is_none();
    right.then_some(Read { kind, access_key, nonce, role, uuid, end })
}

/// The kind and the second that a nonce of the gateway's own says (UUIDv8): the prefix of a token
/// is under no signature, the nonce is. `None` for the nonces of others.
pub(crate) fn minted(nonce: &str) -> Option<(Kind, u32)> {
    let bits = u128::from_str_radix(&nonce.replace('-', ""), 16).ok()?;
    let of_version_8 = nonce.len() == 36 && bits >> 76 & 0xF == 8 && bits >> 62 & 3 == 2;
    let kind = *[S, R, T].get((bits >> 126) as usize)?;
    of_version_8.then_some((kind, (bits >> 94) as u32))
}

pub(crate) fn base64url(text: &str) -> Option<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        bits = bits << 6 | u32::try_from(alphabet.iter().position(|one| *one == byte)?).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

fn unescaped(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}
