//! `[upstream]`: where the whiteboard service is, and how patient the gateway is with it.

use std::sync::LazyLock;

use super::{Build, copied};
use crate::api::{Regions, host};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Count, Written};
use crate::net::is_loopback;
use crate::upstream::{
    BreakerSettings, ConcurrencySettings, Origin, RetrySettings, Settings, Timeouts,
};

/// The region when none is configured: that of the API's own examples.
const REGION: &str = "us-sv";

/// The pseudonym when none is configured: one for the whole life of the process, so that a
/// reload does not make a loop invisible.
static PSEUDONYM: LazyLock<String> = LazyLock::new(|| format!("wbg-{:08x}", fastrand::u32(..)));

impl Build<'_> {
    pub(super) fn regions(&mut self, raw: &raw::Upstream) -> Option<Regions> {
        let path = KeyPath::of(&["upstream", "region"]);
        let more: Vec<&str> = raw.regions.iter().map(|name| name.0.0.as_str()).collect();
        let default = raw.region.as_ref().map(|name| name.0.0.as_str());
        if default.is_none() && !self.embedded {
            let why = format_args!(
                "is not set: requests that name no region mean {REGION}; clients from before \
                 regions existed mean cn-hz"
            );
            self.report.warn(&path, why);
        }
        let default = default.unwrap_or(REGION);
        if let Ok(regions) = Regions::new(more, default) {
            return Some(regions);
        }
        // Those of `upstream.regions` are no help: a value of the file is not repeated.
        let documented = Regions::new([], default);
        documented
            .map_err(|why| self.report.wrong(&path, format_args!("is no known region: {why}")))
            .ok()
    }

    pub(super) fn upstream(&mut self, raw: &raw::Upstream) -> Settings {
        let section = KeyPath::of(&["upstream"]);
        let origin = raw.url.as_ref().map_or_else(whiteboard_service, |url| url.0.clone());
        self.check_host(&section.key("url"), &origin.host);
        if !origin.tls && !is_loopback(&origin.host) {
            let why = "is http: tokens, and what people draw, cross the network in the clear";
            self.report.warn(&section.key("url"), why);
        }
        self.check_region(&section, &origin.host, raw);
        let via = raw.via.as_ref().map_or_else(|| PSEUDONYM.clone(), |name| name.0.0.clone());
        let default = Settings::of(origin, via);
        let usual = default.timeouts;
        Settings {
            ca: self.certificates(&section.key("ca"), &raw.ca),
            http2: copied(&raw.http2, default.http2),
            timeouts: Timeouts {
                connect: copied(&raw.connect_timeout, usual.connect),
                first_byte: copied(&raw.first_byte_timeout, usual.first_byte),
                first_byte_slow: copied(&raw.first_byte_timeout_slow, usual.first_byte_slow),
                between_bytes: copied(&raw.between_bytes_timeout, usual.between_bytes),
                total: copied(&raw.timeout, usual.total),
                total_slow: copied(&raw.timeout_slow, usual.total_slow),
            },
            idle: copied(&raw.idle_timeout, default.idle),
            max_idle: raw.max_idle.as_ref().map_or(default.max_idle, |count| count.0.get()),
            concurrency: self.concurrency(&section, raw),
            retry: self.retry(&section.key("retry"), &raw.retry),
            breaker: self.breaker(&section.key("breaker"), &raw.breaker),
            send_request_id: copied(&raw.send_request_id, default.send_request_id),
            send_traceparent: copied(&raw.send_traceparent, default.send_traceparent),
            ..default
        }
    }

    /// Warns of a name of the service that is for other regions, or for another interface.
    fn check_region(&mut self, section: &KeyPath, name: &str, raw: &raw::Upstream) {
        let path = section.key("url");
        if let Some(which) = host::other_interface(name) {
            let why =
                format_args!("is the name of {which}: this gateway speaks v5 to {}", host::HOST);
            self.report.warn(&path, why);
        }
        let region = raw.region.as_ref().map_or(REGION, |name| name.0.0.as_str());
        let documented = Regions::DOCUMENTED.into_iter().find(|known| *known == region);
        let (Some(regions), Some(region)) = (host::regions_of(name), documented) else { return };
        if !regions.contains(&region) {
            let why = format_args!(
                "is the service's name for {}, and upstream.region is {region}: leave it out for {}, \
                 which is for all regions, or take one for {region}",
                regions.join(", "),
                host::HOST
            );
            self.report.warn(&path, why);
        }
    }

    fn concurrency(&mut self, section: &KeyPath, raw: &raw::Upstream) -> ConcurrencySettings {
        let usual = ConcurrencySettings::default();
        let count = |raw: &Option<Written<Count>>| raw.as_ref().map(|count| count.0.get());
        let most = count(&raw.max_in_flight).unwrap_or(usual.most);
        let least = count(&raw.min_in_flight);
        if least.is_some_and(|least| least > most) {
            self.report.wrong(&section.key("min_in_flight"), "is over upstream.max_in_flight");
        }
        let least = least.unwrap_or_else(|| usual.least.min(most));
        ConcurrencySettings { most, adaptive: copied(&raw.adaptive, usual.adaptive), least }
    }

    fn retry(&mut self, section: &KeyPath, raw: &raw::Retry) -> RetrySettings {
        let usual = RetrySettings::default();
        let backoff = copied(&raw.backoff, usual.backoff);
        let max_backoff = copied(&raw.max_backoff, usual.max_backoff);
        if backoff > max_backoff {
            self.report.wrong(&section.key("backoff"), "is over upstream.retry.max_backoff");
        }
        RetrySettings {
            attempts: raw.attempts.as_ref().map_or(usual.attempts, |attempts| attempts.0.0),
            budget_percent: raw.budget.as_ref().map_or(usual.budget_percent, |share| share.0.0),
            backoff,
            max_backoff,
        }
    }

    fn breaker(&mut self, section: &KeyPath, raw: &raw::Breaker) -> BreakerSettings {
        let usual = BreakerSettings::default();
        let count = |raw: &Option<Written<Count>>, usual: u32| {
            raw.as_ref().map_or(usual, |count| count.0.0.get())
        };
        let open = copied(&raw.open, usual.open);
        let max_open = copied(&raw.max_open, usual.max_open);
        if open > max_open {
            self.report.wrong(&section.key("open"), "is over upstream.breaker.max_open");
        }
        BreakerSettings {
            enabled: copied(&raw.enabled, usual.enabled),
            failures: count(&raw.failures, usual.failures),
            failed_percent: raw.failed.as_ref().map_or(usual.failed_percent, |share| share.0.0),
            requests: count(&raw.requests, usual.requests),
            window: copied(&raw.window, usual.window),
            open,
            max_open,
        }
    }
}

fn whiteboard_service() -> Origin {
    let host = host::HOST.to_owned();
    Origin { tls: true, authority: host.clone(), host, port: 443 }
}
