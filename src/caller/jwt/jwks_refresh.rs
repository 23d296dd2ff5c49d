//! The task that brings the keys of issuers and keeps them fresh, on the control thread.
//!
//! One loop for each issuer, so that one that is down holds up no other. Failures never take keys
//! away; they are retried forever, later and later.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::issuers::{Issuer, Issuers, KeyLocation, Remote};
use super::jwks_client::DocumentError;
use super::key_set::{KeySet, KeySetError};
use super::key_store::KeyStore;
use super::{HttpsUrl, HttpsUrlError};
use crate::api::{parse_object, printable};
use crate::text::{self, TextError};

/// What holds where the provider says nothing, and the bounds of what it says.
const FRESH: Duration = Duration::from_secs(15 * 60);
const LEAST_FRESH: Duration = Duration::from_secs(5 * 60);
const MOST_FRESH: Duration = Duration::from_secs(24 * 3600);

/// The wait after the first failure; it doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The wait before a task that ended by a defect is started again.
const RESTART: Duration = Duration::from_secs(6);

/// Brings keys: a task for each issuer, which ends when this is dropped.
#[derive(Default)]
pub struct Fetcher {
    tasks: Vec<(Arc<KeyStore>, JoinSet<()>)>,
}

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url}: {why}")]
    Document { url: HttpsUrl, why: DocumentError },
    #[error("{url}: {why}")]
    Set { url: HttpsUrl, why: KeySetError },
    #[error("{url}: {why}")]
    Discovery { url: HttpsUrl, why: DiscoveryError },
}

/// Why a discovery document (OpenID Connect Discovery §4.2) is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    #[error("the discovery document {0}")]
    Text(#[from] TextError),
    #[error("the discovery document is not read: {0}")]
    Json(String),
    #[error("the discovery document is that of another issuer, `{0}`")]
    Issuer(String),
    #[error("the discovery document has no `jwks_uri`")]
    Missing,
    #[error("the `jwks_uri` of the discovery document is not taken: {0}")]
    Url(#[from] HttpsUrlError),
}

impl FetchError {
    /// How long the provider wants to be left alone.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Document { why: DocumentError::Status { retry_after, .. }, .. } => {
                retry_after.unwrap_or_default()
            }
            _ => Duration::ZERO,
        }
    }
}

impl Fetcher {
    /// Fetches for these issuers, and for no others: at once, unless the keys are young, and from
    /// then on when they are about to get old or one is wanted. What is under way for one of them
    /// goes on. Called within a runtime.
    pub fn follow(&mut self, issuers: &Arc<Issuers>) {
        let mut before = std::mem::take(&mut self.tasks);
        for index in 0..issuers.len() {
            let Some(issuer) = issuers.get(index).filter(|issuer| issuer.remote.is_some()) else {
                continue;
            };
            let known = before.iter().position(|(store, _)| Arc::ptr_eq(store, &issuer.store));
            let task = known.map(|place| before.swap_remove(place));
            self.tasks.push(task.unwrap_or_else(|| {
                let mut task = JoinSet::new();
                task.spawn(keep_fresh_whatever_happens(Arc::clone(issuers), index));
                (Arc::clone(&issuer.store), task)
            }));
        }
    }
}

/// Without the task that fetches them, the keys would get old.
async fn keep_fresh_whatever_happens(issuers: Arc<Issuers>, index: usize) {
    let Some(issuer) = issuers.get(index) else { return };
    let task = || {
        let issuers = Arc::clone(&issuers);
        async move {
            if let Some(issuer) = issuers.get(index) {
                issuer.keep_fresh().await;
            }
        }
    };
    restarted(task, || issuer.defective()).await;
}

/// Runs a task until it ends. One that ends by a defect is reported, and started again after a
/// while.
async fn restarted<F>(task: impl Fn() -> F, report: impl Fn())
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Ends with this task.
        let mut running = JoinSet::new();
        running.spawn(task());
        if !matches!(running.join_next().await, Some(Err(error)) if error.is_panic()) {
            return;
        }
        report();
        sleep(RESTART).await;
    }
}

impl Issuers {
    /// Where the keys of an issuer are fetched; `None` where they are not.
    pub fn fetched_at(&self, index: usize) -> Option<&HttpsUrl> {
        match &self.get(index)?.remote.as_ref()?.place {
            KeyLocation::KeySet(url) | KeyLocation::Discovery(url) => Some(url),
        }
    }

