#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heapster_server::fuzz_support::request_access(bytes));
