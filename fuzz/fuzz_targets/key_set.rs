//! The fuzzer's way into `src/key_set.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::key_set;

fuzz_target!(|document: &[u8]| key_set::run(document));
