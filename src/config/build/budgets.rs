//! `[budgets]`, and the budgets of profiles: how much, of what, in which time and for whom.

use std::mem;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::{Build, or};
use crate::budget::{Budget, BudgetUnit, Period, ProfileBudgets, Settings, Whose, Zone};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Parse, Written};

impl Build<'_> {
    /// The budgets, which are taken out of the profiles: kept in the file, where one is named, else
    /// in the store, where there is one.
    pub(super) fn budgets(&mut self, raw: &mut raw::File, store: &raw::Store) -> Settings {
        let raw::Budgets { file, time_zone, ahead } = mem::take(&mut raw.budgets);
        let file = file.map(|file| self.files.path(&file.0.0));
        let section = KeyPath::of(&["budgets"]);
        // One that is wrong has been reported.
        let wrong = [KeyPath::of(&["store", "url"]), section.key("file")];
        let has_place = file.is_some()
            || store.url.is_some()
            || wrong.iter().any(|path| self.report.was_removed(path));
        let names = raw.projects.values().filter_map(|project| project.token_profile.as_ref());
        let of_tokens: Vec<&str> = names.map(|name| name.0.as_str()).collect();
        let mut profiles = Vec::with_capacity(raw.profiles.len());
        for (name, profile) in &mut raw.profiles {
            let path = KeyPath::of(&["profiles", name]).key("budgets");
            let budgets = self.budgets_of(&path, mem::take(&mut profile.budgets));
            if of_tokens.contains(&name.as_str())
                && budgets.iter().any(|budget| budget.whose == Whose::Caller)
            {
                let why = "are for each caller, and each whiteboard token that this gateway did not \
                           mint is a caller of its own: whoever gets another token begins anew; \
                           for = \"profile\" holds";
                self.report.warn(&path, why);
            }
            if !budgets.is_empty() && !has_place {
                let why = "need a place in which they are kept: set budgets.file, a file of this \
                           gateway alone such as \"./budgets.db\", or store.url, which several share";
                self.report.wrong(&path, why);
            }
            profiles.push(ProfileBudgets { name: name.clone(), budgets });
        }
        self.check_place(&section, &file, ahead.is_some(), &profiles, store);
        Settings {
            file,
            zone: or(time_zone, Zone::default()),
            ahead: ahead.map_or(0, |ahead| ahead.0.0.get()),
            profiles,
        }
    }

    /// What is said in vain of the place, and what a user may not know of it.
    fn check_place(
        &mut self,
        section: &KeyPath,
        file: &Option<PathBuf>,
        ahead: bool,
        profiles: &[ProfileBudgets],
        store: &raw::Store,
    ) {
        let path = section.key("file");
        if file.is_none() {
            if ahead && !self.report.was_removed(&path) {
                let why = "is only for budgets.file: in a store nothing is taken ahead, since what a \
                           gateway holds would be lost to the others";
                self.report.wrong(&section.key("ahead"), why);
            }
            return;
        }
        let replicas = store.replicas.as_ref().map_or(NonZeroU32::MIN, |count| count.0.0);
        if profiles.iter().all(|profile| profile.budgets.is_empty()) {
            self.report.warn(&path, "is not used: no profile has budgets");
        } else if replicas > NonZeroU32::MIN {
            let why = format_args!(
                "is this gateway's alone, of {replicas}: together they give out {replicas} times as \
                 much; without it, budgets are kept in [store]"
            );
            self.report.warn(&path, why);
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
        let of: Option<BudgetUnit> = self.given(&path.key("of"), raw.of);
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
