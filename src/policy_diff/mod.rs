//! What a change of the configuration gives and takes: who can do what under one configuration and
//! not under another, asked of [`crate::policy::Policy`], which decides in the gateway as well.
//!
//! It is exhaustive, and no sample. Requests fall into classes that neither configuration tells apart:
//! each caller, issuer with its claims, or whiteboard token, by the profile that it has in each; each
//! operation; the rooms by the lists that they are in; for tokens each role, and the lives around each
//! cap. Of each class one request is put to both. No I/O; nothing of a request's way comes here.

mod beside;
mod claims;
mod replay;
mod report;
mod right;
mod scope;
mod side;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Access, OperationId, Role, TargetKind};
use crate::policy::{ProfileSettings, Rights, Rooms};

pub use replay::{LoggedRequest, ReplayedDecision, Unknown};
pub use right::{Gets, Right, ShownCredential, ShownToken};
pub use scope::{TargetClass, Targets};
pub use side::PolicySide;

use claims::{Variable, combinations, other_variables, profile_variables};
use right::{Held, gives_more};
use scope::{own_scopes, scopes};
use side::IssuerSide;

/// What differs between two configurations.
pub struct PolicyDiff {
    /// Whoever can do other things than before.
    pub groups: Vec<Group>,
    /// What differs beside the policy: the key, what it said, and what it says.
    pub beside: Vec<(String, Option<String>, Option<String>)>,
}

/// Some of whom the same is to be said.
pub struct Group {
    /// Who.
    pub who: Who,
    /// The profile that they had.
    pub before: Standing,
    /// The profile that they have.
    pub after: Standing,
    /// What differs for them.
    pub changes: Vec<Change>,
}

/// Who can do other things than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Callers of the configuration, by name.
    Callers(Vec<String>),
    /// Whoever shows a token of an issuer: what its tokens say in `iss`, and its name.
    Issuer {
        /// `iss`.
        issuer: String,
        /// Its name in the configuration.
        name: String,
    },
    /// Whoever shows a Room or Task token of a project.
    Tokens {
        /// The project.
        project: String,
    },
}

/// What a configuration has for someone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are not in it.
    Absent,
    /// They are known, and have no profile.
    NoProfile,
    /// They have this profile.
    Profile(String),
}

/// An operation of which someone has more or less than before.
pub struct Change {
    /// The operation.
    pub operation: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// On what.
    pub scope: TargetClass,
    /// What they had.
    pub before: Option<Right>,
    /// What they have.
    pub after: Option<Right>,
    /// Some request gets more than before.
    pub gained: bool,
    /// Some request gets less than before.
    pub lost: bool,
    /// What a token says in each of these cases.
    pub when: Vec<Vec<(String, String)>>,
    /// How many cases there are.
    pub cases: usize,
}

/// An operation, and where it is in each of the two.
struct OperationPair {
    name: String,
    method: String,
    path: String,
    target: TargetKind,
    mints: bool,
    ids: [Option<OperationId>; 2],
}

/// One case of someone: the rights in each of the two, and what is said of it.
struct RightsCase {
    rights: [Option<Rights>; 2],
    when: Vec<(String, String)>,
    /// The same without the life of tokens; `None` where another case differs in that alone.
    when_of_others: Option<Vec<(String, String)>>,
}

struct Comparison<'a> {
    sides: [&'a PolicySide; 2],
    operations: Vec<OperationPair>,
}

impl PolicyDiff {
    /// What is different under `new`.
    pub fn between(old: &PolicySide, new: &PolicySide) -> Self {
        let comparison = Comparison { sides: [old, new], operations: operations(old, new) };
        let mut groups = comparison.callers();
        groups.extend(comparison.issuers());
        groups.extend(comparison.tokens());
        groups.retain(|group| !group.changes.is_empty());
        Self { groups, beside: old.beside.changes(&new.beside) }
    }

    /// Whether someone can do more than before.
    pub fn is_wider(&self) -> bool {
        self.groups.iter().flat_map(|group| &group.changes).any(|change| change.gained)
    }

    /// Whether someone can do less than before.
    pub fn is_narrower(&self) -> bool {
        self.groups.iter().flat_map(|group| &group.changes).any(|change| change.lost)
    }
}

/// The operations of both. One whose method or path is another is another operation.
fn operations(old: &PolicySide, new: &PolicySide) -> Vec<OperationPair> {
    let mut found: Vec<OperationPair> = Vec::new();
    for (side, of) in [old, new].into_iter().enumerate() {
        for (id, row) in of.operations.iter() {
            let same = |one: &&mut OperationPair| {
                one.name == row.name
                    && one.method == row.method.as_str()
                    && one.path == row.path
                    && one.target == row.target
            };
            let at = side;
            match found.iter_mut().find(same) {
                Some(pair) => pair.ids[at] = Some(id),
                None => {
                    let mut ids = [None; 2];
                    ids[at] = Some(id);
                    found.push(OperationPair {
                        name: row.name.to_string(),
                        method: row.method.to_string(),
                        path: row.path.to_string(),
                        target: row.target,
                        mints: matches!(row.access, Access::Mints(_)),
                        ids,
                    });
                }
            }
        }
    }
    found
}

