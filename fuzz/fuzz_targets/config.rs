//! The fuzzer's way into `src/config.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::config;

fuzz_target!(|input: &str| config::run(input));
