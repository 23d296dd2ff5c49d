//! `[otlp]`: the collector that traces and metrics are sent to.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue};

use super::{Build, copied};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::net::is_loopback;
use crate::otlp::Settings;
use crate::trace::{Sampling, Share};

/// How long an answer of the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often metrics are sent.
const INTERVAL: Duration = Duration::from_secs(60);

/// What a request to a collector says anyway.
const OWN: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// Which process sends: one name for its whole life, so that a reload begins no new series.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
});

impl Build<'_> {
    /// The collector; `None` without the section.
    pub(super) fn otlp(&mut self, raw: Option<raw::Otlp>) -> Option<Settings> {
        let section = KeyPath::of(&["otlp"]);
        let raw = raw?;
        let ca = self.certificates(&section.key("ca"), &raw.ca);
        let headers = self.headers(&section.key("headers"), raw.headers);
        let Some(Written(endpoint)) = raw.endpoint else {
            let what = "a URL such as \"https://collector.example.org:4318\"";
            self.report.missing(&section.key("endpoint"), what);
            return None;
        };
        self.check_host(&section.key("endpoint"), &endpoint.origin().host);
        if !endpoint.origin().tls {
            if raw.ca.is_some() {
                let why = "is only for an endpoint that begins with https://";
                self.report.wrong(&section.key("ca"), why);
            }
            if !is_loopback(&endpoint.origin().host) {
                let why = "is http: names of callers, and what otlp.headers holds, cross the \
                           network in the clear";
                self.report.warn(&section.key("endpoint"), why);
            }
        }
        let traces = copied(&raw.traces.enabled, true).then(|| Sampling {
            share: copied(&raw.traces.sample, Share::ALL),
            parents: copied(&raw.traces.sampled_parents, Default::default()),
        });
        let metrics = copied(&raw.metrics.enabled, true);
        let metrics = metrics.then(|| copied(&raw.metrics.interval, INTERVAL));
        if traces.is_none() && metrics.is_none() {
            let why = "sends neither traces nor metrics: leave it out, or enable one of them";
            self.report.warn(&section, why);
        }
        Some(Settings {
            endpoint,
            headers,
            ca,
            timeout: copied(&raw.timeout, TIMEOUT),
            resource: resource(raw.resource),
            traces,
            metrics,
        })
    }

    /// What the collector is told with each request. Values are secrets, whatever they are.
    fn headers(
        &mut self,
        path: &KeyPath,
        raw: BTreeMap<String, raw::Secret>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::with_capacity(raw.len());
        for (name, secret) in raw {
            let path = path.key(&name);
            let Some(secret) = self.secret(&path, secret) else { continue };
            let Ok(name) = HeaderName::try_from(&name) else {
                self.report.wrong(&path, "has a name that no header can have");
                continue;
            };
            if OWN.contains(&name) {
                self.report.wrong(&path, "is a header that the gateway sends itself");
                continue;
            }
            let Ok(mut value) = HeaderValue::try_from(secret.expose()) else {
                self.report.wrong(&path, "holds what no header can hold");
                continue;
            };
            value.set_sensitive(true);
            headers.push((name, value));
        }
        headers
    }

    /// Warns of what is said about traces where there are none.
    pub(super) fn check_traces(&mut self, raw: &raw::File) {
        let traced = raw.otlp.as_ref().is_some_and(|otlp| copied(&otlp.traces.enabled, true));
        if traced || self.report.was_removed(&KeyPath::of(&["otlp"])) {
            return;
        }
        let why = "means nothing without traces: see [otlp]";
        if copied(&raw.upstream.send_traceparent, false) {
            self.report.warn(&KeyPath::of(&["upstream", "send_traceparent"]), why);
        }
        for (name, profile) in &raw.profiles {
            if copied(&profile.trust_traceparent, false) {
                self.report.warn(&KeyPath::of(&["profiles", name, "trust_traceparent"]), why);
            }
        }
    }
}

/// What sends, as the collector names it; whoever is configured wins.
fn resource(raw: BTreeMap<String, Written<String>>) -> Vec<(String, String)> {
    let usual = [
        ("service.instance.id", INSTANCE.as_str()),
        ("service.name", "whiteboard-gateway"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let mut resource: BTreeMap<String, String> =
        usual.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    resource.extend(raw.into_iter().map(|(key, value)| (key, value.0)));
    resource.into_iter().collect()
}
