//! However a file is cut into chunks, it says the same.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| tessera_engine::persist::rdb::fuzz::any_chunks_agree(bytes)
);
