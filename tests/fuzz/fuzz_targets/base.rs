//! A base that is called whole can be loaded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_engine::persist::fuzz::bases_are_loaded(bytes));
