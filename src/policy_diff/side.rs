//! One of the two configurations that are compared, as far as it says who may do what.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::api::Operations;
use crate::caller::CallerSettings;
use crate::caller::jwt::{Mapping, RoomsFrom};
use crate::gateway::Settings;
use crate::policy::{Policy, ProfileSettings, Rooms};
use crate::token::ProjectCredential;

use super::beside::Beside;

/// A configuration, as far as it says who may do what. It holds no secret.
pub struct PolicySide {
    pub(super) policy: Policy,
    pub(super) profiles: Vec<ProfileSettings>,
    pub(super) operations: Operations,
    /// The names of the projects, by their places.
    pub(super) projects: Vec<String>,
    /// Callers who have a credential that counts, with the places of their profiles.
    pub(super) callers: BTreeMap<String, usize>,
    /// By what their tokens say in `iss`.
    pub(super) issuers: BTreeMap<String, IssuerSide>,
    /// The profile of whoever shows a whiteboard token of a project.
    pub(super) of_tokens: BTreeMap<String, usize>,
    /// The place of each profile, and the claim that its rooms come from.
    pub(super) mapped: HashMap<String, (usize, RoomsFrom)>,
    pub(super) beside: Beside,
}

/// An issuer, and what its tokens grant.
pub(super) struct IssuerSide {
    pub(super) name: String,
    pub(super) mapping: Mapping,
}

impl PolicySide {
    /// What a configuration says at a time, at which keys may be over.
    ///
    /// # Errors
    /// The name of a profile or a project that is not there; a configuration has none.
    pub fn of(settings: &Settings, now: Timestamp) -> Result<Self, String> {
        let projects: Vec<String> = settings.projects.iter().map(|one| one.name.clone()).collect();
        let policy = Policy::new(&settings.profiles, &settings.operations, |name| {
            projects.iter().position(|one| one == name)
        })?;
        let place = |name: &str| policy.find(name).ok_or_else(|| name.to_owned());
        let calling = settings.callers.iter().filter(|caller| can_call(caller, now));
        let callers = calling.map(|one| Ok((one.name.clone(), place(&one.profile)?)));
        let of_tokens = settings.projects.iter().filter_map(|project| {
            let keys = matches!(project.credential, ProjectCredential::Keys(_));
            let profile = project.token_profile.as_ref().filter(|_| keys)?;
            Some(place(profile).map(|place| (project.name.clone(), place)))
        });
        let mapped = settings.profiles.iter().enumerate().map(|(place, profile)| {
            let rooms = match &profile.rooms {
                Rooms::Claim(path) => RoomsFrom::Claim(path.clone()),
                Rooms::None | Rooms::Any | Rooms::List(_) => RoomsFrom::None,
            };
            (profile.name.clone(), (place, rooms))
        });
        let issuers = settings.issuers.iter().map(|one| {
            let side = IssuerSide { name: one.name.clone(), mapping: one.mapping.clone() };
            (one.issuer.clone(), side)
        });
        Ok(Self {
            callers: callers.collect::<Result<_, String>>()?,
            of_tokens: of_tokens.collect::<Result<_, String>>()?,
            mapped: mapped.collect(),
            issuers: issuers.collect(),
            beside: Beside::of(settings),
            profiles: settings.profiles.clone(),
            operations: settings.operations.clone(),
            projects,
            policy,
        })
    }

    /// The profile at a place.
    pub(super) fn profile(&self, place: Option<usize>) -> Option<&ProfileSettings> {
        self.profiles.get(place?)
    }
}

/// Whether a caller has a certificate, or a key whose time is not over.
fn can_call(caller: &CallerSettings, now: Timestamp) -> bool {
    let counts = |until: Option<Timestamp>| until.is_none_or(|until| until > now);
    !caller.certificates.is_empty() || caller.keys.iter().any(|key| counts(key.until))
}
