//! The `tessera-server` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tessera_server::main_with_args()
}