impl<'a> Comparison<'a> {
    /// The callers of the configuration: those with the same two profiles together.
    fn callers(&self) -> Vec<Group> {
        let names: BTreeSet<&String> =
            self.sides.iter().flat_map(|side| side.callers.keys()).collect();
        let mut by_profiles: BTreeMap<[Option<usize>; 2], Vec<String>> = BTreeMap::new();
        for name in names {
            let profiles = self.sides.map(|side| side.callers.get(name).copied());
            by_profiles.entry(profiles).or_default().push(name.clone());
        }
        let groups = by_profiles.into_iter().map(|(places, names)| {
            let rights = places.map(|place| place.map(Rights::of_profile));
            let case = RightsCase { rights, when: Vec::new(), when_of_others: Some(Vec::new()) };
            let scopes = scopes(&self.lists(places, [None; 2]));
            let [before, after] = self.standings(places, places.map(|place| place.is_some()));
            let changes = self.changes(&[case], &scopes, |_, rights| rights.clone());
            Group { who: Who::Callers(names), before, after, changes }
        });
        groups.collect()
    }

    /// Whoever shows a token of an issuer, by the profiles that the claims give in each of the two.
    fn issuers(&self) -> Vec<Group> {
        let issuers: BTreeSet<&String> =
            self.sides.iter().flat_map(|side| side.issuers.keys()).collect();
        issuers.into_iter().flat_map(|issuer| self.issuer(issuer)).collect()
    }

    fn issuer(&self, issuer: &str) -> Vec<Group> {
        let known = self.sides.map(|side| side.issuers.get(issuer));
        let mappings = known.map(|known| known.map(|one| &one.mapping));
        let name = known.iter().flatten().next_back().map(|one| one.name.clone());
        let fixed = profile_variables(mappings);
        let mut groups: BTreeMap<[Option<usize>; 2], Group> = BTreeMap::new();
        for (claims, chosen) in combinations(&fixed) {
            let places = [0, 1].map(|side| self.profile_of(side, known[side], &claims));
            let alone = fixed.iter().all(Variable::is_for_profile_alone);
            if alone && groups.contains_key(&places) {
                continue;
            }
            let (cases, scopes) = self.cases(known, places, &fixed, &chosen);
            let changes = self.changes(&cases, &scopes, |_, rights| rights.clone());
            let [before, after] = self.standings(places, known.map(|one| one.is_some()));
            let who =
                Who::Issuer { issuer: issuer.to_owned(), name: name.clone().unwrap_or_default() };
            groups.entry(places).or_insert(Group { who, before, after, changes });
        }
        groups.into_values().collect()
    }

    fn profile_of(
        &self,
        side: usize,
        issuer: Option<&IssuerSide>,
        claims: &claims::ClaimValues,
    ) -> Option<usize> {
        let name = issuer?.mapping.profile.read(&claims.object()).ok()?.ok()?;
        Some(self.sides[side].mapped.get(&name)?.0)
    }

