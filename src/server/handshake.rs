//! The TLS handshake of a connection: what it needs is in a future of its own, which is gone when the
//! connection is idle.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use tokio_rustls::server::TlsStream;

use super::client_certificate::Presented;
use super::connection::WorkerContext;
use super::connection_state::ConnectionState;
use super::network::{NetworkSocket, first_byte};
use super::service::{Peer, Service};
use super::tls::Tls;
use crate::failure::{Code, Failure};

/// The content type of a TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

impl<S: Service> WorkerContext<S> {
    /// The connection under TLS, boxed, for each future keeps room for what moves through it.
    pub(super) async fn handshake<N: NetworkSocket>(
        self: &Rc<Self>,
        socket: N,
        peer: &mut Peer,
        tls: &Arc<Tls>,
    ) -> Option<(Box<TlsStream<N>>, Rc<ConnectionState>)> {
        let state = self.connections.add(peer.address.ip(), peer.signals.clone());
        let first = state.unless_commanded(first_byte(&socket)).await;
        let ControlFlow::Continue(Some(first)) = first else { return None };
        if first != HANDSHAKE {
            let failure = Failure::fixed(Code::MalformedRequest, "this port speaks TLS: use https");
            let peer = Peer { tls: false, ..peer.clone() };
            self.refuse(socket, failure, peer, &state).await;
            return None;
        }
        state.begun();
        let stream = match state.unless_commanded(tls.acceptor().accept(socket)).await {
            ControlFlow::Continue(Ok(stream)) => Box::new(stream),
            ControlFlow::Continue(Err(error)) => {
                tracing::debug!(%error, peer = %peer.address, "TLS handshake failed");
                return None;
            }
            ControlFlow::Break(_) => {
                tracing::debug!(peer = %peer.address, "TLS handshake timed out");
                return None;
            }
        };
        state.idle();
        peer.certificate = Presented::of(stream.get_ref().1, tls);
        Some((stream, state))
    }
}