    /// Brings the keys of one issuer now, for a command that runs no task; says how many came.
    ///
    /// # Errors
    /// Why they did not come.
    pub async fn fetch_now(&self, index: usize) -> Result<usize, String> {
        let Some(issuer) = self.get(index) else { return Ok(0) };
        let Some(remote) = &issuer.remote else { return Ok(0) };
        issuer.store.begin(true);
        match (KeyDownload { remote, issuer, discovered: None }).fetch(true).await {
            Ok((set, _)) => {
                let keys = set.len();
                issuer.arrived(set);
                Ok(keys)
            }
            Err(why) => Err(why.to_string()),
        }
    }
}

impl Issuer {
    /// Returns at once where there is nothing to fetch.
    async fn keep_fresh(&self) {
        let Some(remote) = &self.remote else { return };
        let mut source = KeyDownload { remote, issuer: self, discovered: None };
        let mut planned = true;
        let mut failures = 0;
        // Keys that were taken over from before a reload are not asked for again.
        if let Some(age) = self.store.age().filter(|age| *age < LEAST_FRESH) {
            let wait = refresh_after(None).saturating_sub(age);
            planned = self.store.next_fetch(Instant::now() + jittered(wait)).await;
        }
        loop {
            self.store.begin(planned);
            let wait = match source.fetch(planned).await {
                Ok((set, fresh)) => {
                    failures = 0;
                    self.arrived(set);
                    refresh_after(fresh)
                }
                Err(why) => {
                    failures += 1;
                    self.missed(&why);
                    why.retry_after().max(retry_after(failures)).min(LAST_RETRY)
                }
            };
            planned = self.store.next_fetch(Instant::now() + jittered(wait)).await;
        }
    }

    fn arrived(&self, set: KeySet) {
        let keys = set.len();
        if self.store.replace(set) {
            tracing::info!(issuer = self.settings.name, keys, "the issuer's keys are new");
        } else {
            tracing::debug!(issuer = self.settings.name, keys, "the issuer's keys are as before");
        }
    }

    /// What fetches the keys has ended.
    fn defective(&self) {
        let why = "what fetches the keys ended by a defect of the gateway, and is started again";
        tracing::error!(issuer = self.settings.name, "{why}");
        self.store.failed(why.to_owned());
    }

    fn missed(&self, why: &FetchError) {
        let kept = !self.store.is_empty();
        tracing::warn!(
            issuer = self.settings.name,
            kept,
            "the issuer's keys were not fetched: {why}"
        );
        self.store.failed(why.to_string());
    }
}

/// Where the keys of one issuer are fetched from.
struct KeyDownload<'a> {
    remote: &'a Remote,
    issuer: &'a Issuer,
    /// Where the discovery document pointed to.
    discovered: Option<HttpsUrl>,
}

impl KeyDownload<'_> {
    /// `anew` reads the discovery document again; a key that someone waits for is looked for
    /// where keys were last.
    async fn fetch(&mut self, anew: bool) -> Result<(KeySet, Option<Duration>), FetchError> {
        let known = self.discovered.take().filter(|_| !anew);
        let url = match (&self.remote.place, known) {
            (KeyLocation::KeySet(url), _) => url.clone(),
            (KeyLocation::Discovery(_), Some(url)) => url,
            (KeyLocation::Discovery(url), None) => self.discover(url).await?,
        };
        let document = match self.remote.client.get(&url).await {
            Ok(document) => document,
            Err(why) => return Err(FetchError::Document { url, why }),
        };
        match KeySet::of_json(&document.body, &self.issuer.settings.algorithms) {
            Ok(set) => {
                self.discovered = Some(url);
                Ok((set, document.fresh))
            }
            Err(why) => Err(FetchError::Set { url, why }),
        }
    }

    async fn discover(&self, url: &HttpsUrl) -> Result<HttpsUrl, FetchError> {
        let url = url.clone();
        match self.remote.client.get(&url).await {
            Err(why) => Err(FetchError::Document { url, why }),
            Ok(document) => keys_of(&document.body, &self.issuer.settings.issuer)
                .and_then(|keys| as_safe_as(&url, keys))
                .map_err(|why| FetchError::Discovery { url, why }),
        }
    }
}

