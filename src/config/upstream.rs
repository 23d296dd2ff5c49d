//! `[upstream]`: where the whiteboard service is, and how long it is waited for.

use std::sync::LazyLock;
use std::time::Duration;

use super::build::Build;
use super::file::section;
use super::number::{Between, Percent};
use super::value::{FilePath, Pseudonym, RegionName, ServiceUrl};
use crate::api::{Regions, host};
use crate::net::{Egress, is_loopback};
use crate::upstream::{
    BreakerSettings, ConcurrencySettings, Network, RetrySettings, Settings, Timeouts,
};

section! {
    pub(super) struct UpstreamSection {
        /// Scheme, host and port of the whiteboard service: [which name for which
        /// region](production.md#the-name-of-the-service). Or a Unix socket, `"unix:/run/service.sock"`,
        /// over which HTTP is spoken in the clear, with `Host: localhost`.
        url: ServiceUrl = "https://api.netless.link";
        /// The region of requests that name none. `check` warns if it is omitted, since clients
        /// from before regions existed mean `cn-hz`.
        region: RegionName = "us-sv";
        /// Regions that are accepted besides `us-sv`, `sg`, `in-mum`, `eu`, `cn-hz` and `gb-lon`.
        regions: Vec<RegionName>;
        /// A PEM file of the certificates to trust instead.
        ca: Option<FilePath> => "the platform's";
        /// Whether HTTP/2 is offered.
        http2: bool = true;
        /// How long making a connection may take, DNS and TLS included; never longer than what is
        /// left of its request. All addresses of a name share this time: they are tried in
        /// parallel, 250 ms apart.
        connect_timeout: Duration = "1s";
        /// How long until the head of a response, including the connection and sending the request.
        first_byte_timeout: Duration = "10s";
        /// The same for screenshots, which the service renders first.
        first_byte_timeout_slow: Duration = "30s";
        /// How long between two pieces of a response.
        between_bytes_timeout: Duration = "5s";
        /// How long the whole request may take, all connections and retries included.
        timeout: Duration = "15s";
        /// The same for screenshots.
        timeout_slow: Duration = "35s";
        /// How long an idle connection is kept.
        idle_timeout: Duration = "55s";
        /// How many idle connections each worker keeps.
        max_idle: usize = 128;
        /// How many requests each worker has at the service at once; further ones get `overloaded`.
        /// Profiles of [low priority](production.md#load-shedding) may fill 80 % of it, normal ones
        /// 95 %. A creation whose caller has gone counts until it is over.
        max_in_flight: usize = 1024;
        /// The minimum of the bound when it is adaptive.
        min_in_flight: Option<usize> => "`16`, or `max_in_flight` where that is less";
        /// Whether the bound shrinks while responses take longer than usual, and grows back to
        /// `max_in_flight` while they do not.
        adaptive: bool = false;
        /// The name in `Via`, by which loops are detected. Give gateways behind one another
        /// different ones.
        via: Option<Pseudonym> => "`wbg-` and 8 random hex digits";
        /// Whether the whiteboard service gets the request id.
        send_request_id: bool = false;
        /// Whether it gets [the trace](telemetry.md#which-trace-a-request-belongs-to) that a
        /// request belongs to.
        send_traceparent: bool = false;
        retry: RetrySection;
        breaker: BreakerSection;
    }
}

section! {
    pub(super) struct RetrySection {
        /// How often a request is sent at most; 1 is no retry.
        attempts: Between<1, 10> = 3;
        /// The most retries, as a share of the requests, `"1%"` to `"100%"`. Each worker begins
        /// with 10 and saves up to 100.
        budget: Percent = "20%";
        /// How long the first retry waits, between half of it and the whole; each further one waits
        /// twice as long.
        backoff: Duration = "50ms";
        /// The longest of these waits.
        max_backoff: Duration = "1s";
    }
}

section! {
    pub(super) struct BreakerSection {
        /// Whether a failing region of the service gets no requests for a while.
        enabled: bool = true;
        /// The breaker opens after this many failures in a row.
        failures: u32 = 10;
        /// It also opens at this share of failures among the requests of a window.
        failed: Percent = "50%";
        /// How many requests a window needs for its share to count.
        requests: u32 = 20;
        /// How long a window is. It begins with a failure.
        window: Duration = "10s";
        /// How long it stays open, up to a quarter less; twice as long each further time, until the
        /// region works again.
        open: Duration = "1s";
        /// The longest of these times.
        max_open: Duration = "30s";
    }
}

