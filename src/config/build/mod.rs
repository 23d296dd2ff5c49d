//! From the raw types to the settings of the modules: defaults, references, secrets, and what
//! only several keys together can get wrong.

mod audit;
mod budgets;
mod callers;
mod client_auth;
mod cors;
mod denied;
mod issuers;
mod listen;
mod operations;
mod otlp;
mod profiles;
mod projects;
mod sandbox;
mod secrets;
mod store;
mod upstream;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Settings;
use super::claim;
use super::files::Files;
use super::place::KeyPath;
use super::placeholder::is_example_host;
use super::raw;
use super::report::Report;
use super::value::Written;
use super::word::ContentType;
use crate::api::nearest;
use crate::edge::ClientField;
use crate::gateway::{self, BodySettings};
use crate::limit::Rate;
use crate::{admin, failure, limit, telemetry};

/// The failures of an address when none are configured: more than a school behind one address makes
/// by mistake, and at a tenth of a millisecond for a signature half a percent of a processor.
const FAILED_CREDENTIALS: Rate =
    Rate { requests: THREE_THOUSAND, period: Duration::from_secs(60), burst: THREE_THOUSAND };
const THREE_THOUSAND: NonZeroU32 = NonZeroU32::MIN.saturating_add(2999);

/// What the settings are built with.
pub(super) struct Build<'a> {
    pub(super) report: &'a mut Report,
    pub(super) files: &'a mut Files,
    pub(super) environment: &'a [(String, String)],
    /// Whether the file is one of ours.
    pub(super) embedded: bool,
    /// Whether it is that of `serve --sandbox`.
    pub(super) sandbox: bool,
    pub(super) now: jiff::Timestamp,
}

