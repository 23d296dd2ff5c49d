//! What a row of the matrix is: what the upstream does wrong, what the caller gets, and when; and
//! the one way in which every row is tried.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::tls::Shown;
use crate::support::faulty::{Fault, Faulty, Peer, Then, WELL};
use crate::support::{Answer, Client, Process, Setup};

/// A group of rows, and a test for each: whatever the upstream does, the caller gets the documented
/// form in time.
macro_rules! rows {
    (
        $(#[doc = $about:literal])?
        $visible:vis fn $group:ident;
        $($test:ident => $row:expr,)*
    ) => {
        $(#[doc = $about])?
        $visible fn $group() -> Vec<Row> {
            vec![$($row),*]
        }

        $(
            #[test]
            fn $test() {
                $crate::faults::matrix::try_out(&$row);
            }
        )*
    };
}

/// What is added to a bound for a machine that has much else to do.
const SLACK: Duration = Duration::from_secs(5);

/// So often at most may be asked what may be asked again: once, and two retries.
const MOST_ASKED: usize = 3;

/// What happens on a connection.
type Act = fn(&mut Peer) -> Then;

/// A row.
pub(super) struct Row {
    /// What the upstream does, as a sentence that begins with "it".
    pub(super) name: &'static str,
    upstream: Upstream,
    pub(super) outcome: Outcome,
    pub(super) bound: Bound,
    /// The methods with which it is tried.
    methods: &'static [&'static str],
    /// Whether the upstream gets a request whole, and so how often it may.
    arrives: Arrives,
    /// What is sent with POST.
    body: &'static str,
}

/// Where the gateway is sent.
enum Upstream {
    /// To what is at no address.
    Nowhere(fn() -> Nowhere),
    Plain(Fault),
    /// To what shows this certificate and speaks one of these protocols.
    Secure(Shown, &'static [&'static str], Fault),
    /// To what does this in the place of a handshake.
    Handshake(Act),
}

/// An authority of a URL where nobody answers, and what makes it one.
pub(super) struct Nowhere {
    authority: String,
    _held: Vec<TcpStream>,
    _listener: Option<TcpListener>,
}

/// Whether requests arrive at the upstream whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrives {
    Never,
    /// What must not be asked twice exactly once.
    Whole,
    /// On a connection that the gateway had kept, so that it asks again.
    Kept,
    /// Whole, and the upstream says that it did nothing of it: everything is asked again.
    Untouched,
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is noticed: the documented success.
    Success,
    /// The envelope.
    Failure {
        status: u16,
        code: &'static str,
        message: &'static str,
        /// The error of `Proxy-Status`, or what stands in its place.
        error: &'static str,
    },
    /// An answer that ends before its end; the log has this code.
    Aborted(&'static str),
}

/// When the caller has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// As soon as the upstream has done it.
    AtOnce,
    Connect,
    FirstByte,
    BetweenBytes,
    Total,
    /// The pings of HTTP/2, of which the first goes out after five seconds.
    Ping,
}

impl Row {
    const fn new(name: &'static str, upstream: Upstream, outcome: Outcome) -> Self {
        Self {
            name,
            upstream,
            outcome,
            bound: Bound::AtOnce,
            methods: &["GET", "POST"],
            arrives: Arrives::Whole,
            body: "{}",
        }
    }

    /// What does wrong with each request, without TLS.
    pub(super) const fn asked(name: &'static str, fault: Fault, outcome: Outcome) -> Self {
        Self::new(name, Upstream::Plain(fault), outcome)
    }

    /// What answers each request with these bytes and does this then.
    pub(super) fn says(
        name: &'static str,
        bytes: impl Into<Vec<u8>>,
        then: Then,
        outcome: Outcome,
    ) -> Self {
        Self::asked(name, Fault::Says(bytes.into(), then), outcome)
    }

    /// What does wrong before a request is read.
    pub(super) const fn connected(name: &'static str, act: Act, outcome: Outcome) -> Self {
        Self::new(name, Upstream::Plain(Fault::Connection(act)), outcome).never_arrives()
    }

    /// What is at no address.
    pub(super) const fn nowhere(
        name: &'static str,
        place: fn() -> Nowhere,
        outcome: Outcome,
    ) -> Self {
        Self::new(name, Upstream::Nowhere(place), outcome).never_arrives()
    }

