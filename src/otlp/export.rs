//! The task that sends, on the control thread: spans when there are some, metrics at an interval.
//!
//! A request that fails in a way that passes is sent again, later and later, as long as the
//! collector asks for; what workers hand over meanwhile waits, up to a bound.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::batch::{Counts, SpanBatch, WAITING};
use super::settings::{METRICS_PATH, Settings, TRACES_PATH, client};
use super::{envelope, metrics};
use crate::field::delta_seconds;
use crate::metric::MetricSet;
use crate::net::{self, Client, ClientError, Connection, within};

/// How long spans wait for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);

/// A request has no more bytes of spans, but for the last batch in it.
const LARGEST: usize = 1024 * 1024;

/// The longest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The wait after the first failure; it doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// A collector that asks for more patience than this is asked again after so long.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How often a request of spans is sent before it is given up.
const ATTEMPTS: u32 = 8;

/// Sends. Made by [`super::Collector`].
pub struct Exporter {
    client: Arc<Client>,
    settings: Arc<Settings>,
    counts: Arc<Counts>,
    inbox: mpsc::Receiver<SpanBatch>,
    finishing: watch::Receiver<bool>,
}

/// The sending of one signal.
struct Signal {
    client: Arc<Client>,
    settings: Arc<Settings>,
    counts: Arc<Counts>,
    finishing: watch::Receiver<bool>,
    /// What is sent, in the log.
    name: &'static str,
    path: &'static str,
    /// Kept from one request to the next.
    connection: Option<Connection>,
    /// Whether the last request failed: a change is logged, and nothing between.
    failing: bool,
}

/// Why a request was of no use.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no answer was there in time")]
    Slow,
    #[error("it answered {0}")]
    Status(StatusCode, Option<Duration>),
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
}

impl ExportError {
    /// Whether the same request may be taken later; those statuses are OTLP's own.
    const fn passes(&self) -> bool {
        match self {
            Self::Client(_) | Self::Slow => true,
            Self::Status(status, _) => matches!(
                *status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::Request(_) => false,
        }
    }

    /// How long to wait before the next try, after so many.
    fn wait(&self, tries: u32, random: f64) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << (tries - 1).min(16)).min(LAST_RETRY);
        // Up to a quarter less, so that gateways that were started together do not ask together.
        let wait = wait.mul_f64(random.mul_add(-0.25, 1.0));
        match self {
            Self::Status(_, Some(asked)) => wait.max((*asked).min(LONGEST_RETRY_AFTER)),
            _ => wait,
        }
    }
}

impl Exporter {
    pub(super) fn new(
        client: Client,
        settings: Arc<Settings>,
        counts: Arc<Counts>,
        inbox: mpsc::Receiver<SpanBatch>,
        finishing: watch::Receiver<bool>,
    ) -> Self {
        Self { client: Arc::new(client), settings, counts, inbox, finishing }
    }

    /// Sends until there is no one any more who hands something over, or [`super::Collector::finish`]
    /// is called; `metrics` makes what is sent at the interval.
    pub async fn run(self, metrics: impl Fn() -> MetricSet) {
        let signal = |name, path| Signal {
            client: Arc::clone(&self.client),
            settings: Arc::clone(&self.settings),
            counts: Arc::clone(&self.counts),
            finishing: self.finishing.clone(),
            name,
            path,
            connection: None,
            failing: false,
        };
        let (spans, numbers) = (signal("spans", TRACES_PATH), signal("metrics", METRICS_PATH));
        let numbers = async {
            if let Some(every) = self.settings.metrics {
                numbers.send_metrics(every, metrics).await;
            }
        };
        tokio::join!(spans.send_spans(self.inbox), numbers);
    }
}

impl Signal {
    async fn send_spans(mut self, mut inbox: mpsc::Receiver<SpanBatch>) {
        let mut finishing = self.finishing.clone();
        loop {
            let first = tokio::select! {
                batch = inbox.recv() => batch,
                () = asked(&mut finishing) => {
                    inbox.close();
                    inbox.recv().await
                }
            };
            let Some(mut batch) = first else { return };
            patience(&mut finishing, sleep(GATHER)).await;
            for _ in 0..WAITING {
                if batch.bytes.len() >= LARGEST {
                    break;
                }
                let Ok(more) = inbox.try_recv() else { break };
                batch.bytes.extend_from_slice(&more.bytes);
                batch.spans += more.spans;
            }
            self.deliver(&batch).await;
        }
    }

    /// Sends spans, as often as it takes, up to a bound.
    async fn deliver(&mut self, batch: &SpanBatch) {
        let body = Bytes::from(envelope::request(&self.settings.resource, &batch.bytes));
        let mut finishing = self.finishing.clone();
        for tries in 1..=ATTEMPTS {
            match self.send(body.clone()).await {
                Ok(answer) => {
                    let (refused, why) = envelope::refused(&answer);
                    self.counts.sent(batch.spans, refused);
                    if refused > 0 {
                        let why = shown(&why);
                        tracing::warn!(refused, why, "the collector did not take all spans");
                    }
                    return;
                }
                Err(why) if why.passes() => {
                    // Whoever waits for the end does not wait for a collector that is away.
                    if tries == ATTEMPTS || *finishing.borrow() {
                        break;
                    }
                    let wait = why.wait(tries, fastrand::f64());
                    patience(&mut finishing, sleep(wait)).await;
                }
                Err(ExportError::Status(..)) => return self.counts.sent(batch.spans, batch.spans),
                Err(_) => break,
            }
        }
        self.counts.dropped(batch.spans);
    }

