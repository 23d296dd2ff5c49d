//! The fuzzer's way into `src/certificate.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whiteboard_gateway_fuzz::certificate;

fuzz_target!(|der: &[u8]| certificate::run(der));
