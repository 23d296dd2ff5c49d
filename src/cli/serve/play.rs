//! `serve --sandbox`: the sandbox in place of the whiteboard service, keys made for this run,
//! and lines to paste into a shell.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::adjustment::Adjustment;
use super::arguments::ServeArgs;
use super::keys::{self, SandboxKeys};
use super::systemd::Sockets;
use crate::admin::{BesideSandbox, SandboxControl, TryPage};
use crate::cli::sandbox::listen;
use crate::config::Settings;
use crate::net::ListenAddress;
use crate::sandbox::{self, Sandbox};
use crate::server::Running;
use crate::token::ProjectCredential;

/// A sandbox and two callers of it.
pub(super) struct Play {
    /// What it changes in each configuration.
    pub(super) adjustment: Adjustment,
    sandbox: Option<(Sandbox, Running)>,
    /// The admin listener, where its port is a free one: the origin of its page must be known before
    /// the gateway is made.
    admin: Option<TcpListener>,
    /// The port that the sandbox is to have; 0 for a free one.
    port: u16,
}

impl SandboxControl for Sandbox {
    fn requests(&self) -> Value {
        Self::requests(self)
    }

    fn fault(&self) -> Value {
        Self::fault(self)
    }

    fn set_fault(&self, fault: &Value) -> Result<Value, String> {
        Self::set_fault(self, fault)
    }

    fn clear_fault(&self) -> Value {
        Self::clear_fault(self)
    }
}

impl Play {
    /// Makes the keys, or reads those of the file.
    pub(super) fn new(arguments: &ServeArgs) -> anyhow::Result<Self> {
        let keys = match &arguments.keys {
            Some(path) => keys::kept_in(path)?,
            None => keys::generate()?,
        };
        let port = arguments.sandbox_port.unwrap_or_default();
        let adjustment = Adjustment { keys, sandbox: None, admin: None };
        Ok(Self { adjustment, sandbox: None, admin: None, port })
    }

    /// Starts the sandbox and points the settings at it.
    pub(super) fn start(&mut self, settings: &mut Settings) -> anyhow::Result<()> {
        let keys = settings.gateway.projects.iter().flat_map(|project| match &project.credential {
            ProjectCredential::Keys(keys) => keys.as_slice(),
            ProjectCredential::SdkToken(_) => &[],
        });
        let keys = keys.map(|key| (key.access_key.clone(), key.secret_key.clone())).collect();
        let regions = settings.gateway.regions.iter().map(|region| region.as_str().to_owned());
        let regions = regions.collect();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let taken = settings.server.addresses().chain(&settings.admin.listener.address);
        let taken = taken.map(ListenAddress::port).any(|port| port == Some(self.port));
        ensure!(
            self.port == 0 || !taken,
            "--sandbox-port {} is the port of `listen.address` or `admin.address`: choose another",
            self.port
        );
        let sandbox = Sandbox::new(sandbox::Settings { regions, ..sandbox::Settings::new(keys) });
        let listen = listen(address);
        let running =
            sandbox.start(&listen, listen.open()?).context("the sandbox (--sandbox-port)")?;
        let address = *running.addresses().first().context("the sandbox has no address")?;
        self.sandbox = Some((sandbox, running));
        self.adjustment.sandbox = Some(address);
        self.adjustment.admin = self.admin_address(settings.admin.listener.address.as_ref())?;
        self.adjustment.apply(settings);
        Ok(())
    }

    /// Where the admin listener will be, if it is on loopback: elsewhere others could read its page
    /// and the keys in it.
    fn admin_address(
        &mut self,
        configured: Option<&ListenAddress>,
    ) -> anyhow::Result<Option<SocketAddr>> {
        let address = match configured {
            Some(ListenAddress::Ip(address)) if address.ip().to_canonical().is_loopback() => {
                *address
            }
            Some(ListenAddress::Localhost(port)) => (Ipv4Addr::LOCALHOST, *port).into(),
            _ => return Ok(None),
        };
        if address.port() != 0 {
            return Ok(Some(address));
        }
        let listener =
            TcpListener::bind(address).context("the admin listener ([admin] address)")?;
        let address = listener.local_addr()?;
        self.admin = Some(listener);
        Ok(Some(address))
    }

