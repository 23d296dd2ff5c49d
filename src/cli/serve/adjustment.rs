//! What `serve --sandbox` changes in each configuration that is read: where the upstream is, and two
//! callers whose keys are made for this run.

use std::net::SocketAddr;

use super::keys::SandboxKey;
use crate::caller::{self, ApiKey, CallerSettings};
use crate::config::Settings;
use crate::edge::{CorsSettings, OriginPattern};
use crate::net::{Egress, Origin};

/// What a run with the sandbox changes in each configuration that is read.
#[derive(Clone)]
pub(super) struct Adjustment {
    /// A backend that may do everything, and a student.
    pub(super) keys: [SandboxKey; 2],
    pub(super) sandbox: Option<SocketAddr>,
    /// Where the admin listener is on loopback, whose page calls the gateway from a browser.
    pub(super) admin: Option<SocketAddr>,
}

impl Adjustment {
    /// Points settings at the sandbox that runs, and lets the two callers in.
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
        let callers = self.keys.iter().filter_map(|SandboxKey { caller, key, .. }| {
            let key = ApiKey::parse(key.expose()).ok()?;
            let slot = caller::ApiKeySettings { id: key.id(), digest: key.digest(), until: None };
            let name = (*caller).to_owned();
            let (profile, keys, certificates) = (name.clone(), vec![slot], Vec::new());
            Some(CallerSettings { name, profile, keys, certificates })
        });
        settings.gateway.callers.extend(callers);
    }
}

/// The origins that the page of a listener on loopback has.
fn page_origins(admin: SocketAddr) -> Vec<OriginPattern> {
    let names = [format!("http://{admin}"), format!("http://localhost:{}", admin.port())];
    names.iter().filter_map(|name| OriginPattern::parse(name).ok()).collect()
}
