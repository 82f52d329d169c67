//! Any bytes as a manifest end in one that says the same again, or in an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_engine::persist::fuzz::manifests_are_read(bytes));
