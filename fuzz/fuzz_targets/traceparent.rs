//! The fuzzer's way into `src/traceparent.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::traceparent;

fuzz_target!(|input: &[u8]| traceparent::run(input));
