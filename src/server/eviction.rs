//! All connections of a worker: looked over once a tick, and the order in which they make room for
//! new ones when there are as many as may be.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::connection_state::{ConnectionCommand, ConnectionState, Rank};
use super::half_close::ConnectionSignals;
use super::since::{Since, TickClock};

/// How often all connections are looked at for some to end, at most: a bound on what new ones cost
/// where there is none.
const PAUSE: Duration = Duration::from_millis(10);

/// A tick that comes later than this after the one before shows that the process stood still: it was
/// stopped, or its machine was. Peers may have done meanwhile what is not heard of yet.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Every connection of a worker; so no connection needs a timer.
pub(super) struct ConnectionTable {
    clock: Rc<TickClock>,
    all: RefCell<Vec<Weak<ConnectionState>>>,
    victims: RefCell<Victims>,
    leaving: Cell<bool>,
}

/// What a tick has found.
#[derive(Default)]
pub(super) struct TickOutcome {
    /// How many connections of each rank are left that another could have the place of.
    pub(super) ranks: [usize; Rank::ALL.len()],
    /// Whether some have let go of memory.
    pub(super) released: bool,
}

/// Whom to end first, as it was at the last look.
#[derive(Default)]
struct Victims {
    queue: VecDeque<(Rank, Weak<ConnectionState>)>,
    looked: Option<Instant>,
}

impl ConnectionTable {
    pub(super) fn new() -> Self {
        Self {
            clock: Rc::new(TickClock(Cell::new(Instant::now()))),
            all: RefCell::default(),
            victims: RefCell::default(),
            leaving: Cell::new(false),
        }
    }

    /// Adds a new connection.
    pub(super) fn add(&self, address: IpAddr, signals: ConnectionSignals) -> Rc<ConnectionState> {
        let address = address.to_canonical();
        let state = Rc::new(ConnectionState::new(address, signals, Rc::clone(&self.clock)));
        self.all.borrow_mut().push(Rc::downgrade(&state));
        state
    }

    /// Reads the clock, forgets closed connections and ends those whose time is over.
    pub(super) fn tick(&self, bounds: &Bounds) -> TickOutcome {
        let now = Instant::now();
        let still = now.saturating_duration_since(self.clock.0.replace(now));
        let mut outcome = TickOutcome::default();
        let mut all = self.all.borrow_mut();
        all.retain(|state| {
            let Some(state) = state.upgrade() else {
                outcome.released = true;
                return false;
            };
            if still > STOOD_STILL {
                state.put_off(still);
            }
            outcome.released |= state.tick(now, bounds);
            if let Some(rank) = state.rank() {
                outcome.ranks[rank as usize] += 1;
            }
            true
        });
        if all.len() < all.capacity() / 4 {
            let twice = 2 * all.len();
            all.shrink_to(twice);
        }
        // Who was last has changed.
        *self.victims.borrow_mut() = Victims::default();
        outcome
    }

    /// The rank of the connection that would make room.
    pub(super) fn first_rank(&self) -> Option<Rank> {
        self.first().map(|(rank, _)| rank)
    }

    /// Ends a connection, so that another can have its place, and gives its rank; `None` where
    /// there is none to end.
    pub(super) fn crowd_out(&self) -> Option<Rank> {
        let (rank, state) = self.first()?;
        state.send(ConnectionCommand::Evict);
        Some(rank)
    }

    /// Whom to end first.
    fn first(&self) -> Option<(Rank, Rc<ConnectionState>)> {
        let mut victims = self.victims.borrow_mut();
        loop {
            while let Some((rank, state)) = victims.queue.front() {
                // It may have become busy, or have gone.
                if let Some(state) = state.upgrade().filter(|state| state.rank() == Some(*rank)) {
                    return Some((*rank, state));
                }
                victims.queue.pop_front();
            }
            let now = Instant::now();
            if victims.looked.is_some_and(|looked| now.saturating_duration_since(looked) < PAUSE) {
                return None;
            }
            victims.looked = Some(now);
            victims.queue = self.in_order();
            if victims.queue.is_empty() {
                return None;
            }
        }
    }

    /// Who can be ended, the first one first: by rank, of those that were refused from the address
    /// that has most, and who has done nothing for longest.
    fn in_order(&self) -> VecDeque<(Rank, Weak<ConnectionState>)> {
        let all = self.all.borrow();
        let mut ranked: Vec<(Rank, Since, Rc<ConnectionState>)> = Vec::new();
        for state in all.iter().filter_map(Weak::upgrade) {
            if let Some(rank) = state.rank() {
                ranked.push((rank, state.since(), state));
            }
        }
        ranked.sort_by_key(|(rank, since, _)| (*rank, *since));
        // As each that goes leaves one less of its address, each is counted with those behind it.
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        let mut ordered: Vec<_> = ranked
            .into_iter()
            .rev()
            .map(|(rank, since, state)| {
                let behind = match rank {
                    Rank::Refused => {
                        let count = of_address.entry(state.address).or_default();
                        *count += 1;
                        *count
                    }
                    _ => 0,
                };
                ((rank, std::cmp::Reverse(behind), since), state)
            })
            .collect();
        ordered.sort_by_key(|(order, _)| *order);
        ordered.into_iter().map(|((rank, ..), state)| (rank, Rc::downgrade(&state))).collect()
    }

