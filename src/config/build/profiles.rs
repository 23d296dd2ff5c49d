//! `[profiles.<name>]`: what callers may do, and how often.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::Added;
use super::{Build, Names, copied};
use crate::api::{Access, Lifespan, Operation, Priority, Role, TargetKind, nearest};
use crate::config::claim;
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::limit::{OnStoreError, ProfileRates};
use crate::policy::{OverCap, ProfileSettings, Rooms};

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
        let settings = ProfileSettings {
            name,
            // An empty name is reported and never used.
            project: self
                .refer(&path.key("project"), raw.project, &names.projects)
                .unwrap_or_default(),
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

    /// What is allowed by name and can never happen.
    fn check_reach(&mut self, path: &KeyPath, profile: &ProfileSettings, operations: &Added) {
        let allow = path.key("allow");
        if profile.allow.is_empty() && !self.report.was_removed(&allow) {
            self.report.warn(path, "allows nothing: its callers are refused everywhere");
        }
        let rows = || operations.table.iter().map(|(_, row)| row);
        let about_rooms = |row: &Operation| row.target == TargetKind::Room;
        if profile.rooms == Rooms::None
            && rows().any(|row| about_rooms(row) && profile.granted_by(row).is_some())
        {
            let why = "has no rooms, so that what is about a room is refused: write \
                       rooms = \"any\" or a list of uuids";
            self.report.warn(path, why);
        }
        for (index, entry) in profile.allow.iter().enumerate() {
            let granted: Vec<&Operation> = rows()
                .filter(|row| profile.granted_by(row).is_some() && names(entry, row))
                .collect();
            let path = allow.index(index);
            let too_high = |row: &&Operation| matches!(row.access, Access::Needs(_, least) if least > profile.role);
            if entry == "rooms.list" && profile.rooms != Rooms::Any {
                let why = "shows every room of the project, so it needs rooms = \"any\"";
                self.report.wrong(&path, why);
            } else if entry == "tokens.task" && profile.rooms != Rooms::Any {
                let why = "needs rooms = \"any\": the prefix of a token is not signed, so a Task \
                           token serves as a Room token for the same uuid";
                self.report.wrong(&path, why);
            } else if entry == "tokens.sdk" {
                let why = "grants SDK tokens, each of which opens the whole project, whatever \
                           this profile says of rooms";
                self.report.warn(&path, why);
            } else if granted.is_empty() && profile.rooms != Rooms::Any {
                let why = "grants nothing: without rooms = \"any\" a wildcard grants only what \
                           is about one room; name the operations one by one";
                self.report.warn(&path, why);
            } else if !granted.is_empty() && granted.iter().all(too_high) {
                let why = format_args!(
                    "grants nothing: it needs a higher role than {}, which is this profile's",
                    profile.role
                );
                self.report.warn(&path, why);
            }
        }
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
        Some(claim::Rooms::Claim(path)) => Rooms::Claim(path.as_str().into()),
    }
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
