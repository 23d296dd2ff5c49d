//! `[otlp]`: the collector that traces and metrics are sent to.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue};

use super::build::Build;
use super::file::{KeyPath, section, word_types};
use super::secret::SecretSource;
use super::value::FilePath;
use crate::net::{Egress, is_loopback};
use crate::otlp::{Endpoint, Settings};
use crate::trace::{Parents, Sampling, Share};

section! {
    pub(super) struct OtlpSection {
        /// The URL of a collector that accepts OTLP over HTTP; `/v1/traces` and `/v1/metrics` are
        /// appended. `check` warns of `http` beyond this machine.
        endpoint: Option<Endpoint> | "a URL such as \"https://collector.example.org:4318\"";
        /// A table of header fields and their values, which are secrets: `{ authorization = { env =
        /// "NAME" } }`.
        headers: BTreeMap<String, SecretSource>;
        /// A PEM file of the certificates to trust instead.
        ca: Option<FilePath> => "the platform's";
        /// How long a response may take.
        timeout: Duration = "10s";
        /// A table of attributes of the process: `{ "deployment.environment.name" = "production"
        /// }`. It extends and overrides the default.
        resource: BTreeMap<String, String> => "`service.name`, `service.version`, `service.instance.id`";
        traces: TracesSection;
        metrics: MetricsSection;
    }
}

section! {
    pub(super) struct TracesSection {
        /// Whether there are traces.
        enabled: bool = true;
        /// The share of the traces that begin here that is recorded, with up to four decimals.
        sample: Share = "100%";
        /// What is recorded of the traces that trusted callers have recorded: `"all"`, or the same
        /// `"share"`.
        sampled_parents: Parents = "all";
    }
}

section! {
    pub(super) struct MetricsSection {
        /// Whether metrics are sent.
        enabled: bool = true;
        /// How often.
        interval: Duration = "60s";
    }
}

word_types!(Parents);

/// What a request to a collector says anyway.
const OWN: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// Which process sends: one name for its whole life, so that a reload begins no new series.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
});

impl Build<'_> {
    /// The collector; `None` without the section.
    pub(super) fn otlp(&mut self, section: Option<OtlpSection>) -> Option<Settings> {
        let OtlpSection { path, endpoint, headers, ca, timeout, resource, traces, metrics } =
            section?;
        let authorities = self.certificates(&path.key("ca"), ca.as_ref());
        let headers = self.headers(&path.key("headers"), headers);
        let endpoint = endpoint?;
        let (at, origin) = (path.key("endpoint"), endpoint.origin());
        self.check_host(&at, &origin.host);
        let why = "is only for an endpoint that begins with https://";
        self.wrong_if(!origin.tls && ca.is_some(), &path.key("ca"), why);
        let why = "is http: names of callers, and what otlp.headers holds, cross the \
                   network in the clear";
        self.warn_if(!origin.tls && !is_loopback(&origin.host), &at, why);
        let why = "sends neither traces nor metrics: leave it out, or enable one of them";
        self.warn_if(!traces.enabled && !metrics.enabled, &path, why);
        let sampling = Sampling { share: traces.sample, parents: traces.sampled_parents };
        Some(Settings {
            endpoint,
            headers,
            ca: authorities,
            egress: Egress::default(),
            timeout,
            resource: all_of(resource),
            traces: traces.enabled.then_some(sampling),
            metrics: metrics.enabled.then_some(metrics.interval),
        })
    }

    /// What the collector is told with each request. Values are secrets, whatever they are.
    fn headers(
        &mut self,
        path: &KeyPath,
        written: BTreeMap<String, SecretSource>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::with_capacity(written.len());
        for (name, secret) in written {
            let path = path.key(&name);
            let Some(secret) = self.secret(&path, secret) else { continue };
            match (HeaderName::try_from(&name), HeaderValue::try_from(secret.expose())) {
                (Err(_), _) => self.wrong(&path, "has a name that no header can have"),
                (Ok(name), _) if OWN.contains(&name) => {
                    self.wrong(&path, "is a header that the gateway sends itself");
                }
                (_, Err(_)) => self.wrong(&path, "holds what no header can hold"),
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
            }
        }
        headers
    }
}

/// What sends, as the collector names it; whoever is configured wins.
fn all_of(configured: BTreeMap<String, String>) -> Vec<(String, String)> {
    let usual = [
        ("service.instance.id", INSTANCE.as_str()),
        ("service.name", "whiteboard-gateway"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let mut resource: BTreeMap<String, String> =
        usual.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    resource.extend(configured);
    resource.into_iter().collect()
}