/// Where a discovery document says that the keys are. Another issuer's name in it would let one
/// tenant of a provider speak for another (RFC 8414 §3.3).
fn keys_of(document: &[u8], issuer: &str) -> Result<HttpsUrl, DiscoveryError> {
    let document = text::decode(document)?;
    let document = parse_object(document.as_bytes())
        .map_err(|failure| DiscoveryError::Json(failure.message().to_owned()))?;
    let named = document.text("issuer").unwrap_or_default();
    if named != issuer {
        return Err(DiscoveryError::Issuer(printable(named)));
    }
    Ok(document.text("jwks_uri").ok_or(DiscoveryError::Missing)?.parse::<HttpsUrl>()?)
}

/// What came over TLS leads nowhere else.
fn as_safe_as(from: &HttpsUrl, keys: HttpsUrl) -> Result<HttpsUrl, DiscoveryError> {
    if from.is_over_tls() && !keys.is_over_tls() {
        return Err(HttpsUrlError::Scheme.into());
    }
    Ok(keys)
}

/// At four fifths of the time that the provider lets the keys be kept.
fn refresh_after(fresh: Option<Duration>) -> Duration {
    fresh.unwrap_or(FRESH).clamp(LEAST_FRESH, MOST_FRESH) * 4 / 5
}

fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16)).min(LAST_RETRY)
}

/// ±10 %, so that gateways that were started together do not ask together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(fastrand::f64().mul_add(0.2, 0.9))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn keys_are_refreshed_before_they_get_old_and_neither_too_often_nor_too_seldom() {
        let after =
            |seconds: Option<u64>| refresh_after(seconds.map(Duration::from_secs)).as_secs();
        assert_eq!(after(None), 720);
        assert_eq!(after(Some(0)), 240);
        assert_eq!(after(Some(3600)), 2880);
        assert_eq!(after(Some(u64::MAX)), 69_120);
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(100)).as_secs_f64();
            assert!((90.0..=110.0).contains(&wait), "{wait}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_a_defect_is_reported_and_started_again() {
        let store = Arc::new(KeyStore::new(None, Duration::from_secs(60)));
        let started = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let task = || {
            let count = started.fetch_add(1, Relaxed) + 1;
            async move { assert!(count == 3, "a defect") }
        };
        restarted(task, || store.failed(format!("defect {}", started.load(Relaxed)))).await;
        assert_eq!((started.load(Relaxed), begun.elapsed()), (3, 2 * RESTART));
        // What `/readyz` and the metric of failed fetches say.
        let status = store.status("school");
        assert_eq!((status.last_error.as_deref(), status.failures), (Some("defect 2"), 2));
    }

    #[test]
    fn failures_are_retried_later_and_later_and_for_ever() {
        let waits: Vec<_> = (1..=9).map(|failures| retry_after(failures).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(retry_after(u32::MAX), LAST_RETRY);
    }

    #[test]
    fn a_discovery_document_speaks_for_its_issuer_alone() {
        let issuer = "https://idp.example.org";
        let read = |text: &str| keys_of(text.as_bytes(), issuer).map_err(|why| why.to_string());
        let good = r#"{"issuer":"https://idp.example.org","jwks_uri":"https://keys.example/k"}"#;
        assert_eq!(read(good).unwrap().to_string(), "https://keys.example/k");
        // Another process of this machine is not whom TLS was spoken with.
        let [safe, here] = ["https://idp.example.org", "http://127.0.0.1"]
            .map(|url| url.parse::<HttpsUrl>().unwrap());
        assert!(as_safe_as(&safe, here.clone()).is_err());
        assert!(as_safe_as(&here, here.clone()).is_ok() && as_safe_as(&here, safe).is_ok());
        for (text, told) in [
            (r#"{"issuer":"https://idp.example.org/","jwks_uri":"https://a/"}"#, "another issuer"),
            (r#"{"jwks_uri":"https://a/"}"#, "another issuer"),
            (r#"{"issuer":"https://idp.example.org"}"#, "no `jwks_uri`"),
            (r#"{"issuer":"https://idp.example.org","jwks_uri":"http://a/"}"#, "https://"),
            ("<html>", "not read"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
