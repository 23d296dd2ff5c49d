//! What the `[upstream]` section of the configuration says.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::connection::network::Network;
use super::resilience::breaker::BreakerSettings;
use super::resilience::concurrency::ConcurrencySettings;
use super::resilience::retry::RetrySettings;
use crate::net::{Egress, Origin, Proxy, UnixPath};

/// Where the upstream is and how it is spoken to, from the `[upstream]` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its scheme, host and port.
    pub origin: Origin,
    /// The Unix socket that is connected to in place of its host.
    pub socket: Option<UnixPath>,
    /// By which network it is reached.
    pub network: Network,
    /// By which way out of this process, from `[egress]`.
    pub egress: Egress,
    /// Certificates that are trusted instead of the platform's, from `upstream.ca`.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// Whether HTTP/2 is offered by ALPN.
    pub http2: bool,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// The most idle connections that a worker keeps.
    pub max_idle: usize,
    /// How many requests a worker has at the upstream at once.
    pub concurrency: ConcurrencySettings,
    /// What is retried, and how often.
    pub retry: RetrySettings,
    /// When a region is not asked for a while.
    pub breaker: BreakerSettings,
    /// The pseudonym in `Via`.
    pub via: String,
    /// Whether the request id is sent to the third party.
    pub send_request_id: bool,
    /// Whether the third party is told which trace a request belongs to.
    pub send_traceparent: bool,
}

#[cfg(test)]
impl Settings {
    /// An upstream at this origin, with everything as it is when nothing else is said.
    pub fn of(origin: Origin, via: String) -> Self {
        Self {
            origin,
            socket: None,
            network: Network::System,
            egress: Egress::default(),
            ca: None,
            http2: true,
            timeouts: Timeouts::default(),
            // Less than the service's load balancers wait (60 s is common), so that they are never
            // first to close a connection that a request is about to take.
            idle: Duration::from_secs(55),
            max_idle: 128,
            concurrency: ConcurrencySettings::default(),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            via,
            send_request_id: false,
            send_traceparent: false,
        }
    }
}

impl Settings {
    /// Whether others are about the same service, reached and trusted in the same way: what is known of
    /// it and the connections to it are good under them as well.
    pub(super) fn is_of_the_service(&self, other: &Self) -> bool {
        let Self { origin, network, ca, http2, socket, .. } = self;
        (origin, network, ca, http2) == (&other.origin, &other.network, &other.ca, &other.http2)
            && (socket, self.proxy()) == (&other.socket, other.proxy())
    }

    /// Where it is, as logs and commands say.
    pub fn place(&self) -> String {
        let Origin { host, port, .. } = &self.origin;
        self.socket.as_ref().map_or_else(|| format!("{host}:{port}"), ToString::to_string)
    }

    /// The proxy on the way, if there is one.
    fn proxy(&self) -> Option<&Proxy> {
        self.egress.proxy_of(&self.origin.host, self.origin.port)
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until the head of the answer.
    pub first_byte: Duration,
    /// The same for screenshots.
    pub first_byte_slow: Duration,
    /// Between two pieces of an answer's body.
    pub between_bytes: Duration,
    /// The whole request.
    pub total: Duration,
    /// The same for screenshots.
    pub total_slow: Duration,
}

#[cfg(test)]
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(10),
            first_byte_slow: Duration::from_secs(30),
            between_bytes: Duration::from_secs(5),
            total: Duration::from_secs(15),
            total_slow: Duration::from_secs(35),
        }
    }
}
