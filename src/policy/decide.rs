//! The decision, and its reason.

use crate::api::{
    Access, Lifespan, Matched, Operations, Priority, Role, Target, TokenKind, TokenRequest,
};
use crate::failure::{Code, Failure};

use super::{Excess, ProfileSettings, Rights, Rooms};

/// Every profile, with what it grants worked out for each operation.
pub struct Policy {
    profiles: Vec<Profile>,
}

pub(super) struct Profile {
    pub(super) settings: ProfileSettings,
    project: usize,
    /// By operation.
    granted: Vec<bool>,
    /// The same for a caller whose credential is not good for every room.
    granted_narrow: Vec<bool>,
}

/// A caller may do what it asked to do; what it asks for inside the body is still to be seen.
#[derive(Clone, Copy)]
pub struct Permit<'a> {
    profile: &'a Profile,
    /// The place of the profile.
    pub profile_index: usize,
    /// The highest role, of profile and credential.
    role: Role,
    /// The longest life of tokens, of profile and credential.
    max_lifespan: Option<Lifespan>,
}

/// The token that a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it asked for, within the caps.
    pub request: TokenRequest,
    /// The role that it asked for.
    pub asked_role: Role,
    /// The life that it asked for.
    pub asked_lifespan: Lifespan,
    /// Whether it gets less than it asked for.
    pub clamped: bool,
    /// The profile whose caps were applied.
    pub rule: String,
}

impl Policy {
    /// Works out the grants; `project` finds the place of a project by its name.
    ///
    /// # Errors
    /// The name of a project that is not there. The configuration has checked that before.
    pub fn new(
        settings: &[ProfileSettings],
        operations: &Operations,
        project: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        let profiles = settings.iter().map(|one| {
            let granted = |rooms: &Rooms| {
                let rows = operations.iter();
                rows.map(|(_, row)| one.granted_within(row, rooms).is_some()).collect()
            };
            Ok(Profile {
                project: project(&one.project).ok_or_else(|| one.project.clone())?,
                granted: granted(&one.rooms),
                granted_narrow: granted(&Rooms::None),
                settings: one.clone(),
            })
        });
        Ok(Self { profiles: profiles.collect::<Result<_, String>>()? })
    }

    /// The place of a profile.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.profiles.iter().position(|profile| profile.settings.name == name)
    }

    /// The name of a profile.
    #[must_use]
    pub fn name(&self, profile: usize) -> Option<&str> {
        self.profiles.get(profile).map(|profile| profile.settings.name.as_str())
    }

    /// Whether a caller of these rights is believed when it says which trace a request belongs to.
    #[must_use]
    pub fn vouches_for_traces(&self, rights: &Rights) -> bool {
        let profile = rights.profile.and_then(|profile| self.profiles.get(profile));
        profile.is_some_and(|profile| profile.settings.trust_traceparent)
    }

    /// The path of the claim that names the rooms of a profile's callers.
    #[must_use]
    pub fn rooms_claim(&self, profile: usize) -> Option<&str> {
        match &self.profiles.get(profile)?.settings.rooms {
            Rooms::Claim(path) => Some(path),
            Rooms::None | Rooms::Any | Rooms::List(_) => None,
        }
    }

    /// Decides whether a caller of these rights may do this operation on this room or task.
    ///
    /// # Errors
    /// `forbidden` with the rule, or `not_found` for a room that is not theirs: whether it exists
    /// is not told.
    pub fn authorize(&self, rights: &Rights, asked: &Matched<'_>) -> Result<Permit<'_>, Failure> {
        let (profile_index, profile) = self.profile(rights)?;
        profile.allows(rights, asked)?;
        profile.holds(rights, asked)?;
        let role = profile.permits(rights, asked)?;
        let max_lifespan = rights.max_lifespan;
        let max_lifespan = max_lifespan.map(|longest| longest.min(profile.settings.max_lifespan));
        Ok(Permit { profile, profile_index, role, max_lifespan })
    }

    pub(super) fn profile(&self, rights: &Rights) -> Result<(usize, &Profile), Failure> {
        let found = rights.profile.and_then(|index| Some((index, self.profiles.get(index)?)));
        found.ok_or_else(|| {
            let why = "nothing that this credential says gives it a profile";
            Failure::fixed(Code::Forbidden, why)
        })
    }
}

impl Profile {
    /// The operation is named.
    fn allows(&self, rights: &Rights, asked: &Matched<'_>) -> Result<(), Failure> {
        let granted = if rights.is_narrow() { &self.granted_narrow } else { &self.granted };
        if wider(rights, asked).is_none() && granted.get(asked.id.index()).copied().unwrap_or(false)
        {
            return Ok(());
        }
        let name = &asked.operation.name;
        let why = ["`", name, "` is not among the operations of this caller"].concat();
        Err(Failure::insufficient_scope(name.clone(), why).with_rule(self.rule("allow")))
    }

