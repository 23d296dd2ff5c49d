//! What is asked of the service: a call, the head that it is sent with, and its body.
//!
//! The lowest floor of `upstream`: it knows no connection and no answer.

pub(super) mod authority;
pub(super) mod body;
pub(super) mod call;
pub(super) mod error;
pub(super) mod outgoing;
mod replay_buffer;
pub(super) mod upload;
