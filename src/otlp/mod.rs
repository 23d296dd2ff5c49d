//! Spans and metrics to a collector: OTLP over HTTP, in Protocol Buffers.
//!
//! Workers write spans into buffers of their own; one task on the control thread sends them, and the
//! metrics at an interval. Nothing here holds up a request: what cannot be sent is dropped and
//! counted. It knows the format, not what is recorded.

mod batch;
mod envelope;
mod export;
mod metrics;
mod queue;
mod settings;
mod span;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::metric::Metric;
use batch::{Counts, SpanBatch, WAITING};
use export::Exporter;
use settings::client;

pub use queue::Spans;
pub use settings::{Endpoint, EndpointError, Settings};
pub use span::{Parent, Span, SpanKind};
pub use wire::Value;

/// What is known of the collector.
pub const METRICS: &[Metric<Collector>] = &[
    Metric::counter(
        "wbg_otlp_spans",
        "Spans recorded, by what became of them",
        &["result"],
        |collector, out| {
            let Counts { sent, refused, dropped, .. } = &*collector.counts;
            out.each([("sent", sent), ("refused", refused), ("dropped", dropped)]);
        },
    ),
    Metric::counter(
        "wbg_otlp_exports",
        "Requests to the collector, by what came of them",
        &["result"],
        |collector, out| {
            let Counts { exports, failures, .. } = &*collector.counts;
            out.each([("succeeded", exports), ("failed", failures)]);
        },
    ),
];

/// The collector, as the workers see it: where they hand spans over.
pub struct Collector {
    settings: Arc<Settings>,
    counts: Arc<Counts>,
    sender: mpsc::Sender<SpanBatch>,
    finish: watch::Sender<bool>,
    exporter: Mutex<Option<Exporter>>,
}

impl Collector {
    /// Prepares TLS; sends nothing yet. What `before` counted goes on.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(settings: Settings, before: Option<&Self>) -> Result<Self, rustls::Error> {
        let client = client(&settings)?;
        let settings = Arc::new(settings);
        let counts = before.map(|before| Arc::clone(&before.counts)).unwrap_or_default();
        let (sender, inbox) = mpsc::channel(WAITING);
        let (finish, finishing) = watch::channel(false);
        let exporter =
            Exporter::new(client, Arc::clone(&settings), Arc::clone(&counts), inbox, finishing);
        Ok(Self { settings, counts, sender, finish, exporter: Mutex::new(Some(exporter)) })
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What sends; `None` but for the first time. It ends when the collector is dropped and all is
    /// sent, or soon after [`Collector::finish`].
    pub fn exporter(&self) -> Option<Exporter> {
        self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks the exporter to send what there is, without patience, and to end.
    pub fn finish(&self) {
        self.finish.send_replace(true);
    }
}
