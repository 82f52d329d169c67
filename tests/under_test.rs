//! The server that the black-box tests run: what `tessera-server` is, built so that the environment
//! can ask for faults.

fn main() -> std::process::ExitCode {
    tessera_server::main_with_args()
}
