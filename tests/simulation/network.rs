//! A network that is made up: connections in memory, whose bytes take their time, come in pieces,
//! and do not always arrive.
//!
//! It does what TCP does to a program: nothing overtakes, a writer waits for a reader that does not
//! take, closing with unread bytes resets, and so does writing to somebody who has gone. Nothing is
//! decided by how many bytes there are, for a date or a random token in HTTP/2 takes more of them in
//! one run than in the next: faults come with a write, and pieces are shares of one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use fastrand::Rng;
use std::future::Future as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// How long a byte is on its way, and how much longer at random.
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// The most pieces that a write comes in, and the longest pause before each.
    pub(crate) pieces: u32,
    pub(crate) pause: Duration,
    /// As many pieces may be on their way before the writer waits.
    pub(crate) window: usize,
    /// So many bytes a second come from the side that asked; as many as it likes where there is no
    /// number. For what is the same in each run alone.
    pub(crate) uplink: Option<u32>,
    /// What happens to it, and with which write.
    pub(crate) fate: Option<(Fate, u32)>,
}

/// What the network does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It breaks within what is written, and both sides hear of it.
    Reset,
    /// Nothing arrives any more, and nobody is told.
    Silence,
}

/// Somebody who wants to know what happens to a connection.
pub(crate) type Told = Rc<dyn Fn(&str)>;

/// Somebody who looks at what the side that asked writes, and hears what becomes of it.
pub(crate) type Reader = Box<dyn Fn(&[u8], Passage)>;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Arrive,
    /// The network has broken the connection, or does so in the midst of them.
    Broken,
    /// It has forgotten the connection.
    Forgotten,
}

/// One side of a connection.
pub(crate) struct End {
    wire: Rc<Wire>,
    side: usize,
    reading: Timer,
    writing: Timer,
    /// Counted as long as it is open.
    _open: Option<Open>,
}

/// A count of what is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Rc<(Cell<usize>, Cell<usize>)>);

struct Open(Gauge);

struct Wire {
    weather: Weather,
    rng: RefCell<Rng>,
    /// What each side has written.
    ways: [RefCell<Way>; 2],
    /// When each side hears that the connection is broken.
    broken: [Cell<Option<Instant>>; 2],
    open: [Cell<bool>; 2],
    /// When each side has closed it.
    closed: [Cell<Option<Instant>>; 2],
    /// When each side last read or wrote something, and for how long it had not when it said that
    /// nothing more comes from it.
    active: [Cell<Instant>; 2],
    idle: [Cell<Option<Duration>>; 2],
    writes: Cell<u32>,
    /// When a side last wrote something.
    wrote: [Cell<Option<Instant>>; 2],
    /// How many bytes each side has read and written.
    read: [Cell<u64>; 2],
    written: [Cell<u64>; 2],
    reader: RefCell<Option<Reader>>,
    silent: Cell<bool>,
    forgotten: Cell<bool>,
    /// Nothing that is written from now on arrives.
    over: Cell<bool>,
    harmed: Cell<bool>,
    /// When the network broke it.
    died: Cell<Option<Instant>>,
    told: Told,
}

#[derive(Default)]
struct Way {
    pieces: VecDeque<(Instant, Bytes)>,
    /// When its last byte arrives.
    last: Option<Instant>,
    /// When its end arrives.
    end: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whether something has happened to a connection that is not the fault of either side.
#[derive(Clone)]
pub(crate) struct Harm(Rc<Wire>);

/// Opens a connection: the side that asked for it, and the one that is asked. What is open of the
/// first or of the second is counted.
pub(crate) fn connection(
    weather: Weather,
    rng: Rng,
    told: Told,
    gauges: [Option<&Gauge>; 2],
) -> (End, End) {
    let wire = Rc::new(Wire {
        weather,
        rng: RefCell::new(rng),
        ways: Default::default(),
        broken: Default::default(),
        open: [Cell::new(true), Cell::new(true)],
        closed: Default::default(),
        active: [Cell::new(Instant::now()), Cell::new(Instant::now())],
        idle: Default::default(),
        writes: Cell::new(0),
        wrote: Default::default(),
        read: Default::default(),
        written: Default::default(),
        reader: RefCell::default(),
        silent: Cell::new(false),
        forgotten: Cell::new(false),
        over: Cell::new(false),
        harmed: Cell::new(false),
        died: Cell::new(None),
        told,
    });
    let end = |side: usize| End {
        wire: Rc::clone(&wire),
        side,
        reading: Timer::default(),
        writing: Timer::default(),
        _open: gauges[side].map(Gauge::open),
    };
    (end(0), end(1))
}

impl Gauge {
    fn open(&self) -> Open {
        let (now, most) = &*self.0;
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        Open(self.clone())
    }

