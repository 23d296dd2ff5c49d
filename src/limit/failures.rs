//! Credentials that did not hold, counted by address: whoever shows many of them is not worth an
//! expensive check any more.
//!
//! GCRA like the other limits, with one difference: looking takes nothing. An address is counted
//! when it fails, and looked at before each check that costs.

use std::net::IpAddr;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::rate::Rate;

/// As many addresses are remembered. One that is pushed out begins anew.
const ADDRESSES: usize = 65_536;

/// The failures of each address.
pub struct Failures {
    /// The rate that was meant.
    pub rate: Rate,
    epoch: Instant,
    /// The theoretical arrival time of each address, in microseconds since the epoch.
    arrivals: Cache<IpAddr, u64>,
}

impl Failures {
    /// No one has failed yet.
    pub fn new(rate: Rate) -> Self {
        Self { rate, epoch: Instant::now(), arrivals: Cache::new(ADDRESSES) }
    }

    /// How long an address must wait, when it has failed too often.
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.wait_at(bucket(address), self.now())
    }

    /// Counts a failure of an address.
    pub fn count(&self, address: IpAddr) {
        self.count_at(bucket(address), self.now());
    }

    fn wait_at(&self, address: IpAddr, now: u64) -> Option<Duration> {
        let arrival = self.arrivals.get(&address)?;
        let next = arrival.saturating_add(self.interval());
        let over = next.checked_sub(now.saturating_add(self.tolerance()))?;
        (over > 0).then(|| Duration::from_micros(over))
    }

    fn count_at(&self, address: IpAddr, now: u64) {
        // Two that fail at the same moment may count as one: this is no ledger.
        let before = self.arrivals.get(&address).unwrap_or(now).max(now);
        // Never further ahead than a used-up burst, so that no one is kept out for longer.
        let arrival =
            before.saturating_add(self.interval()).min(now.saturating_add(self.tolerance()));
        self.arrivals.insert(address, arrival);
    }

    fn now(&self) -> u64 {
        micros(self.epoch.elapsed())
    }

    fn interval(&self) -> u64 {
        micros(self.rate.interval()).max(1)
    }

    fn tolerance(&self) -> u64 {
        self.interval().saturating_mul(u64::from(self.rate.burst.get()))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What counts as one address: of IPv6 the first 64 bits, which one customer has (RFC 6177).
fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn failures() -> Failures {
        let number = |n| NonZeroU32::new(n).unwrap();
        Failures::new(Rate {
            requests: number(1),
            period: Duration::from_secs(1),
            burst: number(3),
        })
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn an_address_that_fails_too_often_waits_until_one_is_earned_back() {
        let failures = failures();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(failures.wait_at(address, 0), None);
            failures.count_at(address, 0);
        }
        assert_eq!(failures.wait_at(address, 0), Some(Duration::from_secs(1)));
        assert_eq!(failures.wait_at(address, SECOND), None);
        assert_eq!(failures.wait_at("192.0.2.2".parse().unwrap(), 0), None, "a neighbour");
    }

    #[test]
    fn failing_on_and_on_keeps_nobody_out_for_longer() {
        let failures = failures();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..1000 {
            failures.count_at(address, 0);
        }
        assert_eq!(failures.wait_at(address, SECOND), None);
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let failures = failures();
        for host in 0..3_u16 {
            failures.count(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]));
        }
        assert!(failures.wait("2001:db8:0:1::99".parse().unwrap()).is_some());
        assert!(failures.wait("2001:db8:0:2::99".parse().unwrap()).is_none());
        assert_eq!(bucket("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
    }
}