    /// From now on an answer is the last one on its connection.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether an answer is the last one on its connection.
    pub(super) fn leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Tells every connection to finish, but those on which a request is coming.
    pub(super) fn drain(&self) {
        for state in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if !state.expects_request() {
                state.send(ConnectionCommand::Drain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::server::connection_state::{Answering, Phase};
    use tokio::time::advance;

    /// Connections, by name.
    struct House {
        connections: ConnectionTable,
        named: Vec<(&'static str, Rc<ConnectionState>)>,
    }

    impl House {
        fn open(&mut self, name: &'static str, address: u8) -> Rc<ConnectionState> {
            let state =
                self.connections.add([192, 0, 2, address].into(), ConnectionSignals::default());
            self.named.push((name, Rc::clone(&state)));
            state
        }

        /// One that is between requests, of which one was answered.
        fn answered(&mut self, name: &'static str, address: u8, trusted: bool) {
            let state = self.open(name, address);
            state.answering().is_decided(trusted);
            state.idle();
        }

        /// Time passes, and ticks with it. What is new is dated at one, and seen at the next.
        async fn pass(&self, time: Duration) {
            let mut left = time;
            while !left.is_zero() {
                let step = left.min(Duration::from_millis(250));
                self.stands_still(step).await;
                left -= step;
            }
        }

        /// The process does nothing for so long.
        async fn stands_still(&self, time: Duration) {
            advance(time).await;
            self.connections.tick(&Bounds::default());
        }

        /// Who is ended next.
        fn next(&self) -> Option<&'static str> {
            let context = Context::from_waker(Waker::noop());
            let left =
                |state: &Rc<ConnectionState>| state.command(&context) == ConnectionCommand::Evict;
            let found = self.connections.crowd_out().is_some();
            let name = self.named.iter().find(|(_, state)| left(state)).map(|(name, _)| *name);
            assert_eq!(found, name.is_some());
            // It is over as soon as its task has had its turn.
            if let Some((_, state)) = self.named.iter().find(|(own, _)| Some(*own) == name) {
                state.send(ConnectionCommand::CloseViolation);
            }
            name
        }

        fn all(&self) -> Vec<&'static str> {
            std::iter::from_fn(|| self.next()).collect()
        }
    }

    fn house() -> House {
        House { connections: ConnectionTable::new(), named: Vec::new() }
    }

    /// An answer that the peer takes nothing of.
    fn stalled(state: &Rc<ConnectionState>, trusted: bool) -> Answering {
        let mut answering = state.answering();
        answering.is_decided(trusted);
        answering.waits();
        answering
    }

    #[tokio::test(start_paused = true)]
    async fn connections_make_room_in_this_order() {
        let mut house = house();
        house.answered("idle, with a good credential, for longer", 1, true);
        house.answered("refused, the only one of its address", 2, false);
        house.pass(Duration::from_secs(3)).await;
        house.answered("idle, with a good credential", 1, true);
        house.open("has said nothing", 4);
        house.open("a head has begun", 4).begun();
        house.answered("refused, first", 3, false);
        house.pass(Duration::from_millis(250)).await;
        house.answered("refused, second", 3, false);
        house.open("lingers", 5).enter(Phase::Lingering);
        let takes_nothing = house.open("takes nothing of its refusal", 6);
        let _refusal = stalled(&takes_nothing, false);
        let protected = house.open("takes nothing of one, and waits for another", 6);
        let _also = (stalled(&protected, false), protected.answering());
        let reader = house.open("takes nothing of what it may have", 7);
        let _long = stalled(&reader, true);
        house.open("is answered", 8).answering();
        let busy = house.open("is being answered", 9);
        let _busy = busy.answering();
        house.pass(Duration::from_millis(250)).await;
        house.pass(Duration::from_secs(1)).await;
        house.answered("refused just now", 3, false);
        house.pass(Duration::from_millis(250)).await;
        let order = house.all();
        // Of equal rank by since when; those two came at the same time.
        assert_eq!(order[..2].len(), 2);
        let mut first = order[..2].to_vec();
        first.sort_unstable();
        assert_eq!(first, ["lingers", "takes nothing of its refusal"]);
        assert_eq!(
            order[2..],
            [
                "refused, first",
                "refused, the only one of its address",
                "refused, second",
                "a head has begun",
                "has said nothing",
                "idle, with a good credential, for longer",
                "idle, with a good credential",
            ]
        );
    }

    /// What has expired.
    fn expired(state: &ConnectionState) -> bool {
        matches!(state.command(&Context::from_waker(Waker::noop())), ConnectionCommand::Expired(_))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_has_its_time_however_long_the_process_stood_still_meanwhile() {
        let Bounds { head_timeout, write, .. } = Bounds::default();
        for (begun, time) in [(true, head_timeout), (false, write)] {
            let mut house = house();
            let state = house.open("a head has begun, or an answer waits", 1);
            let _answer = (!begun).then(|| stalled(&state, true));
            if begun {
                state.begun();
            }
            house.pass(Duration::from_secs(1)).await;
            house.stands_still(Duration::from_secs(100)).await;
            assert!(!expired(&state));
            house.stands_still(Duration::from_secs(100)).await;
            house.pass(time - Duration::from_secs(2)).await;
            assert!(!expired(&state));
            house.pass(Duration::from_secs(2)).await;
            assert!(expired(&state));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_younger_than_a_second_makes_room() {
        let mut house = house();
        house.answered("refused", 1, false);
        house.open("has said nothing", 2);
        house.pass(Duration::from_millis(500)).await;
        house.pass(Duration::from_millis(499)).await;
        assert_eq!(house.next(), None);
        house.pass(Duration::from_millis(1)).await;
        assert_eq!(house.all(), ["refused", "has said nothing"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_already_makes_no_room_for_another() {
        let mut house = house();
        house.answered("refused", 1, false);
        house.pass(Duration::from_secs(2)).await;
        assert_eq!(house.next(), Some("refused"));
        assert_eq!(house.next(), None);
    }
}
