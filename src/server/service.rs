//! What is served, and who asks for it.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::client_certificate::Presented;
use super::counts::CloseReason;
use super::half_close::ConnectionSignals;
use super::linger::Linger;
use crate::certificate::CertificateStatus;
use crate::failure::Failure;

/// What is served. One is made on each worker, and stays there: it need not be `Send`.
pub trait Service: 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + From<Bytes>
        + Unpin
        + 'static;

    /// Answers a request.
    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Answers for a request that never became one, or whose answer was never finished: what is
    /// wrong is in `failure`. `origin` is what its `Origin` says, as far as it was read.
    fn refuse(&self, failure: Failure, peer: Peer, origin: Option<&HeaderValue>)
    -> Response<Bytes>;

    /// How much, and for how long, a peer is read on that was answered before it had sent all.
    fn linger(&self) -> Linger {
        Linger::default()
    }

    /// Called about four times a second.
    fn tick(&self) {}

    /// The worker accepts nothing more, and finishes what is in flight.
    fn drain(&self) {}

    /// Whether something is being finished that no connection waits for any more.
    fn is_busy(&self) -> bool {
        false
    }

    /// A connection came (`1`) or went (`-1`); for whoever watches the server.
    fn connections(&self, _change: i64) {}

    /// A connection was ended, or not even begun, for what it or others did; likewise.
    fn closes(&self, _reason: CloseReason) {}
}

/// Who is at the other end of a connection, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The listener that it came by, by its index in [`super::Settings`].
    pub listener: usize,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// Whether the connection is under TLS.
    pub tls: bool,
    /// The certificate that it presented.
    pub certificate: Option<Rc<Presented>>,
    /// What the connection and the service tell each other.
    pub signals: ConnectionSignals,
}

impl Peer {
    /// Of a connection that has just come.
    pub(crate) fn new(address: SocketAddr, listener: usize) -> Self {
        let (protocol, signals) = (Protocol::Http1, ConnectionSignals::default());
        Self { address, listener, protocol, tls: false, certificate: None, signals }
    }

    /// What its certificate is worth now.
    pub fn standing(&self, now: jiff::Timestamp) -> CertificateStatus {
        self.certificate
            .as_ref()
            .map_or(CertificateStatus::None, |presented| presented.standing(now))
    }
}

/// The version of HTTP on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}
