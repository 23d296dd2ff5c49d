//! Values that stand in the file, or in a claim of the caller's token.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{Schema, SchemaGenerator, json_schema};

use super::file::{FromTree, KeyPath, Node, Notation, Parse, Report, any_of, section};
use crate::api::RoomId;
use crate::caller::jwt::{CapFrom, ClaimPath};
use crate::policy::Rooms;

/// A step of a path: the name of a member, or the index of an item.
struct ClaimStep(String);

impl FromTree for ClaimStep {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.form() {
            Notation::Text(text) => Some(Self(text.to_owned())),
            Notation::Integer(index @ 0..) => Some(Self(index.to_string())),
            other => node.refuse("a name, or the index of an item", other.found(), report),
        }
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": 0 })
    }
}

section! {
    struct ClaimKeys {
        names as "path": Option<WrittenPath> | "the path of the claim";
        keys: bool = false;
    }
}

/// A path alone.
struct WrittenPath(ClaimPath);

impl FromTree for WrittenPath {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str = "the name of a claim, its path with dots between, such as \
                               \"realm_access.roles\", or a list of its names, which may hold dots";
        let path = match node.form() {
            Notation::Text(text) => ClaimPath::new(text),
            Notation::List(_) => {
                let steps: Vec<ClaimStep> = Vec::read(node, report)?;
                ClaimPath::of_names(steps.into_iter().map(|step| step.0).collect())
            }
            other => return node.refuse(ALLOWED, other.found(), report),
        };
        let path = path.map(Self);
        path.or_else(|_| node.refuse(ALLOWED, "a name in it is empty", report).ok_or(())).ok()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([<String as FromTree>::schema(generator), Vec::<ClaimStep>::schema(generator)])
    }
}

/// The path of a claim, a text with dots between its names or a list of them; or a table of it that
/// says that the keys of the object there are meant.
impl FromTree for ClaimPath {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let Notation::Table(_) = node.form() else {
            return WrittenPath::read(node, report).map(|path| path.0);
        };
        let ClaimKeys { names, keys, .. } = ClaimKeys::read(node, report)?;
        let path = names?.0;
        Some(if keys { Self::KeysOf(Box::new(path)) } else { path })
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([WrittenPath::schema(generator), ClaimKeys::schema(generator)])
    }
}
/// How a claim is named.
const CLAIM: &str = "{ claim = \"name\" }";

section! {
    struct ClaimTable {
        claim: Option<ClaimPath>;
    }
}

/// The claim that a value is in.
struct ClaimName(ClaimPath);

impl FromTree for ClaimName {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let Notation::Table(_) = node.form() else {
            return node.refuse(CLAIM, node.form().found(), report);
        };
        let claim = ClaimTable::read(node, report)?.claim.map(Self);
        if claim.is_none() {
            let why = format_args!("is a table without a claim: write {CLAIM}");
            report.wrong(&node.path, why);
        }
        claim
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut table = ClaimTable::schema(generator);
        table.insert("required".to_owned(), ["claim"].as_slice().into());
        table
    }
}

impl ClaimName {
    /// One whose value is meant, which no keys are.
    fn of_a_value(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let claim = Self::read(node, report)?;
        if matches!(claim.0, ClaimPath::KeysOf(_)) {
            let why =
                "has keys = true, which is for `profile` and `rooms`: one value is meant here";
            report.wrong(&node.path, why);
            return None;
        }
        Some(claim)
    }
}

/// The claim that names a caller.
pub(super) struct CallerClaim(pub(super) ClaimPath);

impl FromTree for CallerClaim {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        ClaimName::of_a_value(node, report).map(|claim| Self(claim.0))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        ClaimName::schema(generator)
    }
}

/// A value, or the claim that it is in.
impl<T: Parse> FromTree for CapFrom<T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.form() {
            Notation::Table(_) => {
                ClaimName::of_a_value(node, report).map(|claim| Self::Claim(claim.0))
            }
            Notation::Text(_) | Notation::Integer(_) => T::read(node, report).map(Self::Fixed),
            other => {
                let allowed = format!("{}, or {CLAIM}", T::allowed());
                node.refuse(&allowed, other.found(), report)
            }
        }
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(Self::Profile)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([<T as Parse>::schema(generator), ClaimName::schema(generator)])
    }
}

/// The rooms of a profile, or of an issuer's callers.
impl FromTree for Rooms {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let allowed = format!("\"any\", a list of the uuids of rooms, or {CLAIM}");
        match node.form() {
            Notation::Text("any") => Some(Self::Any),
            Notation::Text(_) => node.refuse(&allowed, "found another string", report),
            Notation::List(_) => {
                let rooms: BTreeSet<RoomId> = Vec::read(node, report)?.into_iter().collect();
                if rooms.iter().any(|room| room.as_str() == "any") {
                    let why = "is a list with \"any\" in it: write rooms = \"any\" alone, \
                               without the brackets, or the uuids";
                    report.wrong(&node.path, why);
                    return None;
                }
                Some(Self::List(rooms))
            }
            Notation::Table(_) => ClaimName::read(node, report).map(|claim| Self::Claim(claim.0)),
            other => node.refuse(&allowed, other.found(), report),
        }
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(Self::None)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let any = json_schema!({ "const": "any" });
        any_of([any, Vec::<RoomId>::schema(generator), ClaimName::schema(generator)])
    }
}

/// The profile of an issuer's callers.
pub(super) enum ProfileSource {
    Named(String),
    Claim(Looked),
}

section! {
    /// A claim whose texts are looked up.
    pub(super) struct Looked {
        claim: Option<ClaimPath> | "the claim whose texts `map` looks up";
        map: BTreeMap<String, String>;
    }
}

impl FromTree for ProfileSource {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str = "the name of a profile, or a table such as { claim = \"role\", map = \
                               { teacher = \"backend\" } }";
        match node.form() {
            Notation::Text(name) => Some(Self::Named(name.to_owned())),
            Notation::Table(_) => Looked::read(node, report).map(Self::Claim),
            other => node.refuse(ALLOWED, other.found(), report),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([<String as FromTree>::schema(generator), Looked::schema(generator)])
    }
}
