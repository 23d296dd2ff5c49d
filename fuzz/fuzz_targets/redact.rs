//! The fuzzer's way into `src/redact.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::redact;

fuzz_target!(|text: &str| redact::run(text));
