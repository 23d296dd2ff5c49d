//! The claims that two configurations tell apart: for each claim that either reads, a value of each
//! class, and of these every combination.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::{Lifespan, Object, Role, RoomId};
use crate::caller::jwt::{CapFrom, Mapping, ProfileFrom, RoomsFrom};
use crate::policy::ClaimPath;

/// A claim that is read for something, and what for by each of the two.
pub(super) struct Variable {
    /// As reports name it.
    pub(super) name: String,
    path: ClaimPath,
    uses: [Uses; 2],
    /// What it can hold.
    pub(super) values: Vec<Candidate>,
}

/// What one configuration reads a claim for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Uses {
    profile: bool,
    rooms: bool,
    role: bool,
    lifespan: bool,
    id: bool,
}

/// A value of a claim that stands for its class.
#[derive(Clone)]
pub(super) struct Candidate {
    /// `None` for no such claim.
    value: Option<Value>,
    pub(super) says: String,
}

/// ClaimValues, by what stands for each variable.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimValues(pub(super) Map<String, Value>);

impl ClaimValues {
    /// Puts a value where a path leads; `false` where something else stands in its way.
    fn put(&mut self, path: &ClaimPath, value: &Value) -> bool {
        let names: Vec<&str> = match path {
            ClaimPath::Dotted(text) => text.split('.').collect(),
            ClaimPath::Names(names) => names.iter().map(|name| &**name).collect(),
            ClaimPath::KeysOf(path) => return self.put(path, &as_keys(value)),
        };
        let Some((last, way)) = names.split_last() else { return false };
        let mut object = &mut self.0;
        for name in way {
            let member = object.entry((*name).to_owned()).or_insert_with(|| json!({}));
            let Value::Object(member) = member else { return false };
            object = member;
        }
        object.insert((*last).to_owned(), value.clone()).is_none()
    }

    /// As the mapping of an issuer reads them.
    pub(super) fn object(&self) -> Object<'_> {
        Object::from(&self.0)
    }
}

/// An object whose keys are these texts.
fn as_keys(value: &Value) -> Value {
    let texts = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let keys = texts.iter().map(|text| Some((text.as_str()?.to_owned(), json!({}))));
    keys.collect::<Option<Map<_, _>>>().map_or_else(|| value.clone(), Value::Object)
}

impl Candidate {
    fn new(value: Option<Value>, says: impl Into<String>) -> Self {
        Self { value, says: says.into() }
    }

    fn absent() -> Self {
        Self::new(None, "is absent")
    }

    /// Puts it into claims; `false` where it cannot stand beside what is there.
    pub(super) fn put(&self, variable: &Variable, claims: &mut ClaimValues) -> bool {
        self.value.as_ref().is_none_or(|value| claims.put(&variable.path, value))
    }
}

impl Variable {
    fn is_for_profile(&self) -> bool {
        self.uses.iter().any(|uses| uses.profile)
    }

    /// Whether it says the profile and nothing else.
    pub(super) fn is_for_profile_alone(&self) -> bool {
        let alone = Uses { profile: true, ..Uses::default() };
        self.is_for_profile() && self.uses.iter().all(|u| *u == alone || *u == Uses::default())
    }

    /// Whether both read it for the life of tokens and nothing else.
    pub(super) fn is_life_alone(&self) -> bool {
        let alone = Uses { lifespan: true, ..Uses::default() };
        self.uses == [alone; 2]
    }

    /// Whether a report need not say what it holds: the profile is said anyway.
    pub(super) fn goes_without_saying(&self) -> bool {
        self.values.len() < 2 || self.is_for_profile_alone()
    }

    /// The same with one of its values.
    pub(super) fn only(&self, at: usize) -> Self {
        let values = self.values.get(at).cloned().into_iter().collect();
        Self { name: self.name.clone(), path: self.path.clone(), uses: self.uses, values }
    }

    fn any(&self, read: impl Fn(&Uses) -> bool) -> bool {
        self.uses.iter().any(read)
    }

    /// What it can hold, of all that it is read for but the profile.
    fn fill(&mut self, rooms: &[RoomId], caps: &[Lifespan]) {
        let [old, new] = self.uses;
        let mut values = Vec::new();
        if self.any(|uses| uses.role) {
            values.extend(Role::ALL.map(|role| {
                let word = role.to_string();
                Candidate::new(Some(json!(word)), format!("is {word}"))
            }));
        }
        if self.any(|uses| uses.lifespan) {
            let seconds = seconds(caps);
            values.extend(
                seconds
                    .into_iter()
                    .map(|seconds| Candidate::new(Some(json!(seconds)), format!("is {seconds} s"))),
            );
        }
        if self.any(|uses| uses.rooms) {
            let rooms: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
            values.push(Candidate::new(Some(json!(rooms)), "names the room"));
        }
        if values.is_empty() && self.any(|uses| uses.id) {
            values.push(Candidate::new(Some(json!("someone")), "is there"));
        }
        // A token without an id is no one's for both, unless they look elsewhere for it.
        let both_refuse =
            old == new && old.id && !old.profile && !old.rooms && !old.role && !old.lifespan;
        if !both_refuse {
            values.push(Candidate::absent());
        }
        if old != new && self.any(|uses| uses.rooms || uses.lifespan || uses.id) {
            values.push(Candidate::new(Some(json!({})), "is of a wrong type"));
        }
        self.values.extend(values);
    }
}

