//! What is retried, when a region is not asked, and how many requests there may be at once.
//!
//! Decides, waits for nothing and knows no connection, so that its tests own the time.

pub(super) mod breaker;
pub(super) mod concurrency;
pub(super) mod evidence;
pub(super) mod in_flight;
pub(super) mod retry;
pub(super) mod streamed_answers;
#[cfg(test)]
mod test_clock;
pub(super) mod unread_bytes;
