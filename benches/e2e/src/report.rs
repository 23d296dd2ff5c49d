//! The tables: each figure as median, least and greatest over the rounds, and the ratio of the
//! medians to nginx's, or to HAProxy's where nginx cannot do the work.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::measure::{Figures, Measure};
use crate::peer::Kind;
use crate::scenario::Scenario;

/// Every figure of a run.
#[derive(Default)]
pub struct Results {
    figures: BTreeMap<(&'static str, Kind), BTreeMap<Measure, Vec<f64>>>,
}

impl Results {
    /// Adds the figures of one measurement.
    pub fn add(&mut self, scenario: &Scenario, kind: Kind, figures: Figures) {
        let all = self.figures.entry((scenario.name, kind)).or_default();
        for (measure, figure) in figures {
            all.entry(measure).or_default().push(figure);
        }
    }

    /// A table for each scenario: a row for each measure, a column for each peer.
    pub fn markdown(&self, scenarios: &[&Scenario], kinds: &[Kind]) -> String {
        let mut out = String::new();
        for scenario in scenarios {
            self.table(scenario, kinds, &mut out);
        }
        out
    }

    fn table(&self, scenario: &Scenario, kinds: &[Kind], out: &mut String) {
        let mut measures: Vec<Measure> = self
            .figures
            .iter()
            .filter(|((name, _), _)| *name == scenario.name)
            .flat_map(|(_, figures)| figures.keys().copied())
            .collect();
        measures.sort_unstable();
        measures.dedup();
        let header: String = kinds.iter().map(|kind| format!(" {} |", kind.name())).collect();
        // Writing to a String cannot fail.
        _ = writeln!(out, "\n### `{}`: {}\n\n| |{header}", scenario.name, scenario.about);
        _ = writeln!(out, "|---|{}", "---:|".repeat(kinds.len()));
        for measure in measures {
            let cells = kinds.iter().map(|kind| self.cell(scenario, *kind, measure));
            let cells: String = cells.map(|cell| format!(" {cell} |")).collect();
            _ = writeln!(out, "| {measure} |{cells}");
        }
        let Some(beside) = scenario.beside else { return };
        let ratio = |kind: &Kind| self.ratio(scenario.name, beside, *kind);
        if kinds.iter().any(|kind| ratio(kind).is_some()) {
            let cell = |ratio: Option<f64>| match ratio {
                Some(ratio) => format!(" {ratio:.2}× |"),
                None => " – |".to_owned(),
            };
            let cells: String = kinds.iter().map(|kind| cell(ratio(kind))).collect();
            _ = writeln!(out, "| CPU/request to the same peer's `{beside}` |{cells}");
        }
    }

    fn cell(&self, scenario: &Scenario, kind: Kind, measure: Measure) -> String {
        let Some(spread) = self.spread(scenario.name, kind, measure) else {
            return "–".to_owned();
        };
        let of = scenario.measure.unwrap_or(scenario.name);
        let others = [Kind::Nginx, Kind::Haproxy].into_iter();
        let base = others.filter_map(|other| self.spread(of, other, measure)).next();
        let base = base.filter(|base| base.median > 0.0);
        match base.filter(|_| measure.compares()) {
            Some(base) => format!("{spread} · {:.2}×", spread.median / base.median),
            None => spread.to_string(),
        }
    }

    /// The CPU of a request in one scenario to that in another, of the same peer.
    fn ratio(&self, scenario: &'static str, beside: &'static str, kind: Kind) -> Option<f64> {
        let [cpu, beside] = [scenario, beside].map(|name| self.spread(name, kind, Measure::Cpu));
        Some(cpu?.median / beside?.median)
    }

    fn spread(&self, scenario: &'static str, kind: Kind, measure: Measure) -> Option<Spread> {
        Spread::of(self.figures.get(&(scenario, kind))?.get(&measure)?)
    }
}

/// The median of some figures, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, least, greatest })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Three significant digits or so: more would be noise.
        let digits = match self.median.abs() {
            large if large >= 100.0 => 0,
            middling if middling >= 10.0 => 1,
            _ => 2,
        };
        let Self { median, least, greatest } = self;
        write!(out, "{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, greatest: 10.0 });
        assert_eq!(spread.to_string(), "2.50 (1.00–10.00)");
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_scenario_is_compared_with_the_one_beside_it() {
        let find = |name| scenario::TABLE.iter().find(|one| one.name == name).unwrap();
        let (key, jwt) = (find("apikey"), find("jwt_es256"));
        let mut results = Results::default();
        results.add(key, Kind::Gateway, vec![(Measure::Cpu, 20.0)]);
        results.add(jwt, Kind::Gateway, vec![(Measure::Cpu, 25.0)]);
        let table = results.markdown(&[jwt], &[Kind::Hyper, Kind::Gateway]);
        let row = "| CPU/request to the same peer's `apikey` | – | 1.25× |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn ratios_are_those_of_the_medians_to_nginx() {
        let scenario = &scenario::TABLE[0];
        let mut results = Results::default();
        for (kind, figures) in
            [(Kind::Nginx, [10.0, 12.0, 11.0]), (Kind::Gateway, [22.0, 9.0, 40.0])]
        {
            for figure in figures {
                results.add(scenario, kind, vec![(Measure::Cpu, figure)]);
            }
        }
        let table = results.markdown(&[scenario], &[Kind::Nginx, Kind::Gateway]);
        let row = "| **CPU µs/request** | 11.0 (10.0–12.0) · 1.00× | 22.0 (9.0–40.0) · 2.00× |";
        assert!(table.contains(row), "{table}");
    }
}
