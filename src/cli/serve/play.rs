//! `serve --sandbox`: the sandbox in the place of the whiteboard service, keys made for this run,
//! and lines to paste into a shell.

use std::net::SocketAddr;

use anyhow::Context as _;

use super::adjustment::Adjustment;
use crate::caller;
use crate::cli::sandbox::listen;
use crate::config::Settings;
use crate::sandbox::{self, Sandbox};
use crate::server::Running;
use crate::token::ProjectCredential;

/// A sandbox and two callers of it.
pub(super) struct Play {
    adjustment: Adjustment,
    sandbox: Option<Running>,
}

impl Play {
    /// Makes the keys.
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = || caller::generate(false).ok().context("the system gives no randomness");
        let keys = [("backend", key()?), ("student", key()?)];
        Ok(Self { adjustment: Adjustment { keys, sandbox: None }, sandbox: None })
    }

    /// Starts the sandbox and points the settings at it.
    pub(super) fn start(&mut self, settings: &mut Settings) -> anyhow::Result<()> {
        let keys = settings.gateway.projects.iter().flat_map(|project| match &project.credential {
            ProjectCredential::Keys(keys) => keys.as_slice(),
            ProjectCredential::SdkToken(_) => &[],
        });
        let keys = keys.map(|key| (key.access_key.clone(), key.secret_key.clone())).collect();
        let sandbox = Sandbox::new(sandbox::Settings::new(keys));
        let running = sandbox
            .start(&listen(SocketAddr::from(([127, 0, 0, 1], 0))), None)
            .context("the sandbox")?;
        let address = *running.addresses().first().context("the sandbox has no address")?;
        self.sandbox = Some(running);
        self.adjustment.sandbox = Some(address);
        self.adjustment.apply(settings);
        Ok(())
    }

    /// What it changes in each configuration.
    pub(super) const fn adjustment(&self) -> &Adjustment {
        &self.adjustment
    }
    /// What to paste into a shell.
    pub(super) fn greeting(&self, gateway: &Running, admin: Option<&Running>) -> String {
        let first = |running: &Running| running.addresses().first().map(ToString::to_string);
        let gateway = first(gateway).unwrap_or_default();
        let admin = admin.and_then(first);
        let admin = admin.map(|address| format!("# metrics and health: http://{address}\n"));
        let sandbox = self.adjustment.sandbox.map(|address| address.to_string());
        let [(_, backend), (_, student)] = &self.adjustment.keys;
        format!(
            r#"# whiteboard-gateway {version}, in front of the embedded sandbox. Paste this into a shell:

export GATEWAY=http://{gateway}
export KEY={backend}
export STUDENT_KEY={student}

# Create a room:
ROOM=$(curl -s "$GATEWAY/v5/rooms" -H "token: $KEY" -d '{{"isRecord":false}}' | grep -o '"uuid":"[^"]*"' | cut -d'"' -f4); echo "$ROOM"

# Mint a reader's Room token for it, for an hour:
curl -s "$GATEWAY/v5/tokens/rooms/$ROOM" -H "token: $KEY" -d '{{"role":"reader","lifespan":3600000}}'; echo

# See a refusal: a student may not ban the room.
curl -s -X PATCH "$GATEWAY/v5/rooms/$ROOM" -H "token: $STUDENT_KEY" -d '{{"isBan":true}}'; echo

{admin}# the sandbox itself, to look at what it received and to make it fail: http://{sandbox}
"#,
            version = env!("CARGO_PKG_VERSION"),
            backend = backend.expose(),
            student = student.expose(),
            admin = admin.unwrap_or_default(),
            sandbox = sandbox.unwrap_or_default(),
        )
    }

    /// Stops the sandbox.
    pub(super) fn stop(self) {
        if let Some(running) = self.sandbox {
            running.drain();
        }
    }
}
