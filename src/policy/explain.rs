//! Why a decision is as it is: every rule that was looked at, and what it said.
//!
//! The rules are asked by the same code that decides; nothing here decides anything.

use super::decide::Profile;
use super::{Policy, Rights, judge};
use crate::api::Matched;

/// A rule, and what it said about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The rule of the configuration: `profiles.student.allow[0] = "tokens.room"`.
    pub rule: String,
    /// Whether it lets the request pass.
    pub holds: bool,
    /// Why, or why not.
    pub why: String,
}

impl Policy {
    /// What each rule says about a request: the entries of `allow` first, of which one must hold,
    /// then rooms and role, which both must.
    pub fn explain(&self, rights: &Rights, asked: &Matched<'_>) -> Vec<Reason> {
        match self.profile(rights) {
            Ok((_, profile)) => profile.explain(rights, asked),
            Err(failure) => {
                let why = failure.message().to_owned();
                vec![Reason { rule: "profile".to_owned(), holds: false, why }]
            }
        }
    }
}

impl Profile {
    fn explain(&self, rights: &Rights, asked: &Matched<'_>) -> Vec<Reason> {
        let reach = rights.reach(&self.settings.rooms);
        let mut reasons: Vec<Reason> = Vec::new();
        for (place, pattern) in self.settings.allow.iter().enumerate() {
            let judged = judge(pattern, asked.operation, reach, self.settings.sdk_token);
            reasons.push(Reason {
                rule: format!("{} = \"{pattern}\"", self.rule(&format!("allow[{place}]"))),
                holds: judged.is_ok(),
                why: judged
                    .err()
                    .map_or_else(|| format!("grants `{}`", asked.operation.name), str::to_owned),
            });
        }
        if self.settings.allow.is_empty() {
            let why = "nothing is named, so nothing is allowed".to_owned();
            reasons.push(Reason { rule: self.rule("allow"), holds: false, why });
        }
        let held = self.holds(rights, asked);
        reasons.push(Reason {
            rule: self.rule("rooms"),
            holds: held.is_ok(),
            why: held.map_or_else(
                |failure| failure.message().to_owned(),
                |()| match asked.target.room() {
                    Some(_) => "the room is this caller's".to_owned(),
                    None => "the request is about no room".to_owned(),
                },
            ),
        });
        let role = self.permits(rights, asked);
        reasons.push(Reason {
            rule: self.rule("role"),
            holds: role.is_ok(),
            why: role.map_or_else(
                |failure| failure.message().to_owned(),
                |role| format!("the highest role of this caller is {role}"),
            ),
        });
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Lifespan, Operations, Role, RoomId, Target};
    use crate::policy::{OverCap, ProfileSettings, Rooms};
    use http::Method;
    use proptest::prelude::*;

    fn policy(allow: &[&str], rooms: Rooms, role: Role) -> (Policy, Operations) {
        let settings = ProfileSettings {
            name: "student".to_owned(),
            project: "p".to_owned(),
            sdk_token: false,
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            rooms,
            role,
            max_lifespan: Lifespan::Permanent,
            over_cap: OverCap::default(),
            priority: crate::api::Priority::default(),
            trust_traceparent: false,
            shadow: None,
        };
        let operations = Operations::documented();
        (Policy::new(&[settings], &operations, |_| Some(0)).unwrap(), operations)
    }

    #[test]
    fn each_rule_says_why_it_does_not_hold() {
        let (policy, operations) = policy(&["tokens.*", "rooms.*"], Rooms::None, Role::Reader);
        let asked = operations.find(&Method::GET, "/v5/rooms").unwrap();
        let reasons = policy.explain(&Rights::of_profile(0), &asked);
        let told: Vec<(&str, bool)> =
            reasons.iter().map(|reason| (reason.rule.as_str(), reason.holds)).collect();
        assert_eq!(
            told,
            [
                ("profiles.student.allow[0] = \"tokens.*\"", false),
                ("profiles.student.allow[1] = \"rooms.*\"", false),
                ("profiles.student.rooms", true),
                ("profiles.student.role", false),
            ]
        );
        assert_eq!(reasons[0].why, "names another family of operations");
        assert!(reasons[1].why.contains("rooms = \"any\""), "{}", reasons[1].why);
    }

    proptest! {
        /// The explanation and the decision are of one mind.
        #[test]
        fn a_request_passes_when_an_entry_grants_it_and_rooms_and_role_hold(
            row in 0..19_usize,
            allow in prop::sample::subsequence(
                vec!["rooms.*", "tokens.*", "tokens.sdk", "rooms.list", "conversions.start"], 0..=5),
            any in any::<bool>(), own in any::<bool>(), role in prop::sample::select(Role::ALL.to_vec()),
            narrow in any::<bool>(), only in any::<bool>(),
        ) {
            let rooms = if any { Rooms::Any } else {
                Rooms::List([RoomId::new("a").unwrap()].into())
            };
            let (policy, operations) = policy(&allow, rooms, role);
            let operation = &crate::api::TABLE[row];
            let path = operation.path.replace("{uuid}", if own { "a" } else { "b" });
            let asked = operations.find(&operation.method, &path).unwrap();
            let room = RoomId::new("a").unwrap();
            let mut rights = Rights::of_profile(0);
            if narrow {
                rights.rooms = Rooms::List([room.clone()].into());
            }
            if only {
                rights.only = Some(Target::Room(room));
            }
            let reasons = policy.explain(&rights, &asked);
            let (entries, rest): (Vec<_>, Vec<_>) =
                reasons.iter().partition(|reason| reason.rule.contains(".allow"));
            let passes = entries.iter().any(|reason| reason.holds)
                && rest.iter().all(|reason| reason.holds);
            prop_assert_eq!(policy.authorize(&rights, &asked).is_ok(), passes);
        }
    }
}
