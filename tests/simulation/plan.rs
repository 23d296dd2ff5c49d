//! What a seed decides before anything happens: how many call, how bad the network and the upstream
//! are and when, how the gateway is configured, when it is reloaded and when it is stopped.

use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use whiteboard_gateway::caller::ApiKey;

use crate::network::{Fate, Weather};

/// The keys of the callers, made for this and good for nothing else.
pub(crate) const KEYS: [&str; 4] = [
    "wbg_test_simulated000_simulationsimulationsimulationsimulationsim_1S2bz8",
    "wbg_test_simulated001_simulationsimulationsimulationsimulationsim_4Kvj0I",
    "wbg_test_simulated002_simulationsimulationsimulationsimulationsim_3re5gx",
    "wbg_test_simulated003_simulationsimulationsimulationsimulationsim_23lMN5",
];

/// The first so many are of the profile `backend`, the others of `student`.
const BACKENDS: usize = 2;

/// The most bytes of a request's body.
pub(crate) const MOST_BYTES: usize = 8 * 1024;

/// A time in which the upstream is in a state of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) state: State,
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
    slow_network: bool,
    pub(crate) http2_upstream: bool,
    pub(crate) spells: Vec<Spell>,
    /// When the configuration is loaded again, and which rates it has then.
    pub(crate) reloads: Vec<(Duration, usize)>,
    /// When the gateway is told to stop; without it, when everybody has what they came for.
    pub(crate) stop: Option<Duration>,
    pub(crate) rates: [Rates; 2],
    pub(crate) in_flight: usize,
    pub(crate) max_idle: usize,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) attempts: u32,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.u32(..8) == 0;
        let mut rates = [Rates::draw(rng), Rates::draw(rng)];
        // Half of the reloads change one rate and leave the others.
        if rng.bool() {
            rates[1] = Rates { student: rates[1].student, ..rates[0] };
        }
        let mut spells = Vec::new();
        for _ in 0..rng.u32(..4) {
            let from = millis(rng, 0..20_000);
            let until = from + millis(rng, 200..6_000);
            let state = [State::Down, State::Dark, State::Sick][rng.usize(..3)];
            spells.push(Spell { from, until, state });
        }
        let mut reloads: Vec<_> =
            (0..rng.u32(..4)).map(|_| (millis(rng, 0..20_000), rng.usize(..2))).collect();
        reloads.sort_unstable();
        Self {
            clients: rng.u32(2..16),
            requests: rng.u32(2..12),
            faults: if calm { 0 } else { rng.u32(5..60) },
            harm: if calm { 0 } else { rng.u32(..30) },
            slow_network: rng.u32(..4) == 0,
            http2_upstream: rng.u32(..3) == 0,
            spells: if calm { Vec::new() } else { spells },
            reloads,
            stop: (rng.u32(..3) == 0).then(|| millis(rng, 500..25_000)),
            rates,
            in_flight: [2, 6, 64][rng.usize(..3)],
            max_idle: [1, 2, 16][rng.usize(..3)],
            connections: if rng.u32(..6) == 0 { 3 } else { 1_000 },
            streams: [2, 100][rng.usize(..2)],
            attempts: rng.u32(1..5),
        }
    }

    /// How the upstream is at a time.
    pub(crate) fn state(&self, at: Duration) -> State {
        let spell = self.spells.iter().find(|spell| (spell.from..spell.until).contains(&at));
        spell.map_or(State::Well, |spell| spell.state)
    }

    /// What a connection is like: one that a caller makes, or one to the upstream.
    pub(crate) fn weather(&self, rng: &mut Rng, inbound: bool) -> Weather {
        let harmed = rng.u32(..100) < self.harm;
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
            fate: harmed.then_some((fate, with)),
        }
    }

    /// The name of the profile of a caller.
    pub(crate) const fn profile(caller: usize) -> &'static str {
        if caller < BACKENDS { "backend" } else { "student" }
    }

    /// The configuration, with one of the two sets of rates.
    pub(crate) fn configuration(&self, rates: usize) -> String {
        let Self { in_flight, max_idle, streams, connections, attempts, .. } = self;
        let Rates { backend, student, students, gateway } = self.rates[rates];
        let mut text = format!(
            r#"
[listen]
address = "127.0.0.1:1"
trusted_proxies = ["10.0.0.0/8"]
max_streams = {streams}
max_connections = {connections}
[body]
max_bytes = "{MOST_BYTES}B"
[upstream]
url = "http://whiteboard.example"
region = "us-sv"
send_request_id = true
max_in_flight = {in_flight}
max_idle = {max_idle}
via = "wbg-simulated"
[upstream.retry]
attempts = {attempts}
[limits]
gateway = {gateway}
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
[profiles.student]
project = "classroom"
allow = ["rooms.get", "tokens.room"]
rooms = "any"
role = "writer"
priority = "low"
limit = {student}
shared_limit = {students}
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
        for (number, key) in KEYS.iter().enumerate() {
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

impl Rates {
    /// Each of them.
    pub(crate) const fn all(&self) -> [Rate; 4] {
        [self.backend, self.student, self.students, self.gateway]
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut rate = |per_second: std::ops::Range<u32>, burst: std::ops::Range<u32>| Rate {
            per_second: rng.u32(per_second),
            burst: rng.u32(burst),
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
        write!(f, "{{ rate = \"{}/s\", burst = {} }}", self.per_second, self.burst)
    }
}

/// A time, to the millisecond: timers are no finer.
pub(crate) fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}