/// Whole seconds around each cap, two of them above it: two claims can differ there.
fn seconds(caps: &[Lifespan]) -> Vec<u64> {
    let mut found = BTreeSet::from([1]);
    for cap in caps {
        if let Lifespan::Millis(ms) = cap {
            let whole = ms / 1000;
            found.extend([whole.saturating_sub(1), whole, whole + 1, whole + 2]);
        }
    }
    // A life that has no end, as it is too long.
    found.insert(Lifespan::LONGEST_MS / 1000 + 1);
    found.into_iter().filter(|seconds| *seconds > 0).collect()
}

/// The variables of an issuer, by what its two mappings read.
struct Variables(BTreeMap<String, Variable>);

impl Variables {
    fn of(&mut self, path: &ClaimPath, side: usize, set: impl FnOnce(&mut Uses)) {
        let name = name(path);
        let variable = self.0.entry(name.clone()).or_insert_with(|| Variable {
            name,
            path: path.clone(),
            uses: [Uses::default(); 2],
            values: Vec::new(),
        });
        if let Some(uses) = variable.uses.get_mut(side) {
            set(uses);
        }
    }
}

/// One name for both ways to write the same path.
fn name(path: &ClaimPath) -> String {
    match path {
        ClaimPath::Names(names) if names.iter().all(|name| !name.contains('.')) => names.join("."),
        ClaimPath::KeysOf(path) => format!("{} (keys)", name(path)),
        other => other.to_string(),
    }
}

/// What says the profile, with a value for each class of what it says.
pub(super) fn profile_variables(mappings: [Option<&Mapping>; 2]) -> Vec<Variable> {
    let mut variables = Variables(BTreeMap::new());
    for (side, mapping) in mappings.iter().enumerate() {
        let Some(mapping) = mapping else { continue };
        if let ProfileFrom::Claim { path, .. } = &mapping.profile {
            variables.of(path, side, |uses| uses.profile = true);
        }
    }
    let mut found: Vec<Variable> = variables.0.into_values().collect();
    for variable in &mut found {
        let maps = mappings.map(|mapping| match mapping.map(|one| &one.profile) {
            Some(ProfileFrom::Claim { path, map }) if name(path) == variable.name => map.as_slice(),
            _ => &[],
        });
        variable.values = texts(maps);
    }
    found
}

/// A text of each class of two maps, and two texts where together they give what neither does alone.
fn texts(maps: [&[(String, String)]; 2]) -> Vec<Candidate> {
    let profile = |map: &[(String, String)], held: &[&str]| {
        map.iter().find(|(text, _)| held.contains(&text.as_str())).map(|(_, name)| name.clone())
    };
    let given = |held: &[&str]| maps.map(|map| profile(map, held));
    let all: BTreeSet<&str> =
        maps.iter().copied().flatten().map(|(text, _)| text.as_str()).collect();
    let mut values = vec![Candidate::absent()];
    let mut seen = BTreeSet::from([given(&[])]);
    for text in &all {
        if seen.insert(given(&[text])) {
            values.push(Candidate::new(Some(json!(text)), format!("is {text}")));
        }
    }
    if maps[0] == maps[1] {
        return values;
    }
    for one in &all {
        for other in &all {
            if one < other && seen.insert(given(&[one, other])) {
                let says = format!("holds {one} and {other}");
                values.push(Candidate::new(Some(json!([one, other])), says));
            }
        }
    }
    values
}

/// What else is read of the claims, once the profiles are known. `fixed` are the variables that say
/// them: what these are also read for is added to what they can hold.
pub(super) fn other_variables(
    mappings: [Option<&Mapping>; 2],
    profile_rooms: [Option<&ClaimPath>; 2],
    fixed: &mut [Variable],
    rooms: &[RoomId],
    caps: &[Lifespan],
) -> Vec<Variable> {
    let mut variables = Variables(BTreeMap::new());
    for (side, mapping) in mappings.iter().enumerate() {
        let Some(mapping) = mapping else { continue };
        variables.of(&mapping.caller, side, |uses| uses.id = true);
        if let RoomsFrom::Claim(path) = &mapping.rooms {
            variables.of(path, side, |uses| uses.rooms = true);
        }
        if let CapFrom::Claim(path) = &mapping.role {
            variables.of(path, side, |uses| uses.role = true);
        }
        if let CapFrom::Claim(path) = &mapping.max_lifespan {
            variables.of(path, side, |uses| uses.lifespan = true);
        }
        if let Some(path) = profile_rooms.get(side).copied().flatten() {
            variables.of(path, side, |uses| uses.rooms = true);
        }
    }
    let mut others = Vec::new();
    for (name, mut variable) in variables.0 {
        match fixed.iter_mut().find(|one| one.name == name) {
            Some(also) => {
                for (uses, more) in also.uses.iter_mut().zip(variable.uses) {
                    *uses = Uses { profile: uses.profile, ..more };
                }
                also.fill(rooms, caps);
            }
            None => {
                variable.fill(rooms, caps);
                others.push(variable);
            }
        }
    }
    others
}

/// Every combination of the values of some variables: claims, and which value is where.
pub(super) fn combinations(variables: &[Variable]) -> Vec<(ClaimValues, Vec<usize>)> {
    let mut all = vec![(ClaimValues::default(), Vec::new())];
    for variable in variables {
        let before = std::mem::take(&mut all);
        for (claims, chosen) in before {
            for (place, candidate) in variable.values.iter().enumerate() {
                let mut claims = claims.clone();
                if candidate.put(variable, &mut claims) {
                    let chosen = chosen.iter().copied().chain([place]).collect();
                    all.push((claims, chosen));
                }
            }
        }
    }
    all
}
