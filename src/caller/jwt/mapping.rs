//! From the claims of a verified token to what it grants.
//!
//! A missing claim grants nothing, and a claim of the wrong type is a refusal: a provider that
//! changed its tokens must be noticed, not guessed at. What is granted here only ever narrows
//! what the profile allows.

use std::collections::BTreeSet;

use crate::api::{Json, Lifespan, Object, Role, RoomId};
use crate::policy::{ClaimPath, Rights, Rooms};

/// The longest id of a caller, in bytes.
const MAX_ID_BYTES: usize = 256;

/// What an issuer's tokens grant.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// The profile.
    pub profile: ProfileFrom,
    /// The rooms, within those of the profile.
    pub rooms: RoomsFrom,
    /// The highest role, within that of the profile.
    pub role: CapFrom<Role>,
    /// The longest life of tokens, within that of the profile. A claim holds whole seconds.
    pub max_lifespan: CapFrom<Lifespan>,
    /// The claim that names the caller in logs and limits.
    pub caller: ClaimPath,
}

/// Where the profile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileFrom {
    /// Every caller has this one.
    Named(String),
    /// A claim, whose texts are looked up.
    Claim {
        /// The claim: one text or an array of them.
        path: ClaimPath,
        /// Text and profile. The first entry that the claim holds is taken, so the order is one
        /// of precedence; texts that are not here grant nothing.
        map: Vec<(String, String)>,
    },
}

/// Where the rooms come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RoomsFrom {
    /// Those of the profile, all of them.
    #[default]
    Any,
    /// None.
    None,
    /// These.
    List(BTreeSet<RoomId>),
    /// A claim: one id or an array of them. No text in it means "any".
    Claim(ClaimPath),
}

/// Where a cap comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CapFrom<T> {
    /// The profile's alone.
    #[default]
    Profile,
    /// This one.
    Fixed(T),
    /// A claim.
    Claim(ClaimPath),
}

/// A cap within that of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap<T> {
    /// The profile's alone.
    Profile,
    /// At most this.
    At(T),
    /// A claim was to say it and is missing.
    Nothing,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimGrant {
    /// The name of the profile, or why there is none: the caller is known and may do nothing.
    pub profile: Result<String, &'static str>,
    /// The rooms, within those of the profile.
    pub rooms: Rooms,
    /// The highest role, within that of the profile.
    pub role: Cap<Role>,
    /// The longest life of tokens, within that of the profile.
    pub max_lifespan: Cap<Lifespan>,
    /// The caller's own id, unique for this issuer.
    pub caller: String,
}

/// Why a text is no path of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path of a claim is names with dots between them, `realm_access.roles`, or a list of names, \
     which may hold dots"
)]
pub struct ClaimPathError;

/// A claim does not hold what the mapping needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim `{path}` holds {found}, and {expected} is expected")]
pub struct ClaimError {
    path: String,
    found: &'static str,
    expected: &'static str,
}

impl Mapping {
    /// The rights of whoever shows a token with these claims, and its id; `profile` finds the place of a
    /// profile, and where its rooms come from.
    ///
    /// # Errors
    /// As [`Mapping::read`].
    pub fn rights<'p>(
        &self,
        claims: &Object<'_>,
        profile: impl Fn(&str) -> Option<&'p (usize, RoomsFrom)>,
    ) -> Result<(Rights, String), ClaimError> {
        let granted = self.read(claims)?;
        let profile = granted.profile.as_ref().ok().and_then(|name| profile(name));
        let claimed = profile.map_or(Ok(Rooms::None), |(_, rooms)| rooms.read(claims))?;
        let rights = Rights {
            profile: profile.map(|(place, _)| *place),
            unmapped: granted.profile.err(),
            rooms: granted.rooms,
            claimed,
            only: None,
            role: granted.role.within(Role::Admin),
            max_lifespan: granted.max_lifespan.within(Lifespan::Permanent),
        };
        Ok((rights, granted.caller))
    }

    /// Reads what the claims grant.
    ///
    /// # Errors
    /// [`ClaimError`] names the claim, what it holds and what is expected.
    pub fn read(&self, claims: &Object<'_>) -> Result<ClaimGrant, ClaimError> {
        Ok(ClaimGrant {
            profile: self.profile.read(claims)?,
            rooms: self.rooms.read(claims)?,
            role: self.role.read(claims, |path| path.role(claims))?,
            max_lifespan: self.max_lifespan.read(claims, |path| path.lifespan(claims))?,
            caller: self.caller.id(claims)?,
        })
    }
}

