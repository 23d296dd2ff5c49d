//! The fuzzer's way into `src/path.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::path;

fuzz_target!(|input: &str| path::run(input));
