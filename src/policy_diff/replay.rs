//! What a configuration decides about a request that was made before, as far as its access line shows
//! that request.
//!
//! What the line does not say, such as the room, the claims of a token or the role that was asked for,
//! is put in for it in each class that the configuration tells apart. Where all of these are decided
//! alike, so is the request; where they are not, it cannot be told.

use super::scope::{TargetClass, own_scopes, scopes};
use super::{Comparison, PolicySide, Targets, profile_variables};
use crate::api::{
    Access, Lifespan, Matched, Operation, OperationId, Role, RoomId, Target, TargetKind, TokenKind,
    TokenRequest,
};
use crate::policy::{Rights, Rooms};

/// A request, as its access line shows it.
#[derive(Clone, Copy, Debug)]
pub struct LoggedRequest<'a> {
    /// The name of the caller.
    pub caller: &'a str,
    /// How it proved who it is.
    pub credential: &'a str,
    /// The name of the operation.
    pub operation: &'a str,
    /// The room, where the line has it.
    pub room: Option<&'a str>,
    /// The token that was asked for, where the line has it.
    pub asked: Option<(Role, Lifespan)>,
}

/// What a configuration decides about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayedDecision {
    /// It is allowed.
    Allowed,
    /// It is refused, by this rule or for this reason.
    Refused(String),
    /// It hangs on what the line does not say.
    CannotTell(Unknown),
}

/// What a line does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// What the token of an identity provider said.
    Claims,
    /// The role of a whiteboard token, its project, or whether it was for this room or task.
    Token,
    /// The room.
    Room,
    /// The role and the lifespan of the token that was asked for.
    Asked,
}

impl Unknown {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Claims, Self::Token, Self::Room, Self::Asked];

    /// As it is said.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Token => "token",
            Self::Room => "room",
            Self::Asked => "role and lifespan",
        }
    }
}

/// One way in which what is not said may be: which person, which target and which token; and what
/// comes of it.
struct Point {
    at: [usize; 3],
    refused: Option<String>,
}

/// Someone who may have been meant, and what they may have asked about.
type Person = (Option<Rights>, Vec<Target>);

impl PolicySide {
    /// Decides about a request that was made before.
    pub fn replay(&self, request: &LoggedRequest<'_>) -> ReplayedDecision {
        let mut operations = self.operations.iter();
        let Some((id, operation)) = operations.find(|(_, row)| row.name == request.operation)
        else {
            let why = format!("there is no operation {}", request.operation);
            return ReplayedDecision::Refused(why);
        };
        let persons = match self.persons(request, operation) {
            Ok(persons) => persons,
            Err(why) => return ReplayedDecision::Refused(why),
        };
        let asked = asked(request, operation);
        let mut points = Vec::new();
        for (person, (rights, targets)) in persons.iter().enumerate() {
            for (target, place) in targets.iter().enumerate() {
                for (token, asked) in asked.iter().enumerate() {
                    let refused = self.refusal(rights.as_ref(), (id, operation), place, *asked);
                    points.push(Point { at: [person, target, token], refused });
                }
            }
        }
        let unknown = if request.credential == "jwt" { Unknown::Claims } else { Unknown::Token };
        told(points, unknown)
    }

    /// Everyone who may be meant by the name of a caller.
    fn persons(
        &self,
        request: &LoggedRequest<'_>,
        operation: &Operation,
    ) -> Result<Vec<Person>, String> {
        let name = request.caller;
        match request.credential {
            "jwt" => {
                let issuer = name.split('/').next().unwrap_or_default();
                let mut issuers = self.issuers.iter();
                let found = issuers.find(|(_, side)| side.name == issuer);
                let (iss, _) = found.ok_or_else(|| format!("there is no issuer {issuer}"))?;
                Ok(self.persons_of(iss, request, operation))
            }
            "whiteboard_token" => Ok(self.holders(request, operation)),
            _ => {
                let profile = self.callers.get(name);
                let why = || format!("there is no caller {name} with a credential that counts");
                let rights = Rights::of_profile(*profile.ok_or_else(why)?);
                let targets = targets(&scopes(&self.lists_of(&rights)), request, operation);
                Ok(vec![(Some(rights), targets)])
            }
        }
    }

    /// Whoever may show a token of an issuer.
    fn persons_of(
        &self,
        iss: &str,
        request: &LoggedRequest<'_>,
        operation: &Operation,
    ) -> Vec<Person> {
        let comparison = Comparison { sides: [self, self], operations: Vec::new() };
        let known = [self.issuers.get(iss); 2];
        let fixed = profile_variables(known.map(|one| one.map(|one| &one.mapping)));
        let mut persons = Vec::new();
        for (claims, chosen) in super::claims::combinations(&fixed) {
            let profile = comparison.profile_of(1, known[1], &claims);
            let (cases, scopes) = comparison.cases(known, [profile; 2], &fixed, &chosen);
            let targets = targets(&scopes, request, operation);
            // Claims that make no one of their holder made no one of it before.
            let rights =
                cases.into_iter().filter_map(|case| case.rights.into_iter().next_back()?);
            persons.extend(rights.map(|rights| (Some(rights), targets.clone())));
        }
        persons
    }