impl ProfileFrom {
    /// Every profile that it may give.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (named, map) = match self {
            Self::Named(name) => (Some(name), &[][..]),
            Self::Claim { map, .. } => (None, map.as_slice()),
        };
        named.into_iter().chain(map.iter().map(|(_, profile)| profile)).map(String::as_str)
    }

    /// The profile that the claims give, or why they give none.
    ///
    /// # Errors
    /// As [`Mapping::read`].
    pub fn read(&self, claims: &Object<'_>) -> Result<Result<String, &'static str>, ClaimError> {
        match self {
            Self::Named(name) => Ok(Ok(name.clone())),
            Self::Claim { path, map } => {
                let texts = path.texts(claims)?;
                let first = map.iter().find(|(text, _)| texts.contains(&text.as_str()));
                Ok(match first {
                    Some((_, profile)) => Ok(profile.clone()),
                    None if texts.is_empty() => Err("the claim that `profile` names holds nothing"),
                    None => Err("no text of the claim that `profile` names is in its `map`"),
                })
            }
        }
    }
}

impl Default for ProfileFrom {
    /// None: no one gets a profile by leaving it out.
    fn default() -> Self {
        Self::Claim { path: ClaimPath::default(), map: Vec::new() }
    }
}

impl RoomsFrom {
    /// Reads the rooms that the claims grant.
    ///
    /// # Errors
    /// [`ClaimError`] where the claim holds anything but ids of rooms.
    pub fn read(&self, claims: &Object<'_>) -> Result<Rooms, ClaimError> {
        match self {
            Self::Any => Ok(Rooms::Any),
            Self::None => Ok(Rooms::None),
            Self::List(rooms) => Ok(Rooms::List(rooms.clone())),
            Self::Claim(path) => {
                let texts = path.texts(claims)?;
                let rooms = texts.into_iter().map(|text| {
                    RoomId::new(text)
                        .map_err(|_| path.mismatch("a text that is no id", "the id of a room"))
                });
                let rooms: BTreeSet<_> = rooms.collect::<Result<_, _>>()?;
                Ok(if rooms.is_empty() { Rooms::None } else { Rooms::List(rooms) })
            }
        }
    }
}

impl<T: Copy> CapFrom<T> {
    fn read(
        &self,
        claims: &Object<'_>,
        read: impl FnOnce(&ClaimPath) -> Result<T, ClaimError>,
    ) -> Result<Cap<T>, ClaimError> {
        match self {
            Self::Profile => Ok(Cap::Profile),
            Self::Fixed(cap) => Ok(Cap::At(*cap)),
            Self::Claim(path) if path.is_empty(claims)? => Ok(Cap::Nothing),
            Self::Claim(path) => read(path).map(Cap::At),
        }
    }
}

impl<T: Ord> Cap<T> {
    /// The lower of this cap and the profile's; `None` where nothing is granted at all.
    pub fn within(self, profile: T) -> Option<T> {
        match self {
            Self::Profile => Some(profile),
            Self::At(cap) => Some(cap.min(profile)),
            Self::Nothing => None,
        }
    }
}

