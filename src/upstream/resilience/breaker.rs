//! Breakers: while a region of the upstream fails, it is not asked, and callers hear so at once.
//!
//! One for each region, shared by all workers through atomics: there is no lock, and as long as
//! nothing fails a request reads some words that hardly anyone writes. What one caller sees of one
//! operation says nothing about the region while others are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::{Evidence, Witness};
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

#[cfg(test)]
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
    /// A few do, to find out whether the upstream works again.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word in metrics and logs.
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
    regions: Box<[Arc<Breaker>]>,
}

/// The breaker of a region.
pub(in crate::upstream) struct Breaker {
    region: Box<str>,
    /// Times are milliseconds since then.
    epoch: Instant,
    /// When it may be asked again; 0 while it is closed.
    open_until: AtomicU64,
    /// When the requests began that find out whether it works again; 0 where there is none.
    probes: [AtomicU64; PROBES],
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
    /// Who last failed, and who was last answered.
    failed: Recent,
    answered: Recent,
}

/// How many requests find out at once whether a region works again.
const PROBES: usize = 3;

/// How long one of them keeps others from being one: what is slow by nature blocks no one.
const PROBE_MS: u64 = 1_000;

/// How long after the end of `open` only what is quick and can be done twice finds out.
const CHOOSY_MS: u64 = 1_000;

/// How old a word about an answer may be before it is written again.
const STALE_MS: u64 = 250;

/// Who told something lately: a few of the witnesses, each with its time.
#[derive(Default)]
struct Recent([AtomicU64; 8]);

impl Recent {
    /// This one tells something. The word about who told it longest ago goes for it.
    fn note(&self, witness: Witness, ms: u64) {
        let told = |slot: &&AtomicU64| slot.load(Relaxed);
        let own = self.0.iter().find(|slot| witness.is_own(told(slot)));
        if let Some(slot) = own.or_else(|| self.0.iter().min_by_key(told)) {
            slot.store(witness.at(ms), Relaxed);
        }
    }

    /// The same where most do all the time: one word is looked at, and written only when it is old.
    fn note_seldom(&self, witness: Witness, ms: u64) {
        let slot = &self.0[witness.slot(self.0.len())];
        let told = slot.load(Relaxed);
        if told == 0 || ms.saturating_sub(told >> 24) >= STALE_MS {
            slot.store(witness.at(ms), Relaxed);
        }
    }

    /// Whether another did, not before then.
    fn has_other(&self, witness: Witness, since_ms: u64) -> bool {
        self.0.iter().any(|slot| witness.is_other(slot.load(Relaxed), since_ms))
    }
}

/// Leave to ask the upstream, given back by [`Breakers::settle`] or [`Breakers::release`].
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakerPermit {
    /// The region's breaker; `None` where there is none.
    region: Option<usize>,
    probe: Option<Probe>,
}

/// What finds out whether a region works again.
#[derive(Clone, Copy, Debug)]
struct Probe {
    slot: usize,
    began_ms: u64,
    /// Until when the breaker was open before.
    open_until: u64,
}

impl BreakerPermit {
    /// Whether what comes of it decides if the region works again.
    pub(super) const fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Breakers {
    /// The breakers of these regions. A reload forgets nothing of a region of the same origin, whatever
    /// opens its breaker now; it is `before` where nothing changed at all.
    pub(in crate::upstream) fn new<'a>(
        settings: BreakerSettings,
        origin: &Origin,
        regions: impl Iterator<Item = &'a str>,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let (epoch, before) = (Instant::now(), before.filter(|before| before.origin == *origin));
        let there = |name: &str| before?.regions.iter().find(|one| &*one.region == name);
        let regions: Box<[_]> = regions
            .map(|name| there(name).map_or_else(|| Arc::new(Breaker::new(name, epoch)), Arc::clone))
            .collect();
        if let Some(before) = before.filter(|before| before.settings == settings)
            && before.regions.iter().map(Arc::as_ptr).eq(regions.iter().map(Arc::as_ptr))
        {
            return Arc::clone(before);
        }
        Arc::new(Self { settings, origin: origin.clone(), regions })
    }

    /// Asks for leave to ask the upstream; `eager` for what is quick and does the same when done
    /// twice.
    ///
    /// # Errors
    /// `upstream_unavailable` while the region's breaker is open.
    pub(super) fn pass(
        &self,
        region: &[u8],
        eager: bool,
        now: Instant,
    ) -> Result<BreakerPermit, Failure> {
        let found = self.regions.iter().position(|one| one.region.as_bytes() == region);
        let Some(index) = found.filter(|_| self.settings.enabled) else {
            return Ok(BreakerPermit { region: None, probe: None });
        };
        match self.regions[index].admit(eager, now) {
            Ok(probe) => Ok(BreakerPermit { region: Some(index), probe }),
            Err(wait) => {
                let why = "the whiteboard service fails at the moment, so it is not asked";
                Err(Failure::fixed(Code::UpstreamUnavailable, why).with_retry_after(wait))
            }
        }
    }

