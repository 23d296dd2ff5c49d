//! A tunnel through an HTTP proxy (RFC 9110 §9.3.6): CONNECT, and what the proxy says to it.
//!
//! Of what comes back exactly the head is taken out of the socket, so that the connection behind it
//! is that of the other side and needs no buffer. The proxy resolves the name.

use std::io;

use http::StatusCode;
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::egress::{Proxy, authority};

/// By which name the gateway goes.
pub const USER_AGENT: &str = concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION"));

/// The longest head of an answer, and how many fields it has at most.
const HEAD_BYTES: usize = 16 * 1024;
const FIELDS: usize = 100;

/// As many bytes are looked at before they are taken.
const LOOK_BYTES: usize = 1024;

/// Why a proxy made no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// It said so.
    #[error("it refused CONNECT with {}{}", .0.as_u16(), meaning(*.0))]
    Refused(StatusCode),
    /// What came is no answer of HTTP/1.1.
    #[error("it answered CONNECT with what is no HTTP/1.1")]
    Malformed,
    /// The answer has no end.
    #[error("it answered CONNECT with a head of more than {HEAD_BYTES} bytes")]
    TooLong,
    /// The connection ended before.
    #[error("it closed the connection {0}")]
    Closed(&'static str),
    /// The other side is never the first to speak, neither in TLS nor in HTTP: what is there belongs
    /// to an answer, and would be taken for one of the other side.
    #[error(
        "it took CONNECT, and bytes came behind its answer before anything was sent: that is no tunnel"
    )]
    Spoke,
    /// Its name has no address.
    #[error("its name could not be resolved: {0}")]
    Name(io::Error),
    /// No one is there.
    #[error("it could not be connected to: {0}")]
    Unreachable(io::Error),
    /// It was not connected to in time, or did not answer in time.
    #[error("no connection through it stood in time")]
    Late,
    /// The connection broke.
    #[error("{0}")]
    Io(io::Error),
}

/// What a status mostly means, and what would help.
const fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            ": it wants a user and a password, or others than it gets (egress.username and \
             egress.password)"
        }
        StatusCode::FORBIDDEN => ": its rules do not allow that host or port",
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST => {
            ": it may be no proxy for CONNECT"
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
            ": it cannot reach that host, or not resolve its name"
        }
        StatusCode::GATEWAY_TIMEOUT => ": that host does not answer it",
        _ => "",
    }
}

/// Asks for a tunnel on a connection to a proxy.
pub(super) async fn open(
    socket: &mut TcpStream,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), TunnelError> {
    let asked = request(proxy, &authority(host, port));
    socket.write_all(&asked).await.map_err(broken)?;
    let mut head = Vec::new();
    loop {
        read_head(socket, &mut head).await?;
        let status = status(&head)?;
        // An interim answer comes before the one that counts (RFC 9110 §15.2).
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            head.clear();
            continue;
        }
        // Its length, and what would be its body, mean nothing behind a 2xx (RFC 9110 §9.3.6).
        if !status.is_success() {
            return Err(TunnelError::Refused(status));
        }
        return match socket.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(broken(error)),
            Ok(0) => Err(TunnelError::Closed("behind its answer to CONNECT")),
            Ok(_) => Err(TunnelError::Spoke),
        };
    }
}

fn request(proxy: &Proxy, authority: &str) -> Vec<u8> {
    let mut request = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n"
    )
    .into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Takes a head out of the socket, and not a byte more.
async fn read_head(socket: &mut TcpStream, head: &mut Vec<u8>) -> Result<(), TunnelError> {
    let mut looked = [0; LOOK_BYTES];
    loop {
        let seen = socket.peek(&mut looked).await.map_err(broken)?;
        if seen == 0 {
            let before = head.is_empty();
            return Err(TunnelError::Closed(if before {
                "without an answer to CONNECT"
            } else {
                "within its answer to CONNECT"
            }));
        }
        let before = head.len();
        head.extend_from_slice(&looked[..seen]);
        // The end may have begun in what came before.
        let from = before.saturating_sub(3);
        let end = head[from..].windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.map(|at| from + at + 4);
        head.truncate(end.unwrap_or(head.len()));
        let taken = head.len() - before;
        socket.read_exact(&mut looked[..taken]).await.map_err(broken)?;
        if end.is_some() {
            return Ok(());
        }
        // Neither HTML nor another protocol is read to its end.
        if !b"HTTP/1."[..].starts_with(&head[..head.len().min(7)]) {
            return Err(TunnelError::Malformed);
        }
        if head.len() > HEAD_BYTES {
            return Err(TunnelError::TooLong);
        }
    }
}

fn status(head: &[u8]) -> Result<StatusCode, TunnelError> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut answer = Response::new(&mut fields);
    match answer.parse(head) {
        Ok(Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TunnelError::TooLong),
        _ => return Err(TunnelError::Malformed),
    }
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or(TunnelError::Malformed)
}

/// A reset is an end as well.
fn broken(error: io::Error) -> TunnelError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            TunnelError::Closed("without an answer to CONNECT")
        }
        _ => TunnelError::Io(error),
    }
}

#[cfg(test)]
mod tests;
