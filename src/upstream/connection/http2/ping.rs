//! Whether the peer of a connection that is waited on lives. A connection that a middlebox forgot
//! says nothing; without pings the system would give it up after a quarter of an hour.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::PingPong;
use tokio::time::{Instant, Sleep, sleep};

use crate::upstream::connection::deadline::grace;

/// How often a peer is asked whether it lives, and how long it may take to say so.
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(3);

/// For how long nothing came from a peer that is dead.
pub(super) const SILENCE: Duration = INTERVAL.saturating_add(TIMEOUT);

/// Asks the peer of one connection.
pub(super) struct Ping {
    ping_pong: PingPong,
    timer: Pin<Box<Sleep>>,
    state: PingState,
    /// Whether anything has come since that was last asked.
    received: Rc<Cell<bool>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PingState {
    No,
    Yes,
    /// It did not answer in time, and the socket is looked at once more.
    Late,
}

impl Ping {
    pub(super) fn new(ping_pong: PingPong, received: Rc<Cell<bool>>) -> Self {
        Self { ping_pong, timer: Box::pin(sleep(INTERVAL)), state: PingState::No, received }
    }

    /// Whether the peer did not answer, and sent nothing else meanwhile. To be asked after what has come was read.
    pub(super) fn is_dead(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            if self.state != PingState::No && self.ping_pong.poll_pong(context).is_ready() {
                self.wait(PingState::No, INTERVAL);
            }
            if self.timer.as_mut().poll(context) == Poll::Pending {
                return false;
            }
            match self.state {
                // What cannot be sent is told by the connection.
                PingState::No if self.ping_pong.send_ping(h2::Ping::opaque()).is_err() => {
                    return false;
                }
                PingState::No => {
                    self.received.set(false);
                    self.wait(PingState::Yes, TIMEOUT);
                }
                PingState::Yes => {
                    let due = self.timer.deadline();
                    self.wait(PingState::Late, grace(due));
                }
                // Its answer is behind what comes: the wait begins again.
                PingState::Late if self.received.take() => self.wait(PingState::Yes, TIMEOUT),
                PingState::Late => return true,
            }
        }
    }

    fn wait(&mut self, state: PingState, time: Duration) {
        self.state = state;
        self.timer.as_mut().reset(Instant::now() + time);
    }
}
