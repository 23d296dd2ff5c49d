//! The whole file, and the settings that its sections make together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::admin::AdminSection;
use super::audit::AuditSection;
use super::body::BodySection;
use super::budgets::BudgetsSection;
use super::build::{Build, DeclaredNames};
use super::callers::CallerSection;
use super::claim::ProfileSource;
use super::cors::CorsSection;
use super::denied::DeniedSection;
use super::egress::EgressSection;
use super::errors::ErrorsSection;
use super::file::{KeyPath, section};
use super::issuers::IssuerSection;
use super::limits::{LimitsSection, RateTable};
use super::listen::{ListenSection, ListenerSection, Listeners};
use super::log::LogSection;
use super::operations::OperationSection;
use super::operators::OperatorSection;
use super::otlp::OtlpSection;
use super::profiles::ProfileSection;
use super::projects::ProjectSection;
use super::reminders::RemindersSection;
use super::store::StoreSection;
use super::upstream::UpstreamSection;
use crate::{admin, gateway, limit, server, telemetry};

section! {
    pub(super) struct WholeFile {
        listen: ListenSection;
        listeners: BTreeMap<String, ListenerSection>;
        admin: AdminSection;
        operators: BTreeMap<String, OperatorSection>;
        upstream: UpstreamSection;
        egress: EgressSection;
        cors: Option<CorsSection>;
        errors: ErrorsSection;
        body: BodySection;
        limits: LimitsSection;
        store: StoreSection;
        log: LogSection;
        audit: Option<AuditSection>;
        otlp: Option<OtlpSection>;
        budgets: BudgetsSection;
        reminders: RemindersSection;
        projects: BTreeMap<String, ProjectSection>;
        denied: Vec<DeniedSection>;
        profiles: BTreeMap<String, ProfileSection>;
        callers: BTreeMap<String, CallerSection>;
        issuers: BTreeMap<String, IssuerSection>;
        operations: Vec<OperationSection>;
    }
}

/// What every module is built from.
pub struct Settings {
    /// The listeners.
    pub server: server::Settings,
    /// The second listener.
    pub admin: admin::Settings,
    /// The log.
    pub log: telemetry::Settings,
    /// The gateway itself.
    pub gateway: gateway::Settings,
}

