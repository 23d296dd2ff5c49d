//! Spans and metrics to a collector: OTLP over HTTP, in Protocol Buffers.
//!
//! Workers write spans into buffers of their own; one task on the control thread sends them, and the
//! metrics at an interval. Nothing here holds up a request: what cannot be sent is dropped and
//! counted. It knows the format, not what is recorded.

mod envelope;
mod export;
mod metrics;
mod queue;
mod span;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

use crate::metric::{Counter, Metric};
use crate::net::{Client, Origin, Url, UrlError, WEB};
use crate::trace::Sampling;
use export::Exporter;
use queue::SpanBatch;

pub use queue::Spans;
pub use span::{Parent, Span, SpanKind};
pub use wire::Value;

/// What is sent, and where, from the `[otlp]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// What it is told with each request, credentials for instance: marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates that are trusted instead of the platform's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What sends: `service.name` and its like.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded; `None` for none.
    pub traces: Option<Sampling>,
    /// How often metrics are sent; `None` for never.
    pub metrics: Option<Duration>,
}

/// The paths of the signals.
const TRACES_PATH: &str = "/v1/traces";
const METRICS_PATH: &str = "/v1/metrics";

impl Settings {
    /// What is sent, and to which path.
    #[must_use]
    pub fn signals(&self) -> Vec<(&'static str, &'static str)> {
        let signals = [
            ("traces", TRACES_PATH, self.traces.is_some()),
            ("metrics", METRICS_PATH, self.metrics.is_some()),
        ];
        signals.into_iter().filter(|(.., sent)| *sent).map(|(name, path, _)| (name, path)).collect()
    }

    /// Sends an empty report to one of those paths, for a command that runs no task.
    ///
    /// # Errors
    /// Why the collector did not take it.
    pub async fn probe(&self, path: &'static str) -> Result<(), String> {
        export::probe(self, path).await
    }
}

/// What speaks to the collector.
fn client(settings: &Settings) -> Result<Client, rustls::Error> {
    if settings.endpoint.origin().tls {
        Client::over_tls(settings.ca.as_deref(), "otlp.ca")
    } else {
        Ok(Client::in_the_clear())
    }
}

/// Where a collector is: a URL without the path of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why a text is no address of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No absolute URL.
    #[error("it is no absolute URL")]
    Form,
    /// Neither `http` nor `https`.
    #[error("its scheme is neither http nor https")]
    Scheme,
    /// A user, a password, a query or a fragment.
    #[error("it has a user, a password, a query or a fragment")]
    Extra,
    /// The path of one signal.
    #[error("it ends with the path of a signal: leave /v1/traces or /v1/metrics out")]
    Signal,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text, WEB).map_err(|why| match why {
            UrlError::Scheme => EndpointError::Scheme,
            UrlError::Fragment => EndpointError::Extra,
            _ => EndpointError::Form,
        })?;
        if url.userinfo().is_some() || url.query().is_some() {
            return Err(EndpointError::Extra);
        }
        let endpoint = Self(url);
        if [TRACES_PATH, METRICS_PATH].iter().any(|path| endpoint.base().ends_with(path)) {
            return Err(EndpointError::Signal);
        }
        Ok(endpoint)
    }
}

impl Endpoint {
    /// Whom to connect to.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        self.0.origin()
    }

    /// What stands before `/v1/traces`; without a slash at its end.
    fn base(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

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

/// What became of what was to be sent.
#[derive(Debug, Default)]
struct Counts {
    sent: Counter,
    refused: Counter,
    dropped: Counter,
    exports: Counter,
    failures: Counter,
}

impl Counts {
    fn dropped(&self, spans: u64) {
        self.dropped.add_shared(spans);
    }

    fn sent(&self, spans: u64, refused: u64) {
        self.sent.add_shared(spans.saturating_sub(refused));
        self.refused.add_shared(refused.min(spans));
    }

    fn export(&self, succeeded: bool) {
        if succeeded { &self.exports } else { &self.failures }.add_shared(1);
    }
}

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
        let (sender, inbox) = mpsc::channel(queue::WAITING);
        let (finish, finishing) = watch::channel(false);
        let exporter =
            Exporter::new(client, Arc::clone(&settings), Arc::clone(&counts), inbox, finishing);
        Ok(Self { settings, counts, sender, finish, exporter: Mutex::new(Some(exporter)) })
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What sends; `None` but for the first time. It ends when the collector is dropped and all is
    /// sent, or soon after [`Collector::finish`].
    #[must_use]
    pub fn exporter(&self) -> Option<Exporter> {
        self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks the exporter to send what there is, without patience, and to end.
    pub fn finish(&self) {
        self.finish.send_replace(true);
    }
}
