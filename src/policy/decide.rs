//! The decision, and its reason.

use crate::api::{Access, Lifespan, Matched, Operations, Role, Target, TokenRequest};
use crate::failure::{Code, Failure};

use super::{Excess, OverCap, ProfileSettings, Rooms};

/// Every profile, with what it grants worked out for each operation.
pub struct Policy {
    profiles: Vec<Profile>,
}

struct Profile {
    name: String,
    project: usize,
    /// By operation.
    granted: Vec<bool>,
    rooms: Rooms,
    role: Role,
    max_lifespan: Lifespan,
    over_cap: OverCap,
}

/// A caller may do what it asked to do; what it asks for inside the body is still to be seen.
#[derive(Clone, Copy)]
pub struct Permit<'a> {
    profile: &'a Profile,
    /// The place of the profile.
    pub profile_index: usize,
}

/// The token that a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it asked for, within the caps.
    pub request: TokenRequest,
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
            let granted = operations.iter().map(|(_, row)| one.granted_by(row).is_some());
            Ok(Profile {
                name: one.name.clone(),
                project: project(&one.project).ok_or_else(|| one.project.clone())?,
                granted: granted.collect(),
                rooms: one.rooms.clone(),
                role: one.role,
                max_lifespan: one.max_lifespan,
                over_cap: one.over_cap,
            })
        });
        Ok(Self { profiles: profiles.collect::<Result<_, String>>()? })
    }

    /// The place of a profile.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.profiles.iter().position(|profile| profile.name == name)
    }

    /// The name of a profile.
    #[must_use]
    pub fn name(&self, profile: usize) -> Option<&str> {
        self.profiles.get(profile).map(|profile| profile.name.as_str())
    }

    /// Decides whether the callers of a profile may do this operation on this room or task.
    ///
    /// # Errors
    /// `forbidden` with the rule, or `not_found` for a room that is not theirs: whether it exists
    /// is not told.
    pub fn authorize(&self, profile: usize, asked: &Matched<'_>) -> Result<Permit<'_>, Failure> {
        let index = profile;
        let Some(profile) = self.profiles.get(index) else {
            return Err(Failure::fixed(Code::Forbidden, "this caller has no profile"));
        };
        let operation = asked.operation;
        if !profile.granted.get(asked.id.index()).copied().unwrap_or(false) {
            let why = format!("`{}` is not among the operations of this caller", operation.name);
            return Err(
                Failure::insufficient_scope(&operation.name, why).with_rule(profile.rule("allow"))
            );
        }
        if let Target::Room(room) = &asked.target {
            let theirs = match &profile.rooms {
                Rooms::Any => true,
                Rooms::None => false,
                Rooms::List(rooms) => rooms.contains(room),
            };
            if !theirs {
                // As the upstream says it of a room that is not there.
                return Err(Failure::fixed(
                    Code::NotFound,
                    "there is no such room for this caller",
                )
                .with_detail(format!("refused by {}", profile.rule("rooms"))));
            }
        }
        if let Access::Needs(_, least) = operation.access
            && least > profile.role
        {
            let why = format!(
                "`{}` needs the role {least}; the highest role of this caller is {}",
                operation.name, profile.role
            );
            return Err(Failure::new(Code::Forbidden, why).with_rule(profile.rule("role")));
        }
        Ok(Permit { profile, profile_index: index })
    }
}

impl Profile {
    fn rule(&self, key: &str) -> String {
        format!("profiles.{}.{key}", self.name)
    }
}

impl Permit<'_> {
    /// The place of the project.
    #[must_use]
    pub const fn project(&self) -> usize {
        self.profile.project
    }

    /// Decides about a token that the caller asks for.
    ///
    /// # Errors
    /// `forbidden` with the cap, where the profile says to refuse rather than to clamp.
    pub fn grant(&self, asked: &TokenRequest) -> Result<Grant, Failure> {
        let Profile { role, max_lifespan, over_cap, .. } = self.profile;
        if asked.role > *role && over_cap.role == Excess::Refuse {
            let why = format!(
                "a token of the role {} was asked for; the highest role of this caller is {role}",
                asked.role
            );
            return Err(Failure::new(Code::Forbidden, why).with_rule(self.profile.rule("role")));
        }
        if asked.lifespan > *max_lifespan && over_cap.lifespan == Excess::Refuse {
            let why = format!(
                "a token of lifespan {} was asked for; the longest of this caller is {max_lifespan}",
                asked.lifespan
            );
            let rule = self.profile.rule("max_lifespan");
            return Err(Failure::new(Code::Forbidden, why).with_rule(rule));
        }
        let request = TokenRequest {
            role: asked.role.min(*role),
            lifespan: asked.lifespan.min(*max_lifespan),
            ..asked.clone()
        };
        let clamped = request != *asked;
        Ok(Grant { request, clamped, rule: format!("profiles.{}", self.profile.name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RoomId, TokenKind};
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
        }
    }

    fn decide(profile: ProfileSettings, method: &Method, path: &str) -> Result<(), String> {
        let operations = Operations::documented();
        let policy = Policy::new(&[profile], &operations, |_| Some(0)).unwrap();
        let matched = operations.find(method, path).unwrap();
        policy.authorize(0, &matched).map(|_| ()).map_err(|failure| {
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
        policy.authorize(0, &matched).unwrap().grant(asked)
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

    fn any_excess() -> impl Strategy<Value = Excess> {
        prop_oneof![Just(Excess::Clamp), Just(Excess::Refuse)]
    }

    proptest! {
        #[test]
        fn no_grant_is_above_the_caps(
            cap in any_role(), role in any_role(), longest in 0_u64..5000, lifespan in 0_u64..5000,
            on_role in any_excess(), on_lifespan in any_excess(),
        ) {
            let mut settings = profile(&["tokens.room"], Rooms::Any, cap);
            settings.max_lifespan = Lifespan::from_wire(longest);
            settings.over_cap = OverCap { lifespan: on_lifespan, role: on_role };
            if let Ok(grant) = grant(settings, &asked(role, lifespan)) {
                prop_assert!(grant.request.role <= cap);
                prop_assert!(grant.request.lifespan <= Lifespan::from_wire(longest));
                prop_assert!(grant.request.role <= role);
                prop_assert_eq!(grant.clamped, grant.request != asked(role, lifespan));
            }
        }
    }
}
