//! The fuzzer's way into `src/upstream_answer.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::upstream_answer;

fuzz_target!(|input: &[u8]| upstream_answer::run(input));
