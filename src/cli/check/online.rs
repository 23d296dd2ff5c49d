//! `check --online`: the questions that only others can answer: whether the issuers' keys come, the
//! store takes writes, the service takes a signed read, the collector takes a report, and whose
//! certificate the upstream shows.
//!
//! Each is asked by what the gateway asks it by, all at once, each within five seconds. Nothing is
//! changed anywhere but for a key of the store that ends by itself. No answer holds a secret.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, timeout};

use super::service::{self, ServiceReader};
use crate::api::{Region, TokenKind};
use crate::certificate;
use crate::gateway::{self, Snapshot};
use crate::net::{Dialler, Origin, tls};
use crate::otlp;
use crate::store;
use crate::token::Need;
use crate::upstream;

/// How long each question waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked.
type CheckFuture = Pin<Box<dyn Future<Output = Result<String, String>>>>;

/// A question on its way.
struct OnlineCheck {
    what: String,
    whom: String,
    asking: CheckFuture,
}

/// A question, and what came of it.
pub(super) struct OnlineResult {
    what: String,
    whom: String,
    answer: Result<String, String>,
    took: Duration,
}

/// Whom the gateway speaks to: what the settings say before a snapshot is built of them.
pub(super) struct Others {
    upstream: upstream::Settings,
    store: Option<store::Settings>,
    otlp: Option<otlp::Settings>,
}

impl Others {
    pub(super) fn of(settings: &gateway::Settings) -> Self {
        let (upstream, store) = (settings.upstream.clone(), settings.store.clone());
        Self { upstream, store, otlp: settings.otlp.clone() }
    }
}

impl OnlineResult {
    pub(super) const fn is_good(&self) -> bool {
        self.answer.is_ok()
    }

    fn parts(&self) -> (&str, u128) {
        let (Ok(answer) | Err(answer)) = &self.answer;
        (answer, self.took.as_millis())
    }

    pub(super) fn json(&self) -> Value {
        let (answer, ms) = self.parts();
        json!({ "asked": self.what, "of": self.whom, "ok": self.is_good(), "answer": answer, "ms": ms })
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let (answer, ms) = self.parts();
        let mark = if self.is_good() { "ok    " } else { "FAILED" };
        writeln!(out, "online: {mark} {} of {}: {answer} ({ms} ms)", self.what, self.whom)
    }
}

/// Asks everybody, at once; the answers are in the order of the questions.
pub(super) fn ask(
    others: &Others,
    snapshot: &Rc<Snapshot>,
    regions: &[Region],
    now: Timestamp,
) -> anyhow::Result<Vec<OnlineResult>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let questions = questions(others, snapshot, regions, now)?;
    let local = LocalSet::new();
    let asked = local.run_until(async {
        let each = questions.into_iter().map(|question| spawn_local(answered(question)));
        let mut answers = Vec::new();
        for one in each.collect::<Vec<_>>() {
            answers.push(one.await?);
        }
        Ok(answers)
    });
    runtime.block_on(asked)
}

async fn answered(OnlineCheck { what, whom, asking }: OnlineCheck) -> OnlineResult {
    let since = Instant::now();
    let late = || Err(format!("no answer came within {} s", TIMEOUT.as_secs()));
    let answer = timeout(TIMEOUT, asking).await.unwrap_or_else(|_| late());
    OnlineResult { what, whom, answer, took: since.elapsed() }
}

fn questions(
    others: &Others,
    snapshot: &Rc<Snapshot>,
    regions: &[Region],
    now: Timestamp,
) -> anyhow::Result<Vec<OnlineCheck>> {
    let mut questions = Vec::new();
    let mut add = |what: String, whom: String, asking: CheckFuture| {
        questions.push(OnlineCheck { what, whom, asking });
    };
    let issuers = &snapshot.callers.issuers;
    for (index, name) in issuers.names().enumerate() {
        let Some(url) = issuers.fetched_at(index) else { continue };
        let snapshot = Rc::clone(snapshot);
        let keys = async move {
            let fetched = snapshot.callers.issuers.fetch_now(index).await;
            fetched.map(|keys| format!("{keys} that can be used"))
        };
        add(format!("the keys of the issuer `{name}`"), url.to_string(), Box::pin(keys));
    }
    if let Some(settings) = others.store.clone() {
        let whom =
            settings.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let probe = async move {
            let shared = store::SharedStore::new(settings).map_err(|why| why.to_string())?;
            shared.probe().await
        };
        add("a write and a script".to_owned(), format!("the store at {whom}"), Box::pin(probe));
    }
    let origin = others.upstream.origin.clone();
    let whom = others.upstream.place();
    if origin.tls {
        let shown = certificate_of(others.upstream.clone(), now);
        add("the certificate".to_owned(), format!("the upstream at {whom}"), Box::pin(shown));
    }
    for project in snapshot.projects() {
        let need = Need { kind: TokenKind::Sdk, role: service::ROLE, uuid: None, or_sdk: false };
        let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let tokens = project.token_of_each_key(&need, now_ms)?;
        let several = tokens.len() > 1;
        for (index, token) in tokens.into_iter().enumerate() {
            let key = if several { format!(", key {}", index + 1) } else { String::new() };
            for region in regions {
                let what = format!("{} as the project `{}`{key}", service::QUESTION, project.name);
                let reader = ServiceReader::new(&others.upstream, token.clone(), region);
                let whom = format!("the service at {whom} in {region}");
                add(what, whom, Box::pin(reader.read()));
            }
        }
    }
    if let Some(settings) = &others.otlp {
        for (signal, path) in settings.signals() {
            let (whom, settings) = (settings.endpoint.to_string(), settings.clone());
            let probe = async move {
                settings.probe(path).await.map(|()| "an empty report was taken".to_owned())
            };
            add(format!("to take {signal}"), format!("the collector at {whom}"), Box::pin(probe));
        }
    }
    Ok(questions)
}

/// Until when the certificate is good that the upstream shows, once it is trusted.
async fn certificate_of(settings: upstream::Settings, now: Timestamp) -> Result<String, String> {
    let Origin { host, port, .. } = &settings.origin;
    let setup = tls::Connector::new(settings.ca.as_deref(), "upstream.ca", &[b"h2", b"http/1.1"]);
    let connector = setup.map_err(|why| why.to_string())?;
    let name = tls::server_name(host).ok_or("its name is none that a certificate can have")?;
    let deadline = Instant::now() + TIMEOUT;
    let dialler = Dialler::system().through(settings.egress.clone());
    let socket = dialler.connect(host, *port, deadline).await;
    let socket = socket.map_err(|why| why.to_string())?;
    let stream = connector.connect(name, socket).await.map_err(|why| why.to_string())?;
    let connection = stream.get_ref().1;
    let own = connection.peer_certificates().and_then(|chain| chain.first());
    let end = own.and_then(|own| certificate::end(own));
    let end = end.and_then(|second| Timestamp::from_second(second).ok());
    let end = end.ok_or("its certificate cannot be read")?;
    let days = end.duration_since(now).as_hours() / 24;
    let http = match connection.alpn_protocol() {
        Some(b"h2") => "HTTP/2",
        _ => "HTTP/1.1",
    };
    Ok(format!("trusted, and good until {end}, {days} days from now; {http}"))
}
