//! The start of the admin listener: its sockets, its certificate, and who may ask there.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::systemd::Sockets;
use crate::admin::{self, AdminService, AdminTransport, BesideSandbox, ProcessStatus};
use crate::config::{EffectiveConfiguration, Source, show};
use crate::net::ListenAddress;
use crate::server::{self, Bounds, Listener, Running, Tls, TlsFileError};

/// The admin listener before it is bound.
pub(super) struct AdminStart {
    listener: Listener,
}

impl AdminStart {
    /// Reads its certificates.
    pub(super) fn read(settings: &admin::AdminListenerSettings) -> Result<Self, TlsFileError> {
        Ok(Self { listener: Listener::open(&settings.of_server())? })
    }

    /// The certificates of these listeners and of this one, by their names.
    pub(super) fn certificates_with(&self, others: &[Listener]) -> Vec<(Arc<str>, Arc<Tls>)> {
        let encrypted = |one: &Listener| Some((Arc::clone(&one.settings.name), one.tls.clone()?));
        others.iter().chain([&self.listener]).filter_map(encrypted).collect()
    }

    /// How it is reached, by these of the sockets.
    pub(super) fn transport(&self, sockets: &Sockets) -> io::Result<AdminTransport> {
        let inherited = sockets.admin.iter().map(|socket| socket.local_addr().map(|at| at.ip()));
        let inherited = inherited.collect::<io::Result<Vec<_>>>()?;
        let on_loopback = sockets.admin_binds.as_ref().is_none_or(ListenAddress::is_local)
            && inherited.iter().all(|address| address.to_canonical().is_loopback());
        Ok(AdminTransport { on_loopback, tls: self.listener.tls.clone() })
    }

    /// Starts it; `None` where nobody shall reach one.
    pub(super) fn start(
        mut self,
        (address, mut inherited): (Option<ListenAddress>, Vec<TcpListener>),
        bounds: Bounds,
        (status, transport): (&Arc<ProcessStatus>, AdminTransport),
        sandbox: Option<BesideSandbox>,
    ) -> io::Result<Option<Running>> {
        if address.is_none() && inherited.is_empty() {
            return Ok(None);
        }
        // One address may have as many as there are: everyone on loopback is one.
        let bounds = Bounds { drain: Duration::from_secs(1), per_address: None, ..bounds };
        self.listener.settings.addresses = address.into_iter().collect();
        self.listener.inherited.append(&mut inherited);
        let listeners = vec![self.listener.settings.clone()];
        let settings = server::Settings { listeners, workers: Some(1), bounds };
        let status = Arc::clone(status);
        let make =
            move |_| AdminService::new(Arc::clone(&status), transport.clone(), sandbox.clone());
        server::start(&settings, vec![self.listener], make).map(Some)
    }
}

/// The configuration as it counts, for operators to look at: that of this version, and not what the
/// file may say by now.
pub(super) fn shown(
    access: &admin::AccessSettings,
    (source, environment): (&Source, &[(String, String)]),
    version: &str,
) -> Option<String> {
    if access.operators.is_empty() {
        return None;
    }
    let shown = show(source, environment).ok().filter(|shown| shown.version == version);
    Some(shown.map_or_else(
        || {
            // It is read again at once, since it has changed.
            let why = "the file has changed since it was read: ask again in a moment";
            serde_json::json!({ "version": version, "error": why }).to_string()
        },
        |shown: EffectiveConfiguration| shown.json(false).to_string(),
    ))
}
