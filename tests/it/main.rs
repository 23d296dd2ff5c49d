//! The integration tests: one crate, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support code of tests may panic")]

mod command_line;
mod house;
mod support;