    /// What speaks TLS.
    pub(super) const fn secure(
        name: &'static str,
        shown: Shown,
        protocols: &'static [&'static str],
        fault: Fault,
        outcome: Outcome,
    ) -> Self {
        Self::new(name, Upstream::Secure(shown, protocols, fault), outcome)
    }

    /// What does wrong where TLS is to begin. It is not mended.
    pub(super) const fn handshake(name: &'static str, act: Act, outcome: Outcome) -> Self {
        Self::new(name, Upstream::Handshake(act), outcome).never_arrives()
    }

    pub(super) const fn within(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    pub(super) const fn only(mut self, methods: &'static [&'static str]) -> Self {
        self.methods = methods;
        self
    }

    pub(super) const fn never_arrives(mut self) -> Self {
        self.arrives = Arrives::Never;
        self
    }

    /// On a connection that was used before.
    pub(super) const fn kept(mut self) -> Self {
        self.arrives = Arrives::Kept;
        self
    }

    /// With the word that nothing was done.
    pub(super) const fn untouched(mut self) -> Self {
        self.arrives = Arrives::Untouched;
        self
    }

    pub(super) const fn with_body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }
}

pub(super) const fn failure(
    status: u16,
    code: &'static str,
    message: &'static str,
    error: &'static str,
) -> Outcome {
    Outcome::Failure { status, code, message, error }
}

/// A failure of the upstream, or of the way to it.
pub(super) const fn broken(message: &'static str, error: &'static str) -> Outcome {
    failure(500, "upstream_error", message, error)
}

impl Bound {
    /// How long things may take: what it is about is short enough to be waited for, and the others
    /// long enough that they are not met, however slow the machine is.
    fn deadlines(self) -> String {
        let keys = [
            ("connect_timeout", Self::Connect, "1s", "5s"),
            ("first_byte_timeout", Self::FirstByte, "1s", "20s"),
            ("between_bytes_timeout", Self::BetweenBytes, "1s", "20s"),
            ("timeout", Self::Total, "2s", "25s"),
        ];
        let lines = keys.map(|(key, bound, short, long)| {
            format!("{key} = \"{}\"\n", if bound == self { short } else { long })
        });
        lines.concat()
    }

    /// The time before which there is no answer, and the one at which there must be one but for
    /// the slack. What may be tried again may take so much longer.
    const fn limits(self) -> (u64, u64) {
        match self {
            Self::AtOnce => (0, 0),
            Self::Connect | Self::FirstByte | Self::BetweenBytes => (1000, 3000),
            Self::Total => (2000, 2000),
            Self::Ping => (5000, 8000),
        }
    }

    /// The key of the configuration that sets it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::Connect => "`connect_timeout`",
            Self::FirstByte => "`first_byte_timeout`",
            Self::BetweenBytes => "`between_bytes_timeout`",
            Self::Total => "`timeout`",
            Self::Ping => "8 s: a ping after 5, and 3 to answer it",
        }
    }
}

impl Nowhere {
    /// A port that nobody listens on.
    pub(super) fn refusing() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::at(free.to_string())
    }

    pub(super) fn at(authority: String) -> Self {
        Self { authority, _held: Vec::new(), _listener: None }
    }

    /// A port whose queue of connections is full: what comes more is dropped, as by a machine that
    /// is gone.
    pub(super) fn silent() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let dial = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let held = std::iter::from_fn(|| dial().ok()).take(1000).collect();
        Self { authority: address.to_string(), _held: held, _listener: Some(listener) }
    }
}

