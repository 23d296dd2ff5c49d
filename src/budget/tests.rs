//! Budgets in a real file, with the time in the test's hand.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use jiff::Timestamp;

use super::*;
use crate::api::Operations;

const PAYER: Payer<'_> = Payer { number: 7, name: "lessons" };

fn number(most: u32) -> NonZeroU32 {
    NonZeroU32::new(most).unwrap()
}

fn budget(of: BudgetUnit, most: u32, per: Period) -> Budget {
    Budget { of, most: number(most), per, whose: Whose::Caller }
}

/// The budgets of a profile, in a file that is open.
struct Desk {
    budgets: Budgets,
    memory: WorkerBudgets,
    operations: Operations,
}

impl Desk {
    fn at(folder: &Path, budgets: &[Budget]) -> Self {
        Self::of(folder, budgets, "Europe/Berlin", 0, None)
    }

    fn of(
        folder: &Path,
        budgets: &[Budget],
        zone: &str,
        ahead: u32,
        before: Option<&Budgets>,
    ) -> Self {
        let settings = Settings {
            file: Some(folder.join("budgets.db")),
            zone: Zone::new(zone).unwrap(),
            ahead,
            profiles: vec![ProfileBudgets {
                name: "backend".to_owned(),
                budgets: budgets.to_vec(),
            }],
        };
        let budgets = Budgets::new(settings, before);
        budgets.open().unwrap();
        Self { budgets, memory: WorkerBudgets::default(), operations: Operations::documented() }
    }

    fn operation(&self, name: &str) -> &Operation {
        self.operations.iter().find(|(_, row)| row.name == name).unwrap().1
    }

    fn reserve(&self, operation: &str, at: &str) -> Result<Option<Reservation>, Failure> {
        let second = at.parse::<Timestamp>().unwrap().as_second();
        let operation = self.operation(operation);
        let taken = self.budgets.reserve(&self.memory, 0, PAYER, operation, second);
        run(taken).map_err(|refusal| refusal.failure)
    }

