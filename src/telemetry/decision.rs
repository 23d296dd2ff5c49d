//! The part of an access line that is about the decision of the policy: what it was asked, and what a
//! shadow would have said.

use std::fmt::Write as _;

use super::member::member;
use crate::api::{Lifespan, Role};

/// What a shadow would have decided.
#[derive(Clone, Copy, Debug)]
pub struct WouldPart<'a> {
    /// `allow`, the code of a refusal, or `cannot tell`.
    pub would: &'static str,
    /// The rule that would have refused.
    pub rule: Option<&'a str>,
    /// The token that it would have granted, where that is another.
    pub granted: Option<&'a str>,
}

/// What the policy was asked.
#[derive(Clone, Copy, Debug)]
pub struct DecisionPart<'a> {
    /// The profile of the caller.
    pub profile: Option<&'a str>,
    /// The room of the path.
    pub room: Option<&'a str>,
    /// The role and the lifespan of the token that is asked for.
    pub asked: Option<(Role, Lifespan)>,
}

impl WouldPart<'_> {
    pub(super) fn json(&self, out: &mut String) {
        member(out, "would", Some(self.would));
        member(out, "would_rule", self.rule);
        member(out, "would_granted", self.granted);
    }
}

impl DecisionPart<'_> {
    pub(super) fn json(&self, out: &mut String) {
        member(out, "profile", self.profile);
        member(out, "room", self.room);
        if let Some((role, lifespan)) = self.asked {
            let lifespan = lifespan.to_wire();
            // Writing to a String cannot fail.
            _ = write!(out, ",\"asked_role\":\"{role}\",\"asked_lifespan_ms\":{lifespan}");
        }
    }
}
