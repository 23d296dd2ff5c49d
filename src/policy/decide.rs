//! The decision, and its reason.

use crate::api::{Access, Lifespan, Matched, Operations, Priority, Role, Target, TokenRequest};
use crate::failure::{Code, Failure};

use super::reach::{names, never};
use super::{ClaimPath, Excess, OverCap, ProfileSettings, Reach, Rights, Rooms};

/// Every profile, with what it grants worked out for each operation.
pub struct Policy {
    profiles: Vec<Profile>,
}

pub(super) struct Profile {
    pub(super) settings: ProfileSettings,
    project: usize,
    /// By the reach of the caller.
    granted: [GrantedOperations; Reach::ALL.len()],
}

/// What callers of one reach are granted, by operation.
struct GrantedOperations {
    operations: Vec<bool>,
    /// The same if the service is shown an SDK token in place of a Room token.
    by_sdk_token: Vec<bool>,
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
    /// Whether the service may be shown an SDK token where it takes no Room token.
    pub sdk_token: bool,
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
            let granted = |reach, sdk_token| {
                let rows = operations.iter();
                rows.map(|(_, row)| one.granted(row, reach, sdk_token).is_some()).collect()
            };
            Ok(Profile {
                project: project(&one.project).ok_or_else(|| one.project.clone())?,
                granted: Reach::ALL.map(|reach| GrantedOperations {
                    operations: granted(reach, one.sdk_token),
                    by_sdk_token: granted(reach, true),
                }),
                settings: one.clone(),
            })
        });
        Ok(Self { profiles: profiles.collect::<Result<_, String>>()? })
    }

    /// The place of a profile.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.profiles.iter().position(|profile| profile.settings.name == name)
    }

    /// The name of a profile.
    pub fn name(&self, profile: usize) -> Option<&str> {
        self.profiles.get(profile).map(|profile| profile.settings.name.as_str())
    }

    /// Whether a caller of these rights is believed when it says which trace a request belongs to.
    pub fn vouches_for_traces(&self, rights: &Rights) -> bool {
        let profile = rights.profile.and_then(|profile| self.profiles.get(profile));
        profile.is_some_and(|profile| profile.settings.trust_traceparent)
    }

    /// The path of the claim that names the rooms of a profile's callers.
    pub fn rooms_claim(&self, profile: usize) -> Option<&ClaimPath> {
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
        let sdk_token = profile.allows(rights, asked)?;
        profile.holds(rights, asked)?;
        let role = profile.permits(rights, asked)?;
        let max_lifespan = rights.max_lifespan;
        let max_lifespan = max_lifespan.map(|longest| longest.min(profile.settings.max_lifespan));
        Ok(Permit { profile, profile_index, role, max_lifespan, sdk_token })
    }

    /// Decides about a request and the token that it asks for, where that is known.
    ///
    /// # Errors
    /// As [`Policy::authorize`] and [`Permit::grant`].
    pub fn decide(
        &self,
        rights: &Rights,
        asked: &Matched<'_>,
        token: Option<&TokenRequest>,
    ) -> Result<Option<Grant>, Failure> {
        let permit = self.authorize(rights, asked)?;
        token.map(|token| permit.grant(token)).transpose()
    }

    pub(super) fn profile(&self, rights: &Rights) -> Result<(usize, &Profile), Failure> {
        let found = rights.profile.and_then(|index| Some((index, self.profiles.get(index)?)));
        found.ok_or_else(|| {
            let why = "nothing that this credential says gives it a profile";
            let failure = Failure::fixed(Code::Forbidden, why);
            match rights.unmapped {
                Some(detail) => failure.with_detail(detail.to_owned()),
                None => failure,
            }
        })
    }
}

impl Profile {
    /// The operation is granted; whether it is by an SDK token as well.
    fn allows(&self, rights: &Rights, asked: &Matched<'_>) -> Result<bool, Failure> {
        let reach = rights.reach(&self.settings.rooms);
        let granted = &self.granted[reach as usize];
        let place = asked.id.index();
        if granted.operations.get(place).copied().unwrap_or(false) {
            return Ok(granted.by_sdk_token.get(place).copied().unwrap_or(false));
        }
        let name = &asked.operation.name;
        let named = self.settings.allow.iter().any(|one| names(one, asked.operation).is_ok());
        let never = never(asked.operation, reach, self.settings.sdk_token).filter(|_| named);
        let why = match never {
            Some(why) => ["`", name, "` is not for this caller: ", why].concat(),
            None => ["`", name, "` is not among the operations of this caller"].concat(),
        };
        Err(Failure::insufficient_scope(name.clone(), why).with_rule(self.rule("allow")))
    }

    /// The room or task is the caller's.
    pub(super) fn holds(&self, rights: &Rights, asked: &Matched<'_>) -> Result<(), Failure> {
        let theirs = match &asked.target {
            Target::Room(room) => rights.has_room(room, &self.settings.rooms),
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

impl Permit<'_> {
    /// The place of the project.
    pub const fn project(&self) -> usize {
        self.profile.project
    }

    /// The highest role and the longest life of the tokens that it may have, and what happens to a
    /// request for more; `None` for a caller that gets none.
    pub fn caps(&self) -> Option<(Role, Lifespan, OverCap)> {
        Some((self.role, self.max_lifespan?, self.profile.settings.over_cap))
    }

    /// How much the request matters when not all can be served.
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
mod tests;