    /// What came of asking.
    pub(super) fn settle(
        &self,
        pass: BreakerPermit,
        evidence: Evidence,
        witness: Witness,
        now: Instant,
    ) {
        let Some(breaker) = pass.region.map(|index| &self.regions[index]) else { return };
        match (evidence, pass.probe) {
            (Evidence::Works, probe) => breaker.succeeded(probe.is_some(), witness, now),
            (Evidence::Fails | Evidence::Unreachable, Some(probe)) => {
                breaker.open(probe.open_until, &self.settings, now);
            }
            (Evidence::Fails, None) => breaker.failed(Some(witness), &self.settings, now),
            (Evidence::Unreachable, None) => breaker.failed(None, &self.settings, now),
            (Evidence::None, _) => {}
        }
        self.release(pass);
    }

    /// Nothing is known of what came of it: a caller that goes away takes its probe with it, and the
    /// next request is one.
    pub(super) fn release(&self, pass: BreakerPermit) {
        if let BreakerPermit { region: Some(index), probe: Some(Probe { slot, began_ms, .. }) } =
            pass
        {
            let slot = &self.regions[index].probes[slot];
            _ = slot.compare_exchange(began_ms, 0, AcqRel, Relaxed);
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
            probes: Default::default(),
            in_row: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            failures_in_row: AtomicU32::new(0),
            window_until: AtomicU64::new(0),
            window_requests: AtomicU32::new(0),
            window_failures: AtomicU32::new(0),
            failed: Recent::default(),
            answered: Recent::default(),
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

    /// Whether a request may pass, as a probe or as any other; how long to wait if not.
    fn admit(&self, eager: bool, now: Instant) -> Result<Option<Probe>, Duration> {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return Ok(None);
        }
        let at = self.ms(now);
        let from = if eager { until } else { until + CHOOSY_MS };
        if at < from {
            return Err(Duration::from_millis(from - at));
        }
        let mut soonest = PROBE_MS;
        for (slot, probe) in self.probes.iter().enumerate() {
            let began = probe.load(Relaxed);
            let lasts = if began == 0 { 0 } else { (began + PROBE_MS).saturating_sub(at) };
            if lasts > 0 || probe.compare_exchange(began, at, AcqRel, Relaxed).is_err() {
                soonest = soonest.min(lasts.max(1));
                continue;
            }
            let probe = Probe { slot, began_ms: at, open_until: until };
            // Another's may have settled it between the two looks.
            if self.open_until.load(Relaxed) != until {
                self.probes[slot].store(0, Relaxed);
                return self.admit(eager, now);
            }
            tracing::debug!(region = &*self.region, "the whiteboard service is tried again");
            return Ok(Some(probe));
        }
        Err(Duration::from_millis(soonest))
    }

    fn succeeded(&self, probe: bool, witness: Witness, now: Instant) {
        if probe {
            self.close();
        } else if self.failures_in_row.load(Relaxed) > 0 {
            self.failures_in_row.store(0, Relaxed);
        }
        let at = self.ms(now);
        self.answered.note_seldom(witness, at);
        if self.window_until.load(Relaxed) > at {
            self.window_requests.fetch_add(1, Relaxed);
        }
    }

    /// A request failed, as a witness says; as anyone would say where there is none.
    fn failed(&self, witness: Option<Witness>, settings: &BreakerSettings, now: Instant) {
        if self.open_until.load(Relaxed) != 0 {
            // It was sent before the others failed.
            return;
        }
        let at = self.ms(now);
        let window = u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX);
        if let Some(witness) = witness {
            let since = at.saturating_sub(window);
            let alone = !self.failed.has_other(witness, since);
            self.failed.note(witness, at);
            if alone && self.answered.has_other(witness, since) {
                return;
            }
        }
        let in_row = self.failures_in_row.fetch_add(1, Relaxed) + 1;
        let ends = self.window_until.load(Relaxed);
        if ends <= at {
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
            self.open(0, settings, now);
        }
    }

