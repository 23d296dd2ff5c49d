//! What the gateway holds of the answers that pass through it, by `docs/bounds.md`: what it has read
//! of each and not passed on, and what it has passed on that the caller does not take.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use whiteboard_gateway::gateway::Body;
use whiteboard_gateway::server::Protocol;

use crate::network::Harm;
use crate::world::World;

const KIB: u64 = 1024;

/// One piece of an answer, with what is held back of the one before, lest a token be cut in two.
const PIECE: u64 = 88 * KIB;

/// What is read of an answer before its head is passed on, with that head and one piece.
const READ: u64 = 64 * KIB + PIECE + 4 * KIB;

/// What waits for a caller: of a connection of HTTP/1.1, and of a stream. Of that, hyper takes one piece
/// more before it asks whether there is room.
const WAITS_HTTP1: u64 = 80 * KIB + PIECE;
const WAITS_HTTP2: u64 = 64 * KIB + 2 * PIECE;

/// What of them all is about to be written to a connection of HTTP/2.
const FRAMES: u64 = 64 * KIB;

/// What is held of all answers.
#[derive(Default)]
pub(crate) struct Held {
    answers: RefCell<Vec<Rc<Answer>>>,
    connections: RefCell<BTreeMap<SocketAddr, Rc<Connection>>>,
}

/// The connection that an answer comes on, what had been read of it before, and, once it is over,
/// until where.
type Coming = (Harm, u64, Rc<Cell<Option<u64>>>);

/// An answer on its way.
struct Answer {
    id: String,
    /// Where it has a connection for itself.
    comes: Option<Coming>,
    passed: Cell<u64>,
    over: Cell<bool>,
}

/// A connection of a caller.
struct Connection {
    harm: Harm,
    protocol: Protocol,
    /// How many answers are on their way on it, and how many were since nothing waited.
    answers: Cell<u64>,
    begun: Cell<u64>,
    /// What was passed on of them, and what had been written before the first of them.
    passed: Cell<u64>,
    before: Cell<u64>,
}

/// The body of an answer, counted.
pub(crate) struct Counted {
    body: Body,
    /// None for what is no answer to a request.
    counts: Option<(Rc<Answer>, Rc<Connection>)>,
}

impl Held {
    /// Counts an answer whose head is there.
    pub(crate) fn counts(
        &self,
        world: &World,
        id: &str,
        address: SocketAddr,
        protocol: Protocol,
        body: Body,
    ) -> Counted {
        let inbounds = world.inbounds.borrow();
        let Some(harm) = inbounds.get(&address) else { return Counted { body, counts: None } };
        let comes = world.with(id, |request| {
            let last = request.arrivals.last().filter(|_| !world.plan.http2_upstream);
            last.map(|last| (last.harm.clone(), last.read, Rc::clone(&last.until)))
        });
        let answer = Rc::new(Answer {
            id: id.to_owned(),
            comes: comes.flatten(),
            passed: Cell::new(0),
            over: Cell::new(false),
        });
        let mut connections = self.connections.borrow_mut();
        let connection = connections.entry(address).or_insert_with(|| {
            Rc::new(Connection {
                harm: harm.clone(),
                protocol,
                answers: Cell::new(0),
                begun: Cell::new(0),
                passed: Cell::new(0),
                before: Cell::new(0),
            })
        });
        let written = connection.harm.passed(1).1 - connection.before.get();
        if connection.answers.get() == 0 && written >= connection.passed.get() {
            connection.passed.set(0);
            connection.begun.set(0);
            connection.before.set(connection.harm.passed(1).1);
        }
        connection.answers.set(connection.answers.get() + 1);
        connection.begun.set(connection.begun.get() + 1);
        self.answers.borrow_mut().push(Rc::clone(&answer));
        Counted { body, counts: Some((answer, Rc::clone(connection))) }
    }

    /// Looks at all of it.
    pub(crate) fn check(&self, world: &World) {
        self.answers.borrow_mut().retain(|answer| !answer.over.get());
        for answer in &*self.answers.borrow() {
            let Some((harm, before, until)) = &answer.comes else { continue };
            let read = until.get().unwrap_or_else(|| harm.passed(0).0);
            let held = (read - before).saturating_sub(answer.passed.get());
            if held > READ {
                world.broken(format!("{held} bytes of the answer to {} are held", answer.id));
            }
        }
        let connections = self.connections.borrow();
        // What was written to one that is broken is not counted any more.
        for (address, connection) in connections.iter().filter(|(_, one)| one.harm.died().is_none())
        {
            let written = connection.harm.passed(1).1 - connection.before.get();
            let held = connection.passed.get().saturating_sub(written);
            let (waits, answers) = match connection.protocol {
                Protocol::Http1 => (WAITS_HTTP1, 1),
                // A stream is there until its answer is taken.
                Protocol::Http2 => {
                    (WAITS_HTTP2, connection.begun.get().min(world.plan.streams as u64))
                }
            };
            let most = waits * answers.max(1) + FRAMES;
            if held > most {
                world.broken(format!("{held} bytes of answers wait for {address}, {most} may"));
            }
        }
    }
}

impl From<Bytes> for Counted {
    fn from(bytes: Bytes) -> Self {
        Self { body: bytes.into(), counts: None }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some((answer, connection))) = (&polled, &self.counts)
        {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            answer.passed.set(answer.passed.get() + length);
            connection.passed.set(connection.passed.get() + length);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((answer, connection)) = &self.counts {
            answer.over.set(true);
            connection.answers.set(connection.answers.get() - 1);
        }
    }
}
