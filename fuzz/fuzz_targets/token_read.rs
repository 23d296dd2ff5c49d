//! The fuzzer's way into `src/token_read.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::token_read;

fuzz_target!(|token: &str| token_read::run(token));
