//! `tessera-bench`: see the library's head.
#![forbid(unsafe_code)]

/// The server's allocator, so that the instruction counts are the server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tessera_bench::main_with_args()
}
