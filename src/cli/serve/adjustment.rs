//! What `serve --sandbox` changes in each configuration that is read: where the upstream is, and two
//! callers and an operator whose keys are made for this run.

use std::net::SocketAddr;

use super::keys::{SandboxKey, SandboxKeys};
use crate::admin::{OperatorRole, OperatorSettings};
use crate::caller::{ApiKey, ApiKeySettings, CallerSettings};
use crate::config::Settings;
use crate::edge::{CorsSettings, OriginPattern};
use crate::net::{Egress, Origin};

/// What a run with the sandbox changes in each configuration that is read.
#[derive(Clone)]
pub(super) struct Adjustment {
    pub(super) keys: SandboxKeys,
    pub(super) sandbox: Option<SocketAddr>,
    /// Where the admin listener is on loopback, whose page calls the gateway from a browser.
    pub(super) admin: Option<SocketAddr>,
}

impl Adjustment {
    /// Points settings at the sandbox that runs, and lets the two callers and the operator in.
    pub(super) fn apply(&self, settings: &mut Settings) {
        if let Some(address) = &self.sandbox {
            settings.gateway.upstream.origin = Origin {
                tls: false,
                host: address.ip().to_string(),
                port: address.port(),
                authority: address.to_string(),
            };
            settings.gateway.upstream.socket = None;
            settings.gateway.upstream.egress = Egress::default();
        }
        let origins: Vec<_> = self.admin.map(page_origins).into_iter().flatten().collect();
        if !origins.is_empty() {
            let none = CorsSettings { origins: Vec::new(), max_age: CorsSettings::MAX_AGE };
            settings.gateway.cors.get_or_insert(none).origins.extend(origins);
        }
        let callers = self.keys.callers.iter().filter_map(|key| {
            let (name, keys) = (key.owner.to_owned(), vec![slot(key)?]);
            let (profile, certificates) = (name.clone(), Vec::new());
            Some(CallerSettings { name, profile, keys, certificates })
        });
        settings.gateway.callers.extend(callers);
        let access = &mut settings.admin.access;
        // It is for this run, and opens nothing that is not a toy.
        access.insecure = true;
        access.operators.extend(slot(&self.keys.operator).map(|slot| OperatorSettings {
            name: self.keys.operator.owner.to_owned(),
            role: OperatorRole::Operator,
            keys: vec![slot],
            certificates: Vec::new(),
        }));
    }
}

/// What the configuration would keep of a key.
fn slot(key: &SandboxKey) -> Option<ApiKeySettings> {
    let key = ApiKey::parse(key.key.expose()).ok()?;
    Some(ApiKeySettings { id: key.id(), digest: key.digest(), until: None })
}

/// The origins that the page of a listener on loopback has.
fn page_origins(admin: SocketAddr) -> Vec<OriginPattern> {
    let names = [format!("http://{admin}"), format!("http://localhost:{}", admin.port())];
    names.iter().filter_map(|name| OriginPattern::parse(name).ok()).collect()
}