    /// Gives the admin listener to those that are started.
    pub(super) fn lend(&mut self, sockets: &mut Sockets) {
        if let Some(listener) = self.admin.take().filter(|_| sockets.admin_binds.is_some()) {
            sockets.admin.push(listener);
            sockets.admin_binds = None;
        }
    }

    /// What the admin listener has of it.
    pub(super) fn beside(&self, gateway: &Running) -> Option<BesideSandbox> {
        let (sandbox, _) = self.sandbox.as_ref()?;
        let control = Arc::new(sandbox.clone());
        Some(BesideSandbox { try_page: self.page(gateway), control })
    }

    /// The page on which a person tries the gateway.
    fn page(&self, gateway: &Running) -> Option<TryPage> {
        let address =
            gateway.addresses().first().copied().filter(|_| self.adjustment.admin.is_some())?;
        let keys = self.adjustment.keys.callers.iter().map(|key| (key.owner, key.key.expose()));
        TryPage::new(&format!("{}://{}", scheme(gateway), from_here(address)), keys)
    }

    /// What to paste into a shell, and what is where.
    ///
    /// There is no comment in it: an interactive zsh takes none, so that an apostrophe in one would
    /// open a quote which swallows the lines that follow.
    pub(super) fn greeting(&self, gateway: &Running, admin: Option<&Running>) -> String {
        let first = |running: &Running| running.addresses().first().copied();
        let mut exports = String::new();
        let mut export = |name: &str, value: &str| {
            _ = writeln!(exports, "export {name}={}", word(value));
        };
        let addresses = [
            ("GATEWAY", scheme(gateway), first(gateway)),
            ("ADMIN", admin.map_or("http", scheme), admin.and_then(first)),
            ("SANDBOX", "http", self.adjustment.sandbox),
        ];
        for (name, scheme, address) in addresses {
            if let Some(address) = address {
                export(name, &format!("{scheme}://{}", from_here(address)));
            }
        }
        let SandboxKeys { callers, operator } = &self.adjustment.keys;
        for key in callers.iter().chain([operator]) {
            export(key.variable, key.key.expose());
        }
        let page = self.adjustment.admin.filter(|_| admin.is_some());
        let page = page.map(|at| {
            format!(
                "\nIn a browser, each operation can be tried at http://{at}/try, and http://{at}/ \
                     shows the gateway to whoever has WBG_ADMIN_KEY."
            )
        });
        let page = page.unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "whiteboard-gateway {version}, in front of the embedded sandbox. Paste this into a shell:\n\n\
             {exports}\n{LINES}\n{WHERE}{page}\n{WHAT}\n"
        )
    }

    /// Stops the sandbox.
    pub(super) fn stop(self) {
        if let Some((_, running)) = self.sandbox {
            running.drain();
        }
    }
}

/// The commands of the greeting, which the README shows as well.
const LINES: &str = r#"echo "A new room:"
ROOM=$(curl -s "$GATEWAY/v5/rooms" -H "token: $KEY" -d '{"isRecord":false}' | grep -o '"uuid":"[^"]*"' | cut -d'"' -f4); echo "$ROOM"

echo "A Room token for it, of a reader and for an hour:"
curl -s "$GATEWAY/v5/tokens/rooms/$ROOM" -H "token: $KEY" -d '{"role":"reader","lifespan":3600000}'; echo

echo "A refusal, since a student may not ban it:"
curl -s -X PATCH "$GATEWAY/v5/rooms/$ROOM" -H "token: $STUDENT_KEY" -d '{"isBan":true}'; echo
"#;

/// The end of the greeting.
const WHERE: &str = "GATEWAY is the gateway, ADMIN its health, metrics and admin API, SANDBOX the whiteboard \
                     service that the sandbox stands in for.";
const WHAT: &str = "\
The sandbox says at $SANDBOX/ how to make it fail and how to see what it received. Ctrl-C stops all of it.";

/// What is spoken at the first address.
fn scheme(gateway: &Running) -> &'static str {
    let encrypted = gateway.bound().first().is_some_and(|bound| bound.tls);
    if encrypted { "https" } else { "http" }
}

/// Where a listener is reached from this machine.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A word of a shell: the brackets of an IPv6 address are a pattern to some.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/._-".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{text}'") }
}
