//! Metrics, from the very text that Prometheus reads: so the two have the same names and values,
//! and whatever is counted is in both.
//!
//! It reads what this gateway writes and no more of OpenMetrics than that.

use std::collections::BTreeMap;

use super::wire::{Message, Value};

/// The gauge that says since when everything is counted.
const STARTED: &str = "wbg_start_time_seconds";

/// Counted from the start on, not since the last report.
const CUMULATIVE: u64 = 2;

/// The field of `ScopeMetrics` that a metric is.
const METRICS: u32 = 2;

/// A metric with its samples.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    about: &'a str,
    kind: &'a str,
    samples: Vec<Sample<'a>>,
}

/// A line: its name, its labels, its value as it is written.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

/// The times of a report, in nanoseconds of Unix time.
#[derive(Clone, Copy)]
struct Times {
    started: u64,
    now: u64,
}

/// The metrics of a text, one written behind the other.
pub(super) fn records(text: &str, now_ns: u64) -> Vec<u8> {
    let families = families(text);
    let started = families.iter().find(|family| family.name == STARTED);
    let started = started.and_then(|family| family.samples.first()?.value.parse::<f64>().ok());
    let times = Times { started: started.map_or(now_ns, nanoseconds), now: now_ns };
    let mut out = Vec::with_capacity(text.len());
    for family in &families {
        Message(&mut out).message(METRICS, |metric| family.write(metric, times));
    }
    out
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time of this century is no matter for either"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// The metrics of a text in their order.
fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            let (name, about) = about.split_once(' ').unwrap_or((about, ""));
            families.push(Family { name, about, ..Family::default() });
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            match families.last_mut().filter(|family| family.name == name) {
                Some(family) => family.kind = kind,
                None => families.push(Family { name, kind, ..Family::default() }),
            }
        } else if let (Some(family), Some(sample)) = (families.last_mut(), Sample::read(line)) {
            family.samples.push(sample);
        }
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

impl<'a> Sample<'a> {
    /// `name{label="value",…} value`; `None` for what is none, such as `# EOF`.
    fn read(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = quoted(after)?;
                labels.push((label, value));
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        Some(Self { name, labels, value: rest.trim_start() })
    }

    /// The labels but for the bound of a bucket.
    fn labels(&self) -> impl Iterator<Item = &(&'a str, String)> {
        self.labels.iter().filter(|(name, _)| *name != "le")
    }

    fn bound(&self) -> Option<f64> {
        let (_, bound) = self.labels.iter().find(|(name, _)| *name == "le")?;
        // `+Inf` is a number to Rust as well.
        bound.parse().ok()
    }
}

/// A text up to the quote that ends it, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

impl Family<'_> {
    /// Writes it as a `Metric`.
    fn write(&self, metric: &mut Message<'_>, times: Times) {
        // An info is a gauge of 1 whose name says so.
        let name = match self.kind {
            "info" => &[self.name, "_info"].concat(),
            _ => self.name,
        };
        metric.text(1, name);
        metric.text(2, self.about);
        metric.text(3, if self.name.ends_with("_seconds") { "s" } else { "" });
        match self.kind {
            "counter" => metric.message(7, |sum| {
                for sample in &self.samples {
                    sum.message(1, |point| sample.write(point, times, true));
                }
                sum.number(2, CUMULATIVE);
                sum.flag(3, true);
            }),
            "histogram" => metric.message(9, |histogram| {
                for series in self.series().into_values() {
                    histogram.message(1, |point| series.write(point, times));
                }
                histogram.number(2, CUMULATIVE);
            }),
            _ => metric.message(5, |gauge| {
                for sample in &self.samples {
                    gauge.message(1, |point| sample.write(point, times, false));
                }
            }),
        }
    }

    /// The samples of a histogram, by their labels.
    fn series(&self) -> BTreeMap<Vec<&(&str, String)>, Series<'_>> {
        let mut series: BTreeMap<_, Series<'_>> = BTreeMap::new();
        for sample in &self.samples {
            let one = series.entry(sample.labels().collect()).or_default();
            if sample.name.ends_with("_sum") {
                one.sum = sample.value.parse().ok();
            } else if sample.name.ends_with("_bucket")
                && let (Some(bound), Ok(count)) = (sample.bound(), sample.value.parse())
            {
                one.buckets.push((bound, count));
                one.sample = Some(sample);
            }
        }
        series
    }
}

impl Sample<'_> {
    /// Writes it as a `NumberDataPoint`.
    fn write(&self, point: &mut Message<'_>, times: Times, counted: bool) {
        if counted {
            point.fixed64(2, times.started);
        }
        point.fixed64(3, times.now);
        match self.value.parse::<i64>() {
            Ok(whole) => point.chosen_fixed64(6, whole.cast_unsigned()),
            Err(_) => point.chosen_double(4, self.value.parse().unwrap_or(f64::NAN)),
        }
        for (name, value) in self.labels() {
            point.attribute(7, name, Value::Text(value));
        }
    }
}

/// The buckets of a histogram that have the same labels.
#[derive(Default)]
struct Series<'a> {
    /// One of its samples, which has its labels.
    sample: Option<&'a Sample<'a>>,
    sum: Option<f64>,
    /// Upper bounds, and how many are not over them.
    buckets: Vec<(f64, u64)>,
}

impl Series<'_> {
    /// Writes it as a `HistogramDataPoint`, whose buckets do not hold those before them.
    fn write(&self, point: &mut Message<'_>, times: Times) {
        let counts: Vec<u64> = self.buckets.iter().map(|(_, count)| *count).collect();
        let before = [0].into_iter().chain(counts.iter().copied());
        let single: Vec<u64> =
            counts.iter().zip(before).map(|(count, before)| count.saturating_sub(before)).collect();
        let bounds: Vec<u64> = self
            .buckets
            .iter()
            .filter(|(bound, _)| bound.is_finite())
            .map(|(bound, _)| bound.to_bits())
            .collect();
        point.fixed64(2, times.started);
        point.fixed64(3, times.now);
        point.fixed64(4, counts.last().copied().unwrap_or_default());
        if let Some(sum) = self.sum {
            point.chosen_double(5, sum);
        }
        point.packed(6, single.into_iter());
        point.packed(7, bounds.into_iter());
        for (name, value) in self.sample.iter().flat_map(|sample| sample.labels()) {
            point.attribute(9, name, Value::Text(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_labels_and_a_value() {
        let read = |line| Sample::read(line).map(|one| (one.name, one.labels, one.value));
        assert_eq!(read("a_total 3"), Some(("a_total", vec![], "3")));
        let labels = vec![("x", "a \"b\"\\,}\n".to_owned()), ("y", String::new())];
        assert_eq!(read(r#"a{x="a \"b\"\\,}\n",y=""} 3.5"#), Some(("a", labels, "3.5")));
        for none in ["# EOF", "", "word", "a{x=1} 2", r#"a{x="1 2"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_not_counted_is_left_out() {
        let text = "# HELP a A.\n# TYPE a counter\n# HELP b B.\n# TYPE b gauge\nb 1\n# EOF\n";
        let names: Vec<&str> = families(text).iter().map(|family| family.name).collect();
        assert_eq!(names, ["b"]);
    }
}