    /// Takes a token, and tells how many are left in the window and how many seconds of it.
    fn token(&self, at: &str) -> Result<(u32, u64), String> {
        let taken = self.reserve("tokens.room", at).map_err(|failure| failure.to_string())?;
        let left = taken.unwrap().left.unwrap();
        Ok((left.left, left.more_in))
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_window_begins_anew_where_the_calendar_says() {
    let folder = folder();
    let desk = Desk::at(folder.path(), &[budget(BudgetUnit::Tokens, 2, Period::Day)]);
    // The day has 25 hours.
    assert_eq!(desk.token("2026-10-25T00:00:00+02:00"), Ok((1, 25 * 3600)));
    assert_eq!(desk.token("2026-10-25T23:59:59+01:00"), Ok((0, 1)));
    let refused = desk.reserve("tokens.room", "2026-10-25T23:59:59+01:00").err().unwrap();
    assert_eq!(refused.code(), Code::QuotaExceeded);
    let message = refused.message();
    assert!(message.contains("2 tokens a day"), "{message}");
    assert!(message.contains("begins anew at 2026-10-26T00:00:00+01:00"), "{message}");
    assert_eq!(desk.token("2026-10-26T00:00:00+01:00"), Ok((1, 24 * 3600)));
}

#[test]
fn a_clock_that_goes_back_opens_no_window_anew() {
    let folder = folder();
    let budgets = [budget(BudgetUnit::Tokens, 2, Period::Hour)];
    let desk = Desk::at(folder.path(), &budgets);
    assert_eq!(desk.token("2026-11-25T10:59:00Z"), Ok((1, 60)));
    assert_eq!(desk.token("2026-11-25T11:00:00Z"), Ok((1, 3600)));
    // What it takes then is of the window that has begun.
    assert_eq!(desk.token("2026-11-25T10:59:30Z"), Ok((0, 3600)));
    assert!(desk.token("2026-11-25T10:00:00Z").is_err());
    desk.budgets.close();
    drop(desk);
    let again = Desk::at(folder.path(), &budgets);
    assert!(again.token("2026-11-25T10:59:59Z").is_err(), "after a restart as well");
    assert_eq!(again.token("2026-11-25T12:00:00Z"), Ok((1, 3600)));
}

#[test]
fn every_budget_of_a_request_is_taken_from_or_none() {
    let folder = folder();
    let budgets = [
        budget(BudgetUnit::Requests, 3, Period::Month),
        budget(BudgetUnit::Tokens, 2, Period::Day),
        Budget { whose: Whose::Profile, ..budget(BudgetUnit::Tokens, 9, Period::Month) },
    ];
    let desk = Desk::at(folder.path(), &budgets);
    let at = "2026-11-25T10:00:00Z";
    let used = || {
        let standings =
            run(desk.budgets.standings(&desk.memory, at.parse::<Timestamp>().unwrap().as_second()));
        let mut used: Vec<(String, u32)> =
            standings.unwrap().0.iter().map(|one| (one.budget.name(), one.level.used)).collect();
        used.sort();
        used
    };
    let expected = |requests, day, month| {
        let row = |name: &str, used| (name.to_owned(), used);
        vec![
            row("requests-month", requests),
            row("tokens-day", day),
            row("tokens-month-profile", month),
        ]
    };
    for left in [1, 0] {
        assert_eq!(desk.token(at).unwrap().0, left, "the tightest is told");
    }
    assert_eq!(used(), expected(2, 2, 2));
    assert!(desk.token(at).unwrap_err().contains("2 tokens a day"));
    assert_eq!(used(), expected(2, 2, 2), "a refusal takes nothing from the others");
    assert_eq!(desk.reserve("rooms.get", at).unwrap().unwrap().left.unwrap().left, 0);
    assert_eq!(used(), expected(3, 2, 2));
    assert!(desk.reserve("rooms.get", at).is_err());
}

#[test]
fn a_profile_without_a_budget_of_a_request_takes_nothing() {
    let folder = folder();
    let desk = Desk::at(folder.path(), &[budget(BudgetUnit::Conversions, 1, Period::Day)]);
    assert!(desk.budgets.apply(0) && !desk.budgets.apply(1));
    let at = "2026-11-25T10:00:00Z";
    for operation in ["tokens.room", "rooms.create", "conversions.get", "conversions.cancel"] {
        assert!(desk.reserve(operation, at).unwrap().is_none(), "{operation}");
    }
    // Both ways to start one.
    assert!(desk.reserve("legacy_conversions.start", at).unwrap().is_some());
    assert!(desk.reserve("conversions.start", at).is_err());
}

#[test]
fn a_reservation_is_held_until_it_is_settled() {
    let folder = folder();
    let desk = Desk::at(folder.path(), &[budget(BudgetUnit::Tokens, 1, Period::Day)]);
    let at = "2026-11-25T10:00:00Z";
    let level = || {
        let second = at.parse::<Timestamp>().unwrap().as_second();
        let level = run(desk.budgets.standings(&desk.memory, second)).unwrap().0.remove(0).level;
        (level.used, level.reserved, level.name)
    };
    let name = || Some("lessons".into());
    let operation = desk.operation("tokens.room");
    let failure = Failure::fixed(Code::AuditUnavailable, "no disk");
    for _ in 0..3 {
        let reservation = desk.reserve("tokens.room", at).unwrap().unwrap();
        assert_eq!(level(), (0, 1, name()));
        assert!(desk.token(at).is_err(), "it is taken as long as nobody knows");
        reservation.settle(Some(&failure), operation, false);
        assert_eq!(level(), (0, 0, name()));
    }
    desk.reserve("tokens.room", at).unwrap().unwrap().settle(None, operation, false);
    assert_eq!(level(), (1, 0, name()));
    assert!(desk.token(at).is_err());
}

#[test]
fn another_time_zone_has_other_windows_and_another_bound_the_same() {
    let folder = folder();
    let at = "2026-11-25T10:00:00Z";
    let of = |most, zone, before| {
        Desk::of(folder.path(), &[budget(BudgetUnit::Tokens, most, Period::Day)], zone, 0, before)
    };
    let first = of(2, "UTC", None);
    assert_eq!(first.token(at), Ok((1, 14 * 3600)));
    let second = of(3, "UTC", Some(&first.budgets));
    assert_eq!(second.token(at), Ok((1, 14 * 3600)));
    let third = of(3, "Asia/Kolkata", Some(&second.budgets));
    assert_eq!(third.token(at).unwrap().0, 2);
    let now = at.parse::<Timestamp>().unwrap().as_second();
    assert_eq!(
        run(third.budgets.standings(&third.memory, now)).unwrap().0.len(),
        1,
        "those of now are shown"
    );
}

#[test]
fn what_was_written_ahead_is_given_back_at_the_end() {
    let folder = folder();
    let at = "2026-11-25T10:00:00Z";
    let budgets = [budget(BudgetUnit::Tokens, 1000, Period::Day)];
    let desk = Desk::of(folder.path(), &budgets, "UTC", 100, None);
    for left in (900..1000).rev() {
        assert_eq!(desk.token(at).unwrap().0, left);
    }
    desk.budgets.close();
    assert!(desk.token(at).unwrap_err().contains("store_unavailable"), "nothing after the end");
    drop(desk);
    let again = Desk::of(folder.path(), &budgets, "UTC", 0, None);
    assert_eq!(again.token(at).unwrap().0, 899);
}

#[test]
fn workers_that_take_at_once_never_take_more_than_there_is() {
    for (ahead, workers) in [(0, 4), (16, 4)] {
        let folder = folder();
        let budgets = [
            budget(BudgetUnit::Requests, 150, Period::Day),
            Budget { whose: Whose::Profile, ..budget(BudgetUnit::Tokens, 120, Period::Month) },
        ];
        let first = Desk::of(folder.path(), &budgets, "UTC", ahead, None);
        let given = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..workers {
                let (given, before) = (&given, &first.budgets);
                scope.spawn(|| {
                    // Each with a memory of its own, as workers have.
                    let desk = Desk::of(folder.path(), &budgets, "UTC", ahead, Some(before));
                    let operation = desk.operation("tokens.room");
                    for turn in 0..60 {
                        let Ok(taken) = desk.reserve("tokens.room", "2026-11-25T10:00:00Z") else {
                            continue;
                        };
                        let failed = Failure::fixed(Code::Internal, "x");
                        let comes_to_nothing = turn % 5 == 0;
                        let failure = comes_to_nothing.then_some(&failed);
                        taken.unwrap().settle(failure, operation, true);
                        given.fetch_add(u32::from(!comes_to_nothing), Ordering::SeqCst);
                    }
                });
            }
        });
        let given = given.into_inner();
        assert!((100..=120).contains(&given), "{given}");
        first.budgets.close();
        drop(first);
        let again = Desk::of(folder.path(), &budgets, "UTC", 0, None);
        let left = (0..).take_while(|_| again.token("2026-11-25T10:00:00Z").is_ok()).count();
        assert_eq!(given + u32::try_from(left).unwrap(), 120, "exactly what was given");
    }
}

#[test]
fn windows_that_are_over_are_forgotten_and_callers_are_not_remembered_by_name() {
    let folder = folder();
    let desk = Desk::at(folder.path(), &[budget(BudgetUnit::Tokens, 100, Period::Hour)]);
    for day in 1..=9 {
        assert!(desk.token(&format!("2026-11-0{day}T10:00:00Z")).is_ok());
    }
    desk.budgets.close();
    drop(desk);
    let bytes = std::fs::read(folder.path().join("budgets.db")).unwrap();
    assert!(bytes.windows(14).any(|part| part == b"backend/tokens"));
    assert!(!bytes.windows(7).any(|part| part == b"lessons"));
}
