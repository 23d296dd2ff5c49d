//! `[profiles.<name>]`: what callers may do, and how often.

use std::collections::BTreeSet;

use super::budgets::BudgetTable;
use super::build::{Build, DeclaredNames};
use super::file::{KeyPath, section, word_types};
use super::limits::RateTable;
use super::operations::Added;
use crate::api::{
    Access, Lifespan, Operation, Operations, Priority, Role, TargetKind, TokenKind, nearest,
};
use crate::budget::ProfileBudgets;
use crate::limit::{OnStoreError, ProfileRates};
use crate::policy::{
    self, Excess, ProfileSettings, Reach, Rooms, by_name_only, is_added, opens_more_than_its_room,
};

section! {
    pub(super) struct ProfileSection {
        /// The name of the project that its callers reach.
        project: Option<String> | "the name of a [projects.…]";
        /// Names of operations, and families of them such as `"rooms.*"`. A family never grants
        /// `tokens.sdk`, whose tokens open the whole project, nor an added operation that issues
        /// tokens; and to callers whose rooms are restricted it grants only operations on one room,
        /// with a token for that room. `tokens.sdk`, `tokens.task` and `rooms.list` need `rooms =
        /// "any"`: see [policy.md](policy.md#allow-which-operations).
        allow: Vec<String> => "nothing";
        /// `"any"`, a list of the uuids of rooms, or `{ claim = "rooms" }`: those that this claim
        /// of the caller's JWT names. Callers with an API key have no claims, and so no rooms with
        /// such a profile.
        rooms: Rooms;
        /// The highest role: of tokens that its callers get, and of those that the gateway uses for
        /// them.
        role: Role = "reader";
        /// The longest lifespan of tokens that its callers get, or `"permanent"`.
        max_lifespan: Lifespan = "1h";
        over_cap: OverCapSection;
        /// How many requests of each caller.
        limit: Option<RateTable> => "unlimited";
        /// How many requests of all its callers together.
        shared_limit: Option<RateTable> => "unlimited";
        /// [Load shedding](production.md#load-shedding): `"low"` is refused first, then `"normal"`,
        /// then `"high"`.
        priority: Priority = "normal";
        /// Whether the `traceparent` of these callers is trusted, which says [which
        /// trace](telemetry.md#which-trace-a-request-belongs-to) a request belongs to.
        trust_traceparent: bool = false;
        /// What happens while the store does not answer: `"local"`, each gateway counts its share
        /// of the limits for itself; `"open"`, all requests pass; `"closed"`, none do: 500 (503
        /// with `errors.profile = "extended"`) with the code `store_unavailable`.
        on_store_error: OnStoreError = "local";
        budgets: Vec<BudgetTable>;
        /// A profile of the same project whose decisions are [computed beside
        /// these](policy.md#try-a-profile-beside-another), written into the access line and
        /// counted. They are never enforced.
        shadow: Option<String> => "none";
    }
}

section! {
    pub(super) struct OverCapSection ("a table such as { lifespan = \"clamp\", role = \"refuse\" }") {
        /// What happens to a request for a longer lifespan: `"clamp"` or `"refuse"`.
        lifespan: Excess = "clamp";
        /// The same for a higher role.
        role: Excess = "refuse";
    }
}

word_types!(Role, Priority, OnStoreError, Excess);