    /// Whoever may show the whiteboard token of a room or task.
    fn holders(&self, request: &LoggedRequest<'_>, operation: &Operation) -> Vec<Person> {
        let own = request.caller.split_once('/').and_then(|(kind, uuid)| match kind {
            "room" => Some(Target::Room(RoomId::new(uuid).ok()?)),
            "task" => crate::api::TaskId::new(uuid).ok().map(Target::Task),
            _ => None,
        });
        let Some(own) = own else { return Vec::new() };
        let mut persons = Vec::new();
        for project in &self.projects {
            let Some(profile) = self.of_tokens.get(project) else {
                persons.push((None, vec![own.clone()]));
                continue;
            };
            for role in Role::ALL {
                let of_profile = Rights::of_profile(*profile);
                let rights = Rights { only: Some(own.clone()), role: Some(role), ..of_profile };
                let mut about = targets(&own_scopes(&self.lists_of(&rights)), request, operation);
                if request.room.is_none() && operation.target == kind_of(&own) {
                    about.push(own.clone());
                }
                persons.push((Some(rights), about));
            }
        }
        persons
    }

    fn lists_of(&self, rights: &Rights) -> Vec<Rooms> {
        self.profile(rights.profile).map(|profile| profile.rooms.clone()).into_iter().collect()
    }

    /// Why a request is refused; `None` where it is not.
    fn refusal(
        &self,
        rights: Option<&Rights>,
        (id, operation): (OperationId, &Operation),
        target: &Target,
        asked: Option<(Role, Lifespan)>,
    ) -> Option<String> {
        let Some(rights) = rights else {
            return Some("the project takes no whiteboard tokens".to_owned());
        };
        let matched = Matched { id, operation, target: target.clone() };
        let token = match operation.access {
            Access::Mints(kind) => asked.map(|asked| token(kind, asked)),
            _ => None,
        };
        let failure = self.policy.decide(rights, &matched, token.as_ref()).err()?;
        let why = failure.rule().or_else(|| failure.detail()).unwrap_or_else(|| failure.message());
        Some(why.strip_prefix("refused by ").unwrap_or(why).to_owned())
    }
}

fn token(kind: TokenKind, (role, lifespan): (Role, Lifespan)) -> TokenRequest {
    TokenRequest { kind, role, lifespan, access_key: None }
}

/// The tokens that may have been asked for: whoever is refused more is refused the most.
fn asked(request: &LoggedRequest<'_>, operation: &Operation) -> Vec<Option<(Role, Lifespan)>> {
    match (operation.access, request.asked) {
        (Access::Mints(_), None) => {
            let lives = [Lifespan::Millis(1), Lifespan::Permanent];
            let all = Role::ALL.into_iter().flat_map(|role| lives.map(|life| Some((role, life))));
            all.collect()
        }
        (_, asked) => vec![asked],
    }
}

const fn kind_of(target: &Target) -> TargetKind {
    match target {
        Target::Project => TargetKind::Project,
        Target::Room(_) => TargetKind::Room,
        Target::Task(_) => TargetKind::Task,
    }
}

/// What a request may have been about. A room that is known stands for its class: claims are put in for
/// one room of each.
fn targets(
    scopes: &[TargetClass],
    request: &LoggedRequest<'_>,
    operation: &Operation,
) -> Vec<Target> {
    if operation.target == TargetKind::Project {
        return vec![Target::Project];
    }
    let fit = || scopes.iter().filter(|scope| scope.fits(operation.target));
    let Some(room) = request.room else { return fit().map(|scope| scope.probe.clone()).collect() };
    if request.credential == "whiteboard_token" {
        return RoomId::new(room).ok().map(Target::Room).into_iter().collect();
    }
    let has = |scope: &&TargetClass| match &scope.what {
        Targets::Rooms(rooms) => rooms.iter().any(|one| one.as_str() == room),
        _ => false,
    };
    let class = fit().find(has).or_else(|| fit().find(|one| one.what == Targets::OtherRooms));
    class.map(|scope| scope.probe.clone()).into_iter().collect()
}

/// What all points say, or on what they differ.
fn told(points: Vec<Point>, person: Unknown) -> ReplayedDecision {
    let allowed = points.iter().filter(|point| point.refused.is_none()).count();
    if allowed == points.len() {
        return match points.is_empty() {
            true => ReplayedDecision::Refused("no one is meant by this caller".to_owned()),
            false => ReplayedDecision::Allowed,
        };
    }
    if allowed == 0 {
        let mut whys: Vec<String> = points.into_iter().filter_map(|point| point.refused).collect();
        whys.sort_unstable();
        whys.dedup();
        return ReplayedDecision::Refused(whys.join(" or "));
    }
    // The first that makes a difference while the others stay as they are.
    let differs = |by: usize| {
        let same = |one: &[usize; 3], other: &[usize; 3]| {
            (0..3).all(|index| index == by || one[index] == other[index])
        };
        points.iter().any(|one| {
            let others = points.iter().filter(|other| same(&one.at, &other.at));
            others.into_iter().any(|other| other.refused.is_none() != one.refused.is_none())
        })
    };
    let unknown = [(0, person), (1, Unknown::Room), (2, Unknown::Asked)];
    let unknown = unknown.into_iter().find(|(index, _)| differs(*index));
    ReplayedDecision::CannotTell(unknown.map_or(person, |(_, unknown)| unknown))
}
