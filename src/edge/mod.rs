//! What the head of a request says before its caller is known: the address of the client, the id and
//! the trace of the request, the origin of the page that sends it, what no browser may send, and the
//! proxies that it has been through.
//!
//! Each rule has the file of its name. They look at the head alone; no I/O.

pub(crate) mod browser;
mod client_address;
pub(crate) mod cors;
mod fields;
mod forwarded;
mod origin;
mod request_id;
mod trace;
mod via;

pub use client_address::{ClientField, TrustedProxies};
pub use cors::CorsSettings;
pub(crate) use fields::HeadFields;
pub use origin::{OriginError, OriginPattern};
pub(crate) use request_id::RequestId;
pub(crate) use trace::RequestTrace;
pub use via::check_loop;
