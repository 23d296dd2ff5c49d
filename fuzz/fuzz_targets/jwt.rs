//! The fuzzer's way into `src/jwt.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::jwt;

fuzz_target!(|input: &str| jwt::run(input));