    /// Opens, unless it is not any more as it `was`: another has seen the same.
    fn open(&self, was: u64, settings: &BreakerSettings, now: Instant) {
        let before = self.in_row.load(Relaxed);
        let whole = settings.open.saturating_mul(1 << before.min(16)).min(settings.max_open);
        // Gateways that saw the same failure must not all come back at once.
        let open = whole.mul_f64(0.75 + fastrand::f64() / 4.0);
        let until = self.ms(now + open);
        if self.open_until.compare_exchange(was, until, AcqRel, Relaxed).is_err() {
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
        if self.open_until.swap(0, Relaxed) == 0 {
            return;
        }
        tracing::info!(region = &*self.region, "the whiteboard service works again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::resilience::test_clock::{later, now};

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

    const ALONE: Witness = Witness::new(1 << 50, 0);
    const OTHER: Witness = Witness::new(2 << 50, 0);

    /// Asks `eu` for something quick.
    fn ask(breakers: &Breakers) -> Result<BreakerPermit, Failure> {
        breakers.pass(b"eu", true, now())
    }

    /// Sends a request of this witness to `eu`; whether it passed.
    fn send_as(breakers: &Breakers, witness: Witness, evidence: Evidence) -> bool {
        match ask(breakers) {
            Ok(pass) => {
                breakers.settle(pass, evidence, witness, now());
                true
            }
            Err(failure) => {
                assert_eq!(failure.code(), Code::UpstreamUnavailable);
                false
            }
        }
    }

    fn send(breakers: &Breakers, evidence: Evidence) -> bool {
        send_as(breakers, ALONE, evidence)
    }

    fn state(breakers: &Breakers) -> &'static str {
        breakers.states(now()).next().unwrap().1.as_str()
    }

    fn break_it(breakers: &Breakers) {
        (0..SETTINGS.failures).for_each(|_| {
            send(breakers, Evidence::Fails);
        });
    }

    #[test]
    fn failures_in_a_row_open_it_for_their_region_alone() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        assert_eq!(state(&breakers), "open");
        let refused = ask(&breakers).err().unwrap();
        let wait = refused.retry_after().unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(breakers.pass(b"sg", true, now()).is_ok());
        assert!(breakers.pass(b"mars", true, now()).is_ok(), "not a region it knows");
    }

    #[test]
    fn a_success_in_between_begins_the_row_anew() {
        let breakers = breakers(BreakerSettings { requests: 1000, ..SETTINGS });
        for _ in 0..20 {
            send(&breakers, Evidence::Fails);
            send(&breakers, Evidence::Fails);
            send(&breakers, Evidence::Works);
        }
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn half_of_the_requests_of_a_window_open_it() {
        let breakers = breakers(SETTINGS);
        for turn in 0..5 {
            assert_eq!(state(&breakers), "closed", "turn {turn}");
            send(&breakers, Evidence::Fails);
            send(&breakers, Evidence::Works);
        }
        // Nine of them were not enough to judge by; this is the eleventh.
        send(&breakers, Evidence::Fails);
        assert_eq!(state(&breakers), "open");
    }

    #[test]
    fn failures_of_another_window_are_forgotten() {
        let breakers = breakers(SETTINGS);
        for _ in 0..20 {
            send(&breakers, Evidence::Fails);
            send(&breakers, Evidence::Works);
            later(Duration::from_millis(4_000));
        }
        assert_eq!(state(&breakers), "closed", "no window has ten requests");
    }

    #[test]
    fn a_few_errors_among_many_answers_change_nothing() {
        let breakers = breakers(SETTINGS);
        for turn in 0..10_000 {
            let failed = turn % 10 == 9;
            send(&breakers, if failed { Evidence::Fails } else { Evidence::Works });
        }
        // The window begins with a failure, so the first ones count for more than their share.
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn what_says_nothing_about_it_never_opens_it() {
        let breakers = breakers(SETTINGS);
        (0..100).for_each(|_| assert!(send(&breakers, Evidence::None)));
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn what_one_caller_sees_of_one_operation_opens_nothing_while_others_are_answered() {
        let breakers = breakers(SETTINGS);
        send_as(&breakers, OTHER, Evidence::Works);
        (0..100).for_each(|_| assert!(send(&breakers, Evidence::Fails)));
        assert_eq!(state(&breakers), "closed");
        // Once a second one fails too, both count.
        assert!(send_as(&breakers, OTHER, Evidence::Fails));
        break_it(&breakers);
        assert_eq!(state(&breakers), "open");
    }

    #[test]
    fn two_operations_of_one_caller_are_two_witnesses() {
        assert_ne!(Witness::new(7 << 40, 0), Witness::new(7 << 40, 1));
        assert_ne!(Witness::new(7 << 40, 0), Witness::new(8 << 40, 0));
    }

    #[test]
    fn an_answer_of_long_ago_is_no_witness_any_more() {
        let breakers = breakers(SETTINGS);
        send_as(&breakers, OTHER, Evidence::Works);
        later(SETTINGS.window + Duration::from_millis(2));
        break_it(&breakers);
        assert_eq!(state(&breakers), "open", "a gateway with one caller has a breaker too");
    }

    #[test]
    fn a_service_that_cannot_be_reached_opens_it_whoever_asks() {
        let breakers = breakers(SETTINGS);
        send_as(&breakers, OTHER, Evidence::Works);
        (0..SETTINGS.failures).for_each(|_| assert!(send(&breakers, Evidence::Unreachable)));
        assert_eq!(state(&breakers), "open");
    }

    #[test]
    fn three_requests_at_a_time_find_out_whether_it_works_again() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        assert_eq!(state(&breakers), "half_open");
        let probes: Vec<BreakerPermit> = (0..3).map(|_| ask(&breakers).ok().unwrap()).collect();
        assert!(probes.iter().all(BreakerPermit::is_probe));
        let wait = ask(&breakers).err().unwrap().retry_after().unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        breakers.settle(probes[1], Evidence::Works, ALONE, now());
        assert_eq!(state(&breakers), "closed");
        assert!(send(&breakers, Evidence::Fails));
        breakers.settle(probes[0], Evidence::Fails, ALONE, now());
        assert_eq!(state(&breakers), "closed", "it begins anew");
    }

    #[test]
    fn a_probe_that_takes_its_time_blocks_no_one() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        let slow: Vec<BreakerPermit> = (0..3).map(|_| ask(&breakers).ok().unwrap()).collect();
        later(Duration::from_millis(1_000));
        assert!(send(&breakers, Evidence::Works));
        assert_eq!(state(&breakers), "closed");
        slow.into_iter().for_each(|probe| breakers.release(probe));
    }

    #[test]
    fn what_is_slow_or_must_not_be_done_twice_finds_out_only_where_nothing_better_came() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        assert!(breakers.pass(b"eu", false, now()).is_err());
        later(Duration::from_millis(1_000));
        assert!(breakers.pass(b"eu", false, now()).ok().unwrap().is_probe());
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
            assert!(send(&breakers, Evidence::Fails));
        }
        assert_eq!(breakers.states(now()).next().unwrap().2, 5);
    }

