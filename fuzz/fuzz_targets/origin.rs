//! The fuzzer's way into `src/origin.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::origin;

fuzz_target!(|input: &str| origin::run(input));
