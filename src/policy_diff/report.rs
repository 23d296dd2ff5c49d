//! The difference as people and machines read it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::api::{Lifespan, RoomId};

use super::right::word;
use super::{Change, Gets, Group, PolicyDiff, Right, Standing, Targets, Who};

/// So many names of callers, and ids of rooms, stand in a line; of more their number.
const NAMED: usize = 5;

/// For people: each change once, with a sign for more (`+`), less (`-`) and both (`~`).
impl fmt::Display for PolicyDiff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(out, "{}", group.header())?;
            for line in group.lines() {
                writeln!(out, "  {line}")?;
            }
        }
        if !self.beside.is_empty() {
            writeln!(out, "beside the rights:")?;
        }
        for (key, before, after) in &self.beside {
            let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
            writeln!(out, "    {key}: {}, was {}", told(after), told(before))?;
        }
        writeln!(out, "{}", self.summary())
    }
}

impl PolicyDiff {
    /// One sentence.
    pub fn summary(&self) -> String {
        match (self.is_wider(), self.is_narrower()) {
            (false, false) => "no one can do more or less than before".to_owned(),
            (false, true) => format!("rights are narrowed for {}", self.whom(|one| one.lost)),
            (true, false) => format!("rights are widened for {}", self.whom(|one| one.gained)),
            (true, true) => format!(
                "rights are widened for {}, and narrowed for {}",
                self.whom(|one| one.gained),
                self.whom(|one| one.lost)
            ),
        }
    }

    /// Who has more than before, a line each.
    pub fn widened(&self) -> Vec<String> {
        let wider = self.groups.iter().filter(|group| group.changes.iter().any(|one| one.gained));
        let told = wider.flat_map(|group| {
            let lines = group.lines_of(|change| change.gained);
            lines.into_iter().map(|line| format!("{}: {line}", group.header()))
        });
        told.collect()
    }

    fn whom(&self, counts: impl Fn(&Change) -> bool) -> String {
        let counted = || self.groups.iter().filter(|group| group.changes.iter().any(&counts));
        let callers = counted().map(|group| match &group.who {
            Who::Callers(names) => names.len(),
            Who::Issuer { .. } | Who::Tokens { .. } => 0,
        });
        let issuers: BTreeSet<&str> = counted()
            .filter_map(|group| match &group.who {
                Who::Issuer { issuer, .. } => Some(issuer.as_str()),
                Who::Callers(_) | Who::Tokens { .. } => None,
            })
            .collect();
        let tokens = counted().filter(|group| matches!(group.who, Who::Tokens { .. })).count();
        let parts = [
            (callers.sum(), "caller", "callers"),
            (issuers.len(), "issuer", "issuers"),
            (tokens, "project's whiteboard tokens", "projects' whiteboard tokens"),
        ];
        let parts = parts.into_iter().filter(|(count, ..)| *count > 0);
        let parts = parts.map(|(count, one, many)| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        });
        parts.collect::<Vec<_>>().join(" and ")
    }

    /// For machines: everything.
    pub fn json(&self) -> Value {
        let beside = self
            .beside
            .iter()
            .map(|(key, before, after)| json!({ "key": key, "before": before, "after": after }));
        json!({
            "widened": self.is_wider(),
            "narrowed": self.is_narrower(),
            "summary": self.summary(),
            "groups": self.groups.iter().map(Group::json).collect::<Vec<_>>(),
            "beside": beside.collect::<Vec<_>>(),
        })
    }
}

impl Group {
    /// Who, and by which profiles.
    pub fn header(&self) -> String {
        let who = match &self.who {
            Who::Callers(names) if names.len() == 1 => format!("caller {}", names.join("")),
            Who::Callers(names) => format!("callers {}", few(names.iter(), names.len())),
            Who::Issuer { name, .. } => format!("callers of the issuer {name}"),
            Who::Tokens { project } => format!("whiteboard tokens of the project {project}"),
        };
        let profile = match (&self.before, &self.after) {
            (Standing::Profile(one), Standing::Profile(other)) if one == other => {
                format!("profile {one}")
            }
            (Standing::Absent, after) => format!("added, {}", after.text()),
            (before, Standing::Absent) => format!("removed, {}", before.text()),
            (before, after) => format!("{}, was {}", after.text(), before.text()),
        };
        format!("{who} ({profile})")
    }

