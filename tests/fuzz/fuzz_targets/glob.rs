//! The glob matcher agrees with the recursive definition.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_proto::fuzz::glob_agrees(bytes));
