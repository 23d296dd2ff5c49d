//! A client of HTTP/2 that does everything right: hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::secure::config;
use super::{Answer, Authority};

/// A connection that is kept. It lives while something is asked on it.
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    scheme: &'static str,
}

impl Http2 {
    /// By prior knowledge, without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        let runtime = runtime();
        let socket = runtime.block_on(TcpStream::connect(address)).unwrap();
        Self::over(runtime, socket, "http")
    }

    /// Over TLS; panics unless it is agreed on.
    pub(crate) fn secure(address: SocketAddr, authority: &Authority) -> Self {
        let runtime = runtime();
        let stream = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(config(authority, &["h2", "http/1.1"]));
            connector.connect(name, socket).await.unwrap()
        });
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(runtime, stream, "https")
    }

    fn over<T>(runtime: Runtime, stream: T, scheme: &'static str) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let sender = runtime.block_on(async {
            let io = TokioIo::new(stream);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(async move {
                // What goes wrong is told to whoever waits for an answer.
                _ = connection.await;
            });
            sender
        });
        Self { runtime, sender, scheme }
    }

    /// Sends a request; `None` when it gets no answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let uri = format!("{}://localhost{path}", self.scheme);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let sent = self.sender.send_request(request);
        self.runtime.block_on(async {
            let (head, body) = sent.await.ok()?.into_parts();
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            let headers =
                head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = body.collect().await.ok()?.to_bytes().to_vec();
            Some(Answer { status: head.status.as_u16(), headers, body })
        })
    }

    /// Whether the server takes no more requests on it.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.runtime.block_on(self.sender.ready()).is_err()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
