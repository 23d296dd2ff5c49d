//! The fuzzer's way into `src/api_key.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::api_key;

fuzz_target!(|input: &str| api_key::run(input));
