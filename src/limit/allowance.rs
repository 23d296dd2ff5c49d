//! What a caller has left, and how the `RateLimit` fields say it
//! (draft-ietf-httpapi-ratelimit-headers).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::bucket::Taken;
use super::rate::{Rate, Scope, seconds};
use crate::failure::{Code, Failure};
use crate::field::{RATE_LIMIT, RATE_LIMIT_POLICY, unique};

/// The longest `RateLimit`: three of `, "profile";r=4294967295;t=18446744073709551615`, and a budget,
/// whose longest name is `conversions-month`.
const LONGEST: usize = 3 * 48 + 64;

/// What the limits of a request have left, whether they let it pass or not.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    policy: Option<HeaderValue>,
    left: [Option<Left>; 3],
    budget: Option<BudgetLeft>,
    /// Every limit has let the request pass.
    granted: bool,
}

/// What a budget has left: the tightest of a request's is told after the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLeft {
    /// Its name, of letters and hyphens: `tokens-month`.
    pub name: Arc<str>,
    /// What there is in a window.
    pub most: u32,
    /// What is left of it.
    pub left: u32,
    /// The seconds of the window.
    pub window: u64,
    /// The seconds until the next.
    pub more_in: u64,
}

/// What one limit has left.
#[derive(Clone, Copy, Debug)]
struct Left {
    scope: Scope,
    requests: u32,
    /// Seconds until there is more; `None` when it is full.
    more_in: Option<u64>,
}

impl Allowance {
    /// Whether the limits have let the request pass already.
    pub(super) const fn is_granted(&self) -> bool {
        self.granted
    }

    /// They have.
    pub(super) const fn grant(&mut self) {
        self.granted = true;
    }

    /// Begins with what `RateLimit-Policy` says of the limits.
    pub(super) fn begin(&mut self, policy: Option<HeaderValue>) {
        self.policy = policy;
    }

    /// Adds what a budget has left.
    pub fn add_budget(&mut self, left: BudgetLeft) {
        self.budget = Some(left);
    }

    /// Adds what a limit of a profile said.
    pub(super) fn add(
        &mut self,
        scope: Scope,
        taken: Taken,
        rate: &Rate,
        profile: &str,
    ) -> Result<(), Failure> {
        let place = &mut self.left[scope as usize];
        match taken {
            Ok(requests) => {
                let more_in = (requests < rate.burst.get()).then(|| seconds(rate.interval()));
                *place = Some(Left { scope, requests, more_in });
                Ok(())
            }
            Err(wait) => {
                *place = Some(Left { scope, requests: 0, more_in: Some(seconds(wait)) });
                Err(refusal(scope, wait, rate, profile))
            }
        }
    }

    /// Puts `RateLimit` and `RateLimit-Policy` on an answer.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        if let (Some(policy), Some(left)) = (self.policy(), self.left()) {
            headers.insert(RATE_LIMIT_POLICY, policy);
            headers.insert(RATE_LIMIT, left);
        }
    }

    /// That of the limits, which never varies, and that of the budget.
    fn policy(&self) -> Option<HeaderValue> {
        let Some(BudgetLeft { name, most, window, .. }) = &self.budget else {
            return self.policy.clone();
        };
        let before = self.policy.as_ref().and_then(|policy| policy.to_str().ok());
        let comma = if before.is_some() { ", " } else { "" };
        let before = before.unwrap_or_default();
        HeaderValue::try_from(format!("{before}{comma}\"{name}\";q={most};w={window}")).ok()
    }

    /// `"caller";r=42;t=1, "gateway";r=599`.
    fn left(&self) -> Option<HeaderValue> {
        let mut text = [0; LONGEST];
        let mut room = &mut text[..];
        // There is room for all of it: writing cannot fail.
        let mut put = |part: &str| _ = room.write_all(part.as_bytes());
        let mut digits = itoa::Buffer::new();
        let mut comma = "";
        for left in self.left.iter().flatten() {
            put(comma);
            put(left.scope.begins());
            put(digits.format(left.requests));
            if let Some(more_in) = left.more_in {
                put(";t=");
                put(digits.format(more_in));
            }
            comma = ", ";
        }
        if let Some(BudgetLeft { name, left, more_in, .. }) = &self.budget {
            put(comma);
            put("\"");
            put(name);
            put("\";r=");
            put(digits.format(*left));
            put(";t=");
            put(digits.format(*more_in));
        }
        let length = LONGEST - room.len();
        (length > 0).then(|| HeaderValue::from_bytes(&text[..length]).ok()).flatten().map(unique)
    }
}

impl Scope {
    /// What the words about it in `RateLimit` begin with.
    const fn begins(self) -> &'static str {
        match self {
            Self::Caller => "\"caller\";r=",
            Self::Profile => "\"profile\";r=",
            Self::Gateway => "\"gateway\";r=",
        }
    }
}

