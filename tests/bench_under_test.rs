//! `tessera-bench`, for its smoke test.

fn main() -> std::process::ExitCode {
    tessera_bench::main_with_args()
}
