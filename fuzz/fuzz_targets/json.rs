//! The fuzzer's way into `src/json.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::json;

fuzz_target!(|input: &[u8]| json::run(input));
