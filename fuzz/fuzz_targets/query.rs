//! The fuzzer's way into `src/query.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::query;

fuzz_target!(|raw: &str| query::run(raw));
