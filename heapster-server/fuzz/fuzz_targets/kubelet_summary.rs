#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { std::hint::black_box(heapster_server::uri::print_list(&[])); let _ = bytes; });
