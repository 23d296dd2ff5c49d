//! Budgets in a store that several gateways share: one script that looks at every counter of a
//! request and takes from all of them or from none, by the store's own clock.
//!
//! A counter is a field of a hash, one hash for each budget and window, so that a window goes as a
//! whole a while after its end. All keys of a request are in one slot of a cluster, by the tag in
//! braces: its profile. This module knows no connection: [`Scripts`] is what it needs of one.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use tokio::task::spawn_local;

use super::ledger::{Claim, Tightest, Unreserved, Wanted};
use super::window::Window;

/// Takes one of each, or of none.
///
/// KEYS: the hash of each. ARGV, four of each: the field, the most, the window's start and its
/// end. Answers `0` and how many are used of each; `1` and the place, from 1, of one that has
/// nothing left; `2` and the time, when that lies in another window.
const RESERVE: &str = include_str!("store/reserve.lua");

/// Gives one of each back. KEYS and ARGV: hash and field of each.
const RELEASE: &str = include_str!("store/release.lua");

/// Reads the fields of a hash: KEYS is it, ARGV how many of a long one. Answers them, each with
/// its number.
const READ: &str = include_str!("store/read.lua");

/// As many counters of a budget are read to be shown, or some more.
const SHOWN: &str = "1000";

/// What is asked of a store: a script with its keys and arguments, which answers with whole
/// numbers, or why it did not, within a deadline.
pub trait Scripts {
    /// Runs one. When it fails, it may have been done all the same.
    fn run(
        &self,
        script: &'static str,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<i64>, String>>>>;
}

/// The ledger of a store, as a worker has it.
#[derive(Clone)]
pub(super) struct Ledger {
    scripts: Rc<dyn Scripts>,
    /// What every key begins with.
    prefix: Rc<str>,
    /// How far the store's clock is ahead of this machine's, in seconds.
    ahead: Rc<Cell<i64>>,
}

/// What was taken for a request. Dropped, it stays taken.
pub(super) struct Held {
    ledger: Ledger,
    /// Hash and field of each that was not given back.
    taken: Vec<Option<(String, String)>>,
}

impl Ledger {
    pub(super) fn new(scripts: Rc<dyn Scripts>, prefix: &str) -> Self {
        Self { scripts, prefix: prefix.into(), ahead: Rc::default() }
    }

    /// The time of the store, as far as it is known.
    pub(super) fn now(&self, second: i64) -> i64 {
        second.saturating_add(self.ahead.get())
    }

    /// The store told its time.
    pub(super) fn told(&self, time: i64, second: i64) {
        self.ahead.set(time.saturating_sub(second));
    }

    /// Takes one of each claim, or nothing at all.
    pub(super) async fn reserve(
        &self,
        claims: &[Claim<'_>],
    ) -> Result<(Held, Vec<u32>), Unreserved> {
        let keys: Vec<String> =
            claims.iter().map(|claim| self.key(&claim.budget, claim.window)).collect();
        let fields: Vec<String> = claims.iter().map(|claim| field(claim.caller)).collect();
        let arguments = claims.iter().zip(&fields).flat_map(|(claim, field)| {
            let Window { start, end } = claim.window;
            [field.clone(), claim.most.to_string(), start.to_string(), end.to_string()]
        });
        let asked = self.scripts.run(RESERVE, keys.clone(), arguments.collect());
        match asked.await.map_err(Unreserved::Unavailable)?.as_slice() {
            [0, used @ ..] if used.len() == claims.len() => {
                let taken = keys.into_iter().zip(fields).map(Some).collect();
                let used = used.iter().map(|used| u32::try_from(*used).unwrap_or(u32::MAX));
                Ok((Held { ledger: self.clone(), taken }, used.collect()))
            }
            [1, place] if (1..=claims.len()).contains(&index(*place)) => {
                Err(Unreserved::Exhausted(index(*place) - 1))
            }
            [2, time] => Err(Unreserved::Elsewhen(*time)),
            _ => Err(Unreserved::Unavailable("the store gave an odd answer".to_owned())),
        }
    }

    /// How the counters of budgets stand.
    pub(super) async fn levels(&self, wanted: &[Wanted]) -> Result<Tightest, Unreserved> {
        let mut tightest = Tightest::default();
        for wanted in wanted {
            let keys = vec![self.key(&wanted.budget, wanted.window)];
            let read = self.scripts.run(READ, keys, vec![SHOWN.to_owned()]);
            let read = read.await.map_err(Unreserved::Unavailable)?;
            for [caller, used] in read.as_chunks().0 {
                let used = u32::try_from(*used).unwrap_or_default();
                tightest.add(wanted, wanted.level(caller.cast_unsigned(), used, 0));
            }
        }
        Ok(tightest)
    }

    /// `wbg:{backend}:budget:tokens-month:1793487600`.
    fn key(&self, budget: &str, window: Window) -> String {
        let (profile, name) = budget.split_once('/').unwrap_or((budget, ""));
        format!("{}:{{{profile}}}:budget:{name}:{}", self.prefix, window.start)
    }
}

impl Held {
    /// Gives back the one at a place, and waits for nothing: one that does not arrive stays taken.
    pub(super) fn release(&mut self, place: usize) {
        if let Some((key, field)) = self.taken.get_mut(place).and_then(Option::take) {
            let released = self.ledger.scripts.run(RELEASE, vec![key], vec![field]);
            spawn_local(async {
                if let Err(error) = released.await {
                    tracing::debug!(error, "what was taken of a budget is not given back");
                }
            });
        }
    }
}

/// As a whole number that answers can hold.
fn field(caller: u64) -> String {
    caller.cast_signed().to_string()
}

fn index(place: i64) -> usize {
    usize::try_from(place).unwrap_or_default()
}

#[cfg(test)]
mod tests;