impl Build<'_> {
    pub(super) fn profile(
        &mut self,
        (name, section): (String, ProfileSection),
        names: &DeclaredNames,
        operations: &Added,
        has_store: bool,
    ) -> (ProfileSettings, ProfileRates, ProfileBudgets) {
        let at = |key| section.path.key(key);
        let vain = self.is_set(&at("on_store_error")) && !has_store;
        let why = "means nothing without a store: limits are in memory; set store.url";
        self.warn_if(vain, &at("on_store_error"), why);
        let rates = ProfileRates {
            name: name.clone(),
            caller: section.limit.and_then(RateTable::rate),
            shared: section.shared_limit.and_then(RateTable::rate),
            on_store_error: section.on_store_error,
        };
        let budgets = self.budgets_of(section.budgets);
        let budgets = ProfileBudgets { name: name.clone(), budgets };
        // An empty name is reported and never used.
        let project = self.refer(&at("project"), section.project, &names.projects);
        let project = project.unwrap_or_default();
        let OverCapSection { lifespan, role, .. } = section.over_cap;
        let settings = ProfileSettings {
            name,
            sdk_token: names.with_sdk_token.contains(&project),
            project,
            allow: self.allow(&at("allow"), section.allow, operations),
            rooms: section.rooms,
            role: section.role,
            max_lifespan: section.max_lifespan,
            priority: section.priority,
            trust_traceparent: section.trust_traceparent,
            shadow: self.refer(&at("shadow"), section.shadow, &names.profiles),
            over_cap: policy::OverCap { lifespan, role },
        };
        self.check_reach(&section.path, &settings, operations);
        self.check_caps(&section.path, &settings, &rates);
        (settings, rates, budgets)
    }

    /// A shadow is another profile of the same project, and has none itself.
    pub(super) fn check_shadows(&mut self, profiles: &[ProfileSettings]) {
        for profile in profiles {
            let named = |name: &String| profiles.iter().find(|one| one.name == *name);
            let Some(shadow) = profile.shadow.as_ref().and_then(named) else { continue };
            let path = KeyPath::of(&["profiles", &profile.name, "shadow"]);
            let project_of =
                |one: &ProfileSettings| KeyPath::of(&["profiles", &one.name, "project"]);
            let projects_are_known =
                [profile, shadow].iter().all(|one| !self.was_removed(&project_of(one)));
            if shadow.name == profile.name {
                let why = "names this profile itself: name another one of the same project, whose \
                           decisions are recorded beside these";
                self.wrong(&path, why);
            } else if shadow.project != profile.project && projects_are_known {
                let why = format_args!(
                    "names a profile of the project `{}`, and this one is of `{}`: name one of the \
                     same project",
                    shadow.project, profile.project
                );
                self.wrong(&path, why);
            } else if let Some(next) = &shadow.shadow {
                let why = format_args!(
                    "names a profile that has a shadow itself, `{next}`: name one that has none"
                );
                self.wrong(&path, why);
            }
        }
    }

    /// Each entry names an operation, or a family of them.
    fn allow(&mut self, path: &KeyPath, entries: Vec<String>, operations: &Added) -> Vec<String> {
        let names: BTreeSet<&str> = operations.names.iter().map(String::as_str).collect();
        let families: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        let complete = !self.was_removed(&KeyPath::of(&["operations"]));
        let mut allow = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let why = match entry.strip_suffix(".*") {
                Some(family) if families.contains(family) => None,
                Some(family) => Some(match nearest(family, families.iter().copied()) {
                    Some(near) => format!("names no operations: did you mean \"{near}.*\"?"),
                    None => format!("names no operations: the families are {}", list(&families)),
                }),
                None if names.contains(entry.as_str()) => None,
                None if entry == "*" => {
                    Some("is no wildcard: name each family, as in \"rooms.*\"".to_owned())
                }
                None => Some(match nearest(&entry, names.iter().copied()) {
                    Some(near) => format!("names no operation: did you mean \"{near}\"?"),
                    None => format!("names no operation: they are {}", list(&names)),
                }),
            };
            match why {
                Some(why) if complete => self.wrong(&path.index(index), why),
                _ => allow.push(entry),
            }
        }
        allow
    }

    /// What is allowed and can never happen, and what opens more than it seems to.
    fn check_reach(&mut self, path: &KeyPath, profile: &ProfileSettings, operations: &Added) {
        let allow = path.key("allow");
        let nothing = profile.allow.is_empty() && !self.was_removed(&allow);
        self.warn_if(nothing, path, "allows nothing: its callers are refused everywhere");
        let rows = || operations.table.iter().map(|(_, row)| row);
        let granted = |row: &Operation| profile.granted_by(row).is_some();
        let about_rooms = |row: &Operation| row.target == TargetKind::Room;
        let lost =
            profile.rooms == Rooms::None && rows().any(|row| about_rooms(row) && granted(row));
        let why = "has no rooms, so that what is about a room is refused: write rooms = \"any\" or a \
                   list of uuids";
        self.warn_if(lost, path, why);
        for (index, entry) in profile.allow.iter().enumerate() {
            let path = allow.index(index);
            match entry.strip_suffix(".*") {
                None => self.check_named(&path, entry, profile, operations),
                Some(_) => self.check_family(&path, entry, profile, operations),
            }
        }
        let has = |name: &str| rows().any(|row| row.name == name && granted(row));
        let every = profile.rooms == Rooms::Any && has("tokens.room");
        let why = "grants tokens.room for every uuid, and not conversions.get: the prefix of a \
                   token is not signed, so a Room token for the uuid of a conversion queries \
                   that conversion at the service";
        self.warn_if(every && !has("tokens.task") && !has("conversions.get"), &allow, why);
    }

    /// An operation by its name.
    fn check_named(
        &mut self,
        path: &KeyPath,
        name: &str,
        profile: &ProfileSettings,
        operations: &Added,
    ) {
        let found = operations.table.iter().map(|(_, row)| row).find(|row| row.name == name);
        let Some(row) = found else { return };
        let some = profile.rooms != Rooms::Any;
        match name {
            "rooms.list" if some => {
                let why = "shows every room of the project, so it needs rooms = \"any\"";
                self.wrong(path, why);
            }
            "tokens.task" if some => {
                let why = "needs rooms = \"any\": the prefix of a token is not signed, so a Task \
                           token serves as a Room token for the same uuid";
                self.wrong(path, why);
            }
            "tokens.sdk" if some => {
                let why = "needs rooms = \"any\": an SDK token opens every room of the project";
                self.wrong(path, why);
            }
            "tokens.sdk" if profile.sdk_token => {
                let why = "grants nothing: the project has a fixed SDK token and no keys, so no SDK \
                           tokens are minted for it";
                self.warn(path, why);
            }
            "tokens.sdk" => {
                let why = "grants SDK tokens, each of which opens the whole project, whatever \
                           this profile says of rooms";
                self.warn(path, why);
            }
            _ if is_too_high(row, profile) => self.warn_of_role(path, profile),
            _ if some && is_wide(row, profile) => self.warn_of_wide(path, row, profile),
            _ => {}
        }
    }

    /// Warns of what a profile grants by name to callers of this reach, whom something else than
    /// the profile narrows, and what opens more than their room.
    pub(super) fn check_wide(
        &mut self,
        path: &KeyPath,
        profile: &ProfileSettings,
        reach: Reach,
        operations: &Operations,
    ) {
        let granted = |row: &&Operation| profile.granted_to(row, reach).is_some();
        for row in operations.iter().map(|(_, row)| row).filter(granted) {
            // Where the profile narrows them as well, that is told there.
            if profile.rooms == Rooms::Any && is_wide(row, profile) {
                self.warn_of_wide(path, row, profile);
            }
        }
    }

    fn warn_of_wide(&mut self, path: &KeyPath, row: &Operation, profile: &ProfileSettings) {
        let with = match row.access {
            Access::Open => "no token",
            _ if profile.sdk_token => "the SDK token of the project",
            Access::Needs(TokenKind::Task, _) => "a Task token",
            _ => "an SDK token",
        };
        let why = format_args!(
            "grants `{}`, which opens more than the rooms of its callers: query and body go to the \
             service as they come, with {with}",
            row.name
        );
        self.warn(path, why);
    }

    /// A family of operations.
    fn check_family(
        &mut self,
        path: &KeyPath,
        entry: &str,
        profile: &ProfileSettings,
        operations: &Added,
    ) {
        let of_family = |row: &&Operation| names(entry, row);
        let rows = || operations.table.iter().map(|(_, row)| row).filter(of_family);
        let granted: Vec<&Operation> =
            rows().filter(|row| profile.granted_by(row).is_some()).collect();
        if granted.is_empty() && profile.rooms != Rooms::Any {
            let why = "grants nothing: without rooms = \"any\" a wildcard grants only what \
                       is about one room; name the operations one by one";
            self.warn(path, why);
        } else if !granted.is_empty() && granted.iter().all(|row| is_too_high(row, profile)) {
            self.warn_of_role(path, profile);
        }
        // Of the documented ones the documentation says so.
        let added = rows().filter(|row| is_added(row) && profile.granted_by(row).is_none());
        for row in added {
            if let Some(why) = by_name_only(row, profile.reach(), profile.sdk_token) {
                let why = format_args!("does not grant `{}`: {why}", row.name);
                self.warn(path, why);
            }
        }
    }

    fn warn_of_role(&mut self, path: &KeyPath, profile: &ProfileSettings) {
        let why = format_args!(
            "grants nothing: it needs a higher role than {}, which is this profile's",
            profile.role
        );
        self.warn(path, why);
    }

    fn check_caps(&mut self, path: &KeyPath, profile: &ProfileSettings, rates: &ProfileRates) {
        let why = "lets callers have tokens without an end: one that leaks can only be \
                   stopped by replacing the keys of the project";
        let permanent = profile.max_lifespan == Lifespan::Permanent;
        self.warn_if(permanent, &path.key("max_lifespan"), why);
        let why = "has no limit: each of its callers may send as much as it likes; write for \
                   example limit = { rate = \"50/s\" }";
        self.warn_if(rates.caller.is_none() && rates.shared.is_none(), path, why);
    }
}

/// Whether an operation needs a higher role than a profile has.
pub(super) fn is_too_high(row: &Operation, profile: &ProfileSettings) -> bool {
    matches!(row.access, Access::Needs(_, least) if least > profile.role)
}

/// Whether an operation, which the configuration adds, opens more than the room in its path.
fn is_wide(row: &Operation, profile: &ProfileSettings) -> bool {
    is_added(row) && opens_more_than_its_room(row, profile.sdk_token)
}

/// Whether an entry of `allow` is about an operation.
fn names(entry: &str, row: &Operation) -> bool {
    match entry.strip_suffix(".*") {
        None => row.name == entry,
        Some(family) => row.name.split_once('.').is_some_and(|(of, _)| of == family),
    }
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
