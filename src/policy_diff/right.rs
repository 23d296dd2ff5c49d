//! What someone has of an operation, and whether that is more than something else.

use crate::api::{
    Access, Lifespan, Matched, Operation, OperationId, Role, Target, TokenKind, TokenRequest,
};
use crate::policy::{Excess, OverCap, Permit, Rights, is_added};

use super::PolicySide;

/// What someone has of an operation on a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// In which project.
    pub project: String,
    /// What.
    pub what: Gets,
}

/// What a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gets {
    /// The request is forwarded. Of an operation that the configuration adds, also the token that the
    /// service is shown with it: its query and body are not read, so that token alone confines them.
    Answer(Option<ShownCredential>),
    /// Tokens.
    Tokens {
        /// The highest role.
        role: Role,
        /// The longest life.
        lifespan: Lifespan,
        /// What happens to a request for more.
        over_cap: OverCap,
    },
}

/// Which token the service is shown with an added operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownCredential {
    /// Its kind.
    pub token: ShownToken,
    /// Its role.
    pub role: Option<Role>,
}

/// By how much it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShownToken {
    /// None.
    No,
    /// One for the room or task of the path.
    Own,
    /// The same, or one for the project where the service does not take it.
    OwnOrSdk,
    /// One for the whole project.
    Sdk,
}

/// A right, with what decides about tokens.
pub(super) struct Held<'a> {
    pub(super) right: Right,
    permit: Permit<'a>,
    kind: Option<TokenKind>,
}

impl<'a> Held<'a> {
    /// What someone of these rights has of an operation; `None` for nothing.
    pub(super) fn of(
        side: &'a PolicySide,
        rights: &Rights,
        id: OperationId,
        target: &Target,
    ) -> Option<Self> {
        let operation = side.operations.get(id);
        let asked = Matched { id, operation, target: target.clone() };
        let permit = side.policy.authorize(rights, &asked).ok()?;
        let (what, kind) = match operation.access {
            Access::Mints(kind) => {
                let (role, lifespan, over_cap) = permit.caps()?;
                (Gets::Tokens { role, lifespan, over_cap }, Some(kind))
            }
            _ => (Gets::Answer(shown(side, &permit, operation)), None),
        };
        let project = side.projects.get(permit.project()).cloned().unwrap_or_default();
        Some(Self { right: Right { project, what }, permit, kind })
    }

    /// The role and life of the token that a request for these gets.
    fn token(&self, role: Role, lifespan: Lifespan) -> Option<(Role, Lifespan)> {
        let asked = TokenRequest { kind: self.kind?, role, lifespan, access_key: None };
        let grant = self.permit.grant(&asked).ok()?;
        Some((grant.request.role, grant.request.lifespan))
    }
}

/// Whether some request gets more of `one` than of `other`. For tokens every role is asked for, and
/// every life at which either decides otherwise: its cap, and a millisecond to each side.
pub(super) fn gives_more(one: Option<&Held<'_>>, other: Option<&Held<'_>>) -> bool {
    let (Some(one), other) = (one, other) else { return false };
    let Some(other) = other.filter(|other| other.right.project == one.right.project) else {
        return true;
    };
    match (one.right.what, other.right.what) {
        (Gets::Answer(one), Gets::Answer(other)) => !is_within(one, other),
        (Gets::Tokens { lifespan: a, .. }, Gets::Tokens { lifespan: b, .. }) => {
            let lives = lives([a, b]);
            let asked = Role::ALL.iter().flat_map(|role| lives.iter().map(|life| (*role, *life)));
            let more = |(role, life)| match (one.token(role, life), other.token(role, life)) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some((role, life)), Some((other_role, other_life))) => {
                    role > other_role || life > other_life
                }
            };
            asked.into_iter().any(more)
        }
        // An operation answers or issues tokens, whatever the configuration.
        _ => true,
    }
}

fn is_within(one: Option<ShownCredential>, other: Option<ShownCredential>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.token <= other.token && one.role <= other.role,
        (one, other) => one == other,
    }
}

/// The lives between which a decision can change: the caps, a millisecond to each side, the shortest
/// and the longest.
fn lives(caps: [Lifespan; 2]) -> Vec<Lifespan> {
    let mut lives = vec![Lifespan::Millis(1), Lifespan::Permanent];
    for cap in caps {
        if let Lifespan::Millis(cap) = cap {
            lives.extend(
                [cap - 1, cap, cap + 1].into_iter().filter(|ms| *ms > 0).map(Lifespan::from_wire),
            );
        }
    }
    lives.sort_unstable();
    lives.dedup();
    lives
}

fn shown(side: &PolicySide, permit: &Permit<'_>, operation: &Operation) -> Option<ShownCredential> {
    let Access::Needs(kind, role) = operation.access else {
        return is_added(operation)
            .then_some(ShownCredential { token: ShownToken::No, role: None });
    };
    let fixed = side.profile(Some(permit.profile_index)).is_some_and(|profile| profile.sdk_token);
    let token = match kind {
        _ if fixed => ShownToken::Sdk,
        TokenKind::Sdk => ShownToken::Sdk,
        TokenKind::Room if permit.sdk_token => ShownToken::OwnOrSdk,
        TokenKind::Room | TokenKind::Task => ShownToken::Own,
    };
    is_added(operation).then_some(ShownCredential { token, role: Some(role) })
}

impl ShownToken {
    /// As people read it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no token",
            Self::Own => "a token of the room or task",
            Self::OwnOrSdk => "a token of the room, or else an SDK token",
            Self::Sdk => "an SDK token",
        }
    }
}

/// `clamp` or `refuse`.
pub(super) const fn word(excess: Excess) -> &'static str {
    match excess {
        Excess::Clamp => "clamp",
        Excess::Refuse => "refuse",
    }
}
