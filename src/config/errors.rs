//! `[errors]`: how failures are told.

use super::file::{section, word_types};
use super::number::EitherStatus;
use crate::failure::{Settings, StatusProfile};

section! {
    pub(super) struct ErrorsSection {
        /// The set of statuses. `"documented"`: those of the whiteboard API, 200, 201, 400, 401,
        /// 403, 404 and 500. `"extended"`: also 405, 408, 413, 414, 415, 429, 431, 502, 503 and
        /// 504.
        profile: StatusProfile = "documented";
        /// The status of a response over a limit, 403 or 429, whatever `errors.profile` is.
        rate_limit_status: Option<LimitStatus> => "`403`; `429` with `\"extended\"`";
    }
}

word_types!(StatusProfile);

/// The status of a response over a limit.
pub(super) type LimitStatus = EitherStatus<403, 429>;

impl ErrorsSection {
    pub(super) fn settings(self) -> Settings {
        let usual = Settings::of(self.profile);
        self.rate_limit_status.map_or(usual, |status| usual.with_rate_limit_status(status.0))
    }
}
