//! The bounds of request bodies, from the `[body]` section.

use std::time::Duration;

use crate::api::UnknownFields;

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

#[cfg(test)]
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
