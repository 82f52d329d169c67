//! Persistence: how what a shard holds outlives the process, without I/O of its own.
//!
//! ```text
//! replay        records of the journal, done again
//! ```
#![forbid(unsafe_code)]

pub mod replay;
