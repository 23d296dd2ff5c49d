//! The fuzzer's way into `src/token_forge.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::token_forge;

fuzz_target!(|input: &str| token_forge::run(input));
