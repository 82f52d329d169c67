//! Whatever is written, a plain reader reads back.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_proto::fuzz::replies_are_read_back(bytes));
