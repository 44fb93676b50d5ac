#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| msgr_transport_fuzz::side_channel(data));
