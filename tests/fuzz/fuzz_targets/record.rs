//! Whatever is read as a record is written again to the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_engine::persist::fuzz::records_are_read(bytes));
