#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heapster_query::fuzz_support::promql_parse(bytes));
