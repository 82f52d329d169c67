//! The `tessera-check` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tessera_server::check::main_with_args()
}
