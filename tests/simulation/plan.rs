//! What a seed decides before anything happens: how many call, how bad the network and the upstream
//! are and when, how the gateway is configured, when it is reloaded and when it is stopped.

use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use whiteboard_gateway::caller::ApiKey;

use crate::issuer::Issuing;
use crate::network::{Fate, Weather};
use crate::store::Trouble;
use crate::threads::{ACCESS, AUDIT, BUDGETS, Threads};

/// The keys of the callers, made for this and good for nothing else.
pub(crate) const KEYS: [&str; 5] = [
    "wbg_test_simulated000_simulationsimulationsimulationsimulationsim_1S2bz8",
    "wbg_test_simulated001_simulationsimulationsimulationsimulationsim_4Kvj0I",
    "wbg_test_simulated002_simulationsimulationsimulationsimulationsim_3re5gx",
    "wbg_test_simulated003_simulationsimulationsimulationsimulationsim_23lMN5",
    "wbg_test_simulated004_simulationsimulationsimulationsimulationsim_39su2b",
];

/// The first so many are of the profile `backend`, the others of `student`.
const BACKENDS: usize = 2;

/// The caller who does nothing wrong, with a profile of its own that has no limit.
pub(crate) const HONEST: usize = 4;

/// Another, who shows a token of the identity provider.
pub(crate) const VISITOR: usize = 5;

/// A time in which the upstream is in a state of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) state: State,
}

/// That a thread takes nothing for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hang {
    pub(crate) thread: &'static str,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

/// What is written by threads, which the others do without.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    /// No token without its record.
    audit_required: bool,
    hangs: Vec<Hang>,
}

/// How the upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    /// It refuses connections.
    Down,
    /// Connections to it never stand.
    Dark,
    /// It fails most of the time.
    Sick,
}

/// A rate, as it is checked: one is given back after each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
    /// The same, written by the minute.
    by_the_minute: bool,
}

/// The rates of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Of each caller, by profile.
    pub(crate) backend: Rate,
    pub(crate) student: Rate,
    /// Of all callers of `student`.
    pub(crate) students: Rate,
    pub(crate) gateway: Rate,
}

/// What a configuration says, as far as one differs from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Which rates it has.
    pub(crate) rates: usize,
    /// Whether it says something else about the upstream than the first one.
    pub(crate) upstream: bool,
    /// Whether [`DISMISSED`] is no caller any more.
    pub(crate) dismissed: bool,
}

/// The caller who is one in some configurations.
pub(crate) const DISMISSED: usize = 3;

/// So many tokens a backend gets, where there is a store or a file for that.
pub(crate) const TOKENS: u32 = 12;

