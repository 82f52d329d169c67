//! What can go wrong, in words for the person at the terminal.

use std::io;
use std::path::PathBuf;

/// A reason to stop. `Display` is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The command line is wrong.
    #[error("{0} (see --help)")]
    Usage(String),
    /// A program that is needed is not there, or does not start.
    #[error("{program}: {error}")]
    Program {
        /// Which program.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A server did not come up, or broke its protocol.
    #[error("{server}: {what}")]
    Server {
        /// Which server.
        server: String,
        /// What happened.
        what: String,
    },
    /// A load tool failed or printed something unknown.
    #[error("{tool}: {what}")]
    Load {
        /// Which tool.
        tool: String,
        /// What it said.
        what: String,
    },
    /// A figure of /proc or a file could not be read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The connection to a server failed.
    #[error("connection to the server: {0}")]
    Connection(#[from] io::Error),
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The counts differ from the recorded ones.
    #[error("{0}")]
    Instructions(String),
}
