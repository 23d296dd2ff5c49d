//! What a connection may take, and how many there may be.

use std::time::Duration;

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes of a request head.
    pub head_bytes: usize,
    /// How long a head may take to arrive, from its first byte (TLS handshake alike).
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// How long a peer may take nothing of an answer.
    pub write: Duration,
    /// The most HTTP/2 streams of a connection.
    pub streams: u32,
    /// The most HTTP/2 frames at once that ask for no answer.
    pub overhead_frames: u32,
    /// The most connections of the process.
    pub connections: usize,
    /// The most connections from one address; `None` for as many as there are.
    pub per_address: Option<usize>,
    /// How long a process that is to stop says so before it takes no more connections.
    pub pre_drain: Duration,
    /// How long requests in flight may take once the process is to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            streams: 100,
            overhead_frames: 1000,
            connections: 10_000,
            per_address: None,
            pre_drain: Duration::from_secs(5),
            drain: Duration::from_secs(25),
        }
    }
}