/// What a seed has drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    /// How many requests a client makes on a connection, at most.
    pub(crate) requests: u32,
    /// How many in a hundred of the upstream's answers are wrong in some way.
    pub(crate) faults: u32,
    /// How many in a hundred connections the network breaks.
    harm: u32,
    pub(crate) slow_network: bool,
    pub(crate) http2_upstream: bool,
    /// How many streams a connection of HTTP/2 to the upstream may have.
    pub(crate) upstream_streams: u32,
    /// All that is wrong with the upstream's answers is that they are failures in its own words.
    pub(crate) spoken: bool,
    /// When the network forgets the connections to the upstream, all that there are, and tells
    /// nobody.
    pub(crate) forgets: Option<Duration>,
    /// When the process has no descriptors left.
    pub(crate) without_descriptors: Option<(Duration, Duration)>,
    /// Uplinks of callers are as slow as that, in bytes a second.
    pub(crate) uplink: Option<u32>,
    /// How many callers do nothing wrong, and whose network does neither.
    pub(crate) honest: u32,
    pub(crate) spells: Vec<Spell>,
    /// When the configuration is loaded again, and what it says then.
    pub(crate) reloads: Vec<(Duration, Configured)>,
    /// When everything stands still, and for how long; and when somebody sets the clock, by how many
    /// seconds.
    pub(crate) pauses: Vec<(Duration, Duration)>,
    pub(crate) jumps: Vec<(Duration, i64)>,
    /// Everything stands still for so long as the answer to an honest request is on its way, at the
    /// one of this number.
    pub(crate) stalls: Option<(u32, Duration)>,
    /// What befalls the store that keeps the limits, and the budget of [`TOKENS`]; `None` where they
    /// are in memory, and there is no budget.
    pub(crate) store: Option<Vec<Trouble>>,
    /// The identity provider of [`VISITOR`], where there is one.
    pub(crate) issuer: Option<Issuing>,
    /// What is written: access lines, the audit, and, where there is no store, the budget of [`TOKENS`];
    /// and which threads hang in that.
    pub(crate) writes: Option<Writes>,
    /// Before and after each of the first reloads a caller uses up its burst, and others wait.
    pub(crate) bursts: bool,
    /// As soon as a request of [`DISMISSED`] has come to nothing, it is no caller any more.
    pub(crate) dismisses: bool,
    pub(crate) workers: usize,
    /// When the gateway is told to stop; without it, when everybody has what they came for.
    pub(crate) stop: Option<Duration>,
    pub(crate) rates: [Rates; 2],
    pub(crate) in_flight: usize,
    pub(crate) max_idle: usize,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) attempts: u32,
    /// How long the head of an answer may take.
    pub(crate) first_byte: Duration,
    /// The most bytes of a request's body.
    pub(crate) most_bytes: usize,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.u32(..4) == 0;
        let mut rates = [Rates::draw(rng), Rates::draw(rng)];
        // Some reloads change one rate and leave the others; some the bursts alone, and how the rates
        // are written.
        match rng.u32(..3) {
            0 => rates[1] = Rates { student: rates[1].student, ..rates[0] },
            1 => rates[1] = rates[0].with_bursts_of(&rates[1]),
            _ => {}
        }
        let mut spells = Vec::new();
        for _ in 0..rng.u32(..4) {
            let from = millis(rng, 0..20_000);
            let until = from + millis(rng, 200..6_000);
            let state = [State::Down, State::Dark, State::Sick][rng.usize(..3)];
            spells.push(Spell { from, until, state });
        }
        let most = [4, 4, 12][rng.usize(..3)];
        let mut reloads: Vec<_> = (0..rng.u32(..most))
            .map(|_| {
                let (upstream, dismissed) = (rng.u32(..4) == 0, rng.u32(..3) == 0);
                let configured = Configured { rates: rng.usize(..2), upstream, dismissed };
                (millis(rng, 0..30_000), configured)
            })
            .collect();
        reloads.sort_unstable_by_key(|(at, _)| *at);
        let spoken = rng.u32(..8) == 0;
        let pauses = rng.u32(..4).saturating_sub(1);
        let mut pauses: Vec<_> =
            (0..pauses).map(|_| (millis(rng, 1_000..30_000), millis(rng, 500..25_000))).collect();
        pauses.sort_unstable();
        let jumps = rng.u32(..6).saturating_sub(3);
        let jumps = (0..jumps)
            .map(|_| (millis(rng, 0..30_000), [-86_400, -400, -1, 1, 400, 86_400][rng.usize(..6)]));
        let jumps: Vec<_> = jumps.collect();
        Self {
            clients: rng.u32(2..16),
            requests: rng.u32(2..12),
            faults: match (spoken, calm) {
                (true, _) => rng.u32(60..95),
                (_, true) => 0,
                _ => rng.u32(5..60),
            },
            harm: if calm { 0 } else { rng.u32(..30) },
            slow_network: rng.u32(..4) == 0,
            http2_upstream: rng.u32(..3) == 0,
            upstream_streams: [1, 3, 100][rng.usize(..3)],
            spoken,
            pauses,
            jumps,
            stalls: (rng.u32(..4) == 0).then(|| (rng.u32(..12), millis(rng, 4_000..25_000))),
            store: (rng.u32(..4) == 0).then(|| troubles(rng)),
            issuer: (rng.u32(..3) == 0).then(|| Issuing::draw(rng)),
            writes: (rng.u32(..4) == 0).then(|| Writes::draw(rng)),
            bursts: rng.u32(..3) == 0,
            dismisses: rng.u32(..3) == 0,
            workers: [1, 1, 2, 3][rng.usize(..4)],
            forgets: (rng.u32(..4) == 0).then(|| millis(rng, 2_000..20_000)),
            without_descriptors: (rng.u32(..8) == 0).then(|| {
                let from = millis(rng, 0..20_000);
                (from, from + millis(rng, 200..4_000))
            }),
            uplink: (rng.u32(..6) == 0).then(|| rng.u32(5_000..40_000)),
            honest: rng.u32(1..3),
            // Also where all else is well: what comes after is what is promised then.
            spells: if calm && rng.bool() { Vec::new() } else { spells },
            reloads,
            stop: (rng.u32(..3) == 0).then(|| millis(rng, 500..25_000)),
            rates,
            in_flight: [2, 6, 64][rng.usize(..3)],
            max_idle: [1, 2, 16][rng.usize(..3)],
            connections: if rng.u32(..6) == 0 { 3 } else { 1_000 },
            streams: [2, 100][rng.usize(..2)],
            attempts: rng.u32(1..5),
            first_byte: Duration::from_secs([3, 10][rng.usize(..2)]),
            most_bytes: [8, 64][rng.usize(..2)] * 1024,
        }
    }

    /// How the upstream is at a time.
    pub(crate) fn state(&self, at: Duration) -> State {
        let spell = self.spells.iter().find(|spell| (spell.from..spell.until).contains(&at));
        spell.map_or(State::Well, |spell| spell.state)
    }

    /// Whether the process has no descriptor left.
    pub(crate) fn lacks_descriptors(&self, at: Duration) -> bool {
        self.without_descriptors.is_some_and(|(from, until)| (from..until).contains(&at))
    }

    /// When threads take nothing.
    pub(crate) fn hanging(&self) -> impl Iterator<Item = &Hang> {
        self.writes.iter().flat_map(|writes| &writes.hangs)
    }

    /// Whether a thread takes nothing at a time.
    pub(crate) fn hangs(&self, thread: &str, at: Duration) -> bool {
        self.hanging().any(|hang| hang.thread == thread && (hang.from..hang.until).contains(&at))
    }

    /// Whether there is no token without its record.
    pub(crate) fn is_audit_required(&self) -> bool {
        self.writes.as_ref().is_some_and(|writes| writes.audit_required)
    }

    /// Whether a backend has a budget of [`TOKENS`].
    pub(crate) const fn has_budget(&self) -> bool {
        self.store.is_some() || self.writes.is_some()
    }

    /// What a connection is like: one that a caller makes, or one to the upstream. That of a caller
    /// who does nothing wrong is not broken.
    pub(crate) fn weather(&self, rng: &mut Rng, inbound: bool, spared: bool) -> Weather {
        let harmed = rng.u32(..100) < self.harm && !spared;
        let fate = if rng.u32(..4) == 0 { Fate::Silence } else { Fate::Reset };
        let with = rng.u32(1..12);
        let (latency, pause) = match (self.slow_network, rng.u32(..3)) {
            (_, 0) => (Duration::ZERO, Duration::ZERO),
            (false, _) => (millis(rng, 0..20), millis(rng, 0..20)),
            // Slower, and the head of a request would not come in time: that is for callers to do.
            (true, _) => (millis(rng, 0..200), millis(rng, 0..if inbound { 200 } else { 400 })),
        };
        Weather {
            latency,
            jitter: latency / 2,
            pieces: rng.u32(1..8),
            pause,
            window: rng.usize(4..64),
            uplink: None,
            fate: harmed.then_some((fate, with)),
        }
    }

    /// A network on which nothing takes any time.
    pub(crate) const fn clear() -> Weather {
        let (latency, jitter, pause) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Weather { latency, jitter, pieces: 1, pause, window: 64, uplink: None, fate: None }
    }

    /// The same, where what a caller sends comes slowly.
    pub(crate) fn uphill(&self, weather: Weather) -> Weather {
        Weather { uplink: self.uplink, ..weather }
    }

    /// The name of the profile of a caller.
    pub(crate) const fn profile(caller: usize) -> &'static str {
        match caller {
            HONEST => "honest",
            VISITOR => "visitor",
            _ if caller < BACKENDS => "backend",
            _ => "student",
        }
    }

    /// The text of a configuration, where what threads write is written there.
    pub(crate) fn configuration(
        &self,
        configured: Configured,
        threads: Option<&Threads>,
    ) -> String {
        let connect = if configured.upstream { "1001ms" } else { "1s" };
        let Self { in_flight, max_idle, streams, connections, attempts, most_bytes, .. } = self;
        let first_byte = self.first_byte.as_secs();
        let Rates { backend, student, students, gateway } = self.rates[configured.rates];
        let (store, gateway, closed) = match self.store {
            // Who does nothing wrong needs no store.
            Some(_) => (
                "[store]\nurl = \"redis://store.example\"",
                String::new(),
                "on_store_error = \"closed\"",
            ),
            None => ("", format!("gateway = {gateway}"), ""),
        };
        let budget = if self.has_budget() {
            format!("budgets = [{{ of = \"tokens\", most = {TOKENS}, per = \"hour\" }}]")
        } else {
            String::new()
        };
        let issuer = self.issuer.as_ref().map_or("", |_| Issuing::SECTION);
        let written = threads.map(|threads| self.written_by(threads)).unwrap_or_default();
        let mut text = format!(
            r#"
[listen]
address = "127.0.0.1:1"
trusted_proxies = ["10.0.0.0/8"]
max_streams = {streams}
max_connections = {connections}
[body]
max_bytes = "{most_bytes}B"
[upstream]
url = "http://whiteboard.example"
region = "us-sv"
send_request_id = true
max_in_flight = {in_flight}
max_idle = {max_idle}
via = "wbg-simulated"
first_byte_timeout = "{first_byte}s"
connect_timeout = "{connect}"
[upstream.retry]
attempts = {attempts}
{store}
{written}
{issuer}
[limits]
{gateway}
[projects.classroom]
keys = [
  {{ access_key = "first", secret_key = "first-secret-key" }},
  {{ access_key = "second", secret_key = "second-secret-key" }},
]
[profiles.backend]
project = "classroom"
allow = ["rooms.*", "scenes.*", "screenshots.*", "conversions.*", "tokens.room", "uploads.add"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
limit = {backend}
{budget}
{closed}
[profiles.honest]
project = "classroom"
allow = ["rooms.*", "scenes.*", "screenshots.*", "conversions.*", "tokens.room"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
[profiles.student]
project = "classroom"
allow = ["rooms.get", "tokens.room"]
rooms = "any"
role = "writer"
priority = "low"
limit = {student}
shared_limit = {students}
{closed}
[[operations]]
name = "uploads.add"
method = "POST"
path = "/v5/rooms/{{uuid}}/uploads"
target = "room"
token = "room"
role = "writer"
body = "opaque"
"#
        );
        let dismissed = configured.dismissed.then_some(DISMISSED);
        for (number, key) in KEYS.iter().enumerate().filter(|(at, _)| Some(*at) != dismissed) {
            let key = ApiKey::parse(key).expect("a key of ours");
            let (id, digest, profile) = (key.id(), key.digest(), Self::profile(number));
            _ = write!(
                text,
                "[callers.caller-{number}]\nprofile = \"{profile}\"\n\
                 keys = [{{ id = \"{id}\", digest = \"{digest}\" }}]\n"
            );
        }
        text
    }
}

impl Plan {
    /// The sections of what threads write.
    fn written_by(&self, threads: &Threads) -> String {
        let mode = if self.is_audit_required() { "required" } else { "best_effort" };
        let path = |thread| threads.path(thread).display().to_string();
        let mut text = format!("[audit]\nfile = \"{}\"\nmode = \"{mode}\"\n", path(AUDIT));
        if self.store.is_none() {
            _ = write!(text, "[budgets]\nfile = \"{}\"\n", path(BUDGETS));
        }
        text
    }
}

impl Writes {
    fn draw(rng: &mut Rng) -> Self {
        let mut hangs = Vec::new();
        for thread in [ACCESS, AUDIT, BUDGETS] {
            for _ in 0..rng.u32(..3) {
                // Often from the start, when nothing was kept yet.
                let from = if rng.bool() { millis(rng, 0..25_000) } else { Duration::ZERO };
                hangs.push(Hang { thread, from, until: from + millis(rng, 100..9_000) });
            }
        }
        Self { audit_required: rng.bool(), hangs }
    }
}

impl Rates {
    /// Each of them.
    pub(crate) const fn all(&self) -> [Rate; 4] {
        [self.backend, self.student, self.students, self.gateway]
    }

    /// Those that give back as much, with the bursts of others.
    fn with_bursts_of(&self, others: &Self) -> Self {
        let with = |rate: Rate, other: Rate| Rate {
            burst: other.burst,
            by_the_minute: !rate.by_the_minute,
            ..rate
        };
        Self {
            backend: with(self.backend, others.backend),
            student: with(self.student, others.student),
            students: with(self.students, others.students),
            gateway: with(self.gateway, others.gateway),
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut rate = |per_second: std::ops::Range<u32>, burst: std::ops::Range<u32>| Rate {
            per_second: rng.u32(per_second),
            burst: rng.u32(burst),
            by_the_minute: false,
        };
        Self {
            backend: rate(2..40, 4..60),
            student: rate(1..8, 1..8),
            students: rate(1..10, 2..12),
            gateway: rate(4..60, 8..90),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, burst) = (self.per_second, self.burst);
        let (rate, unit) = if self.by_the_minute { (60 * rate, "m") } else { (rate, "s") };
        write!(f, "{{ rate = \"{rate}/{unit}\", burst = {burst} }}")
    }
}

/// What befalls the store: one after the other.
fn troubles(rng: &mut Rng) -> Vec<Trouble> {
    let mut at = Duration::ZERO;
    let troubles = (0..rng.u32(1..5)).map(|_| {
        let from = at + millis(rng, 2_500..12_000);
        let until = from + millis(rng, 20..4_000);
        at = until;
        Trouble { from, until, fails: rng.bool().then(|| millis(rng, 0..2_000)) }
    });
    troubles.collect()
}

/// A time, to the millisecond: timers are no finer.
pub(crate) fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}
