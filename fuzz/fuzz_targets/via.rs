//! The fuzzer's way into `src/via.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::via;

fuzz_target!(|input: &[u8]| via::run(input));
