//! Metrics: counters, the rows that say what each is and how it is read, and snapshots of them, which
//! the text of Prometheus and OTLP are both made of.
//!
//! A module owns its counters and keeps a table of rows beside them. Whoever shows metrics reads the
//! tables; a new metric is a row in the table of its module and nothing else.

mod counter;
mod histogram;
mod prometheus;

use std::time::Duration;

pub use counter::{Counter, Counters, Gauge, PerWorker};
pub use histogram::{Buckets, Histogram};
pub use prometheus::TextFormat;

/// What a metric is, and how its samples are read from their owner.
pub struct Metric<S: ?Sized> {
    name: &'static str,
    help: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    read: fn(&S, &mut Samples),
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It grows from the start of the process on. Its samples are called `…_total`.
    Counter,
    /// A value of the moment.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Always 1: its labels are what it says. Its samples are called `…_info`.
    Info,
}

/// The samples of a metric, as they are read.
#[derive(Default)]
pub struct Samples(Vec<Sample>);

/// A value, and what it is of.
#[derive(Debug)]
pub struct Sample {
    /// The values of the labels, in their order.
    pub labels: Box<[String]>,
    /// The value.
    pub value: SampleValue,
}

/// The value of a sample.
#[derive(Debug)]
pub enum SampleValue {
    /// A whole number.
    Whole(i64),
    /// Any number.
    Real(f64),
    /// Those of a histogram.
    Buckets(Buckets),
}

/// A metric with its samples of one moment.
#[derive(Debug)]
pub struct MetricFamily {
    /// Its name, without the suffix that the samples of its kind have.
    pub name: &'static str,
    /// What it is, in a sentence without a full stop.
    pub help: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// Every metric at one moment.
#[derive(Debug, Default)]
pub struct MetricSet {
    /// Since when everything is counted, in Unix time.
    pub started: Duration,
    /// The metrics, in the order of their tables.
    pub families: Vec<MetricFamily>,
}

impl<S: ?Sized> Metric<S> {
    /// A counter.
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&S, &mut Samples),
    ) -> Self {
        Self { name, help, kind: MetricKind::Counter, labels, read }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&S, &mut Samples),
    ) -> Self {
        Self { kind: MetricKind::Gauge, ..Self::counter(name, help, labels, read) }
    }

    /// A histogram.
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&S, &mut Samples),
    ) -> Self {
        Self { kind: MetricKind::Histogram, ..Self::counter(name, help, labels, read) }
    }

    /// An info.
    pub const fn info(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&S, &mut Samples),
    ) -> Self {
        Self { kind: MetricKind::Info, ..Self::counter(name, help, labels, read) }
    }
}

impl Samples {
    /// Adds a sample; `labels` are the values of the row's labels.
    pub fn add(&mut self, labels: &[&str], value: impl Into<SampleValue>) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample { labels, value: value.into() });
    }

    /// Adds a sample for each value of the row's only label.
    pub fn each<V: Into<SampleValue>>(
        &mut self,
        counts: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        counts.into_iter().for_each(|(label, count)| self.add(&[label], count));
    }
}

impl MetricSet {
    /// Reads the metrics of an owner, where there is one. A metric without labels that has no value
    /// is not there; one with labels is declared before it has a sample.
    pub fn read<'a, S: ?Sized + 'a>(
        &mut self,
        rows: &[Metric<S>],
        owner: impl Into<Option<&'a S>>,
    ) {
        let Some(owner) = owner.into() else { return };
        for Metric { name, help, kind, labels, read } in rows {
            let mut samples = Samples::default();
            read(owner, &mut samples);
            let Samples(samples) = samples;
            if !(labels.is_empty() && samples.is_empty()) {
                self.families.push(MetricFamily { name, help, kind: *kind, labels, samples });
            }
        }
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<i64> for SampleValue {
    fn from(value: i64) -> Self {
        Self::Whole(value)
    }
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> Self {
        Self::Whole(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for SampleValue {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<Buckets> for SampleValue {
    fn from(value: Buckets) -> Self {
        Self::Buckets(value)
    }
}

impl From<&Counter> for SampleValue {
    fn from(counter: &Counter) -> Self {
        counter.get().into()
    }
}
