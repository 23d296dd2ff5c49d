//! `[budgets]`, and the budgets of profiles: how much, of what, in which time and for whom.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::build::Build;
use super::file::{KeyPath, section, word_types};
use super::value::FilePath;
use crate::budget::{Budget, BudgetUnit, Period, ProfileBudgets, Settings, Whose, Zone};

section! {
    pub(super) struct BudgetsSection {
        /// The database of this gateway alone, created if it is missing. Without it, budgets are
        /// kept in the store of `store.url`; one of the two is required if a profile has budgets.
        file: Option<FilePath>;
        /// The time zone of hours, days and months: a name of the IANA database, such as
        /// `"Europe/Berlin"`.
        time_zone: Zone = "UTC";
        /// How many units of each counter are reserved on the disk in advance. Requests then need
        /// not wait for the disk, and a crash can lose as many. Only with `budgets.file`.
        ahead: Option<u32>;
    }
}

section! {
    pub(super) struct BudgetTable ("a table such as { of = \"tokens\", most = 10000, per = \"month\", for = \"caller\" }") {
        /// What the budget counts: `"requests"`, `"tokens"` or `"conversions"`. See
        /// [budgets](budgets.md).
        of: Option<BudgetUnit> | "\"requests\", \"tokens\" or \"conversions\"";
        /// How many.
        most: Option<NonZeroU32> | "a whole number from 1 to 4294967295";
        /// The period: an `"hour"`, a `"day"` or a `"month"` of `budgets.time_zone`.
        per: Option<Period> | "\"hour\", \"day\" or \"month\"";
        /// For whom: each `"caller"`, or the `"profile"` as a whole.
        whose as "for": Whose = "caller";
    }
}

word_types!(BudgetUnit, Period, Whose);

impl Build<'_> {
    /// The budgets: kept in the file, where one is named, else in the store, where there is one.
    /// `of_tokens` are the profiles of whiteboard tokens.
    pub(super) fn budgets(
        &mut self,
        BudgetsSection { path, file, time_zone, ahead }: BudgetsSection,
        profiles: Vec<ProfileBudgets>,
        of_tokens: &BTreeSet<&str>,
        replicas: NonZeroU32,
    ) -> Settings {
        let at = path.key("file");
        // One that is wrong has been reported.
        let url = KeyPath::of(&["store", "url"]);
        let written = [&at, &url].map(|path| self.report.locations.is_set(path));
        for ProfileBudgets { name, budgets } in &profiles {
            let path = KeyPath::of(&["profiles", name, "budgets"]);
            let own = budgets.iter().any(|budget| budget.whose == Whose::Caller);
            let why = "are for each caller, and each whiteboard token that this gateway did not \
                       mint is a caller of its own: whoever gets another token begins anew; \
                       for = \"profile\" holds";
            self.warn_if(own && of_tokens.contains(name.as_str()), &path, why);
            let why = "need a place in which they are kept: set budgets.file, a file of this \
                       gateway alone such as \"./budgets.db\", or store.url, which several share";
            self.wrong_if(!budgets.is_empty() && written == [false, false], &path, why);
        }
        let vain = ahead.is_some() && file.is_none() && !self.was_removed(&at);
        let why = "is only for budgets.file: in a store nothing is taken ahead, since what a \
                   gateway holds would be lost to the others";
        self.wrong_if(vain, &path.key("ahead"), why);
        let used = profiles.iter().any(|profile| !profile.budgets.is_empty());
        self.warn_if(file.is_some() && !used, &at, "is not used: no profile has budgets");
        let why = format_args!(
            "is this gateway's alone, of {replicas}: together they give out {replicas} times as \
             much; without it, budgets are kept in [store]"
        );
        self.warn_if(file.is_some() && used && replicas > NonZeroU32::MIN, &at, why);
        let file = file.map(|file| self.path(&file));
        Settings { file, zone: time_zone, ahead: ahead.unwrap_or(0), profiles }
    }

    /// The budgets of a profile.
    pub(super) fn budgets_of(&mut self, written: Vec<BudgetTable>) -> Vec<Budget> {
        let mut budgets: Vec<Budget> = Vec::with_capacity(written.len());
        for BudgetTable { path, of, most, per, whose } in written {
            let (Some(of), Some(most), Some(per)) = (of, most, per) else { continue };
            let budget = Budget { of, most, per, whose };
            let twice = budgets.iter().any(|other| other.name() == budget.name());
            let why = "is of the same, in the same time and for the same as one before it";
            self.wrong_if(twice, &path, why);
            budgets.push(budget);
        }
        budgets
    }
}
