//! What a request can be about, as far as two configurations tell it apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{RoomId, Target, TargetKind, TaskId};
use crate::policy::{Rights, Rooms};

/// The targets that two configurations do not tell apart, and one of them to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetClass {
    /// Which.
    pub what: Targets,
    pub(super) probe: Target,
}

/// Targets that are not told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// The project.
    Project,
    /// Any task.
    Tasks,
    /// These rooms: all that are in the same lists.
    Rooms(Arc<[RoomId]>),
    /// Every room that no list of the two names.
    OtherRooms,
    /// The room of the whiteboard token that is shown, where it is one of these.
    OwnRoom(Arc<[RoomId]>),
    /// The same, where no list names it.
    OwnOtherRoom,
    /// The task of the whiteboard token that is shown.
    OwnTask,
}

/// The scopes of callers with these lists: the project, tasks, and rooms by the lists that they are in.
pub(super) fn scopes(lists: &[Rooms]) -> Vec<TargetClass> {
    let of_rooms = classes(lists, Targets::Rooms, Targets::OtherRooms);
    let project = TargetClass { what: Targets::Project, probe: Target::Project };
    [project, TargetClass { what: Targets::Tasks, probe: task() }]
        .into_iter()
        .chain(of_rooms)
        .collect()
}

/// The scopes of whoever shows a whiteboard token of its own: what it is for.
pub(super) fn own_scopes(lists: &[Rooms]) -> Vec<TargetClass> {
    let of_rooms = classes(lists, Targets::OwnRoom, Targets::OwnOtherRoom);
    [TargetClass { what: Targets::OwnTask, probe: task() }].into_iter().chain(of_rooms).collect()
}

/// The rooms by the lists that they are in; an empty class stands for all that are in none.
fn classes(
    lists: &[Rooms],
    named: fn(Arc<[RoomId]>) -> Targets,
    others: Targets,
) -> impl Iterator<Item = TargetClass> {
    let listed: Vec<_> = lists.iter().filter_map(listed).collect();
    let mut classes: BTreeMap<Vec<bool>, Vec<RoomId>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for room in listed.iter().copied().flatten().filter(|room| seen.insert(*room)) {
        let of = listed.iter().map(|list| list.contains(room)).collect();
        classes.entry(of).or_default().push(room.clone());
    }
    let others = TargetClass { what: others, probe: Target::Room(unlisted(lists)) };
    let of_class = move |rooms: Vec<RoomId>| {
        let probe = Target::Room(rooms.first()?.clone());
        Some(TargetClass { what: named(rooms.into()), probe })
    };
    classes.into_values().filter_map(of_class).chain([others])
}

const fn listed(rooms: &Rooms) -> Option<&BTreeSet<RoomId>> {
    match rooms {
        Rooms::List(list) => Some(list),
        Rooms::None | Rooms::Any | Rooms::Claim(_) => None,
    }
}

/// A room that no list names.
fn unlisted(lists: &[Rooms]) -> RoomId {
    let named = |room: &RoomId| lists.iter().filter_map(listed).any(|list| list.contains(room));
    let mut text = "unlisted".to_owned();
    loop {
        match RoomId::new(&text) {
            Ok(room) if !named(&room) => return room,
            _ => text.push('_'),
        }
    }
}

fn task() -> Target {
    TaskId::new("task").map_or(Target::Project, Target::Task)
}

impl TargetClass {
    /// The rights of whoever shows a token for it.
    pub(super) fn own(&self, rights: &Rights) -> Rights {
        Rights { only: Some(self.probe.clone()), ..rights.clone() }
    }

    /// Whether an operation can be about it.
    pub(super) const fn fits(&self, target: TargetKind) -> bool {
        match self.what {
            Targets::Project => matches!(target, TargetKind::Project),
            Targets::Tasks | Targets::OwnTask => matches!(target, TargetKind::Task),
            _ => matches!(target, TargetKind::Room),
        }
    }

    /// The room to ask about.
    pub(super) const fn room(&self) -> Option<&RoomId> {
        self.probe.room()
    }
}
