//! `[budgets]`, and the budgets of profiles: how much, of what, in which time and for whom.

use std::mem;

use super::{Build, or};
use crate::budget::{Budget, Of, Period, ProfileBudgets, Settings, Whose, Zone};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Parse, Written};

impl Build<'_> {
    /// The budgets, which are taken out of the profiles.
    pub(super) fn budgets(&mut self, raw: &mut raw::File) -> Settings {
        let raw::Budgets { file, time_zone, ahead } = mem::take(&mut raw.budgets);
        let file = file.map(|file| self.files.path(&file.0.0));
        let section = KeyPath::of(&["budgets"]);
        let names = raw.projects.values().filter_map(|project| project.token_profile.as_ref());
        let of_tokens: Vec<&str> = names.map(|name| name.0.as_str()).collect();
        let mut profiles = Vec::with_capacity(raw.profiles.len());
        for (name, profile) in &mut raw.profiles {
            let path = KeyPath::of(&["profiles", name]).key("budgets");
            let budgets = self.budgets_of(&path, mem::take(&mut profile.budgets));
            if of_tokens.contains(&name.as_str())
                && budgets.iter().any(|budget| budget.whose == Whose::Caller)
            {
                let why = "are for each caller, and each whiteboard token is a caller of its own: \
                           whoever gets another token begins anew; for = \"profile\" holds";
                self.report.warn(&path, why);
            }
            if !budgets.is_empty() && file.is_none() && !self.report.was_removed(&section) {
                let why = "need a place in which they are kept: write for example \
                           file = \"./budgets.db\" in [budgets]";
                self.report.wrong(&path, why);
            }
            profiles.push(ProfileBudgets { name: name.clone(), budgets });
        }
        if file.is_some() && profiles.iter().all(|profile| profile.budgets.is_empty()) {
            let why = "is not used: no profile has budgets";
            self.report.warn(&section.key("file"), why);
        }
        Settings {
            file,
            zone: or(time_zone, Zone::default()),
            ahead: ahead.map_or(0, |ahead| ahead.0.0.get()),
            profiles,
        }
    }

    fn budgets_of(&mut self, path: &KeyPath, raw: Vec<raw::Budget>) -> Vec<Budget> {
        let mut budgets: Vec<Budget> = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let path = path.index(index);
            let Some(budget) = self.budget(&path, raw) else { continue };
            let same = |other: &Budget| other.name() == budget.name();
            if budgets.iter().any(same) {
                let why = "is of the same, in the same time and for the same as one before it";
                self.report.wrong(&path, why);
            } else {
                budgets.push(budget);
            }
        }
        budgets
    }

    fn budget(&mut self, path: &KeyPath, raw: raw::Budget) -> Option<Budget> {
        let of: Option<Of> = self.given(&path.key("of"), raw.of);
        let most = self.given(&path.key("most"), raw.most);
        let per: Option<Period> = self.given(&path.key("per"), raw.per);
        let whose = or(raw.whose, Whose::Caller);
        Some(Budget { of: of?, most: most?.0, per: per?, whose })
    }

    /// What is written; it has no default.
    fn given<T: Parse>(&mut self, path: &KeyPath, raw: Option<Written<T>>) -> Option<T> {
        if raw.is_none() {
            self.report.missing(path, T::ALLOWED);
        }
        raw.map(|written| written.0)
    }
}
