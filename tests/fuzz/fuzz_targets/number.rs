//! Numbers that parse are written so that they parse to the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_proto::fuzz::numbers_round_trip(bytes));
