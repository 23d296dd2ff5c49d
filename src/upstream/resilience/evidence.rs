//! What an attempt says about the region that it was made to, and who says so.

use crate::failure::{Code, Failure, ProxyError};
use crate::upstream::report::AttemptReport;

/// What is known of a region after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Evidence {
    /// It answered as itself, if only to refuse.
    Works,
    /// It gave no answer, or one that is none of its own: its failure, if others see it too.
    Fails,
    /// There is no connection to it, whoever asks.
    Unreachable,
    /// Nothing: what failed was the caller's, the gateway's own, one operation's, or a connection
    /// that had been kept.
    None,
}

impl Evidence {
    /// What an attempt says that failed so, or did not. `spoken` where the answer was an object with
    /// a message in it, as the service's own failures are.
    pub(in crate::upstream) fn of(
        failure: Option<&Failure>,
        report: &AttemptReport,
        spoken: bool,
    ) -> Self {
        let Some(failure) = failure else { return Self::Works };
        match failure.code() {
            // It refused, so it works.
            Code::InvalidToken
            | Code::Forbidden
            | Code::NotFound
            | Code::RateLimited
            | Code::UpstreamRefused
            | Code::UpstreamCredential
            | Code::UpstreamRedirect => Self::Works,
            // Kept connections may be dead while the service works: a new one will tell.
            Code::UpstreamTimeout | Code::UpstreamError if report.stale => Self::None,
            Code::UpstreamTimeout if report.reused => Self::None,
            Code::UpstreamTimeout | Code::UpstreamError if report.secondhand => Self::None,
            Code::UpstreamTimeout | Code::UpstreamError => {
                Self::of_its_own(failure, report, spoken)
            }
            _ => Self::None,
        }
    }

    fn of_its_own(failure: &Failure, report: &AttemptReport, spoken: bool) -> Self {
        let unreachable = matches!(
            failure.proxy_error(),
            ProxyError::Dns
                | ProxyError::DestinationUnavailable
                | ProxyError::ConnectionRefused
                | ProxyError::ConnectionTimeout
                | ProxyError::ConnectionTerminated
                | ProxyError::TlsProtocol
                | ProxyError::TlsCertificate
        );
        match report.sent {
            0 if report.untouched => Self::Fails,
            0 if unreachable => Self::Unreachable,
            // Its operation fails, and it says so.
            _ if spoken => Self::None,
            _ => Self::Fails,
        }
    }
}

/// Who tells: a caller with an operation, as 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct Witness(u32);

impl Witness {
    /// Callers have numbers that look like random ones.
    pub(in crate::upstream) const fn new(caller: u64, operation: usize) -> Self {
        let operation = (operation as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(((caller ^ operation) >> 40) as u32)
    }

    /// It, and when it told, in one word that is not 0.
    pub(super) const fn at(self, ms: u64) -> u64 {
        (ms << 24) | self.0 as u64
    }

    /// Whether such a word is its own.
    pub(super) const fn is_own(self, told: u64) -> bool {
        told != 0 && told & 0xFF_FFFF == self.0 as u64
    }

    /// Whether such a word is another's, and not from before then.
    pub(super) const fn is_other(self, told: u64, since_ms: u64) -> bool {
        told != 0 && told & 0xFF_FFFF != self.0 as u64 && told >> 24 >= since_ms
    }

    /// Which of so many words is its own.
    pub(super) const fn slot(self, count: usize) -> usize {
        self.0 as usize % count
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::Map;

    use super::*;

    const NEW: AttemptReport = AttemptReport {
        stale: false,
        untouched: false,
        reused: false,
        secondhand: false,
        connects: 1,
        connects_failed: 0,
        sent: 1,
    };
    const KEPT: AttemptReport = AttemptReport { reused: true, connects: 0, ..NEW };
    const STALE: AttemptReport = AttemptReport { stale: true, ..KEPT };
    const UNSENT: AttemptReport = AttemptReport { connects: 0, connects_failed: 1, sent: 0, ..NEW };

    const OF_ANOTHER: AttemptReport = AttemptReport { secondhand: true, ..UNSENT };

    #[test]
    fn what_failed_is_what_is_told_and_only_that() {
        let of = |error| Failure::fixed(Code::UpstreamError, "x").with_proxy_error(error);
        let late = || Failure::fixed(Code::UpstreamTimeout, "x");
        let status = || {
            Failure::from_upstream(Code::UpstreamError, StatusCode::BAD_GATEWAY, Map::new(), "x")
        };
        let fixed = |code| Failure::fixed(code, "x");
        for (failure, report, spoken, expected) in [
            (late(), NEW, false, Evidence::Fails),
            (late(), KEPT, false, Evidence::None),
            (status(), NEW, false, Evidence::Fails),
            (status(), KEPT, false, Evidence::Fails),
            (status(), NEW, true, Evidence::None),
            (of(ProxyError::ConnectionRefused), UNSENT, false, Evidence::Unreachable),
            (of(ProxyError::Dns), UNSENT, false, Evidence::Unreachable),
            (of(ProxyError::TlsCertificate), UNSENT, false, Evidence::Unreachable),
            (
                late().with_proxy_error(ProxyError::ConnectionTimeout),
                UNSENT,
                false,
                Evidence::Unreachable,
            ),
            (of(ProxyError::ConnectionRefused), OF_ANOTHER, false, Evidence::None),
            (of(ProxyError::ConnectionTerminated), NEW, false, Evidence::Fails),
            (of(ProxyError::ConnectionTerminated), STALE, false, Evidence::None),
            (fixed(Code::Overloaded), UNSENT, false, Evidence::None),
            (fixed(Code::BodyTooLarge), NEW, false, Evidence::None),
            (fixed(Code::RequestTimeout), NEW, false, Evidence::None),
            (fixed(Code::NotFound), NEW, true, Evidence::Works),
            (fixed(Code::UpstreamCredential), NEW, true, Evidence::Works),
        ] {
            let told = Evidence::of(Some(&failure), &report, spoken);
            assert_eq!(told, expected, "{failure:?} {report:?} {spoken}");
        }
        assert_eq!(Evidence::of(None, &NEW, false), Evidence::Works);
    }
}
