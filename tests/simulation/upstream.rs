//! The whiteboard service of a run: it knows whose request it has, and answers it rightly, late,
//! wrongly or not at all.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep};
use whiteboard_gateway::upstream::{Dial, Dialled, Dialling, Origin};

use crate::callers::BURST;
use crate::issuer::{FORGED, token};
use crate::network::{self, End, Harm, Passage};
use crate::plan::{DISMISSED, KEYS, State, millis};
use crate::world::{Arrival, Lost, Request as Known, World};

/// So long the gateway waits for a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// The way from the gateway to it.
pub(crate) struct Way;

impl Dial for Way {
    fn dial(&self, _: &Origin) -> Dialling {
        let Some(world) = World::current() else {
            return Box::pin(async { Err(io::ErrorKind::NotConnected.into()) });
        };
        Box::pin(async move {
            let (dialled, mut rng) = (Instant::now(), world.fork());
            let who = format!("upstream {:03}", rng.u32(..1000));
            let weather = world.plan.weather(&mut rng, false, false);
            if world.lacks_descriptors() {
                world.count("no descriptor is left to connect with");
                return Err(no_descriptor());
            }
            sleep(2 * weather.latency).await;
            let state = world.plan.state(world.elapsed());
            world.count(&format!("the upstream is {state:?}"));
            if matches!(state, State::Down | State::Dark) {
                // As the gateway hears of it.
                let hears = if state == State::Dark { dialled + CONNECT } else { Instant::now() };
                world.note(&who, &format!("is {state:?}"));
                world.undialled.borrow_mut().push(hears);
            }
            match state {
                State::Down => return Err(io::ErrorKind::ConnectionRefused.into()),
                State::Dark => return std::future::pending().await,
                State::Well | State::Sick => {}
            }
            world.note(&who, "accepts");
            let told = world.notes_of(who.clone());
            let gauges = [Some(&world.outbound), None];
            let (near, far) = network::connection(weather, rng.fork(), told, gauges);
            world.upstreams.borrow_mut().push(near.harm());
            let (harm, until, made) = (far.harm(), Rc::default(), Instant::now());
            let service =
                Service { world: Rc::clone(&world), who, rng, harm, made, came: 0, until };
            if !world.plan.http2_upstream {
                near.harm().is_read_by(looked_at(&world));
            }
            if world.plan.http2_upstream {
                spawn_local(service.http2(far));
                Ok(Dialled::Http2(Box::new(near)))
            } else {
                spawn_local(service.http1(far));
                Ok(Dialled::Http1(Box::new(near)))
            }
        })
    }
}

/// What the system says when the process has no descriptor left.
pub(crate) fn no_descriptor() -> io::Error {
    const EMFILE: i32 = 24;
    io::Error::from_raw_os_error(EMFILE)
}

/// Looks which request is written on a connection of HTTP/1.1, and notes it where that is lost.
fn looked_at(world: &Rc<World>) -> network::Reader {
    const NAME: &str = "x-request-id: ";
    let world = Rc::downgrade(world);
    let seen = std::cell::RefCell::new((String::new(), String::new(), false));
    Box::new(move |bytes, passage| {
        let Some(world) = world.upgrade() else { return };
        let (before, id, kept) = &mut *seen.borrow_mut();
        // A write can end within the name.
        before.push_str(&String::from_utf8_lossy(bytes));
        if let Some(at) = before.rfind(NAME)
            && let Some((found, _)) = before[at + NAME.len()..].split_once('\r')
        {
            *kept |= !id.is_empty() && found != id;
            found.clone_into(id);
        }
        let keep = before.len().saturating_sub(256);
        before.drain(..before.ceil_char_boundary(keep));
        if passage != Passage::Arrive {
            let forgotten = passage == Passage::Forgotten;
            let lost = Lost { at: Instant::now(), forgotten, kept: *kept };
            world.with(id, |request| {
                if request.lost.last().is_none_or(|last| last.at != lost.at) {
                    request.lost.push(lost);
                }
            });
        }
    })
}

/// One connection to it.
struct Service {
    world: Rc<World>,
    who: String,
    rng: Rng,
    harm: Harm,
    /// When it was made.
    made: Instant,
    /// How many requests have come.
    came: u32,
    /// What the gateway has read of the connection when the next one comes.
    until: Rc<Cell<Option<u64>>>,
}