/// What an adaptive bound does not go below, unless it is configured.
const LEAST: usize = 16;

/// The pseudonym when none is configured: one for the whole life of the process, so that a
/// reload does not make a loop invisible.
static PSEUDONYM: LazyLock<String> = LazyLock::new(|| format!("wbg-{:08x}", fastrand::u32(..)));

impl Build<'_> {
    pub(super) fn regions(&mut self, section: &UpstreamSection) -> Option<Regions> {
        let path = section.path.key("region");
        let default = section.region.0.as_str();
        let why = format_args!(
            "is not set: requests that name no region mean {default}; clients from before \
             regions existed mean cn-hz"
        );
        self.warn_if(!self.is_set(&path) && !self.embedded, &path, why);
        let more: Vec<&str> = section.regions.iter().map(|name| name.0.as_str()).collect();
        // Those of `upstream.regions` are no help: a value of the file is not repeated.
        let regions = Regions::new(more, default).or_else(|_| Regions::new([], default));
        regions.map_err(|why| self.wrong(&path, format_args!("is no known region: {why}"))).ok()
    }

    pub(super) fn upstream(&mut self, section: UpstreamSection) -> Settings {
        self.check_url(&section);
        let at = |key| section.path.key(key);
        let least = section.min_in_flight.unwrap_or_else(|| LEAST.min(section.max_in_flight));
        let over = least > section.max_in_flight;
        self.wrong_if(over, &at("min_in_flight"), "is over upstream.max_in_flight");
        let ca = self.certificates(&at("ca"), section.ca.as_ref());
        let via = section.via.map_or_else(|| PSEUDONYM.clone(), |name| name.0);
        Settings {
            ca,
            http2: section.http2,
            timeouts: Timeouts {
                connect: section.connect_timeout,
                first_byte: section.first_byte_timeout,
                first_byte_slow: section.first_byte_timeout_slow,
                between_bytes: section.between_bytes_timeout,
                total: section.timeout,
                total_slow: section.timeout_slow,
            },
            idle: section.idle_timeout,
            max_idle: section.max_idle,
            concurrency: ConcurrencySettings {
                most: section.max_in_flight,
                adaptive: section.adaptive,
                least,
            },
            retry: self.retry(&section.retry),
            breaker: self.breaker(&section.breaker),
            send_request_id: section.send_request_id,
            send_traceparent: section.send_traceparent,
            origin: section.url.origin,
            socket: section.url.socket,
            network: Network::System,
            egress: Egress::default(),
            via,
        }
    }

    /// Warns of a service that is not there, or is for other regions or of another interface.
    fn check_url(&mut self, section: &UpstreamSection) {
        let (path, name) = (section.path.key("url"), section.url.origin.host.as_str());
        self.check_host(&path, name);
        let why = "is http: tokens, and what people draw, cross the network in the clear";
        self.warn_if(!section.url.origin.tls && !is_loopback(name), &path, why);
        if let Some(which) = host::other_interface(name) {
            let why =
                format_args!("is the name of {which}: this gateway speaks v5 to {}", host::HOST);
            self.warn(&path, why);
        }
        let documented = Regions::DOCUMENTED.into_iter().find(|known| *known == section.region.0);
        let (Some(regions), Some(region)) = (host::regions_of(name), documented) else { return };
        let why = format_args!(
            "is the service's name for {}, and upstream.region is {region}: leave it out for {}, \
             which is for all regions, or take one for {region}",
            regions.join(", "),
            host::HOST
        );
        self.warn_if(!regions.contains(&region), &path, why);
    }

    fn retry(&mut self, section: &RetrySection) -> RetrySettings {
        let RetrySection { path, backoff, max_backoff, .. } = section;
        let why = "is over upstream.retry.max_backoff";
        self.wrong_if(backoff > max_backoff, &path.key("backoff"), why);
        RetrySettings {
            attempts: u8::try_from(section.attempts.0).unwrap_or(u8::MAX),
            budget_percent: section.budget.0,
            backoff: *backoff,
            max_backoff: *max_backoff,
        }
    }

    fn breaker(&mut self, section: &BreakerSection) -> BreakerSettings {
        let BreakerSection {
            ref path, enabled, failures, requests, window, open, max_open, ..
        } = *section;
        self.wrong_if(open > max_open, &path.key("open"), "is over upstream.breaker.max_open");
        let failed_percent = section.failed.0;
        BreakerSettings { enabled, failures, failed_percent, requests, window, open, max_open }
    }
}