fn refusal(scope: Scope, wait: Duration, rate: &Rate, profile: &str) -> Failure {
    let rule = match scope {
        Scope::Caller => ["profiles.", profile, ".limit"].concat(),
        Scope::Profile => ["profiles.", profile, ".shared_limit"].concat(),
        Scope::Gateway => "limits.gateway".to_owned(),
    };
    let (whose, detail) = match scope {
        Scope::Caller => ("this caller", "limit: caller"),
        Scope::Profile => ("all callers of this profile", "limit: profile"),
        Scope::Gateway => ("the gateway", "limit: gateway"),
    };
    let [mut requests, mut period, mut burst] = [(); 3].map(|()| itoa::Buffer::new());
    let message = [
        "over the limit of ",
        whose,
        ": ",
        requests.format(rate.requests.get()),
        " requests in ",
        period.format(seconds(rate.period)),
        " seconds, at most ",
        burst.format(rate.burst.get()),
        " at once",
    ]
    .concat();
    // Spread, so that those who were refused together do not come back together; never earlier than
    // there is more.
    let spread = wait + wait.mul_f64(fastrand::f64() * 0.2);
    Failure::new(Code::RateLimited, message)
        .with_retry_after(spread)
        .with_detail(detail)
        .with_rule(rule)
}

/// `"caller";q=100;w=60, "gateway";q=600;w=1`: `q` is the burst, `w` the time to earn it back.
pub(super) fn policy(rates: &[(Scope, Option<Rate>)]) -> Option<HeaderValue> {
    let one = |(scope, rate): &(Scope, Option<Rate>)| {
        let rate = (*rate)?;
        let window = seconds(rate.window());
        Some(format!("\"{}\";q={};w={window}", scope.as_str(), rate.burst))
    };
    let policies: Vec<String> = rates.iter().filter_map(one).collect();
    (!policies.is_empty()).then(|| HeaderValue::try_from(policies.join(", ")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{RenderOptions, Settings};
    use std::num::NonZeroU32;

    fn rate() -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { requests: number(60), period: Duration::from_secs(60), burst: number(100) }
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn allowance() -> Allowance {
        let mut allowance = Allowance::default();
        allowance.begin(policy(&[
            (Scope::Caller, Some(rate())),
            (Scope::Profile, None),
            (Scope::Gateway, Some(rate())),
        ]));
        allowance
    }

    #[test]
    fn the_fields_have_the_syntax_of_the_draft() {
        let mut allowance = allowance();
        allowance.add(Scope::Caller, Ok(42), &rate(), "a").unwrap();
        allowance.add(Scope::Gateway, Ok(100), &rate(), "a").unwrap();
        let mut headers = HeaderMap::new();
        allowance.stamp(&mut headers);
        assert_eq!(
            text(&headers, "ratelimit-policy"),
            "\"caller\";q=100;w=100, \"gateway\";q=100;w=100"
        );
        assert_eq!(text(&headers, "ratelimit"), "\"caller\";r=42;t=1, \"gateway\";r=100");
    }

    #[test]
    fn a_refusal_names_its_key_of_the_configuration() {
        for (scope, rule) in [
            (Scope::Caller, "profiles.student.limit"),
            (Scope::Profile, "profiles.student.shared_limit"),
            (Scope::Gateway, "limits.gateway"),
        ] {
            let refused = allowance().add(scope, Err(Duration::ZERO), &rate(), "student");
            assert_eq!(refused.unwrap_err().rule(), Some(rule));
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_not_earlier_than_there_is_more() {
        for _ in 0..50 {
            let mut allowance = allowance();
            let wait = Duration::from_millis(9_200);
            let failure = allowance.add(Scope::Caller, Err(wait), &rate(), "a").unwrap_err();
            let settings = Settings::default();
            let options = RenderOptions {
                settings: &settings,
                request_id: "r",
                problem: false,
                titled: false,
            };
            let mut answer = failure.answer(&options);
            allowance.stamp(answer.headers_mut());
            assert_eq!(text(answer.headers(), "ratelimit"), "\"caller\";r=0;t=10");
            let retry: u64 = text(answer.headers(), "retry-after").parse().unwrap();
            assert!((10..=12).contains(&retry), "{retry}");
        }
    }

    #[test]
    fn a_budget_is_told_after_the_limits_and_alone_where_there_are_none() {
        let left = BudgetLeft {
            name: "tokens-month".into(),
            most: 10_000,
            left: 17,
            window: 2_592_000,
            more_in: 86_400,
        };
        let mut with_limits = allowance();
        with_limits.add(Scope::Caller, Ok(42), &rate(), "a").unwrap();
        let mut alone = Allowance::default();
        for (allowance, policy, rate_limit) in [
            (
                &mut with_limits,
                "\"caller\";q=100;w=100, \"gateway\";q=100;w=100, ",
                "\"caller\";r=42;t=1, ",
            ),
            (&mut alone, "", ""),
        ] {
            allowance.add_budget(left.clone());
            let mut headers = HeaderMap::new();
            allowance.stamp(&mut headers);
            let expected = format!("{policy}\"tokens-month\";q=10000;w=2592000");
            assert_eq!(text(&headers, "ratelimit-policy"), expected);
            let expected = format!("{rate_limit}\"tokens-month\";r=17;t=86400");
            assert_eq!(text(&headers, "ratelimit"), expected);
        }
    }

    #[test]
    fn without_limits_nothing_is_said() {
        let mut headers = HeaderMap::new();
        Allowance::default().stamp(&mut headers);
        assert!(headers.is_empty());
    }
}
