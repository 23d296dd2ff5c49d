//! What was seen: of each credential, operation and class of room, how often it was granted and how
//! often refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ask::{Class, PathIs, Request};
use crate::oracle::{Kind, Operation, Target, Token};
use crate::world::{World, every_operation};

/// What a room or a task is to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// The caller is good for the whole project.
    Whole,
    /// For some of it, and for this.
    Own,
    /// For some of it, and not for this.
    Other,
}

type Cell = (Class, &'static str, Reach);

/// How often each was granted, and refused.
#[derive(Default)]
pub(crate) struct Table {
    cells: BTreeMap<Cell, [u32; 2]>,
    /// Of credentials that do not hold.
    pub(crate) unknown: u32,
    pub(crate) granted: u32,
    pub(crate) all: u32,
}

const CLASSES: [Class; 5] =
    [Class::Key, Class::Jwt, Class::Certificate, Class::RoomToken, Class::TaskToken];
const REACHES: [Reach; 3] = [Reach::Whole, Reach::Own, Reach::Other];

impl Table {
    pub(crate) fn add(&mut self, world: &World, request: &Request, granted: bool) {
        self.all += 1;
        self.granted += u32::from(granted);
        let Request { credential, operation, uuid, .. } = request;
        let asked = request.path_is == PathIs::Right;
        let known = credential.person.as_ref().ok().filter(|_| asked);
        let Some(person) = known else {
            self.unknown += 1;
            return;
        };
        let Some(profile) = person.profile.map(|index| &world.profiles[index]) else { return };
        let reach = if !person.is_narrow(profile) {
            Reach::Whole
        } else if person.has(profile, operation.target, uuid) {
            Reach::Own
        } else {
            Reach::Other
        };
        let cell = (credential.class, operation.name, reach);
        self.cells.entry(cell).or_default()[usize::from(!granted)] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (cell, [granted, refused]) in &other.cells {
            let sum = self.cells.entry(*cell).or_default();
            *sum = [sum[0] + granted, sum[1] + refused];
        }
        self.unknown += other.unknown;
        self.granted += other.granted;
        self.all += other.all;
    }

    /// What was never seen, and can be.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let mut unseen = Vec::new();
        for operation in every_operation() {
            for (class, reach) in CLASSES.into_iter().flat_map(|c| REACHES.map(|r| (c, r))) {
                let [granted, refused] = self.cell(class, &operation, reach);
                let (can, may) = possible(class, &operation, reach);
                if can && granted == 0 {
                    unseen.push(format!("{class:?} {} {reach:?} granted", operation.name));
                }
                if may && refused == 0 {
                    unseen.push(format!("{class:?} {} {reach:?} refused", operation.name));
                }
                assert!(can || granted == 0, "granted: {class:?} {} {reach:?}", operation.name);
            }
        }
        unseen
    }

    fn cell(&self, class: Class, operation: &Operation, reach: Reach) -> [u32; 2] {
        self.cells.get(&(class, operation.name, reach)).copied().unwrap_or_default()
    }

    /// The table, a line for each operation: how often granted, and how often refused; `-` for what
    /// cannot be.
    pub(crate) fn text(&self) -> String {
        let columns = || {
            let all = CLASSES.into_iter().flat_map(|class| REACHES.map(|reach| (class, reach)));
            all.filter(|(class, reach)| exists(*class, *reach))
        };
        let classes = columns().map(|(class, _)| format!("{:>12}", format!("{class:?}")));
        let reaches = columns().map(|(_, reach)| format!("{:>12}", format!("{reach:?}")));
        let (classes, reaches): (String, String) = (classes.collect(), reaches.collect());
        let mut text = format!("{:26}{classes}\n{:26}{reaches}", "", "");
        for operation in every_operation() {
            _ = write!(text, "\n{:26}", operation.name);
            for (class, reach) in columns() {
                let [granted, refused] = self.cell(class, &operation, reach);
                let (can, may) = possible(class, &operation, reach);
                let word = |there: bool, count: u32| {
                    if there { count.to_string() } else { "-".to_owned() }
                };
                _ = write!(
                    text,
                    "{:>12}",
                    format!("{}/{}", word(can, granted), word(may, refused))
                );
            }
        }
        text
    }
}

/// A whiteboard token is never good for the whole project.
fn exists(class: Class, reach: Reach) -> bool {
    !matches!(class, Class::RoomToken | Class::TaskToken) || reach != Reach::Whole
}

/// Whether it can be granted, and whether it can be refused.
fn possible(class: Class, operation: &Operation, reach: Reach) -> (bool, bool) {
    let own = match class {
        Class::RoomToken => Some(Target::Room),
        Class::TaskToken => Some(Target::Task),
        Class::Key | Class::Jwt | Class::Certificate => None,
    };
    let there = match reach {
        Reach::Whole => own.is_none(),
        Reach::Own => own.is_none_or(|own| own == operation.target),
        // Rooms alone are anyone's in particular; a whiteboard token has one of them, or one task.
        Reach::Other => own.is_some() || operation.target == Target::Room,
    };
    let wide = reach != Reach::Whole
        && (operation.name == "rooms.list"
            || matches!(operation.token, Token::Gives(Kind::Sdk | Kind::Task)));
    let mints = own.is_some() && operation.hands_out();
    (there && reach != Reach::Other && !wide && !mints, there)
}
