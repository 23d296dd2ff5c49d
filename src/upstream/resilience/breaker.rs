//! Breakers: while a region of the upstream fails, it is not asked, and callers hear so at once.
//!
//! One for each region, shared by all workers through atomics: there is no lock, and as long as
//! nothing fails a request reads two words that nobody writes. Only what the upstream itself did
//! wrong counts, never what it refuses.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{Code, Failure};
use crate::net::Origin;

/// When a breaker opens and for how long, from the `[upstream.breaker]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Whether there is any.
    pub enabled: bool,
    /// As many failures in a row open it.
    pub failures: u32,
    /// So does this share of the requests of a window.
    pub failed_percent: u8,
    /// When the window has so many requests at least.
    pub requests: u32,
    /// How long a window is; it begins with a failure.
    pub window: Duration,
    /// How long it is open the first time; each further time without a success in between it is
    /// twice as long.
    pub open: Duration,
    /// The longest of these times.
    pub max_open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 10,
            failed_percent: 50,
            requests: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            max_open: Duration::from_secs(30),
        }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// None does.
    Open,
    /// One does, to find out whether the upstream works again.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The breakers of an upstream.
pub(in crate::upstream) struct Breakers {
    settings: BreakerSettings,
    origin: Origin,
    /// A handful of short names: looking is cheaper than carrying a number through the request.
    regions: Box<[Breaker]>,
}

/// The breaker of a region.
pub(in crate::upstream) struct Breaker {
    region: Box<str>,
    /// Times are milliseconds since then.
    epoch: Instant,
    /// When it may be asked again; 0 while it is closed.
    open_until: AtomicU64,
    /// A request is finding out.
    probing: AtomicBool,
    /// How often it opened without a success in between.
    in_row: AtomicU32,
    /// How often it opened at all.
    opened: AtomicU64,
    failures_in_row: AtomicU32,
    /// When the window of the last failure ends; 0 when there is none. Successes outside of one
    /// are not counted, so that a healthy upstream makes no worker wait for another's counter.
    window_until: AtomicU64,
    window_requests: AtomicU32,
    window_failures: AtomicU32,
}

/// Leave to ask the upstream, given back by [`Breakers::settle`] or [`Breakers::release`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// The region's breaker; `None` where there is none.
    region: Option<usize>,
    probe: bool,
}

impl Breakers {
    /// The breakers of these regions; `before` when they are about the same origin with the same
    /// settings, so that a reload forgets nothing.
    pub(in crate::upstream) fn new<'a>(
        settings: BreakerSettings,
        origin: &Origin,
        regions: impl Iterator<Item = &'a str>,
        before: Option<&std::sync::Arc<Self>>,
    ) -> std::sync::Arc<Self> {
        let epoch = Instant::now();
        let regions: Box<[Breaker]> = regions.map(|region| Breaker::new(region, epoch)).collect();
        if let Some(before) = before
            && (before.settings, &before.origin) == (settings, origin)
            && before.names().eq(regions.iter().map(|one| &*one.region))
        {
            return std::sync::Arc::clone(before);
        }
        std::sync::Arc::new(Self { settings, origin: origin.clone(), regions })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.regions.iter().map(|one| &*one.region)
    }

    /// Asks for leave to ask the upstream.
    ///
    /// # Errors
    /// `upstream_unavailable` while the region's breaker is open.
    pub(super) fn pass(&self, region: &[u8], now: Instant) -> Result<Pass, Failure> {
        let found = self.regions.iter().position(|one| one.region.as_bytes() == region);
        let Some(index) = found.filter(|_| self.settings.enabled) else {
            return Ok(Pass { region: None, probe: false });
        };
        match self.regions[index].admit(now) {
            Ok(probe) => Ok(Pass { region: Some(index), probe }),
            Err(wait) => {
                let why = "the whiteboard service fails at the moment, so it is not asked";
                Err(Failure::fixed(Code::UpstreamUnavailable, why).with_retry_after(wait))
            }
        }
    }

    /// What came of asking: counted when it is the upstream's own failure, or none.
    pub(super) fn settle<T>(&self, pass: Pass, answered: &Result<T, Failure>, now: Instant) {
        let Some(breaker) = pass.region.map(|index| &self.regions[index]) else { return };
        match answered.as_ref().err().map(Failure::code) {
            Some(Code::UpstreamError | Code::UpstreamTimeout) => {
                breaker.failed(pass.probe, &self.settings, now);
            }
            // It refused, so it works.
            None
            | Some(
                Code::InvalidToken
                | Code::Forbidden
                | Code::NotFound
                | Code::RateLimited
                | Code::UpstreamRefused
                | Code::UpstreamCredential
                | Code::UpstreamRedirect,
            ) => breaker.succeeded(pass.probe, now),
            // The caller's own failure says nothing about it.
            Some(_) => {}
        }
        self.release(pass);
    }

    /// Nothing is known of what came of it: a caller that goes away takes its probe with it, and the
    /// next request is one.
    pub(super) fn release(&self, pass: Pass) {
        if let Some(breaker) = pass.region.map(|index| &self.regions[index])
            && pass.probe
        {
            breaker.probing.store(false, Relaxed);
        }
    }

    /// Each region's state, and how often its breaker has opened; nothing when they are off.
    pub(in crate::upstream) fn states(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&str, BreakerState, u64)> {
        let all = self.regions.iter().filter(|_| self.settings.enabled);
        all.map(move |one| (&*one.region, one.state(now), one.opened.load(Relaxed)))
    }
}