    /// Sends metrics at each interval, and once more at the end. What fails is not sent again: the
    /// next report says the same and more.
    async fn send_metrics(mut self, every: Duration, metrics: impl Fn() -> MetricSet) {
        let mut finishing = self.finishing.clone();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once, and there is nothing to tell yet.
        ticks.tick().await;
        loop {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                end = finishing.wait_for(|finishing| *finishing) => match end {
                    Ok(_) => true,
                    Err(_) => return,
                },
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let records = metrics::records(&metrics(), now);
            let body = envelope::request(&self.settings.resource, &records);
            if let Ok(answer) = self.send(Bytes::from(body)).await {
                let (refused, why) = envelope::refused(&answer);
                if refused > 0 {
                    let why = shown(&why);
                    tracing::warn!(refused, why, "the collector did not take all metrics");
                }
            }
            if last {
                return;
            }
        }
    }

    /// Sends a request; counts it, and logs when that begins to fail or ends to.
    async fn send(&mut self, body: Bytes) -> Result<Bytes, ExportError> {
        let sent = within(self.settings.timeout, self.exchange(body)).await;
        let sent = sent.unwrap_or(Err(ExportError::Slow));
        self.counts.export(sent.is_ok());
        let (what, endpoint) = (self.name, &self.settings.endpoint);
        match &sent {
            Ok(_) if self.failing => {
                tracing::info!(what, %endpoint, "the collector takes them again");
            }
            Ok(_) => {}
            Err(why) => {
                self.connection = None;
                if !self.failing {
                    tracing::warn!(what, %endpoint, "the collector does not take them: {why}");
                }
            }
        }
        self.failing = sent.is_err();
        sent
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Bytes, ExportError> {
        let endpoint = &self.settings.endpoint;
        let mut kept = self.connection.take();
        let open = match &mut kept {
            Some(kept) => kept.is_open().await,
            None => false,
        };
        let mut connection = match kept.filter(|_| open) {
            Some(kept) => kept,
            None => self.client.connect(endpoint.origin()).await?,
        };
        let answer = connection.send(self.request(body)?).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ExportError::Status(status, retry_after(&answer)));
        }
        let answer = net::read(answer.into_body(), MAX_ANSWER).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let endpoint = &self.settings.endpoint;
        let mut request = Request::post([endpoint.base(), self.path].concat())
            .header(HOST, &endpoint.origin().authority)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(USER_AGENT, net::USER_AGENT)
            .body(Full::new(body))?;
        for (name, value) in &self.settings.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }
}

impl Settings {
    /// Sends an empty report to the path of a signal, for a command that runs no task.
    ///
    /// # Errors
    /// Why the collector did not take it.
    pub async fn probe(&self, path: &'static str) -> Result<(), String> {
        let client = client(self).map_err(|why| why.to_string())?;
        let settings = Arc::new(self.clone());
        let body = Bytes::from(envelope::request(&settings.resource, &[]));
        let (_finish, finishing) = watch::channel(false);
        let mut signal = Signal {
            client: Arc::new(client),
            settings,
            counts: Arc::default(),
            finishing,
            name: path,
            path,
            connection: None,
            failing: false,
        };
        signal.exchange(body).await.map(drop).map_err(|why| why.to_string())
    }
}

/// Until the end is asked for; forever, when no one can ask any more.
async fn asked(finishing: &mut watch::Receiver<bool>) {
    if finishing.wait_for(|finishing| *finishing).await.is_err() {
        pending::<()>().await;
    }
}

/// Waits for something, or until the end is asked for.
async fn patience(finishing: &mut watch::Receiver<bool>, what: impl Future<Output = ()>) {
    tokio::select! {
        () = what => {}
        () = asked(finishing) => {}
    }
}

/// What a collector asks for in seconds. A date is no matter: ours may be wrong.
fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    delta_seconds(answer.headers().get(RETRY_AFTER)?.as_bytes()).map(Duration::from_secs)
}

/// The words of a collector, as far as a log needs them.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_asked_again_later_and_later_or_when_it_says() {
        let waits =
            |why: &ExportError| (1..8).map(|tries| why.wait(tries, 0.0).as_millis()).collect();
        let all: Vec<u128> = waits(&ExportError::Slow);
        assert_eq!(all, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(ExportError::Slow.wait(1, 1.0), Duration::from_millis(375));
        let asks = |seconds| {
            let after = Some(Duration::from_secs(seconds));
            ExportError::Status(StatusCode::SERVICE_UNAVAILABLE, after)
        };
        assert_eq!(asks(30).wait(1, 0.5), Duration::from_secs(30));
        assert_eq!(asks(0).wait(1, 0.0), FIRST_RETRY);
        assert_eq!(asks(86_400).wait(1, 0.0), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn only_what_passes_is_sent_again() {
        for (status, passes) in [
            (StatusCode::TOO_MANY_REQUESTS, true),
            (StatusCode::SERVICE_UNAVAILABLE, true),
            (StatusCode::GATEWAY_TIMEOUT, true),
            (StatusCode::INTERNAL_SERVER_ERROR, false),
            (StatusCode::BAD_REQUEST, false),
            (StatusCode::UNAUTHORIZED, false),
            (StatusCode::FOUND, false),
        ] {
            assert_eq!(ExportError::Status(status, None).passes(), passes, "{status}");
        }
        assert!(ExportError::Slow.passes());
    }

    #[test]
    fn what_a_collector_says_is_logged_on_one_line_and_short() {
        assert_eq!(shown("a\nb\u{1b}[31mc"), "ab[31mc");
        assert_eq!(shown(&"x".repeat(1_000)).len(), 200);
    }
}
