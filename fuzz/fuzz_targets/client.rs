//! The fuzzer's way into `src/client.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::client;

fuzz_target!(|input: &str| client::run(input));
