//! What is not counted by telemetry: others keep it, and it is asked for when metrics are read.

use std::time::Duration;

/// What is not counted but stands somewhere at the moment.
#[derive(Debug, Default)]
pub struct Levels {
    /// Whether requests should be sent here.
    pub ready: bool,
    /// The most connections.
    pub connections_limit: usize,
    /// When the first certificate of the chain that is shown to clients ends, in Unix time.
    pub certificate_end: Option<i64>,
    /// The callers that limits remember.
    pub limited_callers: usize,
    /// How many lines of the log were lost.
    pub log_lines_lost: u64,
    /// The projects.
    pub projects: Vec<ProjectLevel>,
    /// The fixed SDK tokens that end.
    pub sdk_tokens: Vec<SdkTokenLevel>,
    /// The identity providers.
    pub issuers: Vec<IssuerLevel>,
    /// The breakers of the upstream's regions.
    pub breakers: Vec<BreakerLevel>,
    /// The store that limits are kept in.
    pub store: Option<StoreLevel>,
    /// The collector that traces and metrics are sent to.
    pub collector: Option<CollectorLevel>,
}

/// What became of what was to be sent to a collector.
#[derive(Debug)]
pub struct CollectorLevel {
    /// Spans.
    pub spans: [(&'static str, u64); 3],
    /// Requests.
    pub exports: [(&'static str, u64); 2],
}

/// How the store does that several gateways share.
#[derive(Debug)]
pub struct StoreLevel {
    /// Whether limits do without it.
    pub down: bool,
    /// What came of calls.
    pub calls: Vec<(&'static str, u64)>,
    /// By what requests were decided.
    pub decisions: Vec<(&'static str, u64)>,
}

/// How the breaker of a region is.
#[derive(Debug)]
pub struct BreakerLevel {
    /// The region.
    pub region: String,
    /// The state.
    pub state: &'static str,
    /// Every state, and whether it is this one.
    pub states: [(&'static str, bool); 3],
    /// How often it has opened.
    pub opened: u64,
}

/// How the keys of an identity provider are.
#[derive(Debug)]
pub struct IssuerLevel {
    /// Its name in the configuration.
    pub name: String,
    /// How many keys it has.
    pub keys: usize,
    /// How long ago they came; `None` for those that were never fetched.
    pub age: Option<Duration>,
    /// How often they were asked for.
    pub fetches: u64,
    /// How often that failed.
    pub failures: u64,
}

/// Whether the service takes the tokens of a project.
#[derive(Debug)]
pub struct ProjectLevel {
    /// Its name in the configuration.
    pub project: String,
    /// Whether the service took none of the last.
    pub refused: bool,
}

/// When the fixed SDK token of a project ends.
#[derive(Debug)]
pub struct SdkTokenLevel {
    /// The project.
    pub project: String,
    /// In milliseconds of Unix time.
    pub ends_at_ms: u64,
}
