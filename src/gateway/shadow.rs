//! What the shadow of a caller's profile would have decided (`profiles.NAME.shadow`).
//!
//! It is asked when everything is over, of what the request has left behind, and counts for nothing:
//! it takes no limit and no budget, reads nothing, and changes no answer. What cannot be known without
//! that cannot be told.

use std::sync::Arc;

use crate::api::{Access, Lifespan, Matched, Role, RoomId, Target, TokenRequest};
use crate::budget::{self, ProfileBudgets};
use crate::caller::{Caller, Credential};
use crate::failure::{Code, Failure};
use crate::limit::{self, ProfileRates, Rate};
use crate::policy::{Policy, ProfileSettings, Rights, Rooms};
use crate::telemetry::{Metrics, ShadowCounts, ShadowResult};

/// The shadow of a profile.
pub(super) struct Shadow {
    /// The index of its profile.
    profile: usize,
    limits: Needs,
    budgets: Needs,
    /// Its rooms come from a claim that the profile beside which it is does not read.
    reads_another_claim: bool,
    counts: Arc<ShadowCounts>,
}

/// What a shadow would take of limits, or of budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// What the profile that decides takes as well.
    TheSame,
    Others,
}

/// What is kept of a request for whoever looks at its decision afterwards.
pub(super) struct DecisionInput {
    pub(super) target: Target,
    /// The token that it asks for, once its body was read.
    asked: Option<TokenRequest>,
    took_limits: bool,
    took_budgets: bool,
}

/// What a shadow would have decided.
pub(super) struct ShadowDecision {
    would: Would,
    /// The token that it would have granted, where that is another.
    pub(super) granted: Option<String>,
}

enum Would {
    Allow,
    Refuse(Failure),
    CannotTell,
}

impl Shadow {
    /// The shadows by profile; nothing where there is none.
    pub(super) fn of_profiles(
        profiles: &[ProfileSettings],
        (limits, budgets): (&limit::Settings, &budget::Settings),
        policy: &Policy,
        metrics: &Metrics,
    ) -> Vec<Option<Self>> {
        if profiles.iter().all(|profile| profile.shadow.is_none()) {
            return Vec::new();
        }
        let shadow = |(index, own): (usize, &ProfileSettings)| {
            let profile = policy.find(own.shadow.as_deref()?)?;
            let (own_budgets, its) = (budgets.profiles.get(index), budgets.profiles.get(profile));
            let claim = |index| policy.rooms_claim(index);
            Some(Self {
                profile,
                limits: Needs::of_limits(limits, index, profile),
                budgets: Needs::of_budgets(own_budgets, its),
                reads_another_claim: claim(profile).is_some() && claim(profile) != claim(index),
                counts: metrics.shadow(&own.name),
            })
        };
        profiles.iter().enumerate().map(shadow).collect()
    }
}

impl Needs {
    fn of_limits(limits: &limit::Settings, own: usize, shadow: usize) -> Self {
        let rates = [own, shadow].map(|index| limits.profiles.get(index));
        let of = |read: fn(&ProfileRates) -> Option<Rate>| rates.map(|one| one.and_then(read));
        let pairs = [of(|one| one.caller), of(|one| one.shared), [limits.gateway; 2]];
        if pairs.iter().all(|[_, its]| its.is_none()) {
            return Self::Nothing;
        }
        let same_without_store =
            rates[0].map(|one| one.on_store_error) == rates[1].map(|one| one.on_store_error);
        let same = pairs.iter().all(|[own, its]| its.is_none() || own == its);
        if same && same_without_store { Self::TheSame } else { Self::Others }
    }

    fn of_budgets(own: Option<&ProfileBudgets>, shadow: Option<&ProfileBudgets>) -> Self {
        let own = own.map(|one| one.budgets.as_slice()).unwrap_or_default();
        let its = shadow.map(|one| one.budgets.as_slice()).unwrap_or_default();
        match its {
            [] => Self::Nothing,
            _ if its.iter().all(|one| own.contains(one)) => Self::TheSame,
            _ => Self::Others,
        }
    }

    /// Whether it is known what would have come of them.
    const fn are_known(self, were_taken: bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::TheSame => were_taken,
            Self::Others => false,
        }
    }
}

impl DecisionInput {
    pub(super) const fn new(target: Target) -> Self {
        Self { target, asked: None, took_limits: false, took_budgets: false }
    }

