//! The gateway of a configuration: the real one, behind its real server, over connections in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use whiteboard_gateway::config::{self, Settings, Source};
use whiteboard_gateway::gateway::{Gateway, Snapshot};
use whiteboard_gateway::server::{Local, NetworkListener, NetworkSocket, Tls};
use whiteboard_gateway::telemetry::{self, AccessLog, Metrics, Recorder, Sink};
use whiteboard_gateway::upstream::Network;

use crate::fixture::{FIXTURE, NOW};
use crate::upstream::Way;

/// As much waits on a connection.
pub(crate) const BUFFER: usize = 64 * 1024;

/// A gateway that runs.
pub(crate) struct Started {
    door: Door,
    tls: bool,
    /// What decides in it, for whoever asks why.
    pub(crate) snapshot: Arc<Snapshot>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    sink: Arc<Sink>,
    _server: Local,
    /// By the client that is at the other end.
    open: BTreeMap<usize, Box<dyn Wire>>,
    over_http2: BTreeMap<usize, SendRequest<Bytes>>,
}

/// A request, as it is sent.
pub(crate) struct Sent<'a> {
    /// Which of the clients sends it: 0 has no certificate.
    pub(crate) client: usize,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) fields: &'a [(&'static str, String)],
    pub(crate) body: &'a str,
    pub(crate) http2: bool,
    /// What the configuration becomes before the body comes.
    pub(crate) midway: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// What a configuration says.
fn settings(text: String) -> Result<Settings, String> {
    let source = Source::Embedded { name: "oracle.toml", text: text.leak() };
    let mut settings = config::load(&source, &[]).map_err(|errors| errors.to_string())?.settings;
    settings.gateway.upstream.network = Network::Other(Arc::new(Way));
    Ok(settings)
}

impl Started {
    /// Starts it; the errors of a configuration that is refused.
    pub(crate) fn open(text: String) -> Result<Self, String> {
        Self::open_with(text, AccessLog::Off)
    }

    /// The same, with access lines.
    pub(crate) fn open_with(text: String, access: AccessLog) -> Result<Self, String> {
        let settings = settings(text)?;
        let tls =
            settings.server.listeners[0].tls.as_ref().map(|tls| Arc::new(Tls::new(tls).unwrap()));
        let metrics = Arc::new(Metrics::new(1));
        let snapshot = Snapshot::new(settings.gateway, None, &metrics).unwrap();
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        let log = telemetry::Settings { access, ..Default::default() };
        let sink = Arc::new(Sink::open(&log, &metrics).unwrap());
        let mut recorder = Recorder::new(Arc::clone(&metrics), 0, Arc::clone(&sink));
        recorder.clock = clock;
        let snapshot = snapshots.load_full();
        let gateway = Rc::new(Gateway::new(Arc::clone(&snapshots), recorder));
        let door = Door::default();
        let is_encrypted = tls.is_some();
        let server = Local::start(&settings.server, tls, door.clone(), gateway);
        Ok(Self {
            door,
            tls: is_encrypted,
            snapshot,
            snapshots,
            metrics,
            sink,
            _server: server,
            open: BTreeMap::new(),
            over_http2: BTreeMap::new(),
        })
    }

