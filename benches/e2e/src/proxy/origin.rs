//! The upstream side: over HTTP/1.1 connections that are kept, one request on each at a time; over
//! HTTP/2 one connection for all.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::certificates;
use crate::local::LocalExecutor;
use crate::wire::Stream;

/// One origin and the connections to it.
pub(super) struct Origin {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    kept: RefCell<Vec<http1::SendRequest<Incoming>>>,
    /// Where the origin speaks HTTP/2.
    shared: Option<Mutex<Option<http2::SendRequest<Incoming>>>>,
}

impl Origin {
    pub(super) fn new(address: SocketAddr, ca: Option<&Path>, http2: bool) -> anyhow::Result<Self> {
        let tls = ca.map(certificates::client_from_file).transpose()?;
        let tls = tls.map(|mut config| {
            if http2 {
                config.alpn_protocols = vec![b"h2".to_vec()];
            }
            TlsConnector::from(Arc::new(config))
        });
        let shared = http2.then(Mutex::default);
        Ok(Self { address, tls, kept: RefCell::default(), shared })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.shared.is_some()
    }

    pub(super) async fn send(
        &self,
        request: Request<Incoming>,
    ) -> anyhow::Result<Response<Incoming>> {
        if let Some(shared) = &self.shared {
            let mut sender = self.share(shared).await?;
            sender.ready().await?;
            return Ok(sender.send_request(request).await?);
        }
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await?;
        // Kept while the body still runs: it is taken again once it is ready.
        self.kept.borrow_mut().push(sender);
        Ok(answer)
    }

    fn take(&self) -> Option<http1::SendRequest<Incoming>> {
        let mut kept = self.kept.borrow_mut();
        let ready = kept.iter().rposition(http1::SendRequest::is_ready)?;
        Some(kept.swap_remove(ready))
    }

    async fn connect(&self) -> anyhow::Result<http1::SendRequest<Incoming>> {
        self.kept.borrow_mut().retain(|sender| !sender.is_closed());
        let (sender, connection) = http1::handshake(TokioIo::new(self.open().await?)).await?;
        spawn_local(connection);
        Ok(sender)
    }

    /// The connection for all, which who comes first makes.
    async fn share(
        &self,
        shared: &Mutex<Option<http2::SendRequest<Incoming>>>,
    ) -> anyhow::Result<http2::SendRequest<Incoming>> {
        let mut shared = shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TokioIo::new(self.open().await?);
        let (sender, connection) = http2::handshake(LocalExecutor, stream).await?;
        spawn_local(connection);
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn open(&self) -> anyhow::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(match &self.tls {
            Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost")?, socket).await?),
            None => Box::new(socket),
        })
    }
}
