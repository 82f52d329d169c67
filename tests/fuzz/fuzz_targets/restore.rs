//! What RESTORE lets in can be dumped and restored again.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| tessera_engine::persist::rdb::fuzz::what_is_restored_can_be_dumped(bytes)
);