    /// How many are open.
    pub(crate) fn now(&self) -> usize {
        self.0.0.get()
    }

    /// How many have been at once.
    pub(crate) fn most(&self) -> usize {
        self.0.1.get()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = &self.0.0.0;
        now.set(now.get() - 1);
    }
}

impl Harm {
    /// One of the sides breaks it in the midst of something.
    pub(crate) fn do_it(&self) {
        self.0.harmed.set(true);
        self.0.died.set(self.0.died.get().or_else(|| Some(Instant::now())));
    }

    /// Whether the network had broken the connection by then.
    pub(crate) fn was_done(&self, by: Instant) -> bool {
        self.died().is_some_and(|at| at <= by)
    }

    /// When the network broke the connection.
    pub(crate) fn died(&self) -> Option<Instant> {
        self.0.died.get()
    }

    /// Whether it is of the same connection.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// When a side has closed it.
    pub(crate) fn closed(&self, side: usize) -> Option<Instant> {
        self.0.closed[side].get()
    }

    /// For how long a side had read and written nothing when it said that nothing more comes from it.
    pub(crate) fn idle(&self, side: usize) -> Duration {
        self.0.idle[side].get().unwrap_or_default()
    }

    /// When a side last wrote something.
    pub(crate) fn wrote(&self, side: usize) -> Option<Instant> {
        self.0.wrote[side].get()
    }

    /// Whether a side has it open.
    pub(crate) fn is_open(&self, side: usize) -> bool {
        self.0.open[side].get()
    }

    /// Whether the network has broken the connection.
    pub(crate) fn is_done(&self) -> bool {
        self.0.harmed.get()
    }

    /// From now on nothing arrives any more, on either side, and nobody is told: a translator of
    /// addresses has forgotten the connection. Whether it was there until now.
    pub(crate) fn is_forgotten(&self) -> bool {
        let wire = &self.0;
        let was_there = !wire.over.get() && wire.open.iter().all(Cell::get);
        if was_there {
            wire.harmed.set(true);
            wire.died.set(Some(Instant::now()));
            wire.silent.set(true);
            wire.forgotten.set(true);
            wire.over.set(true);
            let now = Instant::now();
            for (side, way) in wire.ways.iter().enumerate() {
                let mut way = way.borrow_mut();
                let sent = way.pieces.len();
                way.pieces.retain(|(arrives, _)| *arrives <= now);
                way.end = way.end.filter(|end| *end <= now);
                if way.pieces.len() < sent {
                    wire.is_looked_at(side, &[], true);
                }
            }
        }
        was_there
    }

    /// Lets somebody look at what the side that asked writes.
    pub(crate) fn is_read_by(&self, reader: Reader) {
        self.0.reader.replace(Some(reader));
    }

    /// How many bytes a side has read, and written.
    pub(crate) fn passed(&self, side: usize) -> (u64, u64) {
        (self.0.read[side].get(), self.0.written[side].get())
    }

    /// How long what is written at once may be on its way, at most.
    pub(crate) fn longest(&self) -> Duration {
        let Weather { latency, jitter, pieces, pause, .. } = self.0.weather;
        latency + jitter + pieces * pause
    }

