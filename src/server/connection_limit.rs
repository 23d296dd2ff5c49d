//! How many connections there may be: of the process, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A subscriber has at least that many bits of an IPv6 address (RFC 6177), and so as many addresses
/// as it likes.
const SUBSCRIBER: u32 = 64;

/// After so long without a failure, connections are accepted again: where each needs the descriptor
/// of another, accepting fails and succeeds by turns, and that is one event.
const RECOVERY: Duration = Duration::from_secs(2);

/// The limit of the process, shared by its workers.
pub(super) struct ConnectionLimit {
    most: usize,
    taken: AtomicUsize,
    /// When accepting a connection failed last, until that is over.
    failed: Mutex<Option<Instant>>,
    /// The last connection that came could not be accepted.
    failing: AtomicBool,
    addresses: Option<Addresses>,
}

/// The limit by address; nothing is kept for an address without connections.
struct Addresses {
    most: usize,
    /// Locked as a connection comes and goes, never by a request.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's slot; free again when it is dropped.
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    /// By what it is counted, where that is done.
    address: Option<IpAddr>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionLimitError {
    /// The process has as many connections as it takes.
    Process,
    /// The address has as many as it may have.
    Address,
}

impl ConnectionLimit {
    /// `most` for the process, and `each` for every address.
    pub(super) fn new(most: usize, each: Option<usize>) -> Self {
        let addresses = |most| Addresses { most, taken: Mutex::default() };
        let (taken, failed, failing) = (AtomicUsize::new(0), Mutex::default(), false.into());
        Self { most, taken, failed, failing, addresses: each.map(addresses) }
    }

    /// A connection could not be accepted; `true` where that is new.
    pub(super) fn fails_to_accept(&self, now: Instant) -> bool {
        self.failing.store(true, Ordering::Relaxed);
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).replace(now).is_none()
    }

    /// Whether connections are accepted again, since this was asked last.
    pub(super) fn recovered(&self, now: Instant) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |at: &mut Instant| now.saturating_duration_since(*at) >= RECOVERY;
        failed.take_if(over).is_some()
    }

    /// How many connections have to end for those that came since: all that are asked for where
    /// the last one could not be accepted, as there is no descriptor left. Whoever waited for one
    /// that was accepted since has it.
    pub(super) fn lacking(&self) -> usize {
        let over = self.taken.load(Ordering::Relaxed).saturating_sub(self.most);
        if self.failing.load(Ordering::Relaxed) { usize::MAX } else { over }
    }

    /// A slot for a connection from this address, or from one by which nothing is counted. Where
    /// the process has none left, `free` is asked to end another connection, whose slot it is then.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        free: impl FnOnce() -> bool,
    ) -> Result<ConnectionSlot, ConnectionLimitError> {
        self.failing.store(false, Ordering::Relaxed);
        let address = match (&self.addresses, address) {
            (Some(addresses), Some(address)) => Some(addresses.take(address)?),
            _ => None,
        };
        // From here on it is counted, and not any more once it is dropped.
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let slot = ConnectionSlot { limit: Arc::clone(self), address };
        if before >= self.most && !free() {
            return Err(ConnectionLimitError::Process);
        }
        Ok(slot)
    }
}

impl Addresses {
    /// What it is counted by.
    fn take(&self, address: IpAddr) -> Result<IpAddr, ConnectionLimitError> {
        let address = subscriber(address.to_canonical());
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(address).or_default();
        if *taken >= self.most {
            return Err(ConnectionLimitError::Address);
        }
        *taken += 1;
        Ok(address)
    }

    fn leave(&self, address: IpAddr) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&address) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => {
                all.remove(&address);
            }
        }
    }
}