    fn lines(&self) -> Vec<String> {
        self.lines_of(|_| true)
    }

    /// A line for all operations of which the same is to be said.
    fn lines_of(&self, counts: impl Fn(&Change) -> bool) -> Vec<String> {
        let mut lines: Vec<(&'static str, Vec<&str>, String)> = Vec::new();
        for change in self.changes.iter().filter(|change| counts(change)) {
            let (sign, rest) = (change.sign(), change.text());
            match lines.iter_mut().find(|(known, _, text)| *known == sign && *text == rest) {
                Some((_, operations, _)) => operations.push(&change.operation),
                None => lines.push((sign, vec![&change.operation], rest)),
            }
        }
        let lines = lines.into_iter();
        lines
            .map(|(sign, operations, rest)| format!("{sign} {}{rest}", operations.join(", ")))
            .collect()
    }

    fn json(&self) -> Value {
        let mut told = match &self.who {
            Who::Callers(names) => json!({ "callers": names }),
            Who::Issuer { issuer, name } => json!({ "issuer": name, "iss": issuer }),
            Who::Tokens { project } => json!({ "tokensOf": project }),
        };
        told["before"] = self.before.json();
        told["after"] = self.after.json();
        told["changes"] = self.changes.iter().map(Change::json).collect();
        told
    }
}

impl Standing {
    fn text(&self) -> String {
        match self {
            Self::Absent => "not there".to_owned(),
            Self::NoProfile => "no profile".to_owned(),
            Self::Profile(name) => format!("profile {name}"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Absent => json!({ "known": false, "profile": null }),
            Self::NoProfile => json!({ "known": true, "profile": null }),
            Self::Profile(name) => json!({ "known": true, "profile": name }),
        }
    }
}

impl Change {
    const fn sign(&self) -> &'static str {
        match (self.gained, self.lost) {
            (true, false) => "+",
            (false, true) => "-",
            _ => "~",
        }
    }

    fn text(&self) -> String {
        let what = match (&self.before, &self.after) {
            (None, Some(right)) | (Some(right), None) => right.what.text(),
            (Some(before), Some(after)) => difference(before, after),
            (None, None) => String::new(),
        };
        let what = if what.is_empty() { what } else { format!(": {what}") };
        [self.scope.what.text(), what, self.condition()].concat()
    }

    /// What a token must say for it, where not every one will do.
    fn condition(&self) -> String {
        if self.when.len() == self.cases {
            return String::new();
        }
        let mut said: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (name, value) in self.when.iter().flatten() {
            match said.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => _ = values.insert(value),
                None => said.push((name, BTreeSet::from([value.as_str()]))),
            }
        }
        let combined: usize = said.iter().map(|(_, values)| values.len()).product();
        let one = said.iter().filter(|(_, values)| values.len() == 1);
        let one: Vec<String> = one
            .map(|(name, values)| {
                format!("`{name}` {}", values.iter().copied().collect::<Vec<_>>().join(""))
            })
            .collect();
        match (combined == self.when.len(), one.is_empty()) {
            (true, false) => format!(" (where {})", one.join(" and ")),
            _ => format!(" (in {} of {} cases of what a token says)", self.when.len(), self.cases),
        }
    }

    fn json(&self) -> Value {
        let when = self.when.iter().map(|case| {
            let members = case.iter().map(|(name, says)| (name.clone(), json!(says)));
            Value::Object(members.collect::<Map<_, _>>())
        });
        json!({
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "on": self.scope.what.json(),
            "gained": self.gained,
            "lost": self.lost,
            "before": self.before.as_ref().map(Right::json),
            "after": self.after.as_ref().map(Right::json),
            "when": when.collect::<Vec<_>>(),
            "cases": self.cases,
        })
    }
}

