//! The command line of whiteboard-gateway.
#![forbid(unsafe_code)]

fn main() {}
