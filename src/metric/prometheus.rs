//! The text formats that Prometheus reads: OpenMetrics 1.0, and the older one (version 0.0.4), which
//! every reader knows. The samples are the same in both.

use std::fmt::{Result, Write as _};

use super::{MetricFamily, MetricKind, MetricSet, Sample, SampleValue};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics, where a family is named without the suffix of its samples.
    OpenMetrics,
    /// The older one, where it is named with that.
    Plain,
}

impl TextFormat {
    /// How an answer in this format is labelled.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl MetricSet {
    /// All of it as text.
    pub fn text(&self, format: TextFormat) -> String {
        let mut out = String::with_capacity(64 * 1024);
        for family in &self.families {
            // Writing to a String cannot fail.
            _ = family.write(&mut out, format);
        }
        if format == TextFormat::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

impl MetricFamily {
    fn write(&self, out: &mut String, format: TextFormat) -> Result {
        let Self { name, help, .. } = self;
        let (suffix, kind, older) = match self.kind {
            MetricKind::Counter => ("_total", "counter", "counter"),
            MetricKind::Gauge => ("", "gauge", "gauge"),
            MetricKind::Histogram => ("", "histogram", "histogram"),
            MetricKind::Info => ("_info", "info", "gauge"),
        };
        let (end, kind) = if format == TextFormat::Plain { (suffix, older) } else { ("", kind) };
        writeln!(out, "# HELP {name}{end} {help}\n# TYPE {name}{end} {kind}")?;
        for sample in &self.samples {
            let start = |out: &mut String, suffix, bound| self.start(out, suffix, bound, sample);
            match &sample.value {
                SampleValue::Whole(value) => {
                    start(out, suffix, None);
                    writeln!(out, " {value}")?;
                }
                SampleValue::Real(value) => {
                    start(out, suffix, None);
                    // As OpenMetrics has it: 3.0 and not 3.
                    writeln!(out, " {value:?}")?;
                }
                SampleValue::Buckets(buckets) => {
                    start(out, "_sum", None);
                    writeln!(out, " {:?}", buckets.total.as_secs_f64())?;
                    start(out, "_count", None);
                    writeln!(out, " {}", buckets.count())?;
                    let mut so_far = 0;
                    for (bound, count) in &buckets.counts {
                        so_far += count;
                        start(out, "_bucket", Some(*bound));
                        writeln!(out, " {so_far}")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The name and the labels that a line begins with; `bound` is that of a bucket.
    fn start(&self, out: &mut String, suffix: &str, bound: Option<f64>, sample: &Sample) {
        out.extend([self.name, suffix]);
        let bound = bound.map(|bound| match bound.is_finite() {
            true => format!("{bound:?}"),
            false => "+Inf".to_owned(),
        });
        let bound = bound.iter().map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in bound.chain(self.labels.iter().copied().zip(&sample.labels)) {
            out.push(before);
            out.extend([name, "=\""]);
            for character in value.chars() {
                match character {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    other => out.push(other),
                }
            }
            out.push('"');
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metric::{Buckets, Metric};

    const ROWS: &[Metric<u64>] = &[
        Metric::counter("requests", "Requests", &["code"], |of, out| out.add(&["a \"\\\n"], *of)),
        Metric::info("build", "What is running", &["version"], |_, out| out.add(&["1"], true)),
        Metric::gauge("age_seconds", "Age", &[], |_, out| out.add(&[], 3.0)),
        Metric::gauge("end", "Known to no one", &[], |_, _| {}),
        Metric::gauge("left", "Of no one yet", &["whose"], |_, _| {}),
        Metric::histogram("took_seconds", "Time", &["of"], |_, out| {
            let counts = vec![(0.5, 1), (10.0, 0), (f64::INFINITY, 2)];
            out.add(&["x"], Buckets { counts, total: Duration::from_millis(1_250) });
        }),
    ];

    #[test]
    fn a_family_is_named_in_the_older_format_as_its_samples_are() {
        let mut set = MetricSet::default();
        set.read(ROWS, &2);
        let openmetrics = set.text(TextFormat::OpenMetrics);
        assert_eq!(
            openmetrics,
            r#"# HELP requests Requests
# TYPE requests counter
requests_total{code="a \"\\\n"} 2
# HELP build What is running
# TYPE build info
build_info{version="1"} 1
# HELP age_seconds Age
# TYPE age_seconds gauge
age_seconds 3.0
# HELP left Of no one yet
# TYPE left gauge
# HELP took_seconds Time
# TYPE took_seconds histogram
took_seconds_sum{of="x"} 1.25
took_seconds_count{of="x"} 3
took_seconds_bucket{le="0.5",of="x"} 1
took_seconds_bucket{le="10.0",of="x"} 1
took_seconds_bucket{le="+Inf",of="x"} 3
# EOF
"#
        );
        let expected = openmetrics
            .replace("HELP requests ", "HELP requests_total ")
            .replace("TYPE requests ", "TYPE requests_total ")
            .replace("HELP build ", "HELP build_info ")
            .replace("TYPE build info", "TYPE build_info gauge")
            .replace("# EOF\n", "");
        assert_eq!(set.text(TextFormat::Plain), expected);
    }

    #[test]
    fn an_owner_that_is_not_there_has_no_metrics() {
        let mut set = MetricSet::default();
        set.read(ROWS, None);
        assert_eq!(set.text(TextFormat::Plain), "");
    }
}