impl Right {
    fn json(&self) -> Value {
        let mut told = match self.what {
            Gets::Answer(None) => json!({}),
            Gets::Answer(Some(shown)) => json!({
                "shown": shown.token.as_str(),
                "shownRole": shown.role.map(|role| role.to_string()),
            }),
            Gets::Tokens { role, lifespan, over_cap } => json!({
                "role": role.to_string(),
                "lifespan": lifespan.to_wire(),
                "overCap": {
                    "lifespan": word(over_cap.lifespan),
                    "role": word(over_cap.role),
                },
            }),
        };
        told["project"] = json!(self.project);
        told
    }
}

impl Gets {
    fn text(self) -> String {
        match self {
            Self::Answer(None) => String::new(),
            Self::Answer(Some(shown)) => {
                format!("the service is shown {}", shown.token.as_str())
            }
            Self::Tokens { role, lifespan, .. } => {
                format!("tokens up to the role {role}, for {} at most", life(lifespan))
            }
        }
    }
}

/// What of a right is another.
fn difference(before: &Right, after: &Right) -> String {
    let mut told = Vec::new();
    if before.project != after.project {
        told.push(format!("in the project {}, was {}", after.project, before.project));
    }
    match (before.what, after.what) {
        (
            Gets::Tokens { role: a, lifespan: b, over_cap: c },
            Gets::Tokens { role, lifespan, over_cap },
        ) => {
            if role != a {
                told.push(format!("tokens up to the role {role}, was {a}"));
            }
            if lifespan != b {
                told.push(format!("tokens for {} at most, was {}", life(lifespan), life(b)));
            }
            for (what, one, other) in
                [("lifespan", over_cap.lifespan, c.lifespan), ("role", over_cap.role, c.role)]
            {
                if one != other {
                    let (now, was) = (word(one), word(other));
                    told.push(format!("a higher {what} than the cap: {now}, was {was}"));
                }
            }
        }
        (Gets::Answer(Some(was)), Gets::Answer(Some(shown))) if was != shown => {
            let role = |shown: super::ShownCredential| {
                shown.role.map(|role| format!(" of the role {role}")).unwrap_or_default()
            };
            let (now, then) = (shown.token.as_str(), was.token.as_str());
            let (role, was) = (role(shown), role(was));
            told.push(format!("the service is shown {now}{role}, was {then}{was}"));
        }
        _ => {}
    }
    told.join("; ")
}

impl Targets {
    fn text(&self) -> String {
        match self {
            Self::Project | Self::Tasks => String::new(),
            Self::Rooms(rooms) => format!(" in {}", few_rooms(rooms)),
            Self::OtherRooms => " in every room that no list names".to_owned(),
            Self::OwnRoom(rooms) => format!(" in their own room, if it is {}", few_rooms(rooms)),
            Self::OwnOtherRoom => " in their own room, if no list names it".to_owned(),
            Self::OwnTask => " for their own task".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let rooms = |rooms: &[RoomId]| {
            rooms.iter().map(|room| json!(room.as_str())).collect::<Vec<Value>>()
        };
        match self {
            Self::Project => json!("project"),
            Self::Tasks => json!("tasks"),
            Self::Rooms(list) => json!({ "rooms": rooms(list) }),
            Self::OtherRooms => json!("other rooms"),
            Self::OwnRoom(list) => json!({ "ownRoom": rooms(list) }),
            Self::OwnOtherRoom => json!("own other room"),
            Self::OwnTask => json!("own task"),
        }
    }
}

fn few_rooms(rooms: &[RoomId]) -> String {
    few(rooms.iter(), rooms.len())
}

/// The first few, and how many more there are.
fn few<T: fmt::Display>(all: impl Iterator<Item = T>, count: usize) -> String {
    let named: Vec<String> = all.take(NAMED).map(|one| one.to_string()).collect();
    let named = named.join(", ");
    match count.saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A life in the largest unit in which it is whole.
fn life(lifespan: Lifespan) -> String {
    let Lifespan::Millis(ms) = lifespan else { return "ever".to_owned() };
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| ms % unit == 0) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}
