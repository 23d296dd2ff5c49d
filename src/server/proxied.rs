//! A connection that a proxy of TCP has opened for someone: whom it names becomes the peer.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, ReadBuf};

use super::accept::ListenerContext;
use super::connection::WorkerContext;
use super::connection_limit::{ConnectionLimitError, ConnectionSlot};
use super::connection_state::{ConnectionCommand, ConnectionState, Phase};
use super::counts::CloseReason;
use super::head;
use super::network::NetworkSocket;
use super::proxy_protocol::{LONGEST, ProxyHeader, ProxyHeaderError, ProxySource};
use super::service::{Peer, Service};
use crate::failure::{Code, Failure};

/// Why a connection is not served.
enum ProxiedError {
    /// It has gone, or has to.
    Gone,
    /// It ended within a header.
    Truncated,
    /// Nothing came in time.
    Late,
    Refused(Failure, CloseReason),
}

impl<S: Service> WorkerContext<S> {
    /// Reads the header of the PROXY protocol where this peer sends one, and takes the place of an
    /// address where it is counted by its own only then. Gives the socket and the peer to serve;
    /// `None` where there is none.
    pub(super) async fn proxied<T: NetworkSocket>(
        self: &Rc<Self>,
        mut socket: T,
        mut peer: Peer,
        listener: &ListenerContext,
        slot: &mut ConnectionSlot,
    ) -> Option<(T, Peer)> {
        let state = self.connections.add(peer.address.ip(), peer.signals.clone());
        let failure = match announced(&mut socket, &mut peer, listener, slot, &state).await {
            Ok(()) => return Some((socket, peer)),
            Err(ProxiedError::Gone) => return None,
            Err(ProxiedError::Truncated) => {
                self.closes(CloseReason::ProxyHeader);
                return None;
            }
            Err(ProxiedError::Late) => {
                self.closes(CloseReason::ProxyHeader);
                head::late()
            }
            Err(ProxiedError::Refused(failure, reason)) => {
                self.closes(reason);
                if reason == CloseReason::Crowd && listener.tls.is_some() {
                    return None;
                }
                failure
            }
        };
        self.refuse(socket, failure, peer, &state).await;
        None
    }
}

async fn announced(
    socket: &mut impl NetworkSocket,
    peer: &mut Peer,
    listener: &ListenerContext,
    slot: &mut ConnectionSlot,
    state: &ConnectionState,
) -> Result<(), ProxiedError> {
    let refused = |why| {
        let failure = Failure::fixed(Code::MalformedRequest, why).closing();
        Err(ProxiedError::Refused(failure, CloseReason::ProxyHeader))
    };
    let named = listener.sends_header(peer.address.ip());
    if named {
        match within(state, header(socket, state)).await? {
            Ok(ProxySource::Address(address)) => {
                tracing::debug!(proxy = %peer.address, client = %address, "a PROXY protocol header");
                peer.address = address;
            }
            Ok(ProxySource::Proxy) => {}
            Err(Some(why)) => return refused(why.message()),
            Err(None) if state.phase() == Phase::Head => return Err(ProxiedError::Truncated),
            Err(None) => return Err(ProxiedError::Gone),
        }
        let counted = listener.counted(peer.address.ip()).map(|address| slot.count(address));
        if let Some(Err(ConnectionLimitError::Address | ConnectionLimitError::Process)) = counted {
            let why = "this address has as many connections as it may have";
            let failure = Failure::fixed(Code::Overloaded, why).closing();
            return Err(ProxiedError::Refused(failure, CloseReason::Crowd));
        }
    }
    let mut first = [0; 12];
    let length = within(state, peek(socket, &mut first)).await?;
    if ProxyHeader::is_begun(&first[..length]) {
        return refused(if named {
            "a PROXY protocol header came twice"
        } else {
            "a PROXY protocol header came from a peer of which none is taken"
        });
    }
    Ok(())
}

/// What comes of it in time.
async fn within<T>(
    state: &ConnectionState,
    work: impl Future<Output = T>,
) -> Result<T, ProxiedError> {
    match state.unless_commanded(work).await {
        ControlFlow::Continue(done) => Ok(done),
        ControlFlow::Break(ConnectionCommand::Expired(Phase::Head)) => Err(ProxiedError::Late),
        ControlFlow::Break(_) => Err(ProxiedError::Gone),
    }
}

/// Reads exactly a header: what is behind it is left where it is. `None` where the peer has gone.
async fn header(
    socket: &mut impl NetworkSocket,
    state: &ConnectionState,
) -> Result<ProxySource, Option<ProxyHeaderError>> {
    let mut bytes = vec![0; LONGEST];
    let mut taken = 0;
    loop {
        let there = taken + peek(socket, &mut bytes[taken..]).await;
        if there > taken {
            state.begun();
        }
        let read = ProxyHeader::read(&bytes[..there]).map_err(Some)?;
        // All that has come of one that is not whole belongs to it; it is never as long as the room.
        let (until, source) = match read {
            ProxyHeader::Partial if there == taken => return Err(None),
            ProxyHeader::Partial => (there, None),
            ProxyHeader::Whole { source, length } => (length, Some(source)),
        };
        socket.read_exact(&mut bytes[taken..until]).await.map_err(|_| None)?;
        taken = until;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}

/// What is there, which is left where it is; nothing where nothing will come.
async fn peek(socket: &impl NetworkSocket, room: &mut [u8]) -> usize {
    let mut buffer = ReadBuf::new(room);
    poll_fn(|context| socket.poll_peek(context, &mut buffer)).await.unwrap_or(0)
}
