//! What the admin listener answers from.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::access::AdminTransport;
use super::process_status::ProcessStatus;
use super::sandbox::BesideSandbox;
use super::session::Sessions;
use super::shared::SharedPage;
use crate::failure::{Code, Failure};
use crate::limit::{Failures, Rate};

/// So many credentials that do not hold are said to an address in a minute.
const FAILURES: NonZeroU32 = NonZeroU32::new(60).expect("it is not zero");

/// What the one worker of the admin listener keeps.
pub(super) struct AdminContext {
    pub(super) status: Arc<ProcessStatus>,
    pub(super) transport: AdminTransport,
    pub(super) sessions: Sessions,
    pub(super) pages: SharedPages,
    pub(super) sandbox: Option<BesideSandbox>,
    /// Made with the first.
    failures: OnceCell<Failures>,
}

/// What all who ask for it at the same time get together.
#[derive(Default)]
pub(super) struct SharedPages {
    pub(super) readiness: SharedPage,
    pub(super) metrics: SharedPage,
    pub(super) plain_metrics: SharedPage,
    pub(super) budgets: SharedPage,
    pub(super) openapi: SharedPage,
    pub(super) status: SharedPage,
    pub(super) configuration: SharedPage,
    pub(super) traffic: SharedPage,
    pub(super) failures: SharedPage,
    pub(super) callers: SharedPage,
}

impl AdminContext {
    pub(super) fn new(
        status: Arc<ProcessStatus>,
        transport: AdminTransport,
        sandbox: Option<BesideSandbox>,
    ) -> Self {
        let (sessions, pages) = (Sessions::default(), SharedPages::default());
        Self { status, transport, sessions, pages, sandbox, failures: OnceCell::new() }
    }

    /// A credential of an address did not hold: what it is told, which is to wait where there were
    /// many. Whoever shows a good one meanwhile is let in: what an address has spent is told only to
    /// those that are refused anyway.
    pub(super) fn refused(&self, address: IpAddr, failure: Failure) -> Failure {
        let code = failure.code();
        if !matches!(code, Code::InvalidToken | Code::ExpiredToken) {
            return failure;
        }
        let rate = Rate { requests: FAILURES, period: Duration::from_secs(60), burst: FAILURES };
        let failures = self.failures.get_or_init(|| Failures::new(rate));
        if let Some(wait) = failures.wait(address) {
            let why = "too many credentials from this address were none: wait";
            return Failure::fixed(Code::RateLimited, why).with_retry_after(wait);
        }
        failures.count(address);
        tracing::warn!(%address, code = code.name(), "an operator's credential was refused");
        failure
    }
}