    /// What the claims of an issuer's tokens come to, where they give these two profiles.
    fn cases(
        &self,
        known: [Option<&'a IssuerSide>; 2],
        places: [Option<usize>; 2],
        fixed: &[Variable],
        chosen: &[usize],
    ) -> (Vec<RightsCase>, Vec<TargetClass>) {
        let mappings = known.map(|known| known.map(|one| &one.mapping));
        let scopes = scopes(&self.lists(places, mappings));
        let rooms: Vec<_> = scopes.iter().filter_map(|scope| scope.room().cloned()).collect();
        let profile_rooms = [0, 1].map(|side| match self.profile(side, places)?.rooms {
            Rooms::Claim(ref path) => Some(path),
            _ => None,
        });
        let mut fixed: Vec<Variable> =
            fixed.iter().zip(chosen).map(|(one, at)| one.only(*at)).collect();
        let caps = self.caps(places, mappings);
        let others = other_variables(mappings, profile_rooms, &mut fixed, &rooms, &caps);
        let variables: Vec<Variable> = fixed.into_iter().chain(others).collect();
        let cases = combinations(&variables).into_iter().map(|(claims, chosen)| {
            let rights = [0, 1].map(|side| {
                let find = |name: &str| self.sides[side].mapped.get(name);
                let rights = known[side]?.mapping.rights(&claims.object(), find).ok()?.0;
                Some(rights)
            });
            let said = || variables.iter().zip(&chosen);
            let told = |with_life: bool| {
                let told = said().filter(|(one, _)| {
                    !one.goes_without_saying() && (with_life || !one.is_life_alone())
                });
                let told = told.filter_map(|(variable, at)| {
                    Some((variable.name.clone(), variable.values.get(*at)?.says.clone()))
                });
                told.collect()
            };
            let first = said().all(|(one, at)| *at == 0 || !one.is_life_alone());
            RightsCase { rights, when: told(true), when_of_others: first.then(|| told(false)) }
        });
        (cases.collect(), scopes)
    }

    /// Whoever shows a Room or Task token of a project.
    fn tokens(&self) -> Vec<Group> {
        let projects: BTreeSet<&String> =
            self.sides.iter().flat_map(|side| side.of_tokens.keys()).collect();
        let groups = projects.into_iter().map(|project| {
            let places = self.sides.map(|side| side.of_tokens.get(project).copied());
            let cases = Role::ALL.map(|role| {
                let rights = places.map(|place| {
                    let rights = Rights::of_profile(place?);
                    Some(Rights { role: Some(role), ..rights })
                });
                let when = vec![("role".to_owned(), format!("is {role}"))];
                RightsCase { rights, when_of_others: Some(when.clone()), when }
            });
            let scopes = own_scopes(&self.lists(places, [None; 2]));
            let [before, after] = self.standings(places, places.map(|place| place.is_some()));
            let changes = self.changes(&cases, &scopes, TargetClass::own);
            Group { who: Who::Tokens { project: project.clone() }, before, after, changes }
        });
        groups.collect()
    }

    /// Asks both about each operation on each scope, in each case.
    fn changes(
        &self,
        cases: &[RightsCase],
        scopes: &[TargetClass],
        rights_for: impl Fn(&TargetClass, &Rights) -> Rights,
    ) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for operation in &self.operations {
            let asked = || {
                let cases = cases.iter().map(|case| {
                    let others = case.when_of_others.as_ref();
                    (case, if operation.mints { Some(&case.when) } else { others })
                });
                cases.filter_map(|(case, when)| Some((case, when?)))
            };
            for scope in scopes.iter().filter(|scope| scope.fits(operation.target)) {
                let begin = changes.len();
                for (case, when) in asked() {
                    let held = [0, 1].map(|side| {
                        let rights = rights_for(scope, case.rights[side].as_ref()?);
                        let id = operation.ids[side]?;
                        Held::of(self.sides[side], &rights, id, &scope.probe)
                    });
                    if held.iter().all(Option::is_none) {
                        continue;
                    }
                    note(&mut changes, begin, (operation, scope, when), held);
                }
                let cases = asked().count();
                changes.iter_mut().skip(begin).for_each(|change| change.cases = cases);
            }
        }
        changes.retain(|change| change.gained || change.lost);
        changes
    }

    fn profile(&self, side: usize, places: [Option<usize>; 2]) -> Option<&'a ProfileSettings> {
        self.sides[side].profile(places[side])
    }

    /// The rooms that someone's profiles and issuer name.
    fn lists(
        &self,
        places: [Option<usize>; 2],
        mappings: [Option<&'a crate::caller::jwt::Mapping>; 2],
    ) -> Vec<Rooms> {
        use crate::caller::jwt::RoomsFrom;
        let profiles = [0, 1].map(|side| self.profile(side, places).map(|one| one.rooms.clone()));
        let issuers = mappings.map(|mapping| match &mapping?.rooms {
            RoomsFrom::List(list) => Some(Rooms::List(list.clone())),
            RoomsFrom::Any | RoomsFrom::None | RoomsFrom::Claim(_) => None,
        });
        profiles.into_iter().chain(issuers).flatten().collect()
    }

    /// The longest lives that someone's profiles and issuer name.
    fn caps(
        &self,
        places: [Option<usize>; 2],
        mappings: [Option<&crate::caller::jwt::Mapping>; 2],
    ) -> Vec<crate::api::Lifespan> {
        use crate::caller::jwt::CapFrom;
        let profiles = [0, 1].map(|side| self.profile(side, places).map(|one| one.max_lifespan));
        let issuers = mappings.map(|mapping| match mapping?.max_lifespan {
            CapFrom::Fixed(life) => Some(life),
            CapFrom::Profile | CapFrom::Claim(_) => None,
        });
        profiles.into_iter().chain(issuers).flatten().collect()
    }

    fn standings(&self, places: [Option<usize>; 2], known: [bool; 2]) -> [Standing; 2] {
        [0, 1].map(|side| match self.profile(side, places) {
            Some(profile) => Standing::Profile(profile.name.clone()),
            None if known[side] => Standing::NoProfile,
            None => Standing::Absent,
        })
    }
}

/// Adds what someone has of an operation to the changes from `begin` on, which are of it.
fn note(
    changes: &mut Vec<Change>,
    begin: usize,
    (operation, scope, when): (&OperationPair, &TargetClass, &[(String, String)]),
    held: [Option<Held<'_>>; 2],
) {
    let [before, after] = held.each_ref().map(|held| held.as_ref().map(|held| held.right.clone()));
    let same = |change: &&mut Change| change.before == before && change.after == after;
    if let Some(known) = changes.iter_mut().skip(begin).find(same) {
        known.when.push(when.to_vec());
        return;
    }
    let [old, new] = held.each_ref().map(Option::as_ref);
    changes.push(Change {
        operation: operation.name.clone(),
        method: operation.method.clone(),
        path: operation.path.clone(),
        scope: scope.clone(),
        gained: gives_more(new, old),
        lost: gives_more(old, new),
        before,
        after,
        when: vec![when.to_vec()],
        cases: 0,
    });
}
