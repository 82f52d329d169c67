//! What can be wrong with RDB bytes.
#![forbid(unsafe_code)]

/// Why bytes are no RDB value or file. Clients of RESTORE read a text of Redis's instead; this one
/// is for logs and tools.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    /// The bytes end in the middle of something.
    #[error("the data ends too early")]
    Truncated,
    /// The file does not begin as RDB files do.
    #[error("this is no RDB file: it does not begin with REDIS and a version")]
    NotRdb,
    /// The version is one that cannot be read.
    #[error("RDB version {0} is not supported")]
    Version(u32),
    /// The checksum at the end is not that of the bytes.
    #[error("the checksum is {found:016x} where the data's is {expected:016x}")]
    Checksum {
        /// What stands there.
        found: u64,
        /// What should.
        expected: u64,
    },
    /// A byte that names no type of value.
    #[error("unknown type of value {0}")]
    UnknownKind(u8),
    /// A value that only a module can read.
    #[error("a value of the module type '{0}': modules are not supported")]
    Module(String),
    /// Anything else that does not hold.
    #[error("{0}")]
    Corrupt(&'static str),
}
