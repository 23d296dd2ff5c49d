//! The fuzzer's way into `src/name.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::name;

fuzz_target!(|text: &str| name::run(text));
