//! The way of a request.

use std::time::Duration;

use crate::api::{Operations, Regions, UnknownFields};
use crate::{caller, failure, limit, policy, token, upstream};

/// Everything that a gateway is built from: what the configuration says, parsed into what each
/// module needs.
pub struct Settings {
    /// The operations, those of the configuration included.
    pub operations: Operations,
    /// The regions.
    pub regions: Regions,
    /// What is taken as a request body.
    pub bodies: BodySettings,
    /// How failures are told.
    pub errors: failure::Settings,
    /// The callers with API keys.
    pub callers: Vec<caller::CallerSettings>,
    /// The profiles.
    pub profiles: Vec<policy::ProfileSettings>,
    /// The rates.
    pub limits: limit::Settings,
    /// The whiteboard projects.
    pub projects: Vec<token::ProjectSettings>,
    /// The upstream.
    pub upstream: upstream::Settings,
    /// The peers whose word about where a request came from is believed (`X-Forwarded-For`).
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// What is taken as a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySettings {
    /// The most bytes.
    pub bytes: usize,
    /// How long it may take to arrive.
    pub timeout: Duration,
    /// What happens to unknown fields.
    pub unknown_fields: UnknownFields,
    /// Whether a body must be labelled `application/json`.
    pub strict_content_type: bool,
}

impl Default for BodySettings {
    fn default() -> Self {
        Self {
            bytes: 256 * 1024,
            timeout: Duration::from_secs(10),
            unknown_fields: UnknownFields::Pass,
            strict_content_type: false,
        }
    }
}
