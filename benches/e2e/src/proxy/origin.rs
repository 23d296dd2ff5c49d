//! The upstream side: connections that are kept, one request on each at a time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::certificates;
use crate::wire::Stream;

/// One origin and the connections to it.
pub(super) struct Origin {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    kept: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Origin {
    pub(super) fn new(address: SocketAddr, ca: Option<&Path>) -> anyhow::Result<Self> {
        let tls = ca.map(certificates::client_from_file).transpose()?;
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        Ok(Self { address, tls, kept: RefCell::default() })
    }

    pub(super) async fn send(
        &self,
        request: Request<Incoming>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await?;
        // Kept while the body still runs: it is taken again once it is ready.
        self.kept.borrow_mut().push(sender);
        Ok(answer)
    }

    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut kept = self.kept.borrow_mut();
        let ready = kept.iter().rposition(SendRequest::is_ready)?;
        Some(kept.swap_remove(ready))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Incoming>> {
        self.kept.borrow_mut().retain(|sender| !sender.is_closed());
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost")?, socket).await?),
            None => Box::new(socket),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }
}