impl Build<'_> {
    /// Builds everything. What is wrong is reported, and what stands in its place is never used.
    pub(super) fn settings(&mut self, mut raw: raw::File) -> Option<Settings> {
        self.refuse_beside_the_sandbox(&raw);
        let server = self.listen(&raw.listen);
        let admin = self.admin(&raw.admin, &server.addresses);
        let regions = self.regions(&raw.upstream);
        let upstream = self.upstream(&raw.upstream);
        let limits = KeyPath::of(&["limits"]);
        let gateway_limit = self.rate(&limits.key("gateway"), raw.limits.gateway);
        let failed_credentials =
            self.throttle(&limits.key("failed_credentials"), raw.limits.failed_credentials);
        let operations = self.operations(&raw.operations);
        let raw_store = std::mem::take(&mut raw.store);
        let names = Names {
            projects: self.declared("projects", raw.projects.keys()),
            profiles: self.declared("profiles", raw.profiles.keys()),
            with_sdk_token: with_sdk_token(&raw),
        };
        self.unused(&raw, &names);
        self.check_traces(&raw);
        let budgets = self.budgets(&mut raw, &raw_store);
        let (store, replicas) = self.store(raw_store);
        let (profiles, rates) = self.profiles(raw.profiles, &names, &operations, store.is_some());
        let client = server.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let (certified, transport) = self.certified(raw.listen.tls.as_ref(), client);
        let projects = self.projects(raw.projects, &names, &profiles, &operations.table);
        let denied = self.denied(raw.denied, &projects);
        let callers = self.callers(raw.callers, &names, &profiles, &certified);
        let issuers = self.issuers(raw.issuers, &names, &profiles, &operations.table);
        let otlp = self.otlp(raw.otlp);
        let audit = self.audit(raw.audit, &profiles, &operations.table);
        Some(Settings {
            server,
            admin,
            log: self.log(raw.log),
            gateway: gateway::Settings {
                operations: operations.table,
                regions: regions?,
                bodies: bodies(&raw.body),
                cors: self.cors(raw.cors),
                errors: errors(raw.errors),
                callers,
                transport_certificates: transport,
                profiles,
                limits: limit::Settings {
                    gateway: gateway_limit,
                    profiles: rates,
                    failed_credentials,
                    replicas,
                },
                store,
                issuers,
                projects,
                denied,
                upstream,
                audit,
                otlp,
                budgets,
                trusted_proxies: plain(raw.listen.trusted_proxies),
                client_field: or(raw.listen.client_address, ClientField::default()),
            },
        })
    }

    fn admin(&mut self, raw: &raw::Admin, listen: &[SocketAddr]) -> admin::Settings {
        let path = KeyPath::of(&["admin", "address"]);
        let usual = SocketAddr::from(([127, 0, 0, 1], 9090));
        let address = raw.address.as_ref().map_or(Some(usual), |address| address.0.0);
        if let Some(address) = address {
            if !address.ip().is_loopback() {
                let why = "is reachable from other machines, and asks nobody who they are: \
                           see that only your operators' network reaches it";
                self.report.warn(&path, why);
            }
            if address.port() != 0 && listen.contains(&address) {
                self.report.wrong(&path, "is an address of listen.address as well");
            }
        }
        admin::Settings { address }
    }

    fn log(&self, raw: raw::Log) -> telemetry::Settings {
        let usual = telemetry::Settings::default();
        let access = match raw.access {
            None => usual.access,
            Some(Written(access)) => match access.0 {
                telemetry::AccessLog::File(path) => {
                    telemetry::AccessLog::File(self.files.path(&path))
                }
                other => other,
            },
        };
        telemetry::Settings {
            level: or(raw.level, usual.level),
            format: or(raw.format, usual.format),
            access,
        }
    }

    /// Warns of a value that an example has in the place of a real one; `consequence` says what
    /// comes of it, and what to write.
    fn check_placeholder(&mut self, path: &KeyPath, is_one: bool, consequence: &str) {
        if is_one && !self.embedded {
            self.report.warn(path, format_args!("is a placeholder of an example: {consequence}"));
        }
    }

    /// The same for a host that somebody is asked at.
    fn check_host(&mut self, path: &KeyPath, host: &str) {
        let why = "its host is of a domain that documentation alone has (RFC 2606), so nobody \
                   answers there";
        self.check_placeholder(path, is_example_host(host), why);
    }

    /// A rate; `None` when it is left out.
    fn rate(&mut self, path: &KeyPath, raw: Option<raw::Rate>) -> Option<Rate> {
        let raw = raw?;
        let Some(Written(frequency)) = raw.rate else {
            self.report.missing(&path.key("rate"), "a rate such as \"200/s\"");
            return None;
        };
        let burst = raw.burst.map_or(frequency.requests, |burst| burst.0.0);
        Some(Rate { requests: frequency.requests, period: frequency.period, burst })
    }

    /// How many credentials that do not hold an address may show.
    fn throttle(&mut self, path: &KeyPath, raw: Option<raw::Throttle>) -> Option<Rate> {
        match raw {
            None => Some(FAILED_CREDENTIALS),
            Some(raw::Throttle::Off) => None,
            Some(raw::Throttle::At(rate)) => self.rate(path, Some(rate)),
        }
    }

    /// The names of a section's tables, those with something wrong in them included.
    fn declared<'n>(
        &mut self,
        section: &'static str,
        names: impl Iterator<Item = &'n String>,
    ) -> Declared {
        let section_path = KeyPath::of(&[section]);
        let names: BTreeSet<String> = names.cloned().collect();
        for name in &names {
            self.check_name(&section_path.key(name), name);
        }
        Declared { section, names }
    }

    /// Names are what logs, metrics and variables call a thing; a variable's are in one case.
    fn check_name(&mut self, path: &KeyPath, name: &str) {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(letter)
            && name.chars().all(|c| letter(c) || "_-".contains(c))
            && name.len() <= 64;
        if !good {
            let why = "has a name that cannot be: a name begins with a small letter or digit and \
                       goes on with those, hyphens and underscores, 64 at most (variables of the \
                       environment know no case)";
            self.report.wrong(path, why);
        }
    }

    /// The name that a key refers to, when it is there.
    fn refer(
        &mut self,
        path: &KeyPath,
        name: Option<Written<String>>,
        to: &Declared,
    ) -> Option<String> {
        let one = to.section.trim_end_matches('s');
        let Some(Written(name)) = name else {
            self.report.missing(path, format_args!("the name of a [{}.…]", to.section));
            return None;
        };
        let broken = self.report.was_removed(&KeyPath::of(&[to.section, &name]));
        if to.names.contains(&name) || broken {
            return Some(name);
        }
        let names = to.names.iter().map(String::as_str);
        let hint = match nearest(&name, names.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if to.names.is_empty() => format!("there is no [{}.…]", to.section),
            None => {
                let names: Vec<&str> = names.collect();
                format!("the {} are {}", to.section, names.join(", "))
            }
        };
        self.report.wrong(path, format_args!("names no {one}: {hint}"));
        None
    }

    /// Warns of what nobody can use.
    fn unused(&mut self, raw: &raw::File, names: &Names) {
        if self.embedded {
            return;
        }
        let mut profiles: BTreeSet<&str> = named(raw.callers.values().map(|one| &one.profile));
        profiles.extend(named(raw.projects.values().map(|one| &one.token_profile)));
        profiles.extend(raw.issuers.values().flat_map(granted));
        let projects: BTreeSet<&str> = named(raw.profiles.values().map(|one| &one.project));
        for (declared, used, by) in [
            (&names.profiles, profiles, "caller has this profile"),
            (&names.projects, projects, "profile leads to this project"),
        ] {
            for name in declared.names.iter().filter(|name| !used.contains(name.as_str())) {
                let path = KeyPath::of(&[declared.section, name]);
                self.report.warn(&path, format_args!("is not used: no {by}"));
            }
        }
        let nobody = raw.callers.is_empty()
            && raw.issuers.is_empty()
            && raw.projects.values().all(|project| project.token_profile.is_none());
        if nobody {
            let path = KeyPath::of(&["callers"]);
            let why = "has nobody in it, so every request is refused: `key new` makes a key and \
                       prints what to write here";
            self.report.warn(&path, why);
        }
    }
}