/// Whether a name is a number, which an array has an item for, and an object a member of that name.
fn is_index(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

impl ClaimPath {
    /// Takes a path as the configuration writes it.
    ///
    /// # Errors
    /// [`ClaimPathError`] when it is empty, or a name between two dots is.
    pub fn new(text: &str) -> Result<Self, ClaimPathError> {
        if text.split('.').any(str::is_empty) {
            return Err(ClaimPathError);
        }
        Ok(Self::Dotted(text.into()))
    }

    /// Takes a path whose names are written one by one.
    ///
    /// # Errors
    /// [`ClaimPathError`] when there is none, or one is empty.
    pub fn of_names(names: Vec<String>) -> Result<Self, ClaimPathError> {
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(ClaimPathError);
        }
        Ok(Self::Names(names.into_iter().map(String::into_boxed_str).collect()))
    }

    fn mismatch(&self, found: &'static str, expected: &'static str) -> ClaimError {
        ClaimError { path: self.to_string(), found, expected }
    }

    /// Everything that stands at the path, an array's items one by one; null is nothing.
    ///
    /// Dots have two readings. Whoever may write one claim of a token need not be who may write
    /// another, so neither wins: a token with both, and different, is refused.
    fn values<'a>(&self, claims: &'a Object<'_>) -> Result<Vec<&'a Json<'a>>, ClaimError> {
        let text = match self {
            Self::Names(names) => {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                return Ok(self.member(claims, &names)?.unwrap_or_default());
            }
            // Those that are texts are read in `texts`; a value is none of them.
            Self::KeysOf(path) => return path.values(claims),
            Self::Dotted(text) => text,
        };
        let names: Vec<&str> = text.split('.').collect();
        let nested = self.member(claims, &names);
        let whole = claims.get(text).filter(|value| names.len() > 1 && **value != Json::Null);
        let Some(whole) = whole else { return Ok(nested?.unwrap_or_default()) };
        let mut found = None;
        self.walk(whole, &[], &mut found)?;
        let found = found.unwrap_or_default();
        match nested {
            Ok(Some(nested)) if nested != found => Err(self.mismatch(
                "one thing under this whole name and another as a member of a member",
                "one of them, or the same in both,",
            )),
            _ => Ok(found),
        }
    }

    /// What stands at a member of members; `None` for nothing.
    fn member<'a>(
        &self,
        claims: &'a Object<'_>,
        names: &[&str],
    ) -> Result<Option<Vec<&'a Json<'a>>>, ClaimError> {
        let mut found = None;
        if let Some((first, rest)) = names.split_first()
            && let Some(value) = claims.get(first)
        {
            self.walk(value, rest, &mut found)?;
        }
        Ok(found)
    }

    fn walk<'a>(
        &self,
        value: &'a Json<'a>,
        names: &[&str],
        found: &mut Option<Vec<&'a Json<'a>>>,
    ) -> Result<(), ClaimError> {
        match (value, names) {
            (Json::Null, _) => {}
            (Json::Array(items), []) => found.get_or_insert_default().extend(items),
            (value, []) => found.get_or_insert_default().push(value),
            // A number is the index of an item.
            (Json::Array(items), [first, rest @ ..]) if is_index(first) => {
                let item = first.parse().ok().and_then(|index: usize| items.get(index));
                return item.map_or(Ok(()), |item| self.walk(item, rest, found));
            }
            (Json::Array(items), names) => {
                return items.iter().try_for_each(|item| self.walk(item, names, found));
            }
            (Json::Object(object), [first, rest @ ..]) => {
                return object.get(first).map_or(Ok(()), |value| self.walk(value, rest, found));
            }
            (other, _) => return Err(self.mismatch(other.kind(), "an object on the way")),
        }
        Ok(())
    }

    fn texts<'a>(&self, claims: &'a Object<'_>) -> Result<Vec<&'a str>, ClaimError> {
        let values = self.values(claims)?;
        if let Self::KeysOf(_) = self {
            let mut keys = Vec::new();
            for value in values {
                let Json::Object(object) = value else {
                    return Err(self.mismatch(value.kind(), "an object, whose keys are looked at,"));
                };
                keys.extend(object.iter().map(|(key, _)| key));
            }
            return Ok(keys);
        }
        let expected = "a string or an array of them";
        let text = |value: &'a Json<'a>| {
            value.as_str().ok_or_else(|| self.mismatch(value.kind(), expected))
        };
        values.into_iter().map(text).collect()
    }

    /// Whether nothing stands there.
    fn is_empty(&self, claims: &Object<'_>) -> Result<bool, ClaimError> {
        Ok(self.values(claims)?.is_empty())
    }

    /// The one value there.
    fn one<'a>(
        &self,
        claims: &'a Object<'_>,
        expected: &'static str,
    ) -> Result<&'a Json<'a>, ClaimError> {
        match self.values(claims)?.as_slice() {
            [] => Err(self.mismatch("nothing", expected)),
            [value] => Ok(*value),
            _ => Err(self.mismatch("more than one value", expected)),
        }
    }

    fn role(&self, claims: &Object<'_>) -> Result<Role, ClaimError> {
        let expected = "one of admin, writer, reader";
        let value = self.one(claims, expected)?;
        let text = value.as_str().ok_or_else(|| self.mismatch(value.kind(), expected))?;
        text.parse().map_err(|_| self.mismatch("another text", expected))
    }

    /// Zero, which the API takes as "for ever", is no life. What is too long to have an end means a
    /// life without one, and the profile's own cap holds.
    fn lifespan(&self, claims: &Object<'_>) -> Result<Lifespan, ClaimError> {
        let expected = "a whole number of seconds, at least 1,";
        let value = self.one(claims, expected)?;
        match value.as_whole() {
            Some(seconds) if seconds > 0 => {
                let millis = u64::try_from(seconds.saturating_mul(1000)).unwrap_or(u64::MAX);
                Ok(Lifespan::from_wire(millis))
            }
            _ if matches!(value, Json::Number(_)) => Err(self.mismatch("another number", expected)),
            _ => Err(self.mismatch(value.kind(), expected)),
        }
    }

    fn id(&self, claims: &Object<'_>) -> Result<String, ClaimError> {
        let expected = "the caller's id: 1 to 256 bytes without control characters";
        let value = self.one(claims, expected)?;
        let text = value.as_str().ok_or_else(|| self.mismatch(value.kind(), expected))?;
        let fits = (1..=MAX_ID_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(text.to_owned()) } else { Err(self.mismatch("another text", expected)) }
    }
}

impl Default for ClaimPath {
    /// `sub`.
    fn default() -> Self {
        Self::from("sub")
    }
}

#[cfg(test)]
mod tests;
