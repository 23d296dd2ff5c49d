//! The budgets, in `benches/budgets.toml`, and what is said when one is overrun.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use toml::Table;

use crate::callgrind::Count;

/// What callgrind counts varies by a few instructions from run to run: addresses are aligned
/// otherwise, a random key falls into another bucket. Compilers of other versions differ by more.
const MARGIN_PERCENT: u64 = 10;

/// And a short step by a few instructions whenever the code around it is laid out anew.
const MARGIN: u64 = 100;

/// By name, in the order of the way.
pub(crate) type Counts = Vec<(String, Count)>;

/// What was counted, or may be.
pub(crate) struct Budgets {
    /// The steps alone.
    pub(crate) steps: Counts,
    /// Whole requests.
    pub(crate) requests: Counts,
}

impl Budgets {
    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/budgets.toml")
    }

    /// Reads the file.
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(Self::path()).unwrap_or_default();
        let table: Table = text.parse().unwrap();
        let part = |name: &str| {
            let part = table.get(name).and_then(toml::Value::as_table);
            part.map(|part| part.iter().map(|(name, one)| (name.clone(), budget(one))).collect())
                .unwrap_or_default()
        };
        Self { steps: part("steps"), requests: part("requests") }
    }

    /// Writes the file.
    pub(crate) fn write(&self) {
        let mut text = String::from(
            "# What the steps of a request's way, and whole requests, may cost: instructions and\n\
             # allocations, in the profile of benches. `cargo bench --bench way` counts and compares,\n\
             # with `-- --write` it writes this file. docs/measurements.md has the method.\n",
        );
        for (name, counts) in self.parts() {
            _ = writeln!(text, "\n[{name}]");
            for (name, Count { instructions, allocations }) in counts {
                _ = writeln!(
                    text,
                    "{name:?} = {{ instructions = {instructions}, allocations = {allocations} }}"
                );
            }
        }
        fs::write(Self::path(), text).unwrap();
        println!("written: {}", Self::path().display());
    }

    /// Compares with the budgets, prints both, and says what is over.
    pub(crate) fn within(&self, budgets: &Self) -> bool {
        println!("| | instructions | budget | | allocations | budget |");
        println!("|---|---:|---:|---:|---:|---:|");
        let mut wrong = Vec::new();
        for ((part, counts), (_, allowed)) in self.parts().into_iter().zip(budgets.parts()) {
            for (name, count) in counts {
                let Some(budget) = find(allowed, name) else {
                    wrong.push(format!("{part}: {name:?} has no budget"));
                    continue;
                };
                let share = share(count.instructions, budget.instructions);
                println!(
                    "| {name} | {} | {} | {share:+.1} % | {} | {} |",
                    count.instructions, budget.instructions, count.allocations, budget.allocations
                );
                let margin = (budget.instructions * MARGIN_PERCENT / 100).max(MARGIN);
                if count.instructions > budget.instructions + margin {
                    wrong.push(format!(
                        "{part}: {name:?} takes {} instructions, {share:+.1} % of its budget of {} \
                         ({margin} more are let pass)",
                        count.instructions, budget.instructions
                    ));
                }
                if count.allocations > budget.allocations {
                    wrong.push(format!(
                        "{part}: {name:?} allocates {} times; its budget is {}",
                        count.allocations, budget.allocations
                    ));
                }
            }
            for (name, _) in allowed.iter().filter(|(name, _)| find(counts, name).is_none()) {
                wrong.push(format!("{part}: {name:?} has a budget and is not counted"));
            }
        }
        for line in &wrong {
            println!("over budget: {line}");
        }
        if !wrong.is_empty() {
            println!(
                "Make it cheaper; or, when it is worth its price, write the new budgets with \
                 `cargo bench --bench way -- --write` and say in the commit why."
            );
        }
        wrong.is_empty()
    }

    fn parts(&self) -> [(&'static str, &Counts); 2] {
        [("steps", &self.steps), ("requests", &self.requests)]
    }
}

fn find<'a>(counts: &'a Counts, name: &str) -> Option<&'a Count> {
    counts.iter().find(|(one, _)| one == name).map(|(_, count)| count)
}

fn budget(value: &toml::Value) -> Count {
    let number = |name: &str| {
        let number = value.get(name).and_then(toml::Value::as_integer);
        u64::try_from(number.unwrap_or_default()).unwrap()
    };
    Count { instructions: number("instructions"), allocations: number("allocations") }
}

/// How much more than the budget, in percent.
fn share(count: u64, budget: u64) -> f64 {
    (count as f64 / budget.max(1) as f64 - 1.0) * 100.0
}
