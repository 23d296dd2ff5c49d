//! An open loop: requests are due at even intervals, and latency counts from then.
//!
//! A request whose turn comes while every connection is busy waits, and its waiting counts: a
//! proxy that stalls cannot make the load polite.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::tally::Tally;
use super::{Target, Traffic};

/// A clock that ticks when a request is due, and the connections that carry it.
pub(super) struct Rate {
    interval: Duration,
    connections: usize,
    // A timer of the kernel's: the runtime's own are a millisecond coarse. It is read like a pipe.
    timer: pipe::Receiver,
}

/// Requests that are due, or connections that wait for one: never both.
#[derive(Default)]
struct Turns {
    due: VecDeque<Instant>,
    waiting: VecDeque<mpsc::UnboundedSender<Instant>>,
}

impl Turns {
    /// A request is due: it goes to the connection that has waited longest.
    fn due(&mut self, at: Instant) {
        while let Some(connection) = self.waiting.pop_front() {
            if connection.send(at).is_ok() {
                return;
            }
        }
        self.due.push_back(at);
    }
}

impl Rate {
    pub(super) fn new(per_second: u32, connections: usize) -> io::Result<Self> {
        let interval = Duration::from_secs(1) / per_second;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let every = Timespec::try_from(interval).map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        let timer = pipe::Receiver::from_owned_fd_unchecked(timer)?;
        Ok(Self { interval, connections, timer })
    }

    pub(super) async fn run(mut self, target: Rc<Target>, traffic: Rc<Traffic>, tally: Rc<Tally>) {
        let turns = Rc::new(RefCell::new(Turns::default()));
        let mut tasks = JoinSet::new();
        for number in 0..self.connections {
            let (target, traffic) = (Rc::clone(&target), Rc::clone(&traffic));
            let (turns, tally) = (Rc::clone(&turns), Rc::clone(&tally));
            tasks.spawn_local(async move {
                if let Err(error) = carry(&target, &traffic, &turns, &tally, number).await {
                    tally.broke(error);
                }
            });
        }
        let mut next = Instant::now() + self.interval;
        loop {
            // The number of ticks since the last read is of no use: what is due tells the clock.
            if let Err(error) = self.timer.read_exact(&mut [0; 8]).await {
                return tally.broke(error);
            }
            while next <= Instant::now() {
                turns.borrow_mut().due(next);
                next += self.interval;
            }
        }
    }
}

async fn carry(
    target: &Target,
    traffic: &Traffic,
    turns: &RefCell<Turns>,
    tally: &Tally,
    number: usize,
) -> io::Result<()> {
    let mut connection = target.connect(16 * 1024).await?;
    let (sender, mut turn) = mpsc::unbounded_channel();
    for number in number.. {
        let overdue = turns.borrow_mut().due.pop_front();
        let due = match overdue {
            Some(due) => due,
            None => {
                turns.borrow_mut().waiting.push_back(sender.clone());
                let Some(due) = turn.recv().await else { break };
                due
            }
        };
        let call = traffic.call(number);
        let status = connection.exchange(&call.bytes).await?;
        tally.answered(call, status);
        tally.late(due);
    }
    Ok(())
}
