//! Metrics, from the very set that the text of Prometheus is made of: so the two have the same
//! names and values, and whatever is counted is in both.

use std::time::Duration;

use super::wire::{Message, Value};
use crate::metric::{Buckets, MetricFamily, MetricKind, MetricSet, Sample, SampleValue};

/// Counted from the start on, not since the last report.
const CUMULATIVE: u64 = 2;

/// The field of `ScopeMetrics` that a metric is.
const METRICS: u32 = 2;

/// The times of a report, in nanoseconds of Unix time.
#[derive(Clone, Copy)]
struct Times {
    started: u64,
    now: u64,
}

/// The metrics of a set, one written behind the other. What has no sample is omitted.
pub(super) fn records(set: &MetricSet, now: Duration) -> Vec<u8> {
    let [started, now] =
        [set.started, now].map(|since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    let mut out = Vec::with_capacity(64 * 1024);
    for family in set.families.iter().filter(|family| !family.samples.is_empty()) {
        Message(&mut out).message(METRICS, |metric| write(family, metric, Times { started, now }));
    }
    out
}

/// Writes a family as a `Metric`.
fn write(family: &MetricFamily, metric: &mut Message<'_>, times: Times) {
    // An info is a gauge of 1 whose name says so.
    let name = match family.kind {
        MetricKind::Info => &[family.name, "_info"].concat(),
        _ => family.name,
    };
    metric.text(1, name);
    metric.text(2, family.help);
    metric.text(3, if family.name.ends_with("_seconds") { "s" } else { "" });
    let points = |data: &mut Message<'_>| {
        for sample in &family.samples {
            data.message(1, |point| write_point(family, sample, point, times));
        }
    };
    match family.kind {
        MetricKind::Counter => metric.message(7, |sum| {
            points(sum);
            sum.number(2, CUMULATIVE);
            sum.flag(3, true);
        }),
        MetricKind::Histogram => metric.message(9, |histogram| {
            points(histogram);
            histogram.number(2, CUMULATIVE);
        }),
        MetricKind::Gauge | MetricKind::Info => metric.message(5, points),
    }
}

/// Writes a sample as a `NumberDataPoint` or, of a histogram, as a `HistogramDataPoint`.
fn write_point(family: &MetricFamily, sample: &Sample, point: &mut Message<'_>, times: Times) {
    if matches!(family.kind, MetricKind::Counter | MetricKind::Histogram) {
        point.fixed64(2, times.started);
    }
    point.fixed64(3, times.now);
    let labels = match &sample.value {
        SampleValue::Whole(value) => {
            point.chosen_fixed64(6, value.cast_unsigned());
            7
        }
        SampleValue::Real(value) => {
            point.chosen_double(4, *value);
            7
        }
        SampleValue::Buckets(buckets) => {
            write_buckets(buckets, point);
            9
        }
    };
    for (name, value) in family.labels.iter().zip(&sample.labels) {
        point.attribute(labels, name, Value::Text(value));
    }
}

fn write_buckets(buckets: &Buckets, point: &mut Message<'_>) {
    let counts: Vec<u64> = buckets.counts.iter().map(|(_, count)| *count).collect();
    let bounds = buckets.counts.iter().map(|(bound, _)| *bound);
    let bounds: Vec<u64> = bounds.filter(|bound| bound.is_finite()).map(f64::to_bits).collect();
    point.fixed64(4, buckets.count());
    point.chosen_double(5, buckets.total.as_secs_f64());
    point.packed(6, counts.into_iter());
    point.packed(7, bounds.into_iter());
}
