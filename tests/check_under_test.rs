//! The program that the black-box tests of `tessera-check` run: exactly what that is.

fn main() -> std::process::ExitCode {
    tessera_server::check::main_with_args()
}