/// A request, as it came.
struct Received {
    id: String,
    method: String,
    path: String,
    body: Vec<u8>,
}

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Answer(Size),
    /// After a time that may be longer than anybody waits.
    Late,
    Status(u16),
    /// It does not take the token.
    RefuseToken,
    Page,
    Nothing,
    /// It closes, or resets, before or within the answer.
    Close,
    Reset,
    CloseInHead,
    CloseInBody,
    StallInBody,
    BadChunk,
    NoHttp,
    Interim,
    Redirect,
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    /// As long as what is read before the head is passed on, or a few bytes more or less.
    Edge,
    /// Longer.
    Long,
    /// Longer than anybody keeps.
    Huge,
}

impl Deed {
    fn draw(rng: &mut Rng, faults: u32, spoken: bool) -> Self {
        if rng.u32(..100) >= faults {
            return Self::Answer(match rng.u32(..128) {
                0..=3 => Size::Long,
                4 | 5 => Size::Edge,
                6 => Size::Huge,
                _ => Size::Small,
            });
        }
        if spoken {
            return Self::Status([500, 500, 500, 400, 404][rng.usize(..5)]);
        }
        match rng.u32(..20) {
            0..=2 => Self::Late,
            3 => Self::Status([400, 403, 404, 409, 410][rng.usize(..5)]),
            4 => Self::Status([500, 502, 503, 504][rng.usize(..4)]),
            5 => Self::Status(429),
            6 => Self::RefuseToken,
            7 => Self::Page,
            8 => Self::Nothing,
            9 | 10 => Self::Close,
            11 => Self::Reset,
            12 => Self::CloseInHead,
            13 => Self::CloseInBody,
            14 => Self::StallInBody,
            15 => Self::BadChunk,
            16 => Self::NoHttp,
            17 => Self::Interim,
            18 => Self::Redirect,
            _ => Self::Silence,
        }
    }

    /// Whether the answer, where there is one, comes whole and right.
    const fn is_whole(self) -> bool {
        matches!(self, Self::Answer(_) | Self::Late | Self::Interim)
    }

    /// Whether it is what the service does when it works, if only to refuse.
    pub(crate) const fn is_of_its_own(self) -> bool {
        matches!(self, Self::Answer(_) | Self::Interim | Self::Status(_) | Self::RefuseToken)
            || matches!(self, Self::Redirect)
    }
}

impl Service {
    /// How it deals with the next request.
    fn deed(&mut self, id: &str) -> Deed {
        if id.starts_with(BURST) {
            return Deed::Late;
        }
        let state = self.world.plan.state(self.world.elapsed());
        let faults = if state == State::Sick { 90 } else { self.world.plan.faults };
        Deed::draw(&mut self.rng, faults, self.world.plan.spoken && state == State::Well)
    }

    /// Writes down that a request has come.
    fn arrived(&mut self, request: &Received, deed: Deed) {
        let Received { id, method, path, body } = request;
        self.world.note(&self.who, &format!("{id} {method} {path} gets {deed:?}"));
        self.world.count(&format!("the upstream's deed: {deed:?}"));
        let text = String::from_utf8_lossy(body);
        let tagged = path.contains(id.as_str()) || text.contains(id.as_str());
        if !tagged {
            self.world.broken(format!("{id} came to the upstream with another's {path} {text}"));
        }
        if body.len() > self.world.plan.most_bytes {
            self.world.broken(format!("{id} came to the upstream with {} bytes", body.len()));
        }
        let refused = deed == Deed::RefuseToken || deed == Deed::Status(401);
        let harm = self.harm.clone();
        let read = harm.passed(0).0;
        self.came += 1;
        std::mem::take(&mut self.until).set(Some(read));
        let arrival = Arrival {
            deed: format!("{deed:?}"),
            is_right: matches!(deed, Deed::Answer(_) | Deed::Interim),
            is_of_its_own: deed.is_of_its_own(),
            refused,
            sent: false,
            read,
            until: Rc::clone(&self.until),
            harm,
            made: self.made,
            at: Instant::now(),
            answered: None,
            waits: matches!(deed, Deed::Late | Deed::Silence | Deed::StallInBody),
            first: self.came == 1 || self.was_waited_for(id),
        };
        let caller = self.world.with(id, |request| {
            request.arrivals.push(arrival);
            request.asked.caller
        });
        if caller.is_none() {
            self.world.broken(format!("{id} came to the upstream, and nobody has asked"));
        }
        let nothing = matches!(deed, Deed::Close | Deed::Reset | Deed::CloseInHead);
        if nothing && caller == Some(DISMISSED) && self.world.plan.dismisses {
            self.world.dismiss.notify_one();
        }
    }