impl Breaker {
    fn new(region: &str, epoch: Instant) -> Self {
        Self {
            region: region.into(),
            epoch,
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            in_row: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            failures_in_row: AtomicU32::new(0),
            window_until: AtomicU64::new(0),
            window_requests: AtomicU32::new(0),
            window_failures: AtomicU32::new(0),
        }
    }

    /// Never 0, which stands for no time.
    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
    }

    fn state(&self, now: Instant) -> BreakerState {
        match self.open_until.load(Relaxed) {
            0 => BreakerState::Closed,
            until if self.ms(now) < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// Whether a request may pass, as the probe or as any other; how long to wait if not.
    fn admit(&self, now: Instant) -> Result<bool, Duration> {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return Ok(false);
        }
        let wait = until.saturating_sub(self.ms(now));
        if wait > 0 || self.probing.swap(true, AcqRel) {
            return Err(Duration::from_millis(wait));
        }
        // Another worker's probe may have settled it between the two looks.
        if self.open_until.load(Relaxed) != until {
            self.probing.store(false, Relaxed);
            return self.admit(now);
        }
        tracing::debug!(region = &*self.region, "the whiteboard service is tried again");
        Ok(true)
    }

    fn succeeded(&self, probe: bool, now: Instant) {
        if probe {
            self.close();
        } else if self.failures_in_row.load(Relaxed) > 0 {
            self.failures_in_row.store(0, Relaxed);
        }
        if self.window_until.load(Relaxed) > self.ms(now) {
            self.window_requests.fetch_add(1, Relaxed);
        }
    }

    fn failed(&self, probe: bool, settings: &BreakerSettings, now: Instant) {
        if probe {
            return self.open(settings, now);
        }
        if self.open_until.load(Relaxed) != 0 {
            // It was sent before the others failed.
            return;
        }
        let at = self.ms(now);
        let in_row = self.failures_in_row.fetch_add(1, Relaxed) + 1;
        let ends = self.window_until.load(Relaxed);
        if ends <= at {
            let window = u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX);
            let next = at.saturating_add(window);
            if self.window_until.compare_exchange(ends, next, AcqRel, Relaxed).is_ok() {
                self.window_requests.store(0, Relaxed);
                self.window_failures.store(0, Relaxed);
            }
        }
        let failures = self.window_failures.fetch_add(1, Relaxed) + 1;
        let requests = self.window_requests.fetch_add(1, Relaxed) + 1;
        let share =
            u64::from(failures) * 100 >= u64::from(requests) * u64::from(settings.failed_percent);
        if in_row >= settings.failures || (requests >= settings.requests && share) {
            self.open(settings, now);
        }
    }

    fn open(&self, settings: &BreakerSettings, now: Instant) {
        let before = self.in_row.load(Relaxed);
        let whole = settings.open.saturating_mul(1 << before.min(16)).min(settings.max_open);
        // Gateways that saw the same failure must not all come back at once.
        let open = whole.mul_f64(0.75 + fastrand::f64() / 4.0);
        let was = self.open_until.load(Relaxed);
        let until = self.ms(now + open);
        if self.open_until.compare_exchange(was, until, AcqRel, Relaxed).is_err() {
            // Another worker has just seen the same.
            return;
        }
        self.in_row.store(before.saturating_add(1), Relaxed);
        self.opened.fetch_add(1, Relaxed);
        tracing::warn!(
            region = &*self.region,
            seconds = open.as_secs_f64(),
            in_row = before + 1,
            "the whiteboard service fails: it is not asked for a while"
        );
    }

    fn close(&self) {
        self.failures_in_row.store(0, Relaxed);
        self.window_until.store(0, Relaxed);
        self.in_row.store(0, Relaxed);
        self.open_until.store(0, Relaxed);
        tracing::info!(region = &*self.region, "the whiteboard service works again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::resilience::test_clock::{later, now};
    use std::sync::Arc;

    const SETTINGS: BreakerSettings = BreakerSettings {
        enabled: true,
        failures: 3,
        failed_percent: 50,
        requests: 10,
        window: Duration::from_secs(10),
        open: Duration::from_secs(1),
        max_open: Duration::from_secs(4),
    };

    fn origin() -> Origin {
        let host = "localhost".to_owned();
        Origin { tls: false, authority: host.clone(), host, port: 1 }
    }

    fn breakers(settings: BreakerSettings) -> Arc<Breakers> {
        Breakers::new(settings, &origin(), ["eu", "sg"].into_iter(), None)
    }

    fn failure(code: Code) -> Result<(), Failure> {
        Err(Failure::fixed(code, "x"))
    }

    /// Sends a request to `eu`; whether it passed.
    fn send(breakers: &Breakers, answered: &Result<(), Failure>) -> bool {
        let now = now();
        match breakers.pass(b"eu", now) {
            Ok(pass) => {
                breakers.settle(pass, answered, now);
                true
            }
            Err(failure) => {
                assert_eq!(failure.code(), Code::UpstreamUnavailable);
                false
            }
        }
    }

    fn state(breakers: &Breakers) -> &'static str {
        breakers.states(now()).next().unwrap().1.as_str()
    }

    fn break_it(breakers: &Breakers) {
        (0..SETTINGS.failures).for_each(|_| {
            send(breakers, &failure(Code::UpstreamTimeout));
        });
    }

    #[test]
    fn failures_in_a_row_open_it_for_their_region_alone() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        assert_eq!(state(&breakers), "open");
        let refused = breakers.pass(b"eu", now()).err().unwrap();
        let wait = refused.retry_after().unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(breakers.pass(b"sg", now()).is_ok());
        assert!(breakers.pass(b"mars", now()).is_ok(), "not a region it knows");
    }

    #[test]
    fn a_success_in_between_begins_the_row_anew() {
        let breakers = breakers(BreakerSettings { requests: 1000, ..SETTINGS });
        for _ in 0..20 {
            send(&breakers, &failure(Code::UpstreamError));
            send(&breakers, &failure(Code::UpstreamError));
            send(&breakers, &Ok(()));
        }
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn half_of_the_requests_of_a_window_open_it() {
        let breakers = breakers(SETTINGS);
        for turn in 0..5 {
            assert_eq!(state(&breakers), "closed", "turn {turn}");
            send(&breakers, &failure(Code::UpstreamError));
            send(&breakers, &Ok(()));
        }
        // Nine of them were not enough to judge by; this is the eleventh.
        send(&breakers, &failure(Code::UpstreamError));
        assert_eq!(state(&breakers), "open");
    }

    #[test]
    fn failures_of_another_window_are_forgotten() {
        let breakers = breakers(SETTINGS);
        for _ in 0..20 {
            send(&breakers, &failure(Code::UpstreamError));
            send(&breakers, &Ok(()));
            later(Duration::from_millis(4_000));
        }
        assert_eq!(state(&breakers), "closed", "no window has ten requests");
    }

    #[test]
    fn a_few_errors_among_many_answers_change_nothing() {
        let breakers = breakers(SETTINGS);
        for turn in 0..10_000 {
            let failed = turn % 10 == 9;
            send(&breakers, &if failed { failure(Code::UpstreamError) } else { Ok(()) });
        }
        // The window begins with a failure, so the first ones count for more than their share.
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn what_the_upstream_refuses_never_opens_it() {
        let breakers = breakers(SETTINGS);
        for code in [
            Code::UpstreamCredential,
            Code::NotFound,
            Code::Forbidden,
            Code::RateLimited,
            Code::UpstreamRefused,
            Code::UpstreamRedirect,
            Code::MalformedRequest,
        ] {
            (0..100).for_each(|_| assert!(send(&breakers, &failure(code))));
        }
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn one_request_finds_out_whether_it_works_again() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        assert_eq!(state(&breakers), "half_open");
        let now = now();
        let probe = breakers.pass(b"eu", now).ok().unwrap();
        assert!(breakers.pass(b"eu", now).is_err(), "a second one while it is under way");
        breakers.settle(probe, &Ok(()), now);
        assert_eq!(state(&breakers), "closed");
        assert!(send(&breakers, &failure(Code::UpstreamError)));
        assert_eq!(state(&breakers), "closed", "it begins anew");
    }

    #[test]
    fn it_stays_open_longer_each_time_up_to_a_bound() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        for most in [1_000, 2_000, 4_000, 4_000] {
            let (least, so_far) = (most * 3 / 4 - 2, now());
            while state(&breakers) == "open" {
                later(Duration::from_millis(1));
            }
            let took = (now() - so_far).as_millis();
            assert!((least..=most + 2).contains(&took), "{took} of {most}");
            assert!(send(&breakers, &failure(Code::UpstreamTimeout)));
        }
        assert_eq!(breakers.states(now()).next().unwrap().2, 5);
    }

    #[test]
    fn a_probe_whose_caller_goes_away_is_followed_by_another() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        breakers.release(breakers.pass(b"eu", now()).ok().unwrap());
        assert_eq!(state(&breakers), "half_open");
        assert!(send(&breakers, &Ok(())));
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let breakers = breakers(SETTINGS);
        let now = now();
        let (one, other) = (breakers.pass(b"eu", now), breakers.pass(b"eu", now));
        break_it(&breakers);
        breakers.settle(one.ok().unwrap(), &Ok(()), now);
        breakers.settle(other.ok().unwrap(), &failure(Code::UpstreamTimeout), now);
        assert_eq!(state(&breakers), "open");
        assert_eq!(breakers.states(now).next().unwrap().2, 1);
    }

    #[test]
    fn switched_off_it_lets_everything_pass() {
        let breakers = breakers(BreakerSettings { enabled: false, ..SETTINGS });
        (0..100).for_each(|_| assert!(send(&breakers, &failure(Code::UpstreamTimeout))));
        assert_eq!(breakers.states(now()).count(), 0);
    }

    #[test]
    fn a_reload_that_changes_nothing_of_it_forgets_nothing() {
        let old = breakers(SETTINGS);
        let new = |settings, region| {
            Breakers::new(settings, &origin(), ["eu", region].into_iter(), Some(&old))
        };
        assert!(Arc::ptr_eq(&new(SETTINGS, "sg"), &old));
        assert!(!Arc::ptr_eq(&new(SETTINGS, "jp"), &old));
        let other = BreakerSettings { failures: 4, ..SETTINGS };
        assert!(!Arc::ptr_eq(&new(other, "sg"), &old));
    }
}