    /// Its limits let it pass, and its body was read, or was found wrong.
    pub(super) fn read(&mut self, asked: Option<&TokenRequest>) {
        self.took_limits = true;
        self.asked = asked.cloned();
    }

    /// Its budgets let it pass.
    pub(super) const fn served(&mut self) {
        self.took_budgets = true;
    }

    pub(super) const fn room(&self) -> Option<&RoomId> {
        self.target.room()
    }

    /// The role and the lifespan that it asks for.
    pub(super) fn asked(&self) -> Option<(Role, Lifespan)> {
        self.asked.as_ref().map(|asked| (asked.role, asked.lifespan))
    }

    /// Whether the rules of its profile refused it, by the failure that it ended with.
    fn was_refused(&self, failure: Option<&Failure>) -> bool {
        const RULES: [Code; 4] =
            [Code::Forbidden, Code::NotFound, Code::RateLimited, Code::QuotaExceeded];
        !self.took_budgets && failure.is_some_and(|failure| RULES.contains(&failure.code()))
    }
}

impl ShadowDecision {
    /// `allow`, the code of the refusal, or `cannot tell`.
    pub(super) const fn would(&self) -> &'static str {
        match &self.would {
            Would::Allow => "allow",
            Would::Refuse(failure) => failure.code().name(),
            Would::CannotTell => "cannot tell",
        }
    }

    /// The rule that would have refused.
    pub(super) fn rule(&self) -> Option<&str> {
        match &self.would {
            Would::Refuse(failure) => failure.rule(),
            Would::Allow | Would::CannotTell => None,
        }
    }

    const fn result(&self, was_refused: bool) -> ShadowResult {
        match (&self.would, was_refused) {
            (Would::CannotTell, _) => ShadowResult::CannotTell,
            (Would::Allow, true) => ShadowResult::Gained,
            (Would::Refuse(_), false) => ShadowResult::Lost,
            (Would::Allow, false) if self.granted.is_some() => ShadowResult::Changed,
            (Would::Allow, false) | (Would::Refuse(_), true) => ShadowResult::Same,
        }
    }
}

impl Shadow {
    /// What it would have decided about a request of a caller: counted, and returned to be written
    /// down.
    pub(super) fn decide(
        &self,
        policy: &Policy,
        (caller, matched): (&Caller, &Matched<'_>),
        input: &DecisionInput,
        (worker, failure): (usize, Option<&Failure>),
    ) -> ShadowDecision {
        let decision = self.decided(policy, caller, matched, input);
        self.counts.count(worker, decision.result(input.was_refused(failure)));
        decision
    }

    fn decided(
        &self,
        policy: &Policy,
        caller: &Caller,
        matched: &Matched<'_>,
        input: &DecisionInput,
    ) -> ShadowDecision {
        let asked = input.asked.as_ref();
        let mut rights = Rights { profile: Some(self.profile), ..caller.rights.clone() };
        let mut decided = policy.decide(&rights, matched, asked);
        if let (true, Credential::Jwt, Target::Room(room)) =
            (self.reads_another_claim, &caller.credential, &matched.target)
        {
            // The claim may name the room, or not: no one has kept it.
            rights.claimed = Rooms::None;
            decided = policy.decide(&rights, matched, asked);
            rights.claimed = Rooms::List([room.clone()].into());
            let other = policy.decide(&rights, matched, asked);
            if decided.is_ok() != other.is_ok() {
                return ShadowDecision { would: Would::CannotTell, granted: None };
            }
        }
        let known =
            self.limits.are_known(input.took_limits) && self.budgets.are_known(input.took_budgets);
        let mints = matches!(matched.operation.access, Access::Mints(_));
        let would = match &decided {
            // Whatever a limit says, it would not have passed.
            Err(_) => None,
            Ok(_) if !known || (mints && asked.is_none()) => Some(Would::CannotTell),
            Ok(_) => Some(Would::Allow),
        };
        let granted = match (&would, &decided) {
            (Some(Would::Allow), Ok(Some(grant))) => {
                let own = policy.decide(&caller.rights, matched, asked).ok().flatten();
                let is_other = own.is_some_and(|own| own.request != grant.request);
                is_other.then(|| grant.request.granted())
            }
            _ => None,
        };
        match (would, decided) {
            (Some(would), _) => ShadowDecision { would, granted },
            (None, Err(failure)) => ShadowDecision { would: Would::Refuse(failure), granted },
            (None, Ok(_)) => ShadowDecision { would: Would::CannotTell, granted },
        }
    }
}