/// The names of a section, whatever is wrong with what they name.
pub(super) struct Declared {
    section: &'static str,
    names: BTreeSet<String>,
}

/// The names that others refer to.
pub(super) struct Names {
    projects: Declared,
    profiles: Declared,
    /// The projects that a fixed SDK token opens, and no key.
    with_sdk_token: BTreeSet<String>,
}

fn with_sdk_token(raw: &raw::File) -> BTreeSet<String> {
    let fixed =
        raw.projects.iter().filter(|(_, one)| one.keys.is_none() && one.sdk_token.is_some());
    fixed.map(|(name, _)| name.clone()).collect()
}

fn named<'r>(names: impl Iterator<Item = &'r Option<Written<String>>>) -> BTreeSet<&'r str> {
    names.flatten().map(|name| name.0.as_str()).collect()
}

/// The profiles that an issuer's tokens may give.
fn granted(issuer: &raw::Issuer) -> Vec<&str> {
    match &issuer.profile {
        None => Vec::new(),
        Some(claim::Profile::Named(name)) => vec![name],
        Some(claim::Profile::Claim(looked)) => {
            looked.map.iter().flatten().map(|(_, profile)| profile.0.as_str()).collect()
        }
    }
}

fn bodies(raw: &raw::Body) -> BodySettings {
    let usual = BodySettings::default();
    BodySettings {
        bytes: raw.max_bytes.as_ref().map_or(usual.bytes, |size| size.0.0),
        timeout: copied(&raw.timeout, usual.timeout),
        unknown_fields: copied(&raw.unknown_fields, usual.unknown_fields),
        strict_content_type: raw
            .content_type
            .as_ref()
            .map_or(usual.strict_content_type, |kind| matches!(kind.0, ContentType::Strict)),
    }
}

fn errors(raw: raw::Errors) -> failure::Settings {
    let mut settings = failure::Settings::of(or(raw.profile, failure::Profile::default()));
    if let Some(Written(status)) = raw.rate_limit_status {
        settings.rate_limit_status = status.0;
    }
    settings
}

/// What is written, or the default.
fn or<T>(written: Option<Written<T>>, usual: T) -> T {
    written.map_or(usual, |written| written.0)
}

/// What is written, or the default.
fn copied<T: Copy>(written: &Option<Written<T>>, usual: T) -> T {
    written.as_ref().map_or(usual, |written| written.0)
}

fn plain<T>(written: Vec<Written<T>>) -> Vec<T> {
    written.into_iter().map(|written| written.0).collect()
}