impl ConnectionSlot {
    /// Counts it by this address from now on, where it is counted by none.
    ///
    /// # Errors
    /// Where the address has as many as it may have.
    pub(super) fn count(&mut self, address: IpAddr) -> Result<(), ConnectionLimitError> {
        if let (Some(addresses), None) = (&self.limit.addresses, self.address) {
            self.address = Some(addresses.take(address)?);
        }
        Ok(())
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.limit.taken.fetch_sub(1, Ordering::Relaxed);
        if let (Some(addresses), Some(address)) = (&self.limit.addresses, self.address) {
            addresses.leave(address);
        }
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - SUBSCRIBER) << (128 - SUBSCRIBER);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(
        limit: &Arc<ConnectionLimit>,
        address: &str,
    ) -> Result<ConnectionSlot, ConnectionLimitError> {
        limit.take(address.parse().ok(), || false)
    }

    #[test]
    fn the_process_has_so_many_places_and_they_come_back() {
        let limit = Arc::new(ConnectionLimit::new(2, None));
        let first = take(&limit, "192.0.2.1").ok().unwrap();
        let _second = take(&limit, "192.0.2.1").ok().unwrap();
        assert_eq!(take(&limit, "192.0.2.2").err(), Some(ConnectionLimitError::Process));
        drop(first);
        assert!(take(&limit, "192.0.2.2").is_ok());
        assert_eq!(limit.taken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn as_many_lack_a_place_as_came_when_there_was_none_and_are_still_there() {
        let limit = Arc::new(ConnectionLimit::new(1, None));
        let address = "192.0.2.1".parse().ok();
        let mut there: Vec<_> = (0..3).map(|_| limit.take(address, || true).ok()).collect();
        assert_eq!(limit.lacking(), 2);
        there.pop();
        assert_eq!(limit.lacking(), 1);
        there.pop();
        assert_eq!(limit.lacking(), 0, "whoever has gone made room");
        limit.fails_to_accept(Instant::now());
        assert!(limit.lacking() > 0, "no descriptor is left, however many slots are");
        there.clear();
        there.push(limit.take(address, || true).ok());
        assert_eq!(limit.lacking(), 0, "there was one for whoever waited");
    }

    #[test]
    fn failures_to_accept_are_one_event_until_there_is_none_for_a_while() {
        let limit = ConnectionLimit::new(1, None);
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        assert!(!limit.recovered(at(0)));
        assert!(limit.fails_to_accept(at(0)));
        assert!(!limit.recovered(at(1_999)) && !limit.fails_to_accept(at(1_999)));
        assert!(!limit.recovered(at(3_998)) && limit.recovered(at(3_999)));
        assert!(!limit.recovered(at(9_000)), "once");
        assert!(limit.fails_to_accept(at(9_000)));
    }

    #[test]
    fn one_that_another_makes_room_for_has_a_place() {
        let limit = Arc::new(ConnectionLimit::new(1, None));
        let address = "192.0.2.1".parse().ok();
        let _first = take(&limit, "192.0.2.1").ok().unwrap();
        assert!(limit.take(address, || true).is_ok());
    }

    #[test]
    fn an_address_has_its_share_and_a_subscriber_of_ipv6_is_one_address() {
        let limit = Arc::new(ConnectionLimit::new(9, Some(1)));
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1"].map(Some);
        let kept: Vec<ConnectionSlot> = addresses
            .into_iter()
            .chain([None, None])
            .map(|address| {
                let address = address.map(|address| address.parse().unwrap());
                limit.take(address, || false).ok().unwrap()
            })
            .collect();
        for refused in ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8:0:1:ffff::2"] {
            assert_eq!(
                take(&limit, refused).err(),
                Some(ConnectionLimitError::Address),
                "{refused}"
            );
        }
        assert!(take(&limit, "2001:db8:0:2::1").is_ok());
        drop(kept);
        let addresses = limit.addresses.as_ref().unwrap();
        assert!(addresses.taken.lock().unwrap().is_empty(), "nothing is kept");
        assert!(take(&limit, "192.0.2.1").is_ok());
    }
}
