//! Sockets that whoever started us has bound and listens on already (`LISTEN_FDS`).
//!
//! Such a socket outlives the process, so connections wait in it while one process takes over from
//! another. What it is for is told by its name, or else by its address.

use std::net::{SocketAddr, TcpListener};
use std::process;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;

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
    /// Those of the gateway.
    pub(crate) gateway: Vec<TcpListener>,
    /// The addresses that the gateway binds itself.
    pub(crate) gateway_binds: Vec<SocketAddr>,
    /// Those of the admin listener.
    pub(crate) admin: Vec<TcpListener>,
    /// The address that the admin listener binds itself.
    pub(crate) admin_binds: Option<SocketAddr>,
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
    /// A socket that is named `http` or `admin` takes the place of all the addresses of its kind:
    /// the manager says then where to listen. Another takes the place of the address that it has.
    pub(crate) fn divide(
        self,
        gateway: &[SocketAddr],
        admin: Option<SocketAddr>,
    ) -> anyhow::Result<Sockets> {
        let mut sockets =
            Sockets { gateway_binds: gateway.to_vec(), admin_binds: admin, ..Sockets::default() };
        for InheritedSocket { name, listener, address } in self.0 {
            match name.as_str() {
                "http" => {
                    sockets.gateway_binds.clear();
                    sockets.gateway.push(listener);
                }
                "admin" => {
                    sockets.admin_binds = None;
                    sockets.admin.push(listener);
                }
                _ if gateway.contains(&address) => {
                    sockets.gateway_binds.retain(|bound| *bound != address);
                    sockets.gateway.push(listener);
                }
                _ if admin == Some(address) => {
                    sockets.admin_binds = None;
                    sockets.admin.push(listener);
                }
                _ => bail!(
                    "a socket at {address} was handed down, and neither listen.address nor \
                     admin.address is that: name it `http` or `admin` (FileDescriptorName=), or \
                     change the address"
                ),
            }
        }
        Ok(sockets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str) -> InheritedSocket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        InheritedSocket { name: name.to_owned(), listener, address }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn without_any_every_address_is_bound() {
        let sockets = Inherited::default().divide(&[at(80), at(81)], Some(at(82))).unwrap();
        assert_eq!(sockets.gateway_binds, [at(80), at(81)]);
        assert_eq!(sockets.admin_binds, Some(at(82)));
    }

    #[test]
    fn a_name_says_what_a_socket_is_for_wherever_it_listens() {
        let inherited = Inherited(vec![socket("admin"), socket("http"), socket("http")]);
        let sockets = inherited.divide(&[at(80)], Some(at(82))).unwrap();
        assert_eq!((sockets.gateway.len(), sockets.admin.len()), (2, 1));
        assert_eq!((sockets.gateway_binds.as_slice(), sockets.admin_binds), (&[][..], None));
    }

    #[test]
    fn a_socket_without_such_a_name_takes_the_place_of_its_address() {
        let (gateway, admin) = (socket("gateway.socket"), socket(""));
        let addresses = [at(80), gateway.address];
        let at_admin = Some(admin.address);
        let sockets = Inherited(vec![gateway, admin]).divide(&addresses, at_admin).unwrap();
        assert_eq!((sockets.gateway.len(), sockets.admin.len()), (1, 1));
        assert_eq!((sockets.gateway_binds.as_slice(), sockets.admin_binds), (&[at(80)][..], None));
    }

    #[test]
    fn a_socket_that_nobody_wants_is_an_error_with_its_address() {
        let unknown = socket("gateway.socket");
        let address = unknown.address.to_string();
        let error = Inherited(vec![unknown]).divide(&[at(80)], None).err().unwrap().to_string();
        assert!(error.contains(&address) && error.contains("`http`"), "{error}");
    }
}
