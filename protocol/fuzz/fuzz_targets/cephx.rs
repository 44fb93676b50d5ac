#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| msgr_protocol_fuzz::cephx(data));
