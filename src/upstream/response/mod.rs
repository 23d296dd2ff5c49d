//! What came of it: an answer as far as it is read before the caller gets a byte, what it means, and
//! why there is none.

pub(super) mod body;
pub(super) mod error;
pub(super) mod failure_body;
pub(super) mod json;
pub(super) mod normalize;
pub(super) mod read;
