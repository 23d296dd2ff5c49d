//! Values that stand in the file, or in a claim of the caller's token.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::value::{Parse, Written, refused};
use crate::api::RoomId;
use crate::caller::jwt::ClaimPath;

/// The path of a claim: a text with dots between its names, or a list of them.
pub(super) struct Path(pub(super) ClaimPath);

const PATH: &str = "the name of a claim, its path with dots between, such as \
                    \"realm_access.roles\", or a list of its names, which may hold dots";

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNames;

        const EMPTY: &str = "a name in it is empty";

        impl<'de> Visitor<'de> for TextOrNames {
            type Value = Path;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(PATH)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Path, E> {
                let path = ClaimPath::new(text).map(Path);
                path.map_err(|_| E::custom(format_args!("must be {PATH}: {EMPTY}")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Path, A::Error> {
                let names = Vec::<Written<String>>::deserialize(SeqAccessDeserializer::new(list))?;
                let names = names.into_iter().map(|name| name.0).collect();
                let path = ClaimPath::of_names(names).map(Path);
                path.map_err(|_| A::Error::custom(format_args!("must be {PATH}: {EMPTY}")))
            }
        }

        deserializer.deserialize_any(TextOrNames)
    }
}

/// The claim that a value is in.
pub(super) struct Claim(pub(super) ClaimPath);

/// How a claim is named; follows "must be".
const CLAIM: &str = "{ claim = \"name\" }";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Named {
    claim: Option<Path>,
}

impl Claim {
    fn of_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        match Named::deserialize(MapAccessDeserializer::new(map))?.claim {
            Some(Path(path)) => Ok(Self(path)),
            None => {
                Err(A::Error::custom(format_args!("is a table without a claim: write {CLAIM}")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Claim;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(CLAIM)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Claim, A::Error> {
                Claim::of_map(map)
            }
        }

        deserializer.deserialize_any(Table)
    }
}

/// A value, or the claim that it is in.
pub(super) enum ClaimOr<T> {
    Value(T),
    Claim(ClaimPath),
}

impl<'de, T: Parse> Deserialize<'de> for ClaimOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Parse> Visitor<'de> for Either<T> {
            type Value = ClaimOr<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}, or {CLAIM}", T::ALLOWED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ClaimOr<T>, E> {
                T::text(text).map(ClaimOr::Value).map_err(refused::<T, E>)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ClaimOr<T>, E> {
                T::integer(number).map(ClaimOr::Value).map_err(refused::<T, E>)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClaimOr<T>, A::Error> {
                Claim::of_map(map).map(|claim| ClaimOr::Claim(claim.0))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Rooms, of a profile or of an issuer's callers.
pub(super) enum Rooms {
    Any,
    List(BTreeSet<RoomId>),
    Claim(ClaimPath),
}

impl<'de> Deserialize<'de> for Rooms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyListOrClaim;

        impl<'de> Visitor<'de> for AnyListOrClaim {
            type Value = Rooms;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "\"any\", a list of the uuids of rooms, or {CLAIM}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Rooms, E> {
                if text == "any" {
                    return Ok(Rooms::Any);
                }
                Err(E::custom(format_args!(
                    "must be \"any\", a list of the uuids of rooms, or {CLAIM}, found another string"
                )))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Rooms, A::Error> {
                let rooms = Vec::<Written<RoomId>>::deserialize(SeqAccessDeserializer::new(list))?;
                let rooms: BTreeSet<RoomId> = rooms.into_iter().map(|room| room.0).collect();
                if rooms.iter().any(|room| room.as_str() == "any") {
                    let why = "is a list with \"any\" in it: write rooms = \"any\" alone, \
                               without the brackets, or the uuids";
                    return Err(A::Error::custom(why));
                }
                Ok(Rooms::List(rooms))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rooms, A::Error> {
                Claim::of_map(map).map(|claim| Rooms::Claim(claim.0))
            }
        }

        deserializer.deserialize_any(AnyListOrClaim)
    }
}

/// The profile of an issuer's callers.
pub(super) enum Profile {
    Named(String),
    Claim(Looked),
}

/// A claim whose texts are looked up.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Looked {
    pub(super) claim: Option<Path>,
    pub(super) map: Option<BTreeMap<String, Written<String>>>,
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedOrClaim;

        impl<'de> Visitor<'de> for NamedOrClaim {
            type Value = Profile;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(
                    "the name of a profile, or a table such as { claim = \"role\", map = { \
                     teacher = \"backend\" } }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Profile, E> {
                Ok(Profile::Named(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Profile, A::Error> {
                Looked::deserialize(MapAccessDeserializer::new(map)).map(Profile::Claim)
            }
        }

        deserializer.deserialize_any(NamedOrClaim)
    }
}
