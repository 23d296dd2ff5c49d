//! The files that a gateway goes by, and how they change.

use std::path::{Path, PathBuf};

use crate::identity::{Identity, new_key, replace, slot};

/// The files of a soak.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    /// The key of the callers that are there all the time.
    pub(crate) key: String,
    /// Where the gateway listens.
    pub(crate) port: u16,
    /// Where the upstream does.
    pub(crate) upstream: u16,
    pub(crate) identity: Identity,
}

impl World {
    /// Writes everything that a start needs.
    pub(crate) fn new(folder: &Path, port: u16, upstream: u16) -> anyhow::Result<Self> {
        let identity = Identity::new(folder)?;
        let (folder, key) = (folder.to_owned(), new_key()?);
        let world = Self { folder, key, port, upstream, identity };
        world.configure(0, None)?;
        Ok(world)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// Another configuration, with another limit, and a caller more when a key is given.
    pub(crate) fn configure(&self, round: u32, guest: Option<&str>) -> anyhow::Result<()> {
        let (port, upstream, rate) = (self.port, self.upstream, 1_000_000 + round);
        let slot = slot(&self.key)?;
        let guest = match guest {
            Some(key) => {
                let slot = self::slot(key)?;
                format!("[callers.guest]\nprofile = \"backend\"\nkeys = [{slot}]\n")
            }
            None => String::new(),
        };
        let text = format!(
            r#"
[listen]
address = "127.0.0.1:{port}"
share = true
workers = 2
pre_drain = "2s"
drain = "15s"
[listen.tls]
certificate = "tls/certificate.pem"
key = "tls/key.pem"
[log]
format = "json"
access = "./access.log"
[upstream]
url = "http://127.0.0.1:{upstream}"
[projects.classroom]
keys = [{{ access_key = "soak", secret_key = {{ env = "SOAK_SK" }} }}]
[profiles.backend]
project = "classroom"
allow = ["rooms.create", "rooms.get", "tokens.room"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
limit = {{ rate = "{rate}/s", burst = {rate} }}
[callers.load]
profile = "backend"
keys = [{slot}]
[issuers.soak]
issuer = "https://idp.example"
audience = "whiteboard"
key_file = "keys.json"
profile = "backend"
{guest}"#
        );
        replace(&self.config(), &text)
    }

    /// A configuration that cannot be used.
    pub(crate) fn break_configuration(&self) -> anyhow::Result<()> {
        replace(&self.config(), "[listen\naddress = 7\n")
    }
}
