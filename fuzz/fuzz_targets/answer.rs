//! The fuzzer's way into `src/answer.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::answer;

fuzz_target!(|input: &[u8]| answer::run(input));
