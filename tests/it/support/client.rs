//! A client of HTTP/1.1 on a raw socket, which sends exactly what it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A connection that is kept; over TLS as well.
pub(crate) struct Client<T: Read + Write = TcpStream> {
    stream: BufReader<T>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// Goes away for good: a reset, and no mere end of what it sends.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.stream.into_inner());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A connection that is not waited on for ever.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl<T: Read + Write> Client<T> {
    /// On a stream that stands.
    pub(crate) fn over(stream: T) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// What it reads from and writes to.
    pub(crate) fn stream(&self) -> &T {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes to a peer that may have gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request of method, path, headers (`Host` is added) and body (with its length).
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(body);
        self.send(head.as_bytes());
        self.answer(method).expect("an answer")
    }

    /// Sends a request of a caller with this bearer token.
    pub(crate) fn call(&mut self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.request(method, path, &[("authorization", &bearer)], body)
    }

    /// Reads the next answer; `None` when the connection ends before one begins.
    pub(crate) fn answer(&mut self, method: &str) -> Option<Answer> {
        read_answer(&mut self.stream, method == "HEAD")
    }

    /// Sends the head of a request with a body of `length` bytes, and waits until the gateway waits
    /// for that: whoever calls is identified then, and has been let in.
    pub(crate) fn announce(&mut self, line: &str, headers: &[(&str, &str)], length: usize) {
        let mut head = format!("{line} HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {length}\r\n\r\n"));
        self.send(head.as_bytes());
        let interim = read_head(&mut self.stream);
        assert_eq!(interim.map(|(status, _)| status), Some(100), "it waits for the body");
    }

    /// Whether the peer has closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        matches!(self.stream.read(&mut rest), Ok(0) | Err(_))
    }
}

/// Sends bytes on a connection of their own and reads the answer until the peer closes or the
/// answer is complete.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut client = Client::connect(address);
    // A peer that refuses early may have closed already.
    _ = client.stream.get_mut().write_all(bytes);
    client.answer("GET")
}

/// Reads one answer of HTTP/1.1. Interim ones (1xx) are passed over.
pub(crate) fn read_answer(stream: &mut impl BufRead, bodiless: bool) -> Option<Answer> {
    let (status, headers) = loop {
        let (status, headers) = read_head(stream)?;
        if status >= 200 {
            break (status, headers);
        }
    };
    let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let mut body = Vec::new();
    if bodiless {
    } else if let Some(length) = find("content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).ok()?;
    } else if find("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        stream.read_to_end(&mut body).ok()?;
    }
    Some(Answer { status, headers, body })
}

fn read_head(stream: &mut impl BufRead) -> Option<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let field = line.trim_end();
        if field.is_empty() {
            return Some((status, headers));
        }
        let (name, value) = field.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

impl Answer {
    /// The value of a header; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    /// The text of a member of the body.
    pub(crate) fn member(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts that this is the envelope of a failure, complete with its headers.
    #[track_caller]
    pub(crate) fn assert_envelope(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.member("code").as_str()), (status, code), "{}", self.text());
        assert!(!self.member("message").is_empty(), "{}", self.text());
        assert!(!self.member("requestId").is_empty(), "{}", self.text());
        assert_eq!(self.member("requestId"), self.header("x-request-id"));
        assert!(self.header("content-type").starts_with("application/"), "{:?}", self.headers);
        assert!(self.header("content-type").contains("json"), "{:?}", self.headers);
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("content-length"), self.body.len().to_string());
        assert!(self.header("proxy-status").starts_with("whiteboard-gateway; "));
        if status == 401 {
            let challenge = self.header("www-authenticate");
            assert!(challenge.starts_with("Bearer realm=\"whiteboard-gateway\""), "{challenge}");
        }
    }
}
