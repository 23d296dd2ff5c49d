//! The fuzzer's way into `src/head.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::head;

fuzz_target!(|input: &[u8]| head::run(input));
