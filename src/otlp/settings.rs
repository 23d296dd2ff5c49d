//! What is sent to a collector, and where it is, from the `[otlp]` section.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;

use crate::net::{Client, Egress, Origin, Url, UrlError, WEB};
use crate::trace::Sampling;

/// The paths of the signals.
pub(super) const TRACES_PATH: &str = "/v1/traces";
pub(super) const METRICS_PATH: &str = "/v1/metrics";

/// What is sent, and where, from the `[otlp]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// What it is told with each request, credentials for instance: marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates that are trusted instead of the platform's.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// By which way it is reached.
    pub egress: Egress,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What sends: `service.name` and its like.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded; `None` for none.
    pub traces: Option<Sampling>,
    /// How often metrics are sent; `None` for never.
    pub metrics: Option<Duration>,
}

impl Settings {
    /// What is sent, and to which path.
    pub fn signals(&self) -> Vec<(&'static str, &'static str)> {
        let signals = [
            ("traces", TRACES_PATH, self.traces.is_some()),
            ("metrics", METRICS_PATH, self.metrics.is_some()),
        ];
        signals.into_iter().filter(|(.., sent)| *sent).map(|(name, path, _)| (name, path)).collect()
    }
}

/// What speaks to the collector.
pub(super) fn client(settings: &Settings) -> Result<Client, rustls::Error> {
    let client = if settings.endpoint.origin().tls {
        Client::over_tls(settings.ca.as_deref(), "otlp.ca")?
    } else {
        Client::in_the_clear()
    };
    Ok(client.through(settings.egress.clone()))
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
    pub const fn origin(&self) -> &Origin {
        self.0.origin()
    }

    /// What stands before `/v1/traces`; without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.to_string().trim_end_matches('/'))
    }
}
