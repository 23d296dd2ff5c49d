//! The service as the configuration describes it: what all workers share, and none of them changes.

use std::sync::Arc;

use tokio::time::Instant;

use super::connect::{TlsSetupError, UpstreamConnector};
use super::last_timeout::LastTimeout;
use crate::api::{Region, Regions};
use crate::metric::Metric;
use crate::upstream::request::outgoing::Common;
use crate::upstream::resilience::breaker::{BreakerState, Breakers};
use crate::upstream::settings::Settings;

/// The breakers of the upstream's regions; none of it where they are off.
pub const BREAKERS: &[Metric<Upstream>] = &[
    Metric::gauge(
        "wbg_upstream_breaker",
        "1 for the state that the breaker of a region of the upstream is in",
        &["region", "state"],
        |upstream, out| {
            for (region, state, _) in upstream.breakers() {
                for one in BreakerState::ALL {
                    out.add(&[region, one.as_str()], one == state);
                }
            }
        },
    ),
    Metric::counter(
        "wbg_upstream_breaker_opened",
        "How often the breaker of a region of the upstream has opened",
        &["region"],
        |upstream, out| {
            upstream.breakers().for_each(|(region, _, opened)| out.add(&[region], opened));
        },
    ),
];

/// The upstream. Shared by all workers; never changed.
pub struct Upstream {
    /// What it was made of.
    pub settings: Settings,
    pub(in crate::upstream) connector: UpstreamConnector,
    pub(in crate::upstream) breakers: Arc<Breakers>,
    pub(in crate::upstream) common: Common,
    pub(super) last_timeout: Arc<LastTimeout>,
}

impl Upstream {
    /// Prepares TLS and the headers that never change. It is `before` where nothing of it changed, so
    /// that what workers have of it goes on; what that knows of the same origin's failures is kept.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn new(
        settings: Settings,
        regions: &Regions,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, TlsSetupError> {
        let names = regions.iter().map(Region::as_str);
        let known = before.map(|before| &before.breakers);
        let breakers = Breakers::new(settings.breaker, &settings.origin, names, known);
        if let Some(before) = before
            && before.settings == settings
            && Arc::ptr_eq(&before.breakers, &breakers)
        {
            return Ok(Arc::clone(before));
        }
        let same = before.filter(|before| before.settings.is_of_the_service(&settings));
        let last_timeout = same.map(|same| Arc::clone(&same.last_timeout)).unwrap_or_default();
        let connector = UpstreamConnector::new(&settings)?;
        let common = Common::new(&settings).map_err(|_| TlsSetupError::Name)?;
        Ok(Arc::new(Self { settings, connector, breakers, common, last_timeout }))
    }

    /// Each region, the state of its breaker, and how often that has opened.
    pub fn breakers(&self) -> impl Iterator<Item = (&str, BreakerState, u64)> {
        self.breakers.states(Instant::now())
    }
}
