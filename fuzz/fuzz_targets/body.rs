//! The fuzzer's way into `src/body.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::body;

fuzz_target!(|body: &[u8]| body::run(body));
