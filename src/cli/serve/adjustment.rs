//! What `serve --sandbox` changes in each configuration that is read: where the upstream is, and two
//! callers whose keys are made for this run.

use std::net::SocketAddr;

use super::keys::SandboxKey;
use crate::caller::{self, ApiKey, CallerSettings};
use crate::config::Settings;
use crate::net::{Egress, Origin};

/// What a run with the sandbox changes in each configuration that is read.
#[derive(Clone)]
pub(super) struct Adjustment {
    /// A backend that may do everything, and a student.
    pub(super) keys: [SandboxKey; 2],
    pub(super) sandbox: Option<SocketAddr>,
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
            settings.gateway.upstream.egress = Egress::default();
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
