//! Connections to the service: how one is made, who keeps it, what is written and read on it, and
//! how long anything may take. What an answer means is known above.

pub(super) mod connect;
pub(super) mod deadline;
pub(super) mod head;
pub(super) mod http1;
pub(super) mod http2;
mod last_timeout;
pub(super) mod network;
pub(super) mod pool;
pub(super) mod service;
pub(super) mod shared;
