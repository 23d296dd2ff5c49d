//! The fuzzer's way into `src/proxy_protocol.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::proxy_protocol;

fuzz_target!(|input: &[u8]| proxy_protocol::run(input));
