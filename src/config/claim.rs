//! Values that stand in the file, or in a claim of the caller's token.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{Schema, SchemaGenerator, json_schema};

use super::file::{FromTree, KeyPath, Node, Notation, Parse, Report, any_of, section};
use crate::api::RoomId;
use crate::caller::jwt::{CapFrom, ClaimPath};
use crate::policy::Rooms;

/// The path of a claim: a text with dots between its names, or a list of them.
impl FromTree for ClaimPath {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const ALLOWED: &str = "the name of a claim, its path with dots between, such as \
                               \"realm_access.roles\", or a list of its names, which may hold dots";
        let path = match node.form() {
            Notation::Text(text) => Self::new(text),
            Notation::List(_) => Self::of_names(Vec::read(node, report)?),
            other => return node.refuse(ALLOWED, other.found(), report),
        };
        path.or_else(|_| node.refuse(ALLOWED, "a name in it is empty", report).ok_or(())).ok()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        any_of([<String as FromTree>::schema(generator), Vec::<String>::schema(generator)])
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
pub(super) struct ClaimName(pub(super) ClaimPath);

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

/// A value, or the claim that it is in.
impl<T: Parse> FromTree for CapFrom<T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match node.form() {
            Notation::Table(_) => ClaimName::read(node, report).map(|claim| Self::Claim(claim.0)),
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
