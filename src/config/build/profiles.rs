//! `[profiles.<name>]`: what callers may do, and how often.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::Added;
use super::{Build, Names, copied};
use crate::api::{
    Access, Lifespan, Operation, Operations, Priority, Role, TargetKind, TokenKind, nearest,
};
use crate::config::claim;
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::limit::{OnStoreError, ProfileRates};
use crate::policy::{
    OverCap, ProfileSettings, Reach, Rooms, by_name_only, is_added, opens_more_than_its_room,
};

/// The longest life of a token when none is configured: a lesson.
const MAX_LIFESPAN: Lifespan = Lifespan::Millis(60 * 60 * 1000);

impl Build<'_> {
    pub(super) fn profiles(
        &mut self,
        raw: BTreeMap<String, raw::Profile>,
        names: &Names,
        operations: &Added,
        has_store: bool,
    ) -> (Vec<ProfileSettings>, Vec<ProfileRates>) {
        let section = KeyPath::of(&["profiles"]);
        let built = raw.into_iter().map(|(name, raw)| {
            let path = section.key(&name);
            let on_store_error = self.check_on_store_error(&path, &raw, has_store);
            let (settings, rates) = self.profile(&path, name, raw, names, operations);
            (settings, ProfileRates { on_store_error, ..rates })
        });
        built.unzip()
    }

    fn profile(
        &mut self,
        path: &KeyPath,
        name: String,
        raw: raw::Profile,
        names: &Names,
        operations: &Added,
    ) -> (ProfileSettings, ProfileRates) {
        let usual = OverCap::default();
        let rates = ProfileRates {
            name: name.clone(),
            caller: self.rate(&path.key("limit"), raw.limit),
            shared: self.rate(&path.key("shared_limit"), raw.shared_limit),
            on_store_error: OnStoreError::default(),
        };
        // An empty name is reported and never used.
        let project = self.refer(&path.key("project"), raw.project, &names.projects);
        let project = project.unwrap_or_default();
        let settings = ProfileSettings {
            name,
            sdk_token: names.with_sdk_token.contains(&project),
            project,
            allow: self.allow(&path.key("allow"), raw.allow, operations),
            rooms: rooms(raw.rooms),
            role: copied(&raw.role, Role::Reader),
            max_lifespan: copied(&raw.max_lifespan, MAX_LIFESPAN),
            priority: copied(&raw.priority, Priority::default()),
            trust_traceparent: copied(&raw.trust_traceparent, false),
            over_cap: OverCap {
                lifespan: copied(&raw.over_cap.lifespan, usual.lifespan),
                role: copied(&raw.over_cap.role, usual.role),
            },
        };
        self.check_reach(path, &settings, operations);
        self.check_caps(path, &settings, &rates);
        (settings, rates)
    }

    /// Each entry names an operation, or a family of them.
    fn allow(
        &mut self,
        path: &KeyPath,
        raw: Vec<Written<String>>,
        operations: &Added,
    ) -> Vec<String> {
        let names: BTreeSet<&str> = operations.names.iter().map(String::as_str).collect();
        let families: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        let complete = !self.report.was_removed(&KeyPath::of(&["operations"]));
        let mut allow = Vec::with_capacity(raw.len());
        for (index, Written(entry)) in raw.into_iter().enumerate() {
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
                Some(why) if complete => self.report.wrong(&path.index(index), why),
                _ => allow.push(entry),
            }
        }
        allow
    }

    /// What is allowed and can never happen, and what opens more than it seems to.
    fn check_reach(&mut self, path: &KeyPath, profile: &ProfileSettings, operations: &Added) {
        let allow = path.key("allow");
        if profile.allow.is_empty() && !self.report.was_removed(&allow) {
            self.report.warn(path, "allows nothing: its callers are refused everywhere");
        }
        let rows = || operations.table.iter().map(|(_, row)| row);
        let granted = |row: &Operation| profile.granted_by(row).is_some();
        let about_rooms = |row: &Operation| row.target == TargetKind::Room;
        if profile.rooms == Rooms::None && rows().any(|row| about_rooms(row) && granted(row)) {
            let why = "has no rooms, so that what is about a room is refused: write \
                       rooms = \"any\" or a list of uuids";
            self.report.warn(path, why);
        }
        for (index, entry) in profile.allow.iter().enumerate() {
            let path = allow.index(index);
            match entry.strip_suffix(".*") {
                None => self.check_named(&path, entry, profile, operations),
                Some(_) => self.check_family(&path, entry, profile, operations),
            }
        }
        let has = |name: &str| rows().any(|row| row.name == name && granted(row));
        if profile.rooms == Rooms::Any
            && has("tokens.room")
            && !has("tokens.task")
            && !has("conversions.get")
        {
            let why = "grants tokens.room for every uuid, and not conversions.get: the prefix of a \
                       token is not signed, so a Room token for the uuid of a conversion queries \
                       that conversion at the service";
            self.report.warn(&allow, why);
        }
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
                self.report.wrong(path, why);
            }
            "tokens.task" if some => {
                let why = "needs rooms = \"any\": the prefix of a token is not signed, so a Task \
                           token serves as a Room token for the same uuid";
                self.report.wrong(path, why);
            }
            "tokens.sdk" if some => {
                let why = "needs rooms = \"any\": an SDK token opens every room of the project";
                self.report.wrong(path, why);
            }
            "tokens.sdk" if profile.sdk_token => {
                let why = "grants nothing: the project has a fixed SDK token and no keys, so no SDK \
                           tokens are minted for it";
                self.report.warn(path, why);
            }
            "tokens.sdk" => {
                let why = "grants SDK tokens, each of which opens the whole project, whatever \
                           this profile says of rooms";
                self.report.warn(path, why);
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
        self.report.warn(path, why);
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
            self.report.warn(path, why);
        } else if !granted.is_empty() && granted.iter().all(|row| is_too_high(row, profile)) {
            self.warn_of_role(path, profile);
        }
        // Of the documented ones the documentation says so.
        let added = rows().filter(|row| is_added(row) && profile.granted_by(row).is_none());
        for row in added {
            if let Some(why) = by_name_only(row, profile.reach(), profile.sdk_token) {
                let why = format_args!("does not grant `{}`: {why}", row.name);
                self.report.warn(path, why);
            }
        }
    }

    fn warn_of_role(&mut self, path: &KeyPath, profile: &ProfileSettings) {
        let why = format_args!(
            "grants nothing: it needs a higher role than {}, which is this profile's",
            profile.role
        );
        self.report.warn(path, why);
    }

    fn check_caps(&mut self, path: &KeyPath, profile: &ProfileSettings, rates: &ProfileRates) {
        if profile.max_lifespan == Lifespan::Permanent {
            let why = "lets callers have tokens without an end: one that leaks can only be \
                       stopped by replacing the keys of the project";
            self.report.warn(&path.key("max_lifespan"), why);
        }
        if rates.caller.is_none() && rates.shared.is_none() {
            let why = "has no limit: each of its callers may send as much as it likes; write for \
                       example limit = { rate = \"50/s\" }";
            self.report.warn(path, why);
        }
    }
}

fn rooms(raw: Option<claim::Rooms>) -> Rooms {
    match raw {
        None => Rooms::None,
        Some(claim::Rooms::Any) => Rooms::Any,
        Some(claim::Rooms::List(rooms)) => Rooms::List(rooms),
        Some(claim::Rooms::Claim(path)) => Rooms::Claim(path),
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