    #[test]
    fn a_probe_whose_caller_goes_away_is_followed_by_another() {
        let breakers = breakers(SETTINGS);
        break_it(&breakers);
        later(Duration::from_millis(1_001));
        breakers.release(ask(&breakers).ok().unwrap());
        assert_eq!(state(&breakers), "half_open");
        assert!(send(&breakers, Evidence::Works));
        assert_eq!(state(&breakers), "closed");
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let breakers = breakers(SETTINGS);
        let now = now();
        let (one, other) = (ask(&breakers), ask(&breakers));
        break_it(&breakers);
        breakers.settle(one.ok().unwrap(), Evidence::Works, ALONE, now);
        breakers.settle(other.ok().unwrap(), Evidence::Fails, ALONE, now);
        assert_eq!(state(&breakers), "open");
        assert_eq!(breakers.states(now).next().unwrap().2, 1);
    }

    #[test]
    fn switched_off_it_lets_everything_pass() {
        let breakers = breakers(BreakerSettings { enabled: false, ..SETTINGS });
        (0..100).for_each(|_| assert!(send(&breakers, Evidence::Fails)));
        assert_eq!(breakers.states(now()).count(), 0);
    }

    #[test]
    fn a_reload_forgets_nothing_of_a_region_that_is_there_still() {
        let old = breakers(SETTINGS);
        break_it(&old);
        let new = |settings, region, origin: &Origin| {
            Breakers::new(settings, origin, ["eu", region].into_iter(), Some(&old))
        };
        let more = BreakerSettings { failures: 4, ..SETTINGS };
        let (here, elsewhere) = (origin(), Origin { port: 2, ..origin() });
        assert!(Arc::ptr_eq(&new(SETTINGS, "sg", &here), &old));
        for (settings, region) in [(SETTINGS, "jp"), (more, "sg")] {
            let new = new(settings, region, &here);
            assert!(!Arc::ptr_eq(&new, &old));
            assert_eq!(state(&new), "open");
        }
        assert_eq!(state(&new(SETTINGS, "sg", &elsewhere)), "closed", "it is another service");
        // What was sent before says what it has to say after as well.
        later(SETTINGS.open);
        let pass = ask(&old).unwrap();
        old.settle(pass, Evidence::Works, ALONE, now());
        assert_eq!(state(&new(more, "jp", &here)), "closed");
    }
}
