//! `[body]`: which bodies of requests are taken.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::file::{section, word_types};
use super::number::Size;
use crate::api::UnknownFields;
use crate::gateway::BodySettings;

section! {
    pub(super) struct BodySection {
        /// The largest request body.
        max_bytes: Size = "256KiB";
        /// How long it may take to arrive, even if it is streamed (`operations[].body = "opaque"`).
        timeout: Duration = "10s";
        /// What happens to fields that the API does not document: `"pass"` or `"refuse"`.
        unknown_fields: UnknownFields = "pass";
        /// `"any"`: a JSON object is accepted whatever its `Content-Type`. `"strict"`: only as
        /// `application/json`.
        content_type: ContentType = "any";
    }
}

/// Which labels of bodies are taken.
#[derive(Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ContentType {
    /// A JSON object is taken whatever its label.
    Any,
    /// Only as `application/json`.
    Strict,
}

word_types!(UnknownFields, ContentType);

impl BodySection {
    pub(super) fn settings(self) -> BodySettings {
        BodySettings {
            bytes: self.max_bytes.0,
            timeout: self.timeout,
            unknown_fields: self.unknown_fields,
            strict_content_type: self.content_type == ContentType::Strict,
        }
    }
}