    /// The room or task is the caller's.
    pub(super) fn holds(&self, rights: &Rights, asked: &Matched<'_>) -> Result<(), Failure> {
        let theirs = match &asked.target {
            Target::Room(room) => rights.reach(room, &self.settings.rooms),
            Target::Project | Target::Task(_) => true,
        };
        // A whiteboard token speaks for its own room or task and nothing beside.
        let own = rights.only.as_ref().is_none_or(|only| *only == asked.target);
        if theirs && own {
            return Ok(());
        }
        let (code, why) = match asked.target {
            Target::Project => (Code::Forbidden, "this credential speaks for one room or task"),
            // As the upstream says it of one that is not there.
            Target::Room(_) => (Code::NotFound, "there is no such room for this caller"),
            Target::Task(_) => (Code::NotFound, "there is no such task for this caller"),
        };
        Err(Failure::fixed(code, why).with_detail(format!("refused by {}", self.rule("rooms"))))
    }

    /// The role is high enough.
    pub(super) fn permits(&self, rights: &Rights, asked: &Matched<'_>) -> Result<Role, Failure> {
        let name = &asked.operation.name;
        let Some(role) = rights.role.map(|role| role.min(self.settings.role)) else {
            let why = "nothing that this credential says gives it a role";
            return Err(Failure::fixed(Code::Forbidden, why));
        };
        match asked.operation.access {
            Access::Needs(_, least) if least > role => {
                let why = format!(
                    "`{name}` needs the role {least}; the highest role of this caller is {role}"
                );
                Err(Failure::new(Code::Forbidden, why).with_rule(self.rule("role")))
            }
            _ => Ok(role),
        }
    }

    pub(super) fn rule(&self, key: &str) -> String {
        ["profiles.", &self.settings.name, ".", key].concat()
    }
}

