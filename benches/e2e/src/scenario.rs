//! The scenarios: one table. Adding one is adding a row.

use std::time::Duration;

use crate::load::{Call, Load, Traffic};
use crate::peer::{Ground, Kind};
use crate::provider::Algorithm;

/// What is compared.
pub struct Scenario {
    /// What it is selected by.
    pub name: &'static str,
    /// What it shows, for the table's heading.
    pub about: &'static str,
    /// How callers speak.
    pub inbound: Wire,
    /// How the upstream is spoken to.
    pub outbound: Wire,
    /// The workers of a proxy; with more than one it is not pinned to a core.
    pub workers: usize,
    /// How it is loaded.
    pub load: Load,
    /// What is sent.
    pub sent: Sent,
    /// What callers show.
    pub credential: Credential,
    /// Where limits are counted.
    pub limits: Limits,
    /// Whether each request leaves a line of JSON in a file.
    pub access_log: bool,
    /// Whether a short extra run counts system calls.
    pub trace: bool,
    /// The scenario whose nginx is the measure, when it is not this one's.
    pub measure: Option<&'static str>,
    /// The scenario that each peer's own CPU is compared with besides.
    pub beside: Option<&'static str>,
}

/// How a connection is spoken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 under TLS.
    TlsH1,
    /// HTTP/2 under TLS.
    TlsH2,
}

/// What callers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An API key.
    Key,
    /// One JSON Web Token, again and again.
    Token(Algorithm),
    /// Another JSON Web Token with each request.
    FreshTokens(Algorithm),
}

impl Credential {
    /// How its tokens are signed, if it is one.
    pub fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Key => None,
            Self::Token(algorithm) | Self::FreshTokens(algorithm) => Some(algorithm),
        }
    }
}

/// What callers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Half reads, half changes with a small body.
    Mix,
    /// Reads whose answers are that long.
    LongAnswers(usize),
    /// Changes whose bodies are that long.
    LongBodies(usize),
    /// No key and a wrong key, in turn.
    Unknown,
    /// What the caller may not do.
    Forbidden,
    /// Reads over the caller's limit.
    Limited,
    /// Every operation of the API, as often as a school asks for it on a working day.
    SchoolDay,
}

/// Where limits are counted: a store is the gateway's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// In the peer's memory.
    Memory,
    /// In a Redis, some requests ahead.
    Leased,
    /// In a Redis, each request for itself.
    Asked,
}

/// How long one measurement is: the warm-up, and what counts.
#[derive(Clone, Copy)]
pub struct Times {
    pub warm_up: Duration,
    pub counted: Duration,
    pub traced: Duration,
    /// How many connections there are at most where memory is measured.
    pub idle: usize,
    /// How long a peer has to give back what a burst took.
    pub settled: Duration,
    /// Whether the core of the load is kept from sleeping.
    pub awake: bool,
}

