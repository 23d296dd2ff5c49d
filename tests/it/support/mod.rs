//! What the tests stand on: the built binary, started as a user starts it; a client that speaks
//! raw sockets, HTTP/2 and TLS; an upstream that fails, and an identity provider that rotates its
//! keys, as they are told.

#![allow(dead_code, reason = "each test takes what it needs")]

mod browser;
mod certificates;
mod client;
mod collector;
mod configuration;
pub(crate) mod faulty;
pub(crate) mod frames;
mod http2;
mod issuer;
mod observed;
mod process;
mod redis;
mod secure;
mod service;
mod shell;
mod signer;
mod time;
mod upstream;

pub(crate) use browser::Browser;
pub(crate) use certificates::{Authority, Identity, TlsClient, subject};
pub(crate) use client::{Answer, Client, dial, exchange, read_answer};
pub(crate) use collector::{Collector, attribute, said};
pub(crate) use configuration::{Configuration, Value, value};
pub(crate) use frames::{Frames, Outcome};
pub(crate) use http2::Http2;
pub(crate) use issuer::{AUDIENCE, Issuer, Mood, claims, jwks};
pub(crate) use process::{
    EVERYTHING, Process, Setup, activated, binary, ended, finished, replace, slot, slot_until,
};
pub(crate) use redis::{Redis, Slow, free_port};
pub(crate) use secure::{Secured, handshake};
pub(crate) use service::{Mood as ServiceMood, Reply, Service};
pub(crate) use shell::{PROMPT, SHELLS, Shell, Terminal, pasted};
pub(crate) use signer::{Signer, encode};
pub(crate) use time::{Gate, scenario_delay, silent_until_gone, wait_until, wait_within};
pub(crate) use upstream::{Received, Upstream, answer};
