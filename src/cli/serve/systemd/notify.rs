//! How we are doing, reported to whoever started us (`sd_notify`).
//!
//! Nothing here ever waits or fails a request: a manager that does not listen is not told. The socket
//! is ours, since the one of `sd_notify` waits for its reader and knows no abstract names.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The manager that started this process, if it wants to be told how it is doing.
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names, in `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(crate) fn of_environment() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = address.and_then(|address| {
            let socket = parse(address.as_encoded_bytes()).and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok((socket, address))
            });
            let told = |error: &io::Error| {
                tracing::warn!(%error, "the service manager cannot be told anything: NOTIFY_SOCKET");
            };
            socket.inspect_err(told).ok()
        });
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// How often to give a sign of life: twice as often as it is looked for.
    pub(crate) fn watch_every(&self) -> Option<Duration> {
        self.watchdog.map(|time| (time / 2).max(Duration::from_millis(1)))
    }

    /// Serving, also after a reload; `status` is one line for people.
    pub(crate) fn ready(&self, status: &str) {
        // A line more would be another assignment.
        let status = status.replace(['\n', '\r'], " ");
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Reading the configuration anew; [`Manager::ready`] says when that is over.
    pub(crate) fn reloading(&self) {
        // Linux always knows that time.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// About to end.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Not stuck.
    pub(crate) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn parse(address: &[u8]) -> io::Result<SocketAddr> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    match address {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(address)),
        _ => {
            let why = "neither a path nor a name of the abstract namespace";
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt as _;

    fn manager(address: SocketAddr) -> Manager {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket: Some((socket, address)), watchdog: None }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        assert_eq!(parse(b"/run/it").unwrap().as_pathname().unwrap().to_str(), Some("/run/it"));
        assert_eq!(parse(b"@it").unwrap().as_abstract_name(), Some(&b"it"[..]));
        assert!(parse(b"vsock:2:1234").is_err());
        assert!(parse(b"/a\0b").is_err());
    }

    #[test]
    fn a_status_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        manager(parse(path.as_os_str().as_encoded_bytes()).unwrap()).ready("a\nSTOPPING=1");
        assert_eq!(received(&socket), "READY=1\nSTATUS=a STOPPING=1\n");
    }

    #[test]
    fn a_manager_that_has_gone_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        manager(parse(path.as_os_str().as_encoded_bytes()).unwrap()).alive();
    }

    #[test]
    fn the_time_of_a_reload_is_the_monotonic_one() {
        let name = format!("whiteboard-gateway-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let manager = manager(address);
        manager.reloading();
        let first = received(&socket);
        manager.reloading();
        let time = |text: &str| {
            let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            micros.trim_end().parse::<u64>().unwrap()
        };
        assert!(time(&first) > 0 && time(&received(&socket)) >= time(&first));
    }
}
