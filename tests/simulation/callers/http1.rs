//! A caller over HTTP/1.1: several requests on one connection, some before the answers to those
//! before have come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Client, PATIENCE, Session};
use crate::answer::Answer;
use crate::network::End;
use crate::plan::millis;
use crate::request::{Asked, Manner};
use crate::world::Request;

/// What was sent and has no answer yet.
#[derive(Default)]
struct Pending {
    asked: RefCell<VecDeque<Asked>>,
    /// An answer has come, or a request was sent.
    changed: Notify,
    /// Nothing more is sent.
    done: Cell<bool>,
    /// The last of them, as far as it is sent.
    partial: Cell<bool>,
}

impl Client {
    /// One connection.
    pub(super) async fn http1(&mut self) {
        let deaf = self.deaf();
        let Some((socket, session)) = self.connect(false, deaf) else { return };
        let pending = Rc::new(Pending::default());
        let (reading, writing) = split(socket);
        let leaves = self.leaves(deaf).unwrap_or(10 * PATIENCE);
        let slow = self.rng.u32(..10) == 0 && !self.honest && self.burst.is_none();
        let pace = if slow { millis(&mut self.rng, 100..2_000) } else { Duration::ZERO };
        let answers = Answers { socket: reading, bytes: Vec::new(), pace };
        session.slow.set(slow);
        let asking = self.ask(writing, &session, &pending);
        let both = async {
            if deaf {
                asking.await;
                drop(answers);
            } else {
                tokio::join!(asking, listen(answers, &session, &pending));
            }
        };
        if timeout(leaves, both).await.is_err() {
            session.left.set(true);
            self.world.note(&self.name(), "goes away");
        }
        let partial = pending.partial.get();
        let mut left = std::mem::take(&mut *pending.asked.borrow_mut());
        let last = left.pop_back();
        left.iter().for_each(|asked| session.unanswered(asked, true));
        last.iter().for_each(|asked| session.unanswered(asked, !partial));
    }

    /// Sends its requests.
    async fn ask(&mut self, mut socket: WriteHalf<End>, session: &Session, pending: &Pending) {
        let depth = match self.rng.bool() {
            _ if session.deaf || self.burst.is_some() => usize::MAX,
            true => 1,
            false => self.rng.usize(2..5),
        };
        let mut is_last = false;
        for _ in 0..self.count() {
            // A burst takes no time: a timer goes off at the next millisecond.
            if self.burst.is_none() {
                sleep(self.pause()).await;
            }
            while pending.asked.borrow().len() >= depth && !session.closing.get() {
                pending.changed.notified().await;
            }
            if session.closing.get() {
                break;
            }
            let asked = self.next(false);
            self.world.note(&asked.id, &format!("{:?} {:?}", asked.kind, asked.manner));
            self.world.count(&format!("asked: {:?}", asked.kind));
            self.world.asks(asked.clone());
            self.world.with(&asked.id, |request| {
                request.longest = session.harm.longest();
                request.reads_slowly = session.slow.get();
            });
            session.touch();
            pending.asked.borrow_mut().push_back(asked.clone());
            pending.partial.set(true);
            pending.changed.notify_waiters();
            if send(&asked, &mut socket).await.is_err() {
                break;
            }
            session.touch();
            pending.partial.set(false);
            if asked.is_last() {
                // Whatever comes behind it is a part of it.
                is_last = true;
                break;
            }
        }
        if self.rng.u32(..6) == 0
            && !is_last
            && !pending.partial.get()
            && !session.closing.get()
            && socket.shutdown().await.is_ok()
        {
            self.world.note(&self.name(), "ends its side");
            self.world.count("a caller that ends its side");
            session.half_closed.set(true);
            for asked in &*pending.asked.borrow() {
                self.world.with(&asked.id, |request| request.is_last_said = true);
            }
        }
        pending.done.set(true);
        pending.changed.notify_waiters();
        while !pending.asked.borrow().is_empty() && !session.closing.get() {
            pending.changed.notified().await;
        }
    }
}

/// Sends a request, as far as it is sent.
async fn send(asked: &Asked, socket: &mut WriteHalf<End>) -> std::io::Result<()> {
    let (method, path) = (asked.kind.method(), asked.path());
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: gateway.example\r\ntoken: {}\r\nx-request-id: {}\r\n",
        asked.key(),
        asked.id
    );
    if let Some(body) = asked.body() {
        text += &format!("content-length: {}\r\n\r\n", body.len());
        if asked.manner != Manner::NoBody {
            text += &body;
        }
    } else {
        text += "\r\n";
    }
    match asked.manner {
        Manner::CutBody => {
            let cut = text.len() - asked.body().map_or(0, |body| body.len().div_ceil(2));
            socket.write_all(&text.as_bytes()[..cut]).await?;
            socket.shutdown().await
        }
        Manner::Whole | Manner::NoBody => socket.write_all(text.as_bytes()).await,
        Manner::EndlessHead => socket.write_all(&text.as_bytes()[..40]).await,
        Manner::Garbage => socket.write_all(b"GET /v5/rooms HTTP/9\r\n\x01: \r\n\r\n").await,
        Manner::Parts(parts, pause) => {
            let size = text.len().div_ceil(parts as usize);
            for part in text.as_bytes().chunks(size) {
                socket.write_all(part).await?;
                sleep(pause).await;
            }
            Ok(())
        }
    }
}

