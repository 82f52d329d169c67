//! Persistence: how what a shard holds outlives the process, without I/O of its own.
//!
//! ```text
//! replay        records of the journal, done again
//! rdb           Redis's format of values and of whole databases
//! snapshot      a capture of the keyspace, made into the pieces of a file
//! ```
#![forbid(unsafe_code)]

pub mod rdb;
pub mod replay;
pub mod snapshot;
