//! What two configurations say beside the policy: limits, budgets, and by what someone is known. It
//! gives no one another right, but whoever reads a difference wants to know of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::budget::{Budget, Whose};
use crate::gateway::Settings;
use crate::limit::Rate;
use crate::token::ProjectCredential;

/// Texts by the key of the configuration that they stand at. No secret is among them: of keys and
/// tokens there are fingerprints and ids.
pub(super) struct Beside(BTreeMap<String, String>);

impl Beside {
    pub(super) fn of(settings: &Settings) -> Self {
        let mut found = BTreeMap::new();
        let mut add = |key: String, text: String| {
            found.insert(key, text);
        };
        add("limits.gateway".to_owned(), rate(settings.limits.gateway));
        for profile in &settings.limits.profiles {
            let name = &profile.name;
            add(format!("profiles.{name}.limit"), rate(profile.caller));
            add(format!("profiles.{name}.shared_limit"), rate(profile.shared));
        }
        for profile in &settings.profiles {
            let shadow = profile.shadow.clone().unwrap_or_else(|| "none".to_owned());
            add(format!("profiles.{}.shadow", profile.name), shadow);
        }
        for profile in &settings.budgets.profiles {
            let budgets: Vec<String> = profile.budgets.iter().map(budget).collect();
            add(format!("profiles.{}.budgets", profile.name), or_none(&budgets));
        }
        for caller in &settings.callers {
            let name = &caller.name;
            let key = |key: &crate::caller::ApiKeySettings| match key.until {
                Some(until) => format!("{} until {until}", key.id),
                None => key.id.to_string(),
            };
            let keys: Vec<String> = caller.keys.iter().map(key).collect();
            add(format!("callers.{name}.keys"), or_none(&keys));
            let names = caller.certificates.iter().map(|one| match &one.authority {
                Some(authority) => format!("{} from {authority:?}", one.name),
                None => one.name.to_string(),
            });
            add(format!("callers.{name}.certificates"), or_none(&names.collect::<Vec<_>>()));
        }
        for issuer in &settings.issuers {
            let said = format!(
                "issuer {}, audience {}, algorithms {:?}",
                issuer.issuer,
                issuer.audience.join(" or "),
                issuer.algorithms
            );
            add(format!("issuers.{}", issuer.name), said);
        }
        for project in &settings.projects {
            let said = match &project.credential {
                ProjectCredential::SdkToken(_) => "a fixed SDK token".to_owned(),
                ProjectCredential::Keys(keys) => {
                    let keys = keys.iter().map(|key| format!("{} {:?}", key.access_key, key.state));
                    format!("access keys {}", keys.collect::<Vec<_>>().join(", "))
                }
            };
            add(format!("projects.{}", project.name), said);
        }
        add("denied".to_owned(), format!("{} tokens", settings.denied.len()));
        Self(found)
    }

    /// What differs: the key, and what it said and says; `None` where there is no such section.
    pub(super) fn changes(&self, after: &Self) -> Vec<(String, Option<String>, Option<String>)> {
        let keys: std::collections::BTreeSet<&String> =
            self.0.keys().chain(after.0.keys()).collect();
        let pairs = keys.into_iter().map(|key| (key, self.0.get(key), after.0.get(key)));
        let changed = pairs.filter(|(_, before, after)| before != after);
        changed.map(|(key, before, after)| (key.clone(), before.cloned(), after.cloned())).collect()
    }
}

fn or_none(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn rate(rate: Option<Rate>) -> String {
    let Some(rate) = rate else { return "unlimited".to_owned() };
    let unit = match rate.period.as_secs() {
        1 => "s".to_owned(),
        60 => "m".to_owned(),
        3_600 => "h".to_owned(),
        86_400 => "d".to_owned(),
        other => format!("{other}s"),
    };
    let mut text = format!("{}/{unit}", rate.requests);
    if rate.burst != rate.requests {
        // Writing to a String cannot fail.
        _ = write!(text, " with a burst of {}", rate.burst);
    }
    text
}

fn budget(budget: &Budget) -> String {
    let whose = match budget.whose {
        Whose::Caller => "each caller",
        Whose::Profile => "all callers together",
    };
    format!("{} {} a {} for {whose}", budget.most, budget.of.as_str(), budget.per.as_str())
}
