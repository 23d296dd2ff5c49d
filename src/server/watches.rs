//! All connections of a worker: looked over once a tick, and the order in which they make room for
//! new ones when there are as many as may be.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::guard::{Clock, Order, Rank, Since, Watch};
use super::link::Link;

/// How often all connections are looked at for some to end, at most: a bound on what new ones cost
/// where there is none.
const PAUSE: Duration = Duration::from_millis(10);

/// Every connection of a worker; so no connection needs a timer.
pub(super) struct Watches {
    clock: Rc<Clock>,
    all: RefCell<Vec<Weak<Watch>>>,
    victims: RefCell<Victims>,
    leaving: Cell<bool>,
}

/// Whom to end first, as it was at the last look.
#[derive(Default)]
struct Victims {
    queue: VecDeque<(Rank, Weak<Watch>)>,
    looked: Option<Instant>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            clock: Rc::new(Clock(Cell::new(Instant::now()))),
            all: RefCell::default(),
            victims: RefCell::default(),
            leaving: Cell::new(false),
        }
    }

    /// Watches a new connection.
    pub(super) fn watch(&self, address: IpAddr, link: Link) -> Rc<Watch> {
        let address = address.to_canonical();
        let watch = Rc::new(Watch::new(address, link, Rc::clone(&self.clock)));
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Reads the clock, forgets closed connections and ends those whose time is over. Tells how
    /// many of each rank are left that another could have the place of.
    pub(super) fn tick(&self, bounds: &Bounds) -> [usize; Rank::ALL.len()] {
        let now = Instant::now();
        self.clock.0.set(now);
        let mut ranks = [0; Rank::ALL.len()];
        self.all.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            watch.tick(now, bounds);
            if let Some(rank) = watch.rank() {
                ranks[rank as usize] += 1;
            }
            true
        });
        // Who was last has changed.
        *self.victims.borrow_mut() = Victims::default();
        ranks
    }

    /// The rank of the connection that would make room.
    pub(super) fn first_rank(&self) -> Option<Rank> {
        self.first().map(|(rank, _)| rank)
    }

    /// Ends a connection, so that another can have its place, and gives its rank; `None` where
    /// there is none to end.
    pub(super) fn crowd_out(&self) -> Option<Rank> {
        let (rank, watch) = self.first()?;
        watch.give(Order::Leave);
        Some(rank)
    }

    /// Whom to end first.
    fn first(&self) -> Option<(Rank, Rc<Watch>)> {
        let mut victims = self.victims.borrow_mut();
        loop {
            while let Some((rank, watch)) = victims.queue.front() {
                // It may have become busy, or have gone.
                if let Some(watch) = watch.upgrade().filter(|watch| watch.rank() == Some(*rank)) {
                    return Some((*rank, watch));
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
    fn in_order(&self) -> VecDeque<(Rank, Weak<Watch>)> {
        let all = self.all.borrow();
        let mut ranked: Vec<(Rank, Since, Rc<Watch>)> = Vec::new();
        for watch in all.iter().filter_map(Weak::upgrade) {
            if let Some(rank) = watch.rank() {
                ranked.push((rank, watch.since(), watch));
            }
        }
        ranked.sort_by_key(|(rank, since, _)| (*rank, *since));
        // As each that goes leaves one less of its address, each is counted with those behind it.
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        let mut ordered: Vec<_> = ranked
            .into_iter()
            .rev()
            .map(|(rank, since, watch)| {
                let behind = match rank {
                    Rank::Refused => {
                        let count = of_address.entry(watch.address).or_default();
                        *count += 1;
                        *count
                    }
                    _ => 0,
                };
                ((rank, std::cmp::Reverse(behind), since), watch)
            })
            .collect();
        ordered.sort_by_key(|(order, _)| *order);
        ordered.into_iter().map(|((rank, ..), watch)| (rank, Rc::downgrade(&watch))).collect()
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
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if !watch.expects_request() {
                watch.give(Order::Drain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::server::guard::{Answering, Phase};
    use tokio::time::advance;

    /// Connections, by name.
    struct House {
        watches: Watches,
        named: Vec<(&'static str, Rc<Watch>)>,
    }

    impl House {
        fn open(&mut self, name: &'static str, address: u8) -> Rc<Watch> {
            let watch = self.watches.watch([192, 0, 2, address].into(), Link::default());
            self.named.push((name, Rc::clone(&watch)));
            watch
        }

        /// One that is between requests, of which one was answered.
        fn answered(&mut self, name: &'static str, address: u8, trusted: bool) {
            let watch = self.open(name, address);
            watch.answering().is_decided(trusted);
            watch.idle();
        }

        async fn pass(&self, time: Duration) {
            advance(time).await;
            // What is new is dated at one tick, and seen at the next.
            self.watches.tick(&Bounds::default());
        }

        /// Who is ended next.
        fn next(&self) -> Option<&'static str> {
            let context = Context::from_waker(Waker::noop());
            let left = |watch: &Rc<Watch>| watch.order(&context) == Order::Leave;
            let found = self.watches.crowd_out().is_some();
            let name = self.named.iter().find(|(_, watch)| left(watch)).map(|(name, _)| *name);
            assert_eq!(found, name.is_some());
            // It is over as soon as its task has had its turn.
            if let Some((_, watch)) = self.named.iter().find(|(own, _)| Some(*own) == name) {
                watch.give(Order::Go);
            }
            name
        }

        fn all(&self) -> Vec<&'static str> {
            std::iter::from_fn(|| self.next()).collect()
        }
    }

    fn house() -> House {
        House { watches: Watches::new(), named: Vec::new() }
    }

    /// An answer that the peer takes nothing of.
    fn stalled(watch: &Rc<Watch>, trusted: bool) -> Answering {
        let mut answering = watch.answering();
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
