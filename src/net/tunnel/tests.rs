//! The dialler and proxies that do it right, and that do not.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::net::{DialError, Dialler, Egress, Proxy, Resolver};

/// A proxy that says these pieces to whoever asks, one after the other, and then keeps the connection
/// or ends it. Gives what it was asked.
async fn proxy(pieces: &'static [&'static [u8]], keeps: bool) -> (u16, JoinHandle<String>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(socket.read_u8().await.unwrap());
        }
        for piece in pieces {
            socket.write_all(piece).await.unwrap();
            // So that they come one by one.
            sleep(Duration::from_millis(5)).await;
        }
        if keeps {
            // What comes through the tunnel comes back.
            while let Ok(byte @ 1..) = socket.read_u8().await {
                if socket.write_u8(byte).await.is_err() {
                    break;
                }
            }
        }
        String::from_utf8(asked).unwrap()
    });
    (port, serving)
}

/// A dialler that goes through that proxy, and resolves no name but the proxy's.
fn dialler(port: u16) -> Dialler {
    let resolver = Resolver::with(|name| {
        assert_eq!(name, "proxy.internal", "the proxy resolves the name");
        Ok(vec!["127.0.0.1".parse().unwrap()])
    });
    let proxy = Proxy::new("proxy.internal".to_owned(), port);
    Dialler::over(resolver).through(Egress::through(proxy, Vec::new()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn what_a_proxy_answers_decides_whether_there_is_a_tunnel() {
    const ENDLESS: &[u8] = &[b'a'; 20 * 1024];
    let refused = "refused CONNECT with";
    let cases: &[(&'static [&'static [u8]], bool, &str)] = &[
        (&[b"HTTP/1.1 200 Connection established\r\n\r\n"], true, ""),
        (&[b"HTTP/1.0 200\r\n\r\n"], true, ""),
        (&[b"HTTP/1.1 204 No Content\r\nVia: squid\r\n\r\n"], true, ""),
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], true, ""),
        (&[b"HTTP/1.1 2", b"00 OK\r\nA: b\r", b"\n", b"\r", b"\n"], true, ""),
        (&[b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"], true, ""),
        (&[b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"], true, "407: it wants a user"),
        (&[b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"], true, "403: its rules"),
        (&[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], true, "502: it cannot reach"),
        (&[b"HTTP/1.1 418 Teapot\r\n\r\n"], true, refused),
        (&[b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"], true, refused),
        (&[b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], true, refused),
        (&[b"<html><body>Sign in</body></html>"], true, "no HTTP/1.1"),
        (&[b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], true, "no HTTP/1.1"),
        (&[b"HTTP/2 200\r\n\r\n"], true, "no HTTP/1.1"),
        (&[b"HTTP/1.1 OK\r\n\r\n"], true, "no HTTP/1.1"),
        (&[b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n"], true, "no HTTP/1.1"),
        (&[b"HTTP/1.1 200 OK\r\n\r\n<html>"], true, "bytes came behind its answer"),
        (&[], false, "closed the connection without an answer"),
        (&[b"HTTP/1.1 200 OK\r\nVia"], false, "closed the connection within its answer"),
        (&[b"HTTP/1.1 200 OK\r\nA: ", ENDLESS], true, "more than 16384 bytes"),
    ];
    for (pieces, keeps, said) in cases {
        let shown: Vec<_> = pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
        let (port, _serving) = proxy(pieces, *keeps).await;
        match dialler(port).connect("service.internal", 443, soon()).await {
            Ok(mut socket) => {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                assert_eq!(*said, "", "{shown:?}");
                socket.write_u8(7).await.unwrap();
                assert_eq!(socket.read_u8().await.unwrap(), 7, "{shown:?}");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!said.is_empty() && error.contains(said), "{shown:?}: {error}");
                let named = format!("the proxy proxy.internal:{port} on the way: it");
                let named = error.starts_with(&named);
                assert!(named, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn connect_names_the_host_with_its_port_and_who_asks() {
    for (host, authority) in [("service.internal", "service.internal:443"), ("::1", "[::1]:443")] {
        let (port, serving) = proxy(&[b"HTTP/1.1 200 OK\r\n\r\n"], false).await;
        let proxy = Proxy::new("127.0.0.1".to_owned(), port);
        let proxy = proxy.with_credentials("me", "s3cret").unwrap();
        let dialler = Dialler::over(Resolver::with(|name| panic!("{name} is resolved")));
        let dialler = dialler.through(Egress::through(proxy, Vec::new()));
        // It may be closed already.
        _ = dialler.connect(host, 443, soon()).await;
        let asked = serving.await.unwrap();
        let expected = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {}\r\n\
             Proxy-Authorization: Basic bWU6czNjcmV0\r\n\r\n",
            super::USER_AGENT
        );
        assert_eq!(asked, expected);
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_or_says_nothing_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let time = Duration::from_millis(100);
    let error = dialler(port).connect("a", 1, Instant::now() + time).await.unwrap_err();
    assert!(matches!(&error, DialError::Proxy { why: super::TunnelError::Late, .. }), "{error}");
    drop(silent);
    let error = dialler(port).connect("a", 1, soon()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("proxy.internal:{port} on the way")), "{error}");
    assert!(error.contains("it could not be connected to"), "{error}");
    let nameless = Dialler::over(Resolver::with(|_| Err(std::io::ErrorKind::NotFound.into())));
    let proxy = Proxy::new("proxy.internal".to_owned(), 1);
    let nameless = nameless.through(Egress::through(proxy, Vec::new()));
    let error = nameless.connect("a", 1, soon()).await.unwrap_err().to_string();
    assert!(error.contains("the proxy proxy.internal:1 on the way: its name"), "{error}");
}

#[tokio::test]
async fn what_is_excepted_goes_past_the_proxy() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let proxy = Proxy::new("127.0.0.1".to_owned(), 9);
    let exceptions = vec!["127.0.0.0/8".parse().unwrap()];
    let dialler = Dialler::system().through(Egress::through(proxy, exceptions));
    dialler.connect("127.0.0.1", port, soon()).await.unwrap();
}
