//! An upstream with one fault, in TCP, TLS, HTTP/1.1 or HTTP/2, until it is mended: then it answers
//! everything as it should, on whatever connection is left.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::frames::{DATA, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, PREFACE, block};
use super::{Received, answer, scenario_delay, silent_until_gone};

/// The body of every answer of an upstream that is well.
pub(crate) const WELL: &str = r#"{"uuid":"well"}"#;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request may come on it.
    Keep,
    Close,
    /// It ends with a reset instead of an end.
    Reset,
    /// Nothing more is said on it.
    Hold,
}

/// What is wrong with it.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Every request is answered with these bytes.
    Says(Vec<u8>, Then),
    /// What happens with each connection, before anything is read of it.
    Connection(fn(&mut Peer) -> Then),
    /// What happens when a request was read.
    Request(fn(&mut Peer) -> Then),
    /// What happens on a connection of HTTP/2 when the head of a request was read, on this stream.
    Stream(fn(&mut Frames<Wire>, u32) -> Then),
}

/// How it speaks TLS, with its fault and when it is mended.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) faulty: Arc<ServerConfig>,
    pub(crate) well: Arc<ServerConfig>,
}

/// What bytes come and go on.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

pub(crate) type Wire = Box<dyn Stream>;

/// The upstream.
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    fault: Fault,
    tls: Option<Tls>,
    well: AtomicBool,
    connections: AtomicUsize,
    /// With so many, it says nothing on any further one.
    most: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// The gateway, on one connection.
pub(crate) struct Peer {
    stream: BufReader<Wire>,
    socket: TcpStream,
    /// How many requests came on it before this one.
    pub(crate) before: usize,
}

impl Faulty {
    pub(crate) fn start(fault: Fault, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            fault,
            tls,
            well: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let before = shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&shared);
                thread::spawn(move || match state.most.load(Ordering::SeqCst) {
                    most if before >= most => hold(&socket),
                    _ => state.converse(socket),
                });
            }
        });
        Self { address, state }
    }

    /// It says nothing on any connection after this one: there is no TLS on them, nor an end.
    pub(crate) fn silent_after(&self, connections: usize) {
        self.state.most.store(connections, Ordering::SeqCst);
    }

    /// It has no fault any more.
    pub(crate) fn mend(&self) {
        self.state.well.store(true, Ordering::SeqCst);
    }

    /// How many requests of this method arrived whole; over HTTP/2, how many of any.
    pub(crate) fn asked(&self, method: &str) -> usize {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|one| one.starts_with(method) || *one == "h2").count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        self.state.requests.lock().unwrap().clear();
    }
}

impl State {
    fn is_well(&self) -> bool {
        self.well.load(Ordering::SeqCst)
    }

    fn note(&self, request: &str) {
        self.requests.lock().unwrap().push(request.to_owned());
    }

    fn converse(&self, socket: TcpStream) {
        let well = self.is_well();
        let ends = SockRef::from(&socket).try_clone().unwrap();
        let Ok((wire, http2)) = self.wire(&socket, well) else { return };
        let mut peer = Peer { stream: BufReader::new(wire), socket, before: 0 };
        let then = match &self.fault {
            Fault::Connection(act) if !well => act(&mut peer),
            _ if http2 => self.over_http2(&mut peer),
            _ => self.over_http1(&mut peer),
        };
        match then {
            Then::Keep | Then::Close => {}
            Then::Reset => ends.set_linger(Some(Duration::ZERO)).unwrap(),
            Then::Hold => hold(&peer.socket),
        }
    }

    /// Makes the connection secure, where it is to be, and tells whether HTTP/2 was agreed on.
    fn wire(&self, socket: &TcpStream, well: bool) -> io::Result<(Wire, bool)> {
        let mut socket = socket.try_clone()?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok((Box::new(socket), false)) };
        let config = if well { &tls.well } else { &tls.faulty };
        let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let http2 = connection.alpn_protocol() == Some(b"h2");
        Ok((Box::new(StreamOwned::new(connection, socket)), http2))
    }

    fn over_http1(&self, peer: &mut Peer) -> Then {
        while let Some(request) = Received::read(&mut peer.stream) {
            self.note(&request.line);
            let then = match &self.fault {
                _ if self.is_well() => peer.says(answer("200 OK", WELL).as_bytes(), Then::Keep),
                Fault::Says(bytes, then) => peer.says(bytes, *then),
                Fault::Request(act) => act(peer),
                Fault::Connection(_) | Fault::Stream(_) => Then::Close,
            };
            peer.before += 1;
            if then != Then::Keep {
                return then;
            }
        }
        Then::Close
    }

    fn over_http2(&self, peer: &mut Peer) -> Then {
        let mut preface = [0; PREFACE.len()];
        if peer.stream.read_exact(&mut preface).is_err() {
            return Then::Close;
        }
        // Nothing is asked before the settings came, or were waited for in vain.
        let wire = std::mem::replace(peer.stream.get_mut(), Box::new(io::empty()));
        let begun = peer.stream.buffer().to_vec();
        let mut frames = Frames::of_server(wire, begun);
        while let Some(frame) = frames.next_answered() {
            let Frame { kind: HEADERS, stream, .. } = frame else { continue };
            self.note("h2");
            let then = match &self.fault {
                Fault::Stream(act) if !self.is_well() => act(&mut frames, stream),
                _ => {
                    well(&mut frames, stream);
                    Then::Keep
                }
            };
            if then != Then::Keep {
                *peer.stream.get_mut() = frames.into_stream();
                return then;
            }
        }
        Then::Close
    }
}

/// Answers on a stream as it should be.
pub(crate) fn well(frames: &mut Frames<Wire>, stream: u32) {
    head(frames, stream, &[("content-type", "application/json")]);
    frames.send(DATA, END_STREAM, stream, WELL.as_bytes());
}

/// The head of an answer of success, after which a body comes.
pub(crate) fn head(frames: &mut Frames<Wire>, stream: u32, fields: &[(&str, &str)]) {
    let fields = [&[(":status", "200")], fields].concat();
    frames.send(HEADERS, END_HEADERS, stream, &block(&fields));
}

impl Peer {
    /// Sends what the gateway will take of these bytes.
    pub(crate) fn says(&mut self, bytes: &[u8], then: Then) -> Then {
        if self.send(bytes) { then } else { Then::Close }
    }

    /// Reads the head of a request, and nothing of its body.
    pub(crate) fn reads_head(&mut self) {
        let mut line = String::new();
        while self.stream.read_line(&mut line).is_ok_and(|length| length > 2) {
            line.clear();
        }
    }

    /// Whether the gateway still takes bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
    }

    /// Sends a byte now and then, until the gateway takes no more.
    pub(crate) fn drips(&mut self, byte: &[u8]) -> Then {
        self.drips_every(Duration::from_millis(50), byte)
    }

    /// The same, with so much time between two bytes.
    pub(crate) fn drips_every(&mut self, pause: Duration, byte: &[u8]) -> Then {
        while self.send(byte) {
            scenario_delay(pause);
        }
        Then::Close
    }
}

/// Waits until the gateway has gone; whatever it says is not looked at.
fn hold(socket: &TcpStream) {
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    silent_until_gone(&mut &*socket);
}
