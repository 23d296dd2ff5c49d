//! The fuzzer's way into `src/framing.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::framing;

fuzz_target!(|input: &[u8]| framing::run(input));