const USUAL: Scenario = Scenario {
    name: "apikey",
    about: "API key, h1 to h1, saturated",
    inbound: Wire::Plain,
    outbound: Wire::Plain,
    workers: 1,
    load: Load::Closed { connections: 64 },
    sent: Sent::Mix,
    credential: Credential::Key,
    limits: Limits::Memory,
    access_log: false,
    trace: false,
    measure: None,
    beside: None,
};
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Every scenario, in the order of the tables.
pub const TABLE: &[Scenario] = &[
    Scenario { trace: true, ..USUAL },
    Scenario {
        name: "jwt_hs256",
        about: "one JSON Web Token (HS256) again and again",
        credential: Credential::Token(Algorithm::Hs256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "jwt_hs256_cold",
        about: "another JSON Web Token (HS256) with each request",
        credential: Credential::FreshTokens(Algorithm::Hs256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "jwt_rs256",
        about: "one JSON Web Token (RS256) again and again",
        credential: Credential::Token(Algorithm::Rs256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "jwt_rs256_cold",
        about: "another JSON Web Token (RS256) with each request",
        credential: Credential::FreshTokens(Algorithm::Rs256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "jwt_es256",
        about: "one JSON Web Token (ES256) again and again",
        credential: Credential::Token(Algorithm::Es256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "jwt_es256_cold",
        about: "another JSON Web Token (ES256) with each request",
        credential: Credential::FreshTokens(Algorithm::Es256),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "apikey_5000",
        about: "API key, h1 to h1, 5,000 requests/s in an open loop",
        load: Load::Rate { per_second: 5_000, connections: 64 },
        ..USUAL
    },
    Scenario {
        name: "two_workers",
        about: "API key, h1 to h1, two workers that share all cores with the load",
        workers: 2,
        load: Load::Closed { connections: 128 },
        ..USUAL
    },
    Scenario {
        name: "accesslog",
        about: "API key, h1 to h1, saturated, with an access line in JSON for each request",
        access_log: true,
        trace: true,
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "limit_store",
        about: "API key, h1 to h1, the limit in a Redis, some requests ahead",
        limits: Limits::Leased,
        measure: Some(USUAL.name),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "limit_store_each",
        about: "API key, h1 to h1, the limit in a Redis, which each request asks",
        limits: Limits::Asked,
        measure: Some(USUAL.name),
        beside: Some(USUAL.name),
        ..USUAL
    },
    Scenario {
        name: "limit_store_5000",
        about: "the limit in a Redis, some ahead, 5,000 requests/s in an open loop",
        limits: Limits::Leased,
        load: Load::Rate { per_second: 5_000, connections: 64 },
        measure: Some("apikey_5000"),
        beside: Some("apikey_5000"),
        ..USUAL
    },
    Scenario {
        name: "limit_store_each_5000",
        about: "the limit in a Redis, which each asks, 5,000 requests/s in an open loop",
        limits: Limits::Asked,
        load: Load::Rate { per_second: 5_000, connections: 64 },
        measure: Some("apikey_5000"),
        beside: Some("apikey_5000"),
        ..USUAL
    },
    Scenario {
        name: "tls_h1",
        about: "TLS from callers, h1",
        inbound: Wire::TlsH1,
        trace: true,
        ..USUAL
    },
    Scenario {
        name: "tls_h2",
        about: "TLS from callers, h2, 8 connections with 8 streams each",
        inbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 8 },
        trace: true,
        ..USUAL
    },
    Scenario {
        name: "tls_h2_100",
        about: "TLS from callers, h2, 2 connections with 100 streams each",
        inbound: Wire::TlsH2,
        load: Load::Streams { connections: 2, streams: 100 },
        ..USUAL
    },
    Scenario {
        name: "tls_h2_1",
        about: "TLS from callers, h2, 64 connections with one stream each",
        inbound: Wire::TlsH2,
        load: Load::Streams { connections: 64, streams: 1 },
        ..USUAL
    },
    Scenario {
        name: "tls_h2_32",
        about: "TLS from callers, h2, 8 connections with 32 streams each",
        inbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 32 },
        ..USUAL
    },
    Scenario {
        name: "h2_upstream",
        about: "h1 from callers, TLS and h2 to the upstream",
        outbound: Wire::TlsH2,
        trace: true,
        ..USUAL
    },
    Scenario {
        name: "h2_upstream_tls",
        about: "TLS and h1 from callers, TLS and h2 to the upstream",
        inbound: Wire::TlsH1,
        outbound: Wire::TlsH2,
        ..USUAL
    },
    Scenario {
        name: "h2_both_1",
        about: "TLS and h2 on both sides, 64 connections with one stream each",
        inbound: Wire::TlsH2,
        outbound: Wire::TlsH2,
        load: Load::Streams { connections: 64, streams: 1 },
        ..USUAL
    },
    Scenario {
        name: "h2_both_8",
        about: "TLS and h2 on both sides, 8 connections with 8 streams each",
        inbound: Wire::TlsH2,
        outbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 8 },
        trace: true,
        ..USUAL
    },
    Scenario {
        name: "h2_both_32",
        about: "TLS and h2 on both sides, 8 connections with 32 streams each",
        inbound: Wire::TlsH2,
        outbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 32 },
        ..USUAL
    },
    Scenario {
        name: "school_day",
        about: "the 19 operations as a school asks for them, TLS and h2 from callers",
        inbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 8 },
        sent: Sent::SchoolDay,
        ..USUAL
    },
    Scenario {
        name: "school_day_h2",
        about: "the 19 operations as a school asks for them, TLS and h2 on both sides",
        inbound: Wire::TlsH2,
        outbound: Wire::TlsH2,
        load: Load::Streams { connections: 8, streams: 8 },
        sent: Sent::SchoolDay,
        ..USUAL
    },
    Scenario { name: "tls_upstream", about: "TLS to the upstream", outbound: Wire::TlsH1, ..USUAL },
    Scenario {
        name: "tls_both",
        about: "TLS from callers, h1, and to the upstream",
        inbound: Wire::TlsH1,
        outbound: Wire::TlsH1,
        ..USUAL
    },
    Scenario {
        name: "answers_64k",
        about: "answers of 64 KiB",
        load: Load::Closed { connections: 32 },
        sent: Sent::LongAnswers(64 * KIB),
        ..USUAL
    },
    Scenario {
        name: "answers_1m",
        about: "answers of 1 MiB",
        load: Load::Closed { connections: 16 },
        sent: Sent::LongAnswers(MIB),
        ..USUAL
    },
    Scenario {
        name: "bodies_64k",
        about: "request bodies of 64 KiB, streamed",
        load: Load::Closed { connections: 32 },
        sent: Sent::LongBodies(64 * KIB),
        ..USUAL
    },
    Scenario {
        name: "bodies_1m",
        about: "request bodies of 1 MiB, streamed",
        load: Load::Closed { connections: 16 },
        sent: Sent::LongBodies(MIB),
        ..USUAL
    },
    Scenario {
        name: "refused_401",
        about: "refusals: no key and a wrong key, in turn (401)",
        sent: Sent::Unknown,
        ..USUAL
    },
    Scenario {
        name: "refused_403",
        about: "refusals: what the caller may not do (403); ratio to nginx's 401",
        sent: Sent::Forbidden,
        measure: Some("refused_401"),
        ..USUAL
    },
    Scenario {
        name: "refused_limit",
        about: "refusals: over the caller's limit; ratio to nginx's 401",
        sent: Sent::Limited,
        measure: Some("refused_401"),
        ..USUAL
    },
    Scenario {
        name: "handshakes_full",
        about: "full TLS handshakes, with one small request each",
        inbound: Wire::TlsH1,
        load: Load::Handshakes { resumed: false, connections: 16 },
        ..USUAL
    },
    Scenario {
        name: "handshakes_resumed",
        about: "resumed TLS handshakes, with one small request each",
        inbound: Wire::TlsH1,
        load: Load::Handshakes { resumed: true, connections: 16 },
        ..USUAL
    },
    Scenario {
        name: "idle",
        about: "memory of idle keep-alive connections: 20,000, or what descriptors there are for",
        load: Load::Idle { connections: 20_000 },
        ..USUAL
    },
    Scenario {
        name: "idle_tls",
        about: "the same under TLS",
        inbound: Wire::TlsH1,
        load: Load::Idle { connections: 20_000 },
        ..USUAL
    },
    Scenario {
        name: "burst",
        about: "memory a minute after 10,000 connections that asked once",
        load: Load::Burst { connections: 10_000 },
        ..USUAL
    },
    Scenario {
        name: "burst_tls_h2",
        about: "memory a minute after 10,000 connections that asked once, TLS and h2",
        inbound: Wire::TlsH2,
        load: Load::Burst { connections: 10_000 },
        ..USUAL
    },
    Scenario {
        name: "start",
        about: "from the start of the process to its first answer",
        load: Load::Start,
        ..USUAL
    },
];