/// Tries a row as a caller does, and panics when something else comes of it than it says.
pub(super) fn try_out(row: &Row) {
    let (nowhere, upstream) = match &row.upstream {
        Upstream::Nowhere(place) => (Some(place()), None),
        Upstream::Plain(fault) => (None, Some(Faulty::start(fault.clone(), None))),
        Upstream::Handshake(act) => (None, Some(Faulty::start(Fault::Connection(*act), None))),
        Upstream::Secure(shown, protocols, fault) => {
            (None, Some(Faulty::start(fault.clone(), Some(shown.tls(protocols)))))
        }
    };
    let authority = match (&nowhere, &upstream) {
        (Some(nowhere), _) => nowhere.authority.clone(),
        (_, Some(upstream)) => upstream.address.to_string(),
        _ => unreachable!("it is somewhere or nowhere"),
    };
    let secure = matches!(row.upstream, Upstream::Secure(..) | Upstream::Handshake(_));
    let scheme = if secure { "https" } else { "http" };
    let setup = Setup::new(&format!("{scheme}://{authority}"));
    let trusts = if secure { Shown::trusted(setup.folder.path()) } else { String::new() };
    let gateway = setup
        .with(&format!("[upstream]\n{}{trusts}", row.bound.deadlines()))
        // One, so that what one request leaves behind is there for the next.
        .set("listen.workers", 1)
        .start();
    let mut client = gateway.client();
    for method in row.methods {
        one(row, method, &gateway, &mut client, upstream.as_ref());
    }
    // Whatever it was, the gateway and the caller's connection are as good as before.
    let token = [("token", gateway.key.as_str())];
    let body = r#"{"lifespan":1000,"role":"reader"}"#;
    let minted = client.request("POST", "/v5/tokens/rooms/a", &token, body);
    assert_eq!(minted.status, 201, "{}: {}", row.name, minted.text());
    if let Some(upstream) = upstream.filter(|_| !matches!(row.upstream, Upstream::Handshake(_))) {
        upstream.mend();
        let answer = client.request("GET", "/v5/rooms/well", &token, "");
        assert_eq!((answer.status, answer.text().as_str()), (200, WELL), "{}", row.name);
    }
}

fn one(row: &Row, method: &str, gateway: &Process, client: &mut Client, upstream: Option<&Faulty>) {
    let token = ("token", gateway.key.as_str());
    if row.arrives == Arrives::Kept {
        let first = client.request("GET", "/v5/rooms/a", &[token], "");
        assert_eq!(first.status, 200, "{}: {}", row.name, first.text());
    }
    if let Some(upstream) = upstream {
        upstream.forget();
    }
    let (path, body, success) = match method {
        "GET" => ("/v5/rooms/a", "", 200),
        _ => ("/v5/rooms", row.body, 201),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: g\r\n{}: {}\r\ncontent-length: {}\r\n\r\n",
        token.0,
        token.1,
        body.len()
    );
    let begun = Instant::now();
    client.send(format!("{head}{body}").as_bytes());
    let answer = client.answer(method);
    let took = begun.elapsed();
    let what = format!("{method}, and it {}", row.name);

    check(&what, row.outcome, success, answer.as_ref(), gateway);
    if matches!(row.outcome, Outcome::Aborted(_)) {
        *client = gateway.client();
    }
    let (least, most) = row.bound.limits();
    let (least, most) = (Duration::from_millis(least), Duration::from_millis(most) + SLACK);
    // Clocks tick in milliseconds.
    assert!(took + Duration::from_millis(5) >= least && took <= most, "{what}: {took:?}");

    let asked = upstream.map_or(0, |upstream| upstream.asked(method));
    let right = match row.arrives {
        Arrives::Never => asked == 0,
        Arrives::Untouched => asked == MOST_ASKED,
        Arrives::Whole | Arrives::Kept if method == "POST" => asked == 1,
        Arrives::Whole | Arrives::Kept => (1..=MOST_ASKED).contains(&asked),
    };
    assert!(right, "{what}: asked {asked} times");
    let connections = upstream.map_or(0, Faulty::connections);
    assert!(connections <= row.methods.len() * MOST_ASKED + 1, "{what}: {connections}");
}

fn check(what: &str, outcome: Outcome, success: u16, answer: Option<&Answer>, gateway: &Process) {
    let (status, code, message, error) = match outcome {
        Outcome::Success => {
            let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(answer.status, success, "{what}: {}", answer.text());
            assert!(["{}", WELL].contains(&answer.text().as_str()), "{what}: {}", answer.text());
            assert!(!answer.has("link") && !answer.has("proxy-status"), "{what}");
            return;
        }
        Outcome::Aborted(code) => {
            assert!(answer.is_none(), "{what}: it came whole");
            crate::support::wait_until("the break is recorded", || {
                gateway.access_lines().iter().any(|line| line["code"] == code)
            });
            return;
        }
        Outcome::Failure { status, code, message, error } => (status, code, message, error),
    };
    let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!(answer.status, status, "{what}: {} {:?}", answer.text(), answer.headers);
    answer.assert_envelope(status, code);
    assert_eq!(answer.member("message"), message, "{what}");
    let told = answer.header("proxy-status");
    assert!(told.contains(error), "{what}: {told} instead of {error}");
    assert!(!answer.text().contains("<html>"), "{what}: {}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((&line["status"], &line["code"]), (&json!(status), &json!(code)), "{what}");
}
