//! The whiteboard service as it speaks HTTP/2 over TLS: h2's server, which does everything right but
//! for what a test wants.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::time::async_scenario_delay;
use super::{Authority, Setup};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This JSON.
    Json(String),
    /// `{}`, after so long.
    After(Duration),
    /// Nothing, ever.
    Never,
    /// A text of JSON of so many bytes.
    Long(usize),
    /// The body of the request is never read, and nothing is answered.
    Unread,
}

/// How the service is.
#[derive(Clone, Copy)]
pub(crate) struct Mood {
    /// The streams of a connection that it allows.
    pub(crate) streams: u32,
    /// How long a handshake takes.
    pub(crate) handshake: Duration,
    /// The protocols that it speaks.
    pub(crate) protocols: &'static [&'static str],
}

impl Default for Mood {
    fn default() -> Self {
        Self { streams: 100, handshake: Duration::ZERO, protocols: &["h2"] }
    }
}

/// The service.
pub(crate) struct Service {
    address: SocketAddr,
    authority: Authority,
    state: Arc<State>,
}

struct State {
    mood: Mood,
    reply: Box<dyn Fn(&str) -> Reply + Send + Sync>,
    /// How many connections came, and how many of them stood after the handshake.
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    /// The most requests that were open at once on one connection.
    most_at_once: AtomicUsize,
    /// The most bytes of a body that have come and that nobody reads.
    untaken: AtomicUsize,
    /// So many connections, the first, are dead: nothing is read or written on them.
    dead: AtomicUsize,
    /// No connection above this number is accepted.
    most: AtomicUsize,
    /// Every connection is told that it will end.
    leaving: AtomicBool,
    changed: Notify,
}

impl Service {
    /// One that answers by the path.
    pub(crate) fn start(mood: Mood, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new("Service");
        let acceptor = TlsAcceptor::from(authority.certify("127.0.0.1").serving(mood.protocols));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mood,
            reply: Box::new(reply),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            untaken: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            leaving: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(listener, acceptor, shared))
        });
        Self { address, authority, state }
    }

    /// A gateway in front of it.
    pub(crate) fn setup(&self) -> Setup {
        let setup = Setup::new(&format!("https://{}", self.address));
        let path = self.authority.write(setup.folder.path());
        setup.with(&format!("[upstream]\nca = \"{}\"\n", path.display()))
    }

    /// How many handshakes there were.
    pub(crate) fn handshakes(&self) -> usize {
        self.state.handshakes.load(Ordering::SeqCst)
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The most requests that were open at once on one connection.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// The most bytes of a body that have come and that nobody reads.
    pub(crate) fn untaken(&self) -> usize {
        self.state.untaken.load(Ordering::SeqCst)
    }

    /// The connections that there are say nothing any more, and no end.
    pub(crate) fn fails_over(&self) {
        self.state.dead.store(self.connections(), Ordering::SeqCst);
        self.state.changed.notify_waiters();
    }

    /// No connection is accepted but the first so many.
    pub(crate) fn accepts(&self, most: usize) {
        self.state.most.store(most, Ordering::SeqCst);
    }

    /// Every connection that there is gets GOAWAY, and is finished.
    pub(crate) fn leaves(&self, leaving: bool) {
        self.state.leaving.store(leaving, Ordering::SeqCst);
        self.state.changed.notify_waiters();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) -> Infallible {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            state.open.fetch_add(1, Ordering::SeqCst);
            _ = serve(number, socket, acceptor, &state).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(
    number: usize,
    socket: TcpStream,
    acceptor: TlsAcceptor,
    state: &Arc<State>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    async_scenario_delay(state.mood.handshake).await;
    if number > state.most.load(Ordering::SeqCst) {
        return Ok(());
    }
    let stream = acceptor.accept(socket).await?;
    state.handshakes.fetch_add(1, Ordering::SeqCst);
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return over_http1(stream).await;
    }
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(state.mood.streams);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let at_once = Arc::new(AtomicUsize::new(0));
    loop {
        let changed = state.changed.notified();
        if number <= state.dead.load(Ordering::SeqCst) {
            // The socket stays open.
            return std::future::pending().await;
        }
        if state.leaving.load(Ordering::SeqCst) {
            connection.graceful_shutdown();
        }
        tokio::select! {
            request = connection.accept() => {
                let Some(request) = request else { return Ok(()) };
                let (request, respond) = request?;
                state.requests.fetch_add(1, Ordering::SeqCst);
                let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
                state.most_at_once.fetch_max(now, Ordering::SeqCst);
                let (state, at_once) = (Arc::clone(state), Arc::clone(&at_once));
                tokio::spawn(async move {
                    _ = reply(&state, request, respond).await;
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
            () = changed => {}
        }
    }
}

async fn reply(
    state: &State,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let reply = (state.reply)(head.uri.path());
    if matches!(reply, Reply::Unread) {
        // Neither read nor dropped, until the stream is reset.
        loop {
            tokio::select! {
                reset = std::future::poll_fn(|context| respond.poll_reset(context)) => {
                    return reset.map(|_| ());
                }
                () = async_scenario_delay(Duration::from_millis(5)) => {
                    let untaken = body.flow_control().used_capacity();
                    state.untaken.fetch_max(untaken, Ordering::SeqCst);
                }
            }
        }
    }
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    let text = match reply {
        Reply::Json(text) => text,
        Reply::After(time) => {
            async_scenario_delay(time).await;
            "{}".to_owned()
        }
        Reply::Long(length) => format!("\"{}\"", "x".repeat(length - 2)),
        Reply::Never | Reply::Unread => {
            std::future::poll_fn(|context| respond.poll_reset(context)).await?;
            return Ok(());
        }
    };
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("content-length", text.len());
    let mut stream = respond.send_response(response.body(()).unwrap(), false)?;
    let mut left = Bytes::from(text);
    while !left.is_empty() {
        stream.reserve_capacity(left.len());
        let Some(room) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else {
            return Ok(());
        };
        let piece = left.split_to(room?.min(left.len()));
        stream.send_data(piece, left.is_empty())?;
    }
    Ok(())
}

/// `{}` to every request without a body.
async fn over_http1(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut reader = BufReader::new(&mut stream);
    loop {
        let mut line = String::new();
        while reader.read_line(&mut line).await? > 2 {
            line.clear();
        }
        if line.is_empty() {
            return Ok(());
        }
        let answer = super::answer("200 OK", "{}");
        reader.get_mut().write_all(answer.as_bytes()).await?;
        reader.get_mut().flush().await?;
    }
}