/// What no entry of `allow` grants a caller whose credential is good for less than the project.
pub(super) fn wider(rights: &Rights, asked: &Matched<'_>) -> Option<&'static str> {
    match asked.operation.access {
        Access::Mints(TokenKind::Sdk) if rights.is_narrow() => {
            Some("a credential that is good for some rooms is no way to the whole project")
        }
        Access::Mints(_) if rights.only.is_some() => {
            Some("a whiteboard token mints no others, as in the API's own matrix")
        }
        _ => None,
    }
}

impl Permit<'_> {
    /// The place of the project.
    #[must_use]
    pub const fn project(&self) -> usize {
        self.profile.project
    }

    /// How much the request matters when not all can be served.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.profile.settings.priority
    }

    /// Decides about a token that the caller asks for.
    ///
    /// # Errors
    /// `forbidden` with the cap, where the profile says to refuse rather than to clamp.
    pub fn grant(&self, asked: &TokenRequest) -> Result<Grant, Failure> {
        let (role, over_cap) = (self.role, self.profile.settings.over_cap);
        let Some(max_lifespan) = self.max_lifespan else {
            let why = "nothing that this credential says gives its tokens a life";
            return Err(Failure::fixed(Code::Forbidden, why));
        };
        if asked.role > role && over_cap.role == Excess::Refuse {
            let why = format!(
                "a token of the role {} was asked for; the highest role of this caller is {role}",
                asked.role
            );
            return Err(Failure::new(Code::Forbidden, why).with_rule(self.profile.rule("role")));
        }
        if asked.lifespan > max_lifespan && over_cap.lifespan == Excess::Refuse {
            let why = format!(
                "a token of lifespan {} was asked for; the longest of this caller is {max_lifespan}",
                asked.lifespan
            );
            let rule = self.profile.rule("max_lifespan");
            return Err(Failure::new(Code::Forbidden, why).with_rule(rule));
        }
        let request = TokenRequest {
            role: asked.role.min(role),
            lifespan: asked.lifespan.min(max_lifespan),
            ..asked.clone()
        };
        let clamped = request != *asked;
        Ok(Grant {
            request,
            asked_role: asked.role,
            asked_lifespan: asked.lifespan,
            clamped,
            rule: format!("profiles.{}", self.profile.settings.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RoomId, TokenKind};
    use crate::policy::OverCap;
    use http::Method;
    use proptest::prelude::*;

    fn profile(allow: &[&str], rooms: Rooms, role: Role) -> ProfileSettings {
        ProfileSettings {
            name: "student".to_owned(),
            project: "classroom".to_owned(),
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            rooms,
            role,
            max_lifespan: Lifespan::Millis(1000),
            over_cap: OverCap::default(),
            priority: Priority::default(),
            trust_traceparent: false,
        }
    }

    fn decide(profile: ProfileSettings, method: &Method, path: &str) -> Result<(), String> {
        let operations = Operations::documented();
        let policy = Policy::new(&[profile], &operations, |_| Some(0)).unwrap();
        let matched = operations.find(method, path).unwrap();
        policy.authorize(&Rights::of_profile(0), &matched).map(|_| ()).map_err(|failure| {
            format!("{} {}", failure.code().name(), failure.rule().unwrap_or("-"))
        })
    }

    fn listed(rooms: &[&str]) -> Rooms {
        Rooms::List(rooms.iter().map(|room| RoomId::new(room).unwrap()).collect())
    }

    const GET: &Method = &Method::GET;
    const POST: &Method = &Method::POST;

    #[test]
    fn what_is_not_named_is_denied() {
        let nothing = profile(&[], Rooms::Any, Role::Admin);
        let refused = Err("forbidden profiles.student.allow".to_owned());
        assert_eq!(decide(nothing, GET, "/v5/rooms/a"), refused);
        let named = profile(&["rooms.get"], Rooms::Any, Role::Admin);
        assert_eq!(decide(named.clone(), GET, "/v5/rooms/a"), Ok(()));
        assert_eq!(decide(named, POST, "/v5/rooms"), refused);
    }

    #[test]
    fn a_wildcard_never_grants_an_sdk_token() {
        let all = profile(&["tokens.*"], Rooms::Any, Role::Admin);
        assert_eq!(decide(all.clone(), POST, "/v5/tokens/rooms/a"), Ok(()));
        assert!(decide(all, POST, "/v5/tokens/teams").is_err());
        let named = profile(&["tokens.sdk"], Rooms::None, Role::Admin);
        assert_eq!(decide(named, POST, "/v5/tokens/teams"), Ok(()));
    }

    #[test]
    fn with_a_list_of_rooms_a_wildcard_grants_only_what_is_about_one_room() {
        let some = profile(&["rooms.*", "conversions.*", "tokens.*"], listed(&["a"]), Role::Admin);
        assert_eq!(decide(some.clone(), GET, "/v5/rooms/a"), Ok(()));
        assert_eq!(decide(some.clone(), POST, "/v5/tokens/rooms/a"), Ok(()));
        for (method, path) in [
            (GET, "/v5/rooms"),
            (POST, "/v5/rooms"),
            (POST, "/v5/tokens/tasks/t"),
            (POST, "/v5/projector/tasks"),
        ] {
            assert!(decide(some.clone(), method, path).is_err(), "{method} {path}");
        }
    }

    #[test]
    fn a_task_token_takes_every_room_since_its_prefix_is_not_signed() {
        let some = profile(&["tokens.task"], listed(&["a"]), Role::Admin);
        assert!(decide(some, POST, "/v5/tokens/tasks/b").is_err());
        let any = profile(&["tokens.task"], Rooms::Any, Role::Admin);
        assert_eq!(decide(any, POST, "/v5/tokens/tasks/b"), Ok(()));
    }

    #[test]
    fn a_room_that_is_not_theirs_is_not_there() {
        let some = profile(&["rooms.get"], listed(&["a"]), Role::Admin);
        assert_eq!(decide(some, GET, "/v5/rooms/b"), Err("not_found -".to_owned()));
        let none = profile(&["rooms.get"], Rooms::None, Role::Admin);
        assert_eq!(decide(none, GET, "/v5/rooms/a"), Err("not_found -".to_owned()));
    }

    #[test]
    fn a_reader_cannot_disable_a_room() {
        let reader = profile(&["rooms.*"], Rooms::Any, Role::Reader);
        assert_eq!(
            decide(reader, &Method::PATCH, "/v5/rooms/a"),
            Err("forbidden profiles.student.role".to_owned())
        );
    }

    fn grant(settings: ProfileSettings, asked: &TokenRequest) -> Result<Grant, Failure> {
        let operations = Operations::documented();
        let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
        let matched = operations.find(POST, "/v5/tokens/rooms/a").unwrap();
        policy.authorize(&Rights::of_profile(0), &matched).unwrap().grant(asked)
    }

    fn asked(role: Role, lifespan: u64) -> TokenRequest {
        TokenRequest {
            kind: TokenKind::Room,
            role,
            lifespan: Lifespan::from_wire(lifespan),
            access_key: None,
        }
    }

    #[test]
    fn a_permanent_token_is_clamped_and_a_higher_role_refused() {
        let writer = profile(&["tokens.room"], Rooms::Any, Role::Writer);
        let granted = grant(writer.clone(), &asked(Role::Reader, 0)).unwrap();
        assert!(granted.clamped);
        assert_eq!(granted.request, asked(Role::Reader, 1000));
        let failure = grant(writer, &asked(Role::Admin, 10)).unwrap_err();
        assert_eq!(failure.rule(), Some("profiles.student.role"));
        assert!(failure.message().contains("highest role of this caller is writer"));
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop_oneof![Just(Role::Admin), Just(Role::Writer), Just(Role::Reader)]
    }

    fn any_rooms() -> impl Strategy<Value = Rooms> {
        prop_oneof![
            Just(Rooms::None),
            Just(Rooms::Any),
            Just(listed(&["a"])),
            Just(listed(&["a", "b"])),
            Just(listed(&["c"])),
            Just(Rooms::Claim("rooms".into())),
        ]
    }

    fn any_only() -> impl Strategy<Value = Option<Target>> {
        prop_oneof![
            Just(None),
            Just(Some(Target::Room(RoomId::new("a").unwrap()))),
            Just(Some(Target::Task(crate::api::TaskId::new("a").unwrap()))),
        ]
    }

    fn contains(rooms: &Rooms, room: &RoomId) -> bool {
        match rooms {
            Rooms::Any => true,
            Rooms::List(list) => list.contains(room),
            Rooms::None | Rooms::Claim(_) => false,
        }
    }

    fn any_excess() -> impl Strategy<Value = Excess> {
        prop_oneof![Just(Excess::Clamp), Just(Excess::Refuse)]
    }

    proptest! {
        #[test]
        fn no_combination_of_profile_and_rights_gives_more_than_both(
            cap in any_role(), own in prop::option::of(any_role()), role in any_role(),
            longest in 0_u64..5000, own_longest in prop::option::of(0_u64..5000),
            lifespan in 0_u64..5000,
            rooms in any_rooms(), own_rooms in any_rooms(), claimed in any_rooms(),
            only in any_only(), room in prop_oneof![Just("a"), Just("b"), Just("c")],
            on_role in any_excess(), on_lifespan in any_excess(),
        ) {
            let mut settings = profile(&["tokens.room"], rooms.clone(), cap);
            settings.max_lifespan = Lifespan::from_wire(longest);
            settings.over_cap = OverCap { lifespan: on_lifespan, role: on_role };
            let rights = Rights {
                profile: Some(0),
                rooms: own_rooms.clone(),
                claimed: claimed.clone(),
                only: only.clone(),
                role: own,
                max_lifespan: own_longest.map(Lifespan::from_wire),
            };
            let operations = Operations::documented();
            let policy = Policy::new(&[settings], &operations, |_| Some(0)).unwrap();
            let path = format!("/v5/tokens/rooms/{room}");
            let matched = operations.find(POST, &path).unwrap();
            let asked = asked(role, lifespan);
            let permit = policy.authorize(&rights, &matched);
            if let Ok(grant) = permit.and_then(|permit| permit.grant(&asked)) {
                let room = RoomId::new(room).unwrap();
                prop_assert!(grant.request.role <= cap.min(own.unwrap()).min(role));
                prop_assert!(grant.request.lifespan <= Lifespan::from_wire(longest));
                prop_assert!(grant.request.lifespan <= Lifespan::from_wire(own_longest.unwrap()));
                prop_assert!(contains(&own_rooms, &room));
                let of_profile = if matches!(rooms, Rooms::Claim(_)) { &claimed } else { &rooms };
                prop_assert!(contains(of_profile, &room));
                prop_assert!(only.is_none_or(|only| only == Target::Room(room)));
                prop_assert_eq!(grant.clamped, grant.request != asked);
            }
        }
    }

    #[test]
    fn a_credential_that_is_good_for_some_rooms_gets_from_a_wildcard_what_is_about_one_room() {
        let operations = Operations::documented();
        let all = ["rooms.*", "conversions.*"];
        let policy =
            Policy::new(&[profile(&all, Rooms::Any, Role::Admin)], &operations, |_| Some(0));
        let policy = policy.unwrap();
        let narrow = Rights { rooms: listed(&["a"]), ..Rights::of_profile(0) };
        for (method, path, granted) in [
            (GET, "/v5/rooms/a", true),
            (GET, "/v5/rooms/b", false),
            (GET, "/v5/rooms", false),
            (POST, "/v5/rooms", false),
            (POST, "/v5/projector/tasks", false),
        ] {
            let matched = operations.find(method, path).unwrap();
            assert_eq!(policy.authorize(&narrow, &matched).is_ok(), granted, "{method} {path}");
            let whole = policy.authorize(&Rights::of_profile(0), &matched);
            assert!(whole.is_ok(), "{method} {path}");
        }
    }
}
