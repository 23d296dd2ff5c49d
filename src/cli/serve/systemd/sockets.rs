//! Sockets that whoever started us has bound and listens on already (`LISTEN_FDS`).
//!
//! Such a socket outlives the process, so connections wait in it while one process takes over from
//! another. What it is for is told by its name, or else by its address.

use std::net::{SocketAddr, TcpListener};
use std::process;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;

use crate::net::ListenAddress;
use crate::server::{LISTEN, Listener};
use crate::text;

/// What was handed down.
#[derive(Default)]
pub(crate) struct Inherited(Vec<InheritedSocket>);

struct InheritedSocket {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
}

/// Who serves which socket, and which addresses are still to be bound.
#[derive(Default)]
pub(crate) struct Sockets {
    /// The listeners of the gateway, with theirs.
    pub(crate) gateway: Vec<Listener>,
    /// Those of the admin listener.
    pub(crate) admin: Vec<TcpListener>,
    /// The address that the admin listener binds itself.
    pub(crate) admin_binds: Option<ListenAddress>,
}

impl Inherited {
    /// Takes what was handed down to this process, and leaves nothing of it in the environment.
    /// Before any thread is started, for the environment has no lock.
    pub(crate) fn take() -> anyhow::Result<Self> {
        // A shell or a supervisor between may have passed on what was meant for itself.
        if text::variable("LISTEN_PID") != Some(process::id().to_string()) {
            return Ok(Self::default());
        }
        let names = text::variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(passed.len());
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let taken = passed.take_tcp_listener(index);
            let taken = taken.with_context(|| format!("the socket {name:?} of LISTEN_FDS"))?;
            let Some(listener) = taken else { continue };
            let address = listener.local_addr()?;
            sockets.push(InheritedSocket { name, listener, address });
        }
        Ok(Self(sockets))
    }

    /// Divides them among those who are configured to listen at these addresses.
    ///
    /// A socket that is named as a listener, or `http` for `[listen]`, or `admin`, takes the place of
    /// all the addresses of that: the manager says then where to listen. Another takes the place of
    /// the address that it has.
    pub(crate) fn divide(
        self,
        gateway: Vec<Listener>,
        admin: Option<ListenAddress>,
    ) -> anyhow::Result<Sockets> {
        let mut sockets = Sockets { gateway, admin: Vec::new(), admin_binds: admin };
        for InheritedSocket { name, listener, address } in self.0 {
            let named = if name == "http" { LISTEN } else { &name };
            let has = |one: &ListenAddress| one.sockets().contains(&address);
            let mut listeners = sockets.gateway.iter_mut();
            if let Some(own) = listeners.find(|one| *one.settings.name == *named) {
                own.settings.addresses.clear();
                own.inherited.push(listener);
            } else if name == "admin" {
                sockets.admin_binds = None;
                sockets.admin.push(listener);
            } else if let Some(own) =
                sockets.gateway.iter_mut().find(|one| one.settings.addresses.iter().any(has))
            {
                own.settings.addresses.retain(|bound| !has(bound));
                own.inherited.push(listener);
            } else if sockets.admin_binds.as_ref().is_some_and(has) {
                sockets.admin_binds = None;
                sockets.admin.push(listener);
            } else {
                bail!(
                    "a socket at {address} was handed down, and neither an address of a listener \
                     nor admin.address is that: name it `http`, `admin` or as one of [listeners] \
                     (FileDescriptorName=), or change the address"
                );
            }
        }
        Ok(sockets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ListenerSettings;

    fn socket(name: &str) -> InheritedSocket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        InheritedSocket { name: name.to_owned(), listener, address }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn listener(name: &str, addresses: &[SocketAddr]) -> Listener {
        let addresses = addresses.iter().copied().map(ListenAddress::from).collect();
        Listener::open(&ListenerSettings::plain(name, addresses)).unwrap()
    }

    fn divided(
        inherited: Vec<InheritedSocket>,
        gateway: Vec<Listener>,
        admin: Option<SocketAddr>,
    ) -> Sockets {
        Inherited(inherited).divide(gateway, admin.map(ListenAddress::from)).unwrap()
    }

    /// How many sockets each listener got, and what it binds itself.
    fn of_gateway(sockets: &Sockets) -> Vec<(usize, Vec<String>)> {
        let one = |one: &Listener| {
            let binds = one.settings.addresses.iter().map(ToString::to_string);
            (one.inherited.len(), binds.collect())
        };
        sockets.gateway.iter().map(one).collect()
    }

    #[test]
    fn without_any_every_address_is_bound() {
        let sockets = divided(vec![], vec![listener(LISTEN, &[at(80), at(81)])], Some(at(82)));
        let binds = vec!["127.0.0.1:80".to_owned(), "127.0.0.1:81".to_owned()];
        assert_eq!(of_gateway(&sockets), [(0, binds)]);
        assert_eq!(sockets.admin_binds, Some(at(82).into()));
    }

    #[test]
    fn a_name_says_what_a_socket_is_for_wherever_it_listens() {
        let named = ["admin", "http", "listen", "internal"].map(socket).into();
        let listeners = vec![
            listener(LISTEN, &[at(80)]),
            listener("internal", &[at(81), at(83)]),
            listener("other", &[at(84)]),
        ];
        let sockets = divided(named, listeners, Some(at(82)));
        let other = vec!["127.0.0.1:84".to_owned()];
        assert_eq!(of_gateway(&sockets), [(2, vec![]), (1, vec![]), (0, other)]);
        assert_eq!((sockets.admin.len(), sockets.admin_binds), (1, None));
    }

    #[test]
    fn a_socket_without_such_a_name_takes_the_place_of_its_address() {
        let (gateway, admin, internal) = (socket("gateway.socket"), socket(""), socket("x"));
        let listeners = vec![
            listener(LISTEN, &[at(80), gateway.address]),
            listener("internal", &[internal.address]),
        ];
        let at_admin = Some(admin.address);
        let sockets = divided(vec![gateway, admin, internal], listeners, at_admin);
        let left = vec!["127.0.0.1:80".to_owned()];
        assert_eq!(of_gateway(&sockets), [(1, left), (1, vec![])]);
        assert_eq!((sockets.admin.len(), sockets.admin_binds), (1, None));
    }

    #[test]
    fn a_socket_that_nobody_wants_is_an_error_with_its_address() {
        let unknown = socket("gateway.socket");
        let address = unknown.address.to_string();
        let listeners = vec![listener(LISTEN, &[at(80)])];
        let error = Inherited(vec![unknown]).divide(listeners, None).err().unwrap().to_string();
        assert!(error.contains(&address) && error.contains("`http`"), "{error}");
    }
}
