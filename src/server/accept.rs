//! Accepting: what becomes of a connection before anything is read of it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep};

use super::connection::WorkerContext;
use super::connection_limit::{ConnectionLimit, ConnectionLimitError};
use super::connection_state::Rank;
use super::counts::CloseReason;
use super::eviction_credit::EvictionCredits;
use super::network::{NetworkListener, NetworkSocket};
use super::service::{Peer, Service};
use super::settings::ListenerSettings;
use super::tls::Tls;
use super::{descriptors, listener};
use crate::failure::{Code, Failure, RawHead};

/// How long after it could not accept a worker retries: where a connection ends for the next
/// one, and where none can.
const ROOM: Duration = Duration::from_millis(5);
const NO_ROOM: Duration = Duration::from_millis(50);

/// What the connections of a listener have in common, on every worker.
pub(super) struct ListenerContext {
    /// Its index among the listeners of the server.
    pub(super) index: usize,
    pub(super) tls: Option<Arc<Tls>>,
    /// Whose connections are not counted by address.
    pub(super) proxies: Vec<IpNet>,
    /// Who begins each connection with a header of the PROXY protocol.
    pub(super) proxy_protocol: Vec<IpNet>,
}

impl ListenerContext {
    pub(super) fn new(index: usize, tls: Option<Arc<Tls>>, settings: &ListenerSettings) -> Self {
        let (proxies, proxy_protocol) = (settings.proxies.clone(), settings.proxy_protocol.clone());
        Self { index, tls, proxies, proxy_protocol }
    }

    /// By which address a connection is counted; `None` for that of a proxy.
    pub(super) fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        let exempt = self.proxies.iter().any(|network| network.contains(&address));
        (!exempt).then_some(address)
    }

    /// Whether this peer begins each connection with a header of the PROXY protocol.
    pub(super) fn sends_header(&self, address: IpAddr) -> bool {
        self.proxy_protocol.iter().any(|network| network.contains(&address))
    }
}

/// What it takes to accept on one socket.
pub(super) struct Accept<L, S> {
    pub(super) socket: L,
    pub(super) listener: Arc<ListenerContext>,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) credits: Arc<EvictionCredits>,
    /// The number of the worker.
    pub(super) number: usize,
    pub(super) context: Rc<WorkerContext<S>>,
    /// Each open connection has a clone of it.
    pub(super) alive: Rc<()>,
}

impl<L: NetworkListener, S: Service> Accept<L, S> {
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            match self.socket.accept().await {
                Ok((socket, address)) => {
                    if self.accepted(socket, address) {
                        // The other connection goes before one more comes.
                        yield_now().await;
                    }
                }
                Err(error) => {
                    if self.limit.fails_to_accept(Instant::now()) {
                        tracing::warn!(%error, "no connection can be accepted");
                    }
                    let mut room = false;
                    if descriptors::are_out(&error) {
                        // As when all limit are taken.
                        self.context.closes(CloseReason::NoDescriptor);
                        room = self.make_room().is_some();
                    }
                    // Accepting again at once would spin: no one has gone yet.
                    sleep(if room { ROOM } else { NO_ROOM }).await;
                }
            }
        }
    }

    /// Ends a connection for another one: `None` where there is none that may be, and whether it is
    /// one of this worker.
    fn make_room(&self) -> Option<bool> {
        let own = self.context.connections.first_rank();
        if self.credits.take(self.number, own) {
            return Some(false);
        }
        self.credits.ended(self.number, crowd_out(&self.context)?);
        Some(true)
    }

    /// Accepts what has been in the queue until now: closing the socket would reset it.
    pub(super) fn rest(&self) {
        // A socket of several processes may never be empty.
        for _ in 0..listener::BACKLOG {
            match self.socket.waiting() {
                Ok(Some((socket, address))) => _ = self.accepted(socket, address),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    break;
                }
            }
        }
    }

    /// Begins to serve a connection; `true` where that is in place of another of this worker.
    fn accepted(&self, socket: L::Socket, address: SocketAddr) -> bool {
        // A socket of both families has IPv4 addresses in another spelling than one of IPv4.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = Peer::new(address, self.listener.index);
        let mut crowded = false;
        let free = || {
            let room = self.make_room();
            crowded = room == Some(true);
            room.is_some()
        };
        // Behind a proxy it is counted by the address that the proxy names.
        let address = peer.address.ip();
        let sends_header = self.listener.sends_header(address);
        let counted = self.listener.counted(address).filter(|_| !sends_header);
        let mut slot = match self.limit.take(counted, free) {
            Ok(slot) => slot,
            Err(full) => {
                self.turn_away(&socket, peer, full);
                return false;
            }
        };
        let context = Rc::clone(&self.context);
        let alive = Rc::clone(&self.alive);
        let listener = Arc::clone(&self.listener);
        context.counts.came(listener.index);
        context.service.connections(1);
        spawn_local(async move {
            let served = if listener.proxy_protocol.is_empty() {
                Some((socket, peer))
            } else {
                Box::pin(context.proxied(socket, peer, &listener, &mut slot)).await
            };
            if let Some((socket, peer)) = served {
                Rc::clone(&context).serve(socket, peer, listener.tls.as_ref()).await;
            }
            context.counts.went(listener.index);
            context.service.connections(-1);
            drop((slot, alive));
        });
        crowded
    }

    /// One connection too many: told so as far as the socket takes it at once.
    fn turn_away(&self, socket: &impl NetworkSocket, peer: Peer, full: ConnectionLimitError) {
        let (reason, why) = match full {
            ConnectionLimitError::Process => {
                (CloseReason::Full, "the gateway has as many connections as it takes")
            }
            ConnectionLimitError::Address => {
                (CloseReason::Crowd, "this address has as many connections as it may have")
            }
        };
        self.context.closes(reason);
        let failure =
            Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1));
        if self.listener.tls.is_none() {
            let raw =
                Bytes::from(RawHead::encode(&self.context.service.refuse(failure, peer, None)));
            _ = socket.try_write(&raw);
        }
    }
}

/// Ends a connection that can be, so that whoever holds many cannot lock out others.
pub(super) fn crowd_out<S: Service>(context: &WorkerContext<S>) -> Option<Rank> {
    let ended = context.connections.crowd_out();
    if ended.is_some() {
        context.closes(CloseReason::CrowdedOut);
    }
    ended
}