impl Build<'_> {
    /// Builds everything. What is wrong is reported, and what stands in its place is never used.
    pub(super) fn settings(&mut self, file: WholeFile) -> Option<Settings> {
        self.refuse_beside_the_sandbox(&file);
        let names = self.names(&file);
        self.unused(&file, &names);
        self.check_traces(&file);
        let of_tokens: Vec<String> =
            file.projects.values().filter_map(|one| one.token_profile.clone()).collect();
        let errors = file.errors.settings();
        let Listeners { server, gateway: listeners, addresses, asking } =
            self.listeners(file.listen, file.listeners, errors);
        let listener = self.admin(&file.admin, &addresses);
        let regions = self.regions(&file.upstream);
        let upstream = self.upstream(file.upstream);
        let operations = self.operations(file.operations);
        let (store, replicas) = self.store(file.store);
        let (mut profiles, mut rates, mut budgets) = (Vec::new(), Vec::new(), Vec::new());
        for named in file.profiles {
            let (profile, rate, budget) = self.profile(named, &names, &operations, store.is_some());
            profiles.push(profile);
            rates.push(rate);
            budgets.push(budget);
        }
        self.check_shadows(&profiles);
        let of_tokens = of_tokens.iter().map(String::as_str).collect();
        let budgets = self.budgets(file.budgets, budgets, &of_tokens, replicas.count);
        let certified = self.certified(&server.listeners, &asking);
        let granted = (profiles.as_slice(), &operations.table);
        let (mut seen, mut keys, mut urls) = (HashMap::new(), HashMap::new(), HashMap::new());
        let projects = file.projects.into_iter();
        let projects: Vec<_> =
            projects.filter_map(|named| self.project(named, &names, granted, &mut seen)).collect();
        let denied =
            file.denied.into_iter().filter_map(|one| self.denied(one, &projects)).collect();
        let callers = self.callers(file.callers, &names, &profiles, (&certified, &mut keys));
        let access = self.operators(file.operators, &file.admin, &listener, &mut keys);
        let issuers = file.issuers.into_iter();
        let issuers =
            issuers.filter_map(|one| self.issuer(one, &names, granted, &mut urls)).collect();
        let audit = self.audit(file.audit, &profiles, &operations.table);
        let log_decisions = file.log.decision;
        let mut settings = Settings {
            server,
            admin: admin::Settings { listener, access },
            log: self.log(file.log),
            gateway: gateway::Settings {
                operations: operations.table,
                log_decisions,
                regions: regions?,
                bodies: file.body.settings(),
                cors: self.cors(file.cors),
                errors,
                callers,
                key_reminder: file.reminders.key.0,
                profiles,
                limits: limits(file.limits, rates, replicas),
                store,
                issuers,
                projects,
                denied,
                upstream,
                audit,
                otlp: self.otlp(file.otlp),
                budgets,
                listeners,
            },
        };
        self.go_out(file.egress, &mut settings.gateway);
        Some(settings)
    }

    fn names(&mut self, file: &WholeFile) -> DeclaredNames {
        let fixed = |one: &ProjectSection| one.keys.is_none() && one.sdk_token.is_some();
        let fixed = file.projects.iter().filter(|(_, project)| fixed(project));
        DeclaredNames {
            projects: self.declared("projects", file.projects.keys()),
            profiles: self.declared("profiles", file.profiles.keys()),
            with_sdk_token: fixed.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Refuses what the command itself decides: it would be ignored, and whoever set it in a variable
    /// would believe that it counts.
    fn refuse_beside_the_sandbox(&mut self, file: &WholeFile) {
        let service = "the sandbox is the whiteboard service, and is spoken to in the clear";
        let callers = "the sandbox has two callers of its own, whose keys --keys FILE keeps";
        let upstream = ["url", "ca", "http2"].map(|key| file.upstream.path.key(key));
        let upstream = upstream.map(|path| (self.is_set(&path), path, service));
        let callers = (!file.callers.is_empty(), KeyPath::of(&["callers"]), callers);
        for (set, path, why) in upstream.into_iter().chain([callers]) {
            let why = format_args!(
                "means nothing with --sandbox: {why}. Leave it out, or serve a configuration of \
                 your own with --config"
            );
            self.wrong_if(set && self.sandbox, &path, why);
        }
    }

    /// Warns of what no one can use.
    fn unused(&mut self, file: &WholeFile, names: &DeclaredNames) {
        if self.embedded {
            return;
        }
        let mut profiles: BTreeSet<&str> = named(file.callers.values().map(|one| &one.profile));
        profiles.extend(named(file.projects.values().map(|one| &one.token_profile)));
        profiles.extend(named(file.profiles.values().map(|one| &one.shadow)));
        profiles.extend(file.issuers.values().flat_map(granted));
        let projects: BTreeSet<&str> = named(file.profiles.values().map(|one| &one.project));
        for (declared, used, by) in [
            (&names.profiles, profiles, "caller has this profile"),
            (&names.projects, projects, "profile leads to this project"),
        ] {
            for name in declared.names.iter().filter(|name| !used.contains(name.as_str())) {
                let path = KeyPath::of(&[declared.section, name]);
                self.warn(&path, format_args!("is not used: no {by}"));
            }
        }
        let nobody = file.callers.is_empty()
            && file.issuers.is_empty()
            && file.projects.values().all(|project| project.token_profile.is_none());
        let why = "has nobody in it, so every request is refused: `key new` makes a key and \
                   prints what to write here";
        self.warn_if(nobody, &KeyPath::of(&["callers"]), why);
    }

    /// Warns of what is said about traces where there are none.
    fn check_traces(&mut self, file: &WholeFile) {
        let traced = file.otlp.as_ref().is_some_and(|otlp| otlp.traces.enabled);
        let traced = traced || self.was_removed(&KeyPath::of(&["otlp"]));
        let why = "means nothing without traces: see [otlp]";
        let (section, sent) = (&file.upstream.path, file.upstream.send_traceparent);
        self.warn_if(sent && !traced, &section.key("send_traceparent"), why);
        for ProfileSection { path, trust_traceparent, .. } in file.profiles.values() {
            self.warn_if(*trust_traceparent && !traced, &path.key("trust_traceparent"), why);
        }
    }
}

fn limits(
    section: LimitsSection,
    profiles: Vec<limit::ProfileRates>,
    replicas: limit::Replicas,
) -> limit::Settings {
    limit::Settings {
        gateway: section.gateway.and_then(RateTable::rate),
        profiles,
        failed_credentials: section.failed_credentials.0,
        replicas,
    }
}

fn named<'r>(names: impl Iterator<Item = &'r Option<String>>) -> BTreeSet<&'r str> {
    names.flatten().map(String::as_str).collect()
}

/// The profiles that an issuer's tokens may give.
fn granted(issuer: &IssuerSection) -> Vec<&str> {
    match &issuer.profile {
        None => Vec::new(),
        Some(ProfileSource::Named(name)) => vec![name],
        Some(ProfileSource::Claim(looked)) => looked.map.values().map(String::as_str).collect(),
    }
}