    /// When the last byte arrives that a side has written.
    pub(crate) fn arrives(&self, side: usize) -> Option<Instant> {
        self.0.ways[side].borrow().last
    }
}

/// A timer that is set to whatever comes next.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Wakes the task then.
    fn set(&mut self, at: Option<Instant>, context: &mut Context<'_>) {
        let Some(at) = at else { return };
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        // Whoever asks has looked at the clock already; a tick that is not over yet comes.
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

impl Wire {
    /// Breaks the connection; what would arrive later than the news does not.
    fn break_at(&self, side: usize, at: Instant) {
        if self.broken[side].get().is_none_or(|before| at < before) {
            self.broken[side].set(Some(at));
        }
        self.ways[1 - side].borrow_mut().pieces.retain(|(arrives, _)| *arrives <= at);
        self.wake(side);
    }

    fn wake(&self, side: usize) {
        let reader = self.ways[1 - side].borrow_mut().reader.take();
        let writer = self.ways[side].borrow_mut().writer.take();
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    fn is_broken(&self, side: usize, now: Instant) -> bool {
        self.broken[side].get().is_some_and(|at| at <= now)
    }

    /// What a side writes, as far as it is taken, or all of it; `None` where it has to wait.
    fn write(&self, side: usize, bytes: &[u8], all: bool) -> Option<io::Result<usize>> {
        let now = Instant::now();
        if self.is_broken(side, now) || self.ways[side].borrow().end.is_some() {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if bytes.is_empty() {
            return Some(Ok(0));
        }
        let Weather { latency, jitter, pieces, pause, window, uplink, fate } = self.weather;
        if !self.open[1 - side].get() && !self.silent.get() {
            // It is told by the one who has gone, when the first byte gets there; behind what that
            // one has sent before.
            let last = self.ways[1 - side].borrow().last.unwrap_or(now);
            self.break_at(side, last.max(now + 2 * latency));
            self.is_looked_at(side, bytes, true);
            return Some(Ok(bytes.len()));
        }
        if self.ways[side].borrow().pieces.len() >= window {
            return None;
        }
        let strikes = |(_, with): &(Fate, u32)| *with == self.writes.get() + 1 && !self.over.get();
        let struck = fate.filter(strikes);
        self.is_looked_at(side, bytes, struck.is_some() || self.over.get());
        let mut rng = self.rng.borrow_mut();
        // Now and then only a part is taken. Drawn in any case, so that a length changes nothing.
        let (part, share) = (rng.u8(..) < 24 && !all, rng.f64());
        let count = if part { share_of(bytes.len(), share) } else { bytes.len() };
        let mut bytes = Bytes::copy_from_slice(&bytes[..count]);
        self.writes.set(self.writes.get() + 1);
        self.written[side].set(self.written[side].get() + count as u64);
        self.active[side].set(now);
        self.wrote[side].set(Some(now));
        let share = rng.f64();
        if let Some((fate, _)) = struck {
            self.harmed.set(true);
            self.died.set(Some(now));
            bytes.truncate(share_of(count, share));
            self.silent.set(fate == Fate::Silence);
            self.over.set(true);
            (self.told)(match fate {
                Fate::Reset => "the network resets it",
                Fate::Silence => "the network falls silent",
            });
        } else if self.over.get() {
            return Some(Ok(count));
        }
        let mut way = self.ways[side].borrow_mut();
        let wait = latency + jitter.mul_f64(rng.f64());
        let mut arrives = way.last.map_or(now + wait, |last| last.max(now + wait));
        let takes = |piece: &Bytes| match uplink {
            Some(rate) if side == 0 => Duration::from_secs(piece.len() as u64) / rate,
            _ => Duration::ZERO,
        };
        let cuts: Vec<(f64, f64)> =
            (1..rng.u32(1..=pieces)).map(|_| (rng.f64(), rng.f64())).collect();
        for (share, wait) in cuts {
            let piece = bytes.split_to(share_of(bytes.len(), share).min(bytes.len()));
            arrives += takes(&piece);
            if !piece.is_empty() {
                way.pieces.push_back((arrives, piece));
            }
            arrives += pause.mul_f64(wait);
        }
        if !bytes.is_empty() {
            arrives += takes(&bytes);
            way.pieces.push_back((arrives, bytes));
        }
        way.last = Some(arrives);
        let reader = way.reader.take();
        drop((way, rng));
        reader.into_iter().for_each(Waker::wake);
        if let Some((Fate::Reset, _)) = struck {
            self.break_at(1 - side, arrives);
            self.break_at(side, now + latency);
        }
        Some(Ok(count))
    }

    /// Shows what is written to whoever looks, all that there is to write.
    fn is_looked_at(&self, side: usize, bytes: &[u8], lost: bool) {
        if let (0, Some(reader)) = (side, &*self.reader.borrow()) {
            reader(
                bytes,
                match (self.forgotten.get(), lost) {
                    (true, _) => Passage::Forgotten,
                    (false, true) => Passage::Broken,
                    (false, false) => Passage::Arrive,
                },
            );
        }
    }

    /// Notes for how long a side has done nothing, where it is the first time that it ends.
    fn is_over_for(&self, side: usize) {
        let idle = self.active[side].get().elapsed();
        self.idle[side].set(self.idle[side].get().or(Some(idle)));
    }

    /// Nothing more comes from a side.
    fn finish(&self, side: usize) {
        self.is_over_for(side);
        let mut way = self.ways[side].borrow_mut();
        if way.end.is_none() && !self.silent.get() {
            let now = Instant::now() + self.weather.latency;
            way.end = Some(way.last.map_or(now, |last| last.max(now)));
            way.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// At least one byte, where there are any.
fn share_of(length: usize, share: f64) -> usize {
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "writes are small")]
    let count = (length as f64 * share) as usize;
    count.max(1)
}

impl End {
    /// What has happened to the connection.
    pub(crate) fn harm(&self) -> Harm {
        Harm(Rc::clone(&self.wire))
    }

    /// Writes what is taken at once: of what is short and first, all of it.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.wire
            .write(self.side, bytes, true)
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Looks at the first byte that has arrived.
    pub(crate) fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut way = self.wire.ways[1 - self.side].borrow_mut();
        match way.pieces.front() {
            Some((arrives, piece)) if *arrives <= Instant::now() => {
                buffer.put_slice(&piece[..1]);
                Poll::Ready(Ok(1))
            }
            _ => {
                way.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Breaks the connection, as a process does that is killed.
    pub(crate) fn reset(&self) {
        if !self.wire.silent.get() {
            self.wire.break_at(1 - self.side, Instant::now() + self.wire.weather.latency);
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { wire, side, reading, .. } = &mut *self;
        let now = Instant::now();
        let broken = wire.broken[*side].get();
        let mut way = wire.ways[1 - *side].borrow_mut();
        let end = way.end;
        let next = match way.pieces.front_mut() {
            Some((arrives, piece)) if *arrives <= now => {
                let count = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece.split_to(count));
                wire.read[*side].set(wire.read[*side].get() + count as u64);
                wire.active[*side].set(now);
                if !piece.has_remaining() {
                    way.pieces.pop_front();
                    way.writer.take().into_iter().for_each(Waker::wake);
                }
                return Poll::Ready(Ok(()));
            }
            _ if wire.is_broken(*side, now) => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Some((arrives, _)) => Some(*arrives),
            None if end.is_some_and(|end| end <= now) => return Poll::Ready(Ok(())),
            None => end,
        };
        way.reader = Some(context.waker().clone());
        drop(way);
        reading.set(next.into_iter().chain(broken).min(), context);
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { wire, side, writing, .. } = &mut *self;
        if let Some(written) = wire.write(*side, bytes, false) {
            return Poll::Ready(written);
        }
        wire.ways[*side].borrow_mut().writer = Some(context.waker().clone());
        writing.set(wire.broken[*side].get(), context);
        Poll::Pending
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = Vec::new();
        slices.iter().for_each(|slice| all.extend_from_slice(slice));
        self.poll_write(context, &all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.finish(self.side);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let (wire, side) = (&self.wire, self.side);
        wire.is_over_for(side);
        wire.open[side].set(false);
        wire.closed[side].set(Some(Instant::now()));
        let unread = std::mem::take(&mut wire.ways[1 - side].borrow_mut().pieces);
        let now = Instant::now();
        if !unread.is_empty() {
            wire.is_looked_at(1 - side, &[], true);
        }
        if unread.iter().any(|(arrives, _)| *arrives <= now) && !wire.silent.get() {
            // Behind what is on its way.
            let last = wire.ways[side].borrow().last.unwrap_or(now);
            wire.break_at(1 - side, last.max(now + wire.weather.latency));
        } else {
            wire.finish(side);
        }
        // Whoever waits for room to write has it, and writes to nobody.
        wire.wake(1 - side);
    }
}
