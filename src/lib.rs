//! whiteboard-gateway: an authenticating reverse proxy and API gateway in front of Agora's
//! Interactive Whiteboard RESTful API.
#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod caller;
pub mod cli;
pub mod config;
pub mod failure;
pub mod gateway;
pub mod limit;
pub mod policy;
pub mod sandbox;
pub mod server;
pub mod telemetry;
pub mod token;
pub mod upstream;
