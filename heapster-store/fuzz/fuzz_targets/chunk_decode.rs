#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heapster_store::fuzz_support::chunk_decode(bytes));
