//! Two binaries side by side: how many instructions less the second takes for the same requests.

use std::path::Path;

use crate::budgets::Counts;
use crate::credentials::Credentials;
use crate::requests;

/// What `--compare` is followed by.
pub(crate) struct Comparison<'a> {
    base: &'a str,
    other: &'a str,
    /// By how much less the second must take, in percent.
    least: f64,
}

impl<'a> Comparison<'a> {
    /// `None` unless the arguments ask for one.
    ///
    /// # Panics
    /// When they do, and not in full.
    pub(crate) fn read(arguments: &[&'a str]) -> Option<Self> {
        let at = arguments.iter().position(|argument| *argument == "--compare")?;
        // What follows is Cargo's.
        let Some(&[base, other, least]) = arguments[at + 1..].first_chunk() else {
            panic!("--compare is followed by two binaries and a number of percent");
        };
        Some(Self { base, other, least: least.parse().expect("percent are a number") })
    }

    /// Counts both, prints them, and says whether the second takes as much less as it must.
    pub(crate) fn holds(&self, credentials: &Credentials, folder: &Path) -> bool {
        let counts = [self.base, self.other]
            .map(|binary| requests::count(credentials, folder, Path::new(binary)));
        let (text, less) = compared(&counts);
        print!("{text}");
        println!("{:.1} % less in all; {} % are wanted", less, self.least);
        less >= self.least
    }
}

/// A table of both, and by how many percent the sum of the second is less.
fn compared([base, other]: &[Counts; 2]) -> (String, f64) {
    let less = |base: u64, other: u64| (1.0 - other as f64 / base as f64) * 100.0;
    let mut text = String::from("| | instructions | of the other | less |\n|---|---:|---:|---:|\n");
    let mut sums = [0, 0];
    for ((name, base), (_, other)) in base.iter().zip(other) {
        let [base, other] = [base.instructions, other.instructions];
        text += &format!("| {name} | {base} | {other} | {:.1} % |\n", less(base, other));
        sums = [sums[0] + base, sums[1] + other];
    }
    (text, less(sums[0], sums[1]))
}
