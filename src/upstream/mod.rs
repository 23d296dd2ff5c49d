//! The way to the whiteboard service: connections, deadlines, header hygiene, and what its
//! answers mean.

mod answer;
mod attempt;
mod body;
mod breaker;
mod connect;
mod forward;
mod head;
mod http1;
mod http2;
mod load;
mod network;
mod outgoing;
mod patience;
mod pool;
mod retry;
mod source;
#[cfg(test)]
mod test_clock;
mod traced;
mod unanswered;
mod upload;

use std::time::Duration;

use rustls::pki_types::CertificateDer;

pub use answer::heard;
pub use body::{AnswerBody, Broken, RequestBody};
pub use breaker::{BreakerSettings, BreakerState};
pub use connect::TlsSetupError;
pub use forward::{Answered, Call, Exchange, Notes, Upstream};
pub use head::Head;
pub use http1::{Buffers, Malformed, Reader, Step};
pub use load::{Load, LoadSettings};
pub use network::{Dial, Dialled, Dialling, Network, Wire};
pub use pool::Pool;
pub use retry::{RetryReason, RetrySettings};
pub use traced::{Attempted, Traced};
pub use upload::Upload;

/// Where the upstream is and how it is spoken to, from the `[upstream]` section.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its scheme, host and port.
    pub origin: Origin,
    /// By which network it is reached.
    pub network: Network,
    /// Certificates that are trusted instead of the platform's, from `upstream.ca`.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// Whether HTTP/2 is offered by ALPN.
    pub http2: bool,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// The most idle connections that a worker keeps.
    pub max_idle: usize,
    /// How many requests a worker has at the upstream at once.
    pub load: LoadSettings,
    /// What is sent once more, and how often.
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

impl Settings {
    /// An upstream at this origin, with everything as it is when nothing else is said.
    #[must_use]
    pub fn of(origin: Origin, via: String) -> Self {
        Self {
            origin,
            network: Network::System,
            ca: None,
            http2: true,
            deadlines: Deadlines::default(),
            // Less than the service's load balancers wait (60 s is common), so that they are never
            // first to close a connection that a request is about to take.
            idle: Duration::from_secs(55),
            max_idle: 128,
            load: LoadSettings::default(),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            via,
            send_request_id: false,
            send_traceparent: false,
        }
    }
}

/// The origin of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub tls: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What `Host` and `:authority` say: the host, and the port where it is not the scheme's own.
    pub authority: String,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
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

impl Default for Deadlines {
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
