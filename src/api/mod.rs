//! The whiteboard API as data: the one table of operations and everything that is read off it.
//!
//! Routing, authorization, the choice of a token, body checks, the OpenAPI document and the
//! README's table all come from [`TABLE`]. This module knows what the API takes and gives; it
//! never decides who may do it, never does I/O and never holds a secret.
//!
//! Facts about the API are those of Agora's "Interactive Whiteboard RESTful API" pages.

pub mod host;
mod id;
mod json;
mod lifespan;
pub mod listing;
mod not_json;
pub mod openapi;
mod operation;
mod path;
mod priority;
mod query;
mod region;
mod role;
mod router;
mod schema;
mod table;
mod token_request;

pub(crate) use id::is_uuid;
pub use id::{IdError, RoomId, TaskId};
pub use json::{Json, Object, parse_object, push_text, whole};
pub use lifespan::Lifespan;
pub use not_json::what_it_is;
pub use operation::{
    Access, BodySpec, Feature, Operation, Pace, Query, Target, TargetKind, TokenKind,
};
pub use path::encode_segment;
pub(crate) use path::is_unreserved;
pub use priority::Priority;
pub use region::{Region, RegionError, Regions};
pub use role::{Role, RoleError};
pub use router::{Matched, OperationId, Operations, TableError};
pub(crate) use schema::printable;
pub use schema::{Field, Parameter, Shape, UnknownFields, check_object, nearest};
pub use table::{TABLE, usual_success};
pub use token_request::TokenRequest;
