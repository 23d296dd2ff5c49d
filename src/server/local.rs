//! Workers on the runtime of whoever starts them, over whatever network that has: with a clock that
//! stands still and sockets that are none, everything that a server does can be simulated.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use super::accept::ListenerContext;
use super::connection::WorkerContext;
use super::connection_limit::ConnectionLimit;
use super::counts::Connections;
use super::eviction_credit::EvictionCredits;
use super::worker::{Stage, Worker};
use super::{Bounds, NetworkListener, Service, Settings, Tls};

/// Workers that run on this thread.
pub struct Local {
    stage: watch::Sender<Stage>,
    serving: Vec<JoinHandle<()>>,
    connections: Arc<Connections>,
}

impl Local {
    /// Starts to serve what comes to `listening`, within a [`tokio::runtime::LocalRuntime`] or a
    /// [`tokio::task::LocalSet`]. Of the settings, only the bounds of connections and the proxies
    /// of the first listener count.
    pub fn start<S: Service>(
        settings: &Settings,
        tls: Option<Arc<Tls>>,
        listening: impl NetworkListener,
        service: Rc<S>,
    ) -> Self {
        Self::start_all(settings, tls.as_ref(), vec![(listening, service)])
    }

    /// The same with several workers, which share what those of a process share.
    pub fn start_all<L: NetworkListener, S: Service>(
        settings: &Settings,
        tls: Option<&Arc<Tls>>,
        workers: Vec<(L, Rc<S>)>,
    ) -> Self {
        let (stage, seen) = watch::channel(Stage::Serving);
        let Bounds { connections, per_address, .. } = settings.bounds;
        let credits = Arc::new(EvictionCredits::new(workers.len()));
        let limit = Arc::new(ConnectionLimit::new(connections, per_address));
        let names = settings.listeners.iter().map(|one| Arc::clone(&one.name)).collect();
        let counts = Connections::new(workers.len(), connections, names);
        let proxies = settings.listeners.first().map(|one| one.proxies.clone()).unwrap_or_default();
        let proxy_protocol = Vec::new();
        let tls = tls.map(Arc::clone);
        let listener = ListenerContext { index: 0, tls, proxies, proxy_protocol };
        let listener = Arc::new(listener);
        let serve = |(number, (listening, service))| {
            let worker = Worker {
                number,
                credits: Arc::clone(&credits),
                bounds: settings.bounds,
                stage: seen.clone(),
                limit: Arc::clone(&limit),
                beat: Arc::default(),
                counts: counts.of(number),
            };
            let context = Rc::new(WorkerContext::new(service, settings.bounds, counts.of(number)));
            spawn_local(worker.serve(vec![(listening, Arc::clone(&listener))], context))
        };
        let serving = workers.into_iter().enumerate().map(serve).collect();
        Self { stage, serving, connections: Arc::new(counts) }
    }

    /// As [`super::Running::connections`].
    pub const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// As [`super::Running::leave`].
    pub fn leave(&self) {
        self.stage.send_replace(Stage::Leaving);
    }

    /// As [`super::Running::drain`].
    pub async fn drain(self) {
        self.stage.send_replace(Stage::Draining);
        for serving in self.serving {
            if serving.await.is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::io;
    use std::net::SocketAddr;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderValue, Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
    use tokio::task::LocalSet;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::failure::Failure;
    use crate::server::frame_flood::PREFACE;
    use crate::server::{NetworkSocket, Peer};

    /// One connection, which is there already.
    struct One(RefCell<Option<DuplexStream>>);

    impl NetworkListener for One {
        type Socket = DuplexStream;

        async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.waiting()? {
                Some(next) => Ok(next),
                None => pending().await,
            }
        }

        fn waiting(&self) -> io::Result<Option<(DuplexStream, SocketAddr)>> {
            let next = self.0.borrow_mut().take();
            Ok(next.map(|socket| (socket, SocketAddr::from(([192, 0, 2, 1], 1)))))
        }

        fn turn_away(&self) -> io::Result<bool> {
            Ok(false)
        }
    }

    impl NetworkSocket for DuplexStream {
        fn without_delay(&self) -> io::Result<()> {
            Ok(())
        }

        fn poll_peek(&self, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn try_write(&self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    struct Nothing;

    impl Service for Nothing {
        type Body = Full<Bytes>;

        async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
            Response::default()
        }

        fn refuse(&self, _: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
            Response::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_vanished_does_not_hold_up_a_drain() {
        let settings = Settings { listeners: Vec::new(), workers: None, bounds: Bounds::default() };
        let (mut peer, socket) = duplex(64 * 1024);
        let drained = async {
            let listening = One(RefCell::new(Some(socket)));
            let local = Local::start(&settings, None, listening, Rc::new(Nothing));
            peer.write_all(PREFACE).await.unwrap();
            // Settings, of which there are none.
            peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            local.drain().await;
            begun.elapsed()
        };
        let took = LocalSet::new().run_until(drained).await;
        assert!(took < Duration::from_secs(7), "{took:?}");
    }
}
