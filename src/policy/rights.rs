//! What a caller brings of its own: a profile, and how far its credential narrows it.

use crate::api::{Lifespan, Role, RoomId, Target};

use super::{Reach, Rooms};

/// The rights of a caller. They only ever narrow what its profile allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The place of its profile; without one it is known and may do nothing.
    pub profile: Option<usize>,
    /// Why it has none, where a claim was to say it.
    pub unmapped: Option<&'static str>,
    /// The rooms that its credential is good for.
    pub rooms: Rooms,
    /// The rooms that the claim names which its profile asks for ([`Rooms::Claim`]).
    pub claimed: Rooms,
    /// The one room or task that its credential speaks for, when it is that of one.
    pub only: Option<Target>,
    /// The highest role of its credential; `None` for no role at all.
    pub role: Option<Role>,
    /// The longest life of tokens that it gets; `None` for no token at all.
    pub max_lifespan: Option<Lifespan>,
}

impl Rights {
    /// Everything that a profile allows: what an API key has.
    pub const fn of_profile(profile: usize) -> Self {
        Self {
            profile: Some(profile),
            unmapped: None,
            rooms: Rooms::Any,
            claimed: Rooms::None,
            only: None,
            role: Some(Role::Admin),
            max_lifespan: Some(Lifespan::Permanent),
        }
    }

    /// The bytes of the heap that the rooms take, about.
    pub fn heap_bytes(&self) -> usize {
        self.rooms.heap_bytes() + self.claimed.heap_bytes()
    }

    /// Whether a room is the caller's, as far as its credential goes, under a profile of these
    /// rooms.
    pub(super) fn has_room(&self, room: &RoomId, profile: &Rooms) -> bool {
        let within = |rooms: &Rooms| match rooms {
            Rooms::Any => true,
            Rooms::List(rooms) => rooms.contains(room),
            Rooms::None | Rooms::Claim(_) => false,
        };
        within(&self.rooms) && within(self.of_profile_rooms(profile))
    }

    /// How far the caller reaches under a profile of these rooms: what narrows it more counts,
    /// whichever that is.
    pub(super) fn reach(&self, profile: &Rooms) -> Reach {
        let all = self.rooms == Rooms::Any && *self.of_profile_rooms(profile) == Rooms::Any;
        match self.only {
            Some(_) => Reach::OwnToken,
            None if all => Reach::Project,
            None => Reach::Rooms,
        }
    }

    /// The rooms that a profile gives this caller.
    const fn of_profile_rooms<'a>(&'a self, profile: &'a Rooms) -> &'a Rooms {
        match profile {
            Rooms::Claim(_) => &self.claimed,
            rooms => rooms,
        }
    }
}