/// Whether everything stood still since a request began to be sent.
fn stood_still(asked: &Asked, session: &Session) -> bool {
    let world = &session.world;
    let since = world.with(&asked.id, |request| request.asked_at);
    since.is_some_and(|since| !world.stood_still(since, Instant::now()).is_zero())
}

/// Takes the answers, in the order of the requests.
async fn listen(mut answers: Answers, session: &Session, pending: &Pending) {
    loop {
        while pending.asked.borrow().is_empty() && !pending.done.get() {
            pending.changed.notified().await;
        }
        let Some(asked) = pending.asked.borrow().front().cloned() else { break };
        let answer = match timeout(PATIENCE, answers.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                let partial = !answers.bytes.is_empty();
                if partial && !session.harm.is_done() && !session.world.cut.get() {
                    session.world.broken(format!("{}: its answer breaks off", asked.id));
                }
                return answers.end(session, pending);
            }
            Err(_) => {
                session.world.count("a caller that loses its patience");
                // Of a process that was cut nothing would be left.
                if !session.harm.is_done() && !session.world.cut.get() {
                    let why = format!("{} waits for ever", asked.id);
                    session.world.broken(why);
                }
                return answers.end(session, pending);
            }
        };
        session.touch();
        let whole = answer.whole;
        let closes = answer.closes() || !whole;
        if !whole && session.harm.is_done() {
            return answers.end(session, pending);
        }
        let crowded = session.world.plan.connections < 100;
        let outcome = match asked.manner {
            Manner::EndlessHead => answer.refuses(&asked, "request_timeout", &session.world),
            Manner::Garbage => answer.refuses(&asked, "malformed_request", &session.world),
            // What was to come of it stood still as well.
            Manner::Parts(..) if stood_still(&asked, session) && !answer.is_to(&asked) => {
                answer.refuses(&asked, "request_timeout", &session.world)
            }
            _ if crowded && !answer.is_to(&asked) => {
                answer.refuses(&asked, "overloaded", &session.world)
            }
            _ => answer.to(&asked, &session.world),
        };
        let stops = session.world.leaving.get().is_some();
        let (last, body) = (asked.is_last(), asked.body().is_some());
        session.refused.set(session.refused.get() || closes && (stops || body || last || !whole));
        let told = session.world.leaving.get().is_some_and(|leaving| {
            let settled = |request: &mut Request| request.settled.is_some_and(|at| at > leaving);
            session.world.with(&asked.id, settled) == Some(true)
        });
        if told && !closes {
            let why = format!("{} is answered by one that stops, as if it went on", asked.id);
            session.world.broken(why);
        }
        session.closing.set(closes || session.closing.get());
        session.world.becomes(&asked.id, outcome);
        pending.asked.borrow_mut().pop_front();
        pending.changed.notify_waiters();
        if !whole {
            return answers.end(session, pending);
        }
        if closes {
            break;
        }
    }
    // Where it is the caller who ends, what would come later is not for it.
    let over =
        if session.closing.get() { answers.is_over().await } else { answers.bytes.is_empty() };
    if !over && !session.harm.is_done() {
        session.world.broken("something came behind the last answer".to_owned());
    }
    answers.end(session, pending);
}

/// The answers of a connection.
struct Answers {
    socket: ReadHalf<End>,
    bytes: Vec<u8>,
    /// A slow reader waits so long before each read.
    pace: Duration,
}

impl Answers {
    /// Takes no more.
    fn end(self, session: &Session, pending: &Pending) {
        session.closing.set(true);
        pending.changed.notify_waiters();
    }

    async fn more(&mut self) -> Option<()> {
        if !self.pace.is_zero() {
            sleep(self.pace).await;
        }
        match self.socket.read_buf(&mut self.bytes).await {
            Ok(count) if count > 0 => Some(()),
            _ => None,
        }
    }

    /// Whether nothing has come but what was taken, and nothing does until the connection ends.
    async fn is_over(&mut self) -> bool {
        while self.bytes.is_empty() && matches!(timeout(PATIENCE, self.more()).await, Ok(Some(())))
        {
        }
        self.bytes.is_empty()
    }

    /// The next answer, or as much of it as came; `None` where not even its head did, of which
    /// what came is left.
    async fn next(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let rest = self.bytes.split_off(end);
        let head = String::from_utf8_lossy(&std::mem::replace(&mut self.bytes, rest)).into_owned();
        let mut lines = head.lines();
        // 0 is no status that anything may have.
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.unwrap_or_default();
        let fields = lines.filter_map(|line| line.split_once(':')).filter_map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let headers: HeaderMap = fields.collect();
        let mut answer = Answer { status, headers, body: Vec::new(), whole: true };
        let length = answer.headers.get("content-length");
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        answer.whole = match length {
            Some(length) => self.take(length, &mut answer.body).await.is_some(),
            None => self.chunks(&mut answer.body).await.is_some(),
        };
        Some(answer)
    }

    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Option<()> {
        while self.bytes.len() < length {
            self.more().await?;
        }
        into.extend(self.bytes.drain(..length));
        Some(())
    }

    async fn chunks(&mut self, into: &mut Vec<u8>) -> Option<()> {
        loop {
            let end = loop {
                if let Some(at) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                    break at + 2;
                }
                self.more().await?;
            };
            let line: Vec<u8> = self.bytes.drain(..end).collect();
            let size = usize::from_str_radix(str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            let mut end_of_line = Vec::new();
            self.take(size, into).await?;
            self.take(2, &mut end_of_line).await?;
            if size == 0 {
                return Some(());
            }
        }
    }
}