/// The scenarios whose names begin with one of these words (`refused` is all three refusals);
/// a word that is a whole name is that one alone.
pub fn select(words: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for word in words {
        let known = TABLE.iter().any(|scenario| scenario.is(word));
        anyhow::ensure!(known, "no scenario is named {word}; they are: {}", names());
    }
    let asked =
        |scenario: &&Scenario| words.is_empty() || words.iter().any(|word| scenario.is(word));
    Ok(TABLE.iter().filter(asked).collect())
}

/// The names of all scenarios.
pub fn names() -> String {
    TABLE.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

impl Scenario {
    /// What is sent, written out.
    pub fn traffic(&self, ground: &Ground) -> anyhow::Result<Traffic> {
        let key = ground.good(self.credential)?;
        if let Credential::FreshTokens(algorithm) = self.credential {
            anyhow::ensure!(self.sent == Sent::Mix, "other tokens come with the usual mix alone");
            let fresh = &ground.tokens(algorithm)?.fresh;
            let in_turn = fresh.iter().enumerate().map(|(number, token)| match number % 2 {
                0 => Call::get(token),
                _ => Call::post(token),
            });
            return Ok(Traffic::once(in_turn.collect()));
        }
        Ok(Traffic::of(match self.sent {
            Sent::Mix => vec![Call::get(key), Call::post(key)],
            Sent::LongAnswers(size) => vec![Call::long_answer(key, size)],
            Sent::LongBodies(size) => vec![Call::long_body(key, size)],
            Sent::Unknown => vec![Call::unknown(None), Call::unknown(Some(&ground.keys.wrong))],
            Sent::Forbidden => vec![Call::forbidden(key)],
            Sent::Limited => vec![Call::limited(key)],
            Sent::SchoolDay => Call::school_day(key),
        }))
    }

    /// Whether that peer can do this work. *bare hyper* is a floor for one thing and reads no JSON.
    pub fn takes(&self, kind: Kind) -> bool {
        let key_in_memory = self.credential == Credential::Key && self.limits == Limits::Memory;
        match kind {
            Kind::Gateway | Kind::Before => true,
            Kind::Hyper => key_in_memory,
            // It forwards nothing, so that it is a floor of the side of callers alone.
            Kind::Constant => {
                let usual = self.sent == Sent::Mix && self.outbound == Wire::Plain;
                self.inbound == Wire::TlsH2 && usual && key_in_memory
            }
            // It speaks HTTP/1.1 alone to an upstream.
            Kind::Nginx => self.limits == Limits::Memory && self.outbound != Wire::TlsH2,
            Kind::Haproxy => self.limits == Limits::Memory,
        }
    }

    fn is(&self, word: &str) -> bool {
        let whole = TABLE.iter().any(|scenario| scenario.name == word);
        self.name == word || (!whole && self.name.starts_with(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        select(&words).unwrap().iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn a_word_selects_its_family_and_a_name_itself_alone() {
        assert_eq!(selected(&["refused"]), ["refused_401", "refused_403", "refused_limit"]);
        assert_eq!(selected(&["apikey"]), ["apikey"]);
        assert_eq!(selected(&["start", "tls_h2"]), ["tls_h2", "start"]);
        assert_eq!(selected(&["h2_both"]), ["h2_both_1", "h2_both_8", "h2_both_32"]);
        assert_eq!(selected(&[]).len(), TABLE.len());
    }

    #[test]
    fn an_unknown_word_is_told_which_there_are() {
        let said = select(&["grpc".to_owned()]).err().unwrap().to_string();
        assert!(said.contains("grpc") && said.contains("apikey_5000"), "{said}");
    }

    #[test]
    fn every_name_is_its_own_and_every_measure_exists() {
        for scenario in TABLE {
            assert_eq!(TABLE.iter().filter(|other| other.name == scenario.name).count(), 1);
            for measure in [scenario.measure, scenario.beside].into_iter().flatten() {
                assert!(TABLE.iter().any(|other| other.name == measure));
            }
        }
    }
}
