//! Persistence: how what a shard holds outlives the process, without I/O of its own.
//!
//! ```text
//! base          loading the snapshot that a log begins with
//! cure          what is left of a damaged directory
//! doubt         what may be lost while a log cannot be written
//! epoch         one order over the logs of all shards
//! export        everything as an RDB file or as requests, for other servers
//! fuzz          what must hold for spoilt files
//! inspect       everything that a directory holds, read as recovery reads it
//! log           writing a log: group commit, segments, failures
//! scan          reading a log: its groups, and where it ends
//! recovery      which epoch is the last one that counts, and loading up to it
//! segment       the form of a log's files
//! manifest      which files there are, and what they mean together
//! envelope      sealed archives: headers and the manifest
//! replay        records of the journal, done again
//! state         what a key has become, as a record
//! rdb           Redis's format of values and of whole databases
//! snapshot      a capture of the keyspace, made into the pieces of a file
//! simulation    shards, logs, a disk and crashes in one thread from one seed
//! ```
//!
//! Where to begin: `epoch` says what is durable, `segment` what lies on the disk, `recovery` what comes
//! back.
#![deny(unsafe_code)]

pub mod base;
pub mod cure;
pub mod doubt;
pub mod envelope;
pub mod epoch;
pub mod export;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod inspect;
pub mod log;
pub mod manifest;
pub mod rdb;
pub mod recovery;
pub mod replay;
pub mod scan;
pub mod segment;
#[cfg(test)]
mod simulation;
pub mod snapshot;
pub mod state;
