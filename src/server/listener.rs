//! Listening sockets: one per worker on the same port, so that the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// As many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of one address.
pub(super) struct Listeners {
    /// The address, with its real port.
    pub(super) address: SocketAddr,
    /// One for each worker.
    pub(super) sockets: Vec<TcpListener>,
}

/// Binds `count` sockets with `SO_REUSEPORT`.
///
/// With `SO_REUSEPORT` a second process of the same user would bind the same port without a word
/// and take half of the requests; so one socket is bound without it first, unless that is wanted.
/// That one also finds the number for port 0.
pub(super) fn bind(address: SocketAddr, count: usize, share: bool) -> io::Result<Listeners> {
    let probed = if share && address.port() != 0 {
        address
    } else {
        socket(address, false).and_then(|probe| probe.local_addr()).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    ": another process serves it (listen.share allows that)"
                }
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on {address}{hint}: {error}"))
        })?
    };
    let sockets = (0..count).map(|_| socket(probed, true)).collect::<io::Result<_>>()?;
    Ok(Listeners { address: probed, sockets })
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the process before that wait for their last packets must not stop this one.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, false).unwrap();
        assert_ne!(listeners.address.port(), 0);
        for socket in &listeners.sockets {
            assert_eq!(socket.local_addr().unwrap(), listeners.address);
        }
    }

    #[test]
    fn a_port_that_is_served_is_an_error_unless_it_is_to_be_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let error = bind(first.address, 1, false).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.address.to_string()), "{error}");
        assert!(bind(first.address, 1, true).is_ok());
    }
}
