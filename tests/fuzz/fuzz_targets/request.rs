//! Splitting the input anywhere changes neither the requests nor the error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tessera_proto::fuzz::any_split_agrees(bytes));
