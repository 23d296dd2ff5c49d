//! What a service manager and this process tell each other: sockets that it has bound for us, and
//! how we are doing. The words are those of systemd; any manager may speak them.

mod notify;
mod sockets;

pub(super) use notify::Manager;
pub(super) use sockets::{Inherited, Sockets};