    /// Whether a request was there before this connection, which over HTTP/2 is made for all who wait.
    fn was_waited_for(&self, id: &str) -> bool {
        let since = |known: &mut Known| {
            let entered = known.entered.first().map(|one| one.at);
            known.arrivals.last().map(|last| last.at).or(entered)
        };
        let since = self.world.with(id, since).flatten();
        self.world.plan.http2_upstream && since.is_some_and(|since| since <= self.made)
    }

    /// Writes down that all of a right answer has been sent.
    fn sent(&self, id: &str, deed: Deed) {
        if deed.is_whole() {
            self.world.with(id, |request| {
                // It may have come again since, on another.
                let mut here = request.arrivals.iter_mut().rev();
                if let Some(arrival) = here.find(|one| one.harm.is_of(&self.harm)) {
                    (arrival.sent, arrival.answered) = (true, Some(Instant::now()));
                }
            });
        }
    }

    /// How it answers: a status, fields, and a body; as far as it does.
    fn answer(&mut self, request: &Received, deed: Deed) -> (u16, &'static str, String) {
        let id = &request.id;
        let most_read = 64 * 1024 - r#"{"tag":"","filler":""}"#.len() - id.len();
        let length = match deed {
            Deed::Answer(Size::Edge) => most_read + self.rng.usize(..5) - 2,
            Deed::Answer(Size::Long) => self.rng.usize(66_000..150_000),
            Deed::Answer(Size::Huge) => self.rng.usize(150_000..350_000),
            Deed::CloseInBody | Deed::StallInBody if self.rng.bool() => {
                self.rng.usize(66_000..150_000)
            }
            _ => self.rng.usize(..3_000),
        };
        let right = format!(r#"{{"tag":"{id}","filler":"{}"}}"#, "f".repeat(length));
        let told = |text: &str| format!(r#"{{"message":"{text}","tag":"{id}"}}"#);
        let json = "content-type: application/json\r\n";
        match deed {
            Deed::Status(429) => {
                (429, "content-type: application/json\r\nretry-after: 2\r\n", told("slow down"))
            }
            Deed::Status(503) => {
                (503, "content-type: application/json\r\nretry-after: 1\r\n", told("busy"))
            }
            Deed::Status(status) => (status, json, told("no")),
            Deed::RefuseToken if self.rng.bool() => (401, json, told("who is that")),
            Deed::RefuseToken => (403, json, told("expired token")),
            Deed::Page => {
                let status = if self.rng.bool() { 502 } else { 200 };
                (status, "content-type: text/html\r\n", "<html>busy</html>".to_owned())
            }
            Deed::Nothing => (if self.rng.bool() { 204 } else { 500 }, "", String::new()),
            Deed::Redirect => (302, "location: https://elsewhere.example/\r\n", String::new()),
            _ => (if request.method == "POST" { 201 } else { 200 }, json, right),
        }
    }

    /// HTTP/1.1, by hand: whoever shall do it wrongly must do it himself.
    async fn http1(mut self, mut socket: End) {
        let mut before = Vec::new();
        loop {
            let Some(request) = self.read(&mut socket, &mut before).await else { return };
            let deed = self.deed(&request.id);
            self.arrived(&request, deed);
            sleep(millis(&mut self.rng, 0..80)).await;
            if !self.perform(&request, deed, &mut socket).await {
                return;
            }
            match self.rng.u32(..12) {
                0 => return,
                // A connection that is kept and closed all the same, perhaps as it is used.
                1 | 2 => {
                    let patience = millis(&mut self.rng, 0..2_000);
                    let mut byte = [0];
                    match tokio::time::timeout(patience, socket.read(&mut byte)).await {
                        Ok(Ok(1)) => before.push(byte[0]),
                        _ => {
                            self.world.count("the upstream closes a connection that is kept");
                            return;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Does what it does; `false` where that ends the connection.
    async fn perform(&mut self, request: &Received, deed: Deed, socket: &mut End) -> bool {
        let (status, fields, body) = self.answer(request, deed);
        match deed {
            Deed::Close => return false,
            Deed::Silence => {
                sleep(Duration::from_secs(60)).await;
                return false;
            }
            Deed::Reset => {
                socket.reset();
                return false;
            }
            Deed::Late => {
                let most = if self.rng.bool() { 3_000 } else { 40_000 };
                sleep(millis(&mut self.rng, 500..most)).await;
            }
            Deed::NoHttp => return socket.write_all(b"SSH-2.0-simulation\r\n\r\n").await.is_ok(),
            Deed::Interim => {
                let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
                if socket.write_all(interim).await.is_err() {
                    return false;
                }
            }
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {status} Said\r\n{fields}");
        let framing = if deed == Deed::BadChunk { 1 } else { self.rng.u32(..4) };
        let mut keep = true;
        let mut text = Vec::new();
        match framing {
            _ if status == 204 => head += "\r\n",
            0 => {
                head += "connection: close\r\n\r\n";
                text.extend_from_slice(body.as_bytes());
                keep = false;
            }
            1 => {
                head += "transfer-encoding: chunked\r\n\r\n";
                let size = 1 + body.len() / self.rng.usize(1..5);
                for chunk in body.as_bytes().chunks(size) {
                    text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    text.extend_from_slice(chunk);
                    text.extend_from_slice(b"\r\n");
                }
                text.extend_from_slice(b"0\r\n\r\n");
            }
            _ => {
                head += &format!("content-length: {}\r\n\r\n", body.len());
                text.extend_from_slice(body.as_bytes());
            }
        }
        let mut all = head.into_bytes();
        let whole_head = all.len();
        all.append(&mut text);
        let broken = match deed {
            Deed::CloseInHead => Some(whole_head / 2),
            // What ends by closing would be whole.
            Deed::CloseInBody | Deed::StallInBody if framing == 0 => Some(whole_head / 2),
            Deed::CloseInBody | Deed::StallInBody => {
                Some(whole_head + (all.len() - whole_head) / 2)
            }
            Deed::BadChunk => {
                all.truncate(whole_head);
                all.extend_from_slice(b"zz\r\nno chunk\r\n");
                Some(all.len())
            }
            _ => None,
        };
        all.truncate(broken.unwrap_or(all.len()));
        if socket.write_all(&all).await.is_err() {
            return false;
        }
        if deed == Deed::StallInBody {
            sleep(Duration::from_secs(30)).await;
        }
        self.sent(&request.id, deed);
        if self.world.with(&request.id, |one| one.asked.is_honest()) == Some(true) {
            self.world.stalls().await;
        }
        self.is_let_finish(request, deed, socket);
        keep && broken.is_none()
    }

    /// What must not happen twice is not cut off when its caller goes away.
    fn is_let_finish(&self, request: &Received, deed: Deed, socket: &End) {
        let harm = socket.harm();
        let cut = !harm.is_open(0) && !harm.is_done() && !self.world.is_drained.get();
        let once = self.world.with(&request.id, |one| one.asked.kind.is_unsafe()) == Some(true);
        // Whoever was answered in its place waited in vain: of a slow network the head of an answer
        // may come too late, though it was sent soon.
        let first_byte = self.world.plan.first_byte;
        let quick = |known: &mut Known| {
            let soon = |last: &Arrival| last.at.elapsed() < Duration::from_secs(2);
            let late = known.settled.zip(known.entered.first());
            let late = late.is_some_and(|(settled, taken)| settled - taken.at >= first_byte);
            known.arrivals.last().is_some_and(soon) && !late
        };
        let quick = self.world.with(&request.id, quick) == Some(true);
        let paused = !self.world.pauses.borrow().is_empty();
        if cut && once && quick && deed.is_whole() && !paused {
            self.world.broken(format!("{} must not be sent twice and was cut off", request.id));
        }
    }

    /// The next request, when all of it has come.
    async fn read(&self, socket: &mut End, before: &mut Vec<u8>) -> Option<Received> {
        let mut bytes = std::mem::take(before);
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut body = bytes.split_off(end);
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
        };
        let tokens = [1, 2, FORGED].map(token);
        let mut keys = KEYS.into_iter().chain(tokens.iter().map(String::as_str));
        if keys.any(|key| head.contains(key)) {
            self.world.broken(format!("a caller's key came to the upstream: {head}"));
        }
        if let Some(length) = field("content-length") {
            let length: usize = length.parse().ok()?;
            while body.len() < length {
                if socket.read_buf(&mut body).await.ok()? == 0 {
                    return None;
                }
            }
            if body.len() > length {
                self.world.broken(format!("more than one request at once: {head}"));
            }
        } else if field("transfer-encoding").is_some() {
            while !body.ends_with(b"0\r\n\r\n") {
                if socket.read_buf(&mut body).await.ok()? == 0 {
                    return None;
                }
            }
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let id = field("x-request-id").unwrap_or_default();
        Some(Received { id, method, path, body })
    }
}

/// HTTP/2, by hyper: what it does wrongly is what it can be made to do.
impl Service {
    async fn http2(mut self, socket: End) {
        let ends = (self.rng.u32(..4) == 0).then(|| millis(&mut self.rng, 100..15_000));
        let graceful = self.rng.bool();
        let (world, who, harm) = (Rc::clone(&self.world), self.who.clone(), self.harm.clone());
        let service = Rc::new(std::cell::RefCell::new(self));
        let serve = service_fn(move |request| Self::stream(Rc::clone(&service), request));
        let mut builder = http2::Builder::new(LocalExecutor);
        builder.max_concurrent_streams(world.plan.upstream_streams);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(socket), serve));
        let Some(ends) = ends else {
            _ = connection.await;
            return;
        };
        if tokio::time::timeout(ends, &mut connection).await.is_err() {
            world.count("the upstream ends a connection of HTTP/2");
            world.note(&who, if graceful { "says goodbye" } else { "closes" });
            if graceful {
                connection.as_mut().graceful_shutdown();
                _ = connection.await;
            } else {
                harm.do_it();
            }
        }
    }

    async fn stream(
        service: Rc<std::cell::RefCell<Self>>,
        request: Request<Incoming>,
    ) -> Result<Response<Slowly>, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes().to_vec();
        let field = head.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let request = Received {
            id: field.unwrap_or_default().to_owned(),
            method: head.method.to_string(),
            path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            body,
        };
        let (deed, wait, (status, fields, body)) = {
            let mut service = service.borrow_mut();
            let deed = service.deed(&request.id);
            service.arrived(&request, deed);
            let wait = millis(&mut service.rng, 0..80);
            (deed, wait, service.answer(&request, deed))
        };
        sleep(wait).await;
        match deed {
            Deed::Close | Deed::Reset | Deed::NoHttp | Deed::CloseInHead => return Err(Broken),
            Deed::Silence => return std::future::pending().await,
            Deed::Late => {
                let wait = millis(&mut service.borrow_mut().rng, 500..40_000);
                sleep(wait).await;
            }
            _ => {}
        }
        let mut left = Bytes::from(body);
        let ends = match deed {
            Deed::CloseInBody | Deed::BadChunk => Ends::Broken,
            Deed::StallInBody => Ends::Never,
            _ => Ends::Well,
        };
        if ends != Ends::Well {
            left.truncate(left.len() / 2);
        }
        service.borrow().sent(&request.id, deed);
        let mut response = Response::builder().status(status);
        for line in fields.lines() {
            if let Some((name, value)) = line.split_once(": ") {
                response = response.header(name, value);
            }
        }
        let pause = millis(&mut service.borrow_mut().rng, 0..50);
        Ok(response.body(Slowly { left, ends, pause, timer: None }).expect("a response"))
    }
}

/// A body in two pieces, the second of which takes its time, and its end.
struct Slowly {
    left: Bytes,
    ends: Ends,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    Broken,
    Never,
}

#[derive(Debug, thiserror::Error)]
#[error("the upstream breaks off")]
struct Broken;

impl http_body::Body for Slowly {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let pause = self.pause;
        let Some(timer) = &mut self.timer else {
            self.timer = Some(Box::pin(sleep(pause)));
            let half = self.left.len() / 2;
            return Poll::Ready(Some(Ok(Frame::data(self.left.split_to(half)))));
        };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if !self.left.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.left)))));
        }
        match self.ends {
            Ends::Well => Poll::Ready(None),
            Ends::Broken => Poll::Ready(Some(Err(Broken))),
            Ends::Never => Poll::Pending,
        }
    }
}

/// Spawns on this thread.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