    /// Waits until the access lines that were handed over are written.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.sink.flush(timeout)
    }

    /// Replaces the configuration that counts.
    fn reload(&mut self, text: String) {
        let settings = settings(text).unwrap();
        let snapshot =
            Snapshot::new(settings.gateway, Some(&self.snapshot), &self.metrics).unwrap();
        self.snapshots.store(Arc::new(snapshot));
        self.snapshot = self.snapshots.load_full();
    }

    /// Lets the gateway go on until it waits for the body, and changes the configuration then.
    async fn meanwhile(&mut self, sent: &Sent<'_>) {
        if let Some(text) = sent.midway.clone() {
            // The clock goes on when there is nothing else to do.
            sleep(Duration::from_millis(1)).await;
            self.reload(text);
        }
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn call(&mut self, sent: &Sent<'_>) -> io::Result<Answer> {
        if sent.http2 {
            return self.call_over_http2(sent).await;
        }
        let mut wire = match self.open.remove(&sent.client) {
            Some(wire) => wire,
            None => self.connect(sent.client, 0).await?,
        };
        let mut text = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", sent.method, sent.path);
        for (name, value) in sent.fields {
            text.extend([*name, ": ", value, "\r\n"]);
        }
        if !sent.body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", sent.body.len()));
        }
        text.push_str("\r\n");
        wire.write_all(text.as_bytes()).await?;
        self.meanwhile(sent).await;
        wire.write_all(sent.body.as_bytes()).await?;
        let (head, body) = read_message(&mut wire).await?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        if !head.contains("connection: close") {
            self.open.insert(sent.client, wire);
        }
        Ok(Answer { status, head, body })
    }

    async fn call_over_http2(&mut self, sent: &Sent<'_>) -> io::Result<Answer> {
        let kept = match self.over_http2.remove(&sent.client) {
            Some(kept) => kept,
            None => {
                let wire = self.connect(sent.client, 1).await?;
                let (sender, connection) =
                    h2::client::handshake(wire).await.map_err(io::Error::other)?;
                spawn_local(async {
                    // What goes wrong is told to whoever waits for an answer.
                    _ = connection.await;
                });
                sender
            }
        };
        let scheme = if self.tls { "https" } else { "http" };
        let mut request = http::Request::builder()
            .method(sent.method)
            .uri(format!("{scheme}://localhost{}", sent.path));
        for (name, value) in sent.fields {
            request = request.header(*name, value);
        }
        let mut kept = kept.ready().await.map_err(io::Error::other)?;
        let request = request.body(()).expect("a request");
        let sending = kept.send_request(request, sent.body.is_empty());
        let (answer, mut body) = sending.map_err(io::Error::other)?;
        self.over_http2.insert(sent.client, kept);
        self.meanwhile(sent).await;
        if !sent.body.is_empty() {
            // Whoever is refused at once may have said that it takes no more.
            _ = body.send_data(Bytes::from(sent.body.to_owned()), true);
        }
        let (head, mut body) = answer.await.map_err(io::Error::other)?.into_parts();
        let mut text = format!("HTTP/2 {}\n", head.status.as_u16());
        for (name, value) in &head.headers {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(io::Error::other)?;
            body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&piece);
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: head.status.as_u16(), head: text, body })
    }

    /// Connects as a client, over HTTP/1.1 or the other one.
    async fn connect(&self, client: usize, version: usize) -> io::Result<Box<dyn Wire>> {
        let (near, far) = duplex(BUFFER);
        self.door.push(End { stream: RefCell::new(far), peeked: Cell::new(None) });
        if !self.tls {
            return Ok(Box::new(near));
        }
        let connector = TlsConnector::from(Arc::clone(&FIXTURE.clients[client][version]));
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Box::new(connector.connect(name, near).await?))
    }
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Reads a head in small letters and the body that it promises.
pub(crate) async fn read_message(
    wire: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<(String, String)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if wire.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let length: usize = length.unwrap_or(0);
    while read.len() < end + length {
        if wire.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = String::from_utf8_lossy(&read[end..]).into_owned();
    // Values keep their case: only names are told by their small letters.
    let lines = head.lines().map(|line| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    });
    Ok((lines.collect(), body))
}

/// What callers connect to.
#[derive(Clone, Default)]
struct Door(Rc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<End>>,
    waker: RefCell<Option<Waker>>,
}

impl Door {
    fn push(&self, end: End) {
        self.0.waiting.borrow_mut().push_back(end);
        self.0.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// The gateway's end of a connection.
struct End {
    stream: RefCell<DuplexStream>,
    /// The first byte, once it was looked at.
    peeked: Cell<Option<u8>>,
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.get_mut();
        match end.peeked.take() {
            Some(byte) => {
                buffer.put_slice(&[byte]);
                Poll::Ready(Ok(()))
            }
            None => Pin::new(end.stream.get_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(context)
    }
}

impl NetworkListener for Door {
    type Socket = End;

    fn accept(&self) -> impl Future<Output = io::Result<(End, SocketAddr)>> {
        poll_fn(|context| {
            if let Some(next) = self.0.waiting.borrow_mut().pop_front() {
                return Poll::Ready(Ok((next, SocketAddr::from(([10, 0, 0, 1], 1)))));
            }
            self.0.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
    }

    fn waiting(&self) -> io::Result<Option<(End, SocketAddr)>> {
        Ok(None)
    }

    fn turn_away(&self) -> io::Result<bool> {
        Ok(false)
    }
}

impl NetworkSocket for End {
    fn without_delay(&self) -> io::Result<()> {
        Ok(())
    }

    fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut one))?;
        self.peeked.set(one.filled().first().copied());
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(one.filled().len()))
    }

    fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
