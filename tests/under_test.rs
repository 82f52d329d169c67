//! The server that the black-box tests run: exactly what `tessera-server` is.

fn main() -> std::process::ExitCode {
    tessera_server::main_with_args()
}
