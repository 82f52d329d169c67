//! However a log's directory is spoilt, it is told, and what is left is mended.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| tessera_engine::persist::fuzz::spoilt_logs_are_told_and_mended(bytes)
);
