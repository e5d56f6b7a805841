#![no_main]
// The model lies with the tests, which run its corpus; it needs nothing but the public interface.
#[path = "../../tests/it/store_model.rs"]
mod store_model;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/it/support.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store_model::run(bytes));
