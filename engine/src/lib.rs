//! The storage engine of Tessera: everything that one core owns, without sockets or threads.
//!
//! # Layers
//!
//! Imports point downward only:
//!
//! ```text
//! transaction   commands over several shards: rounds, parts, gathered shards, EXEC, as plain data
//! persist       log and snapshots: how a shard outlives the process
//! script        scripts and functions in Lua, and the host that executes their commands
//! waiting       clients that wait for data, and who of them is served first
//! shard         one keyspace, its clock and its figures; executes commands, does background work
//! command       one row and one function per command, one file per family
//! keyspace      databases of entries: table, deadlines, scanning; who hears of changes
//! notice        what shards tell clients besides replies, and who listens to what
//! journal       what was done to them, as records from which it can be repeated
//! value         what a key can hold
//! types         strings, lists, hashes, sets, sorted sets, streams and their encodings
//! sys           clock and random numbers: real and simulated
//! ```
//!
//! # Invariants
//!
//! - Nothing here reads a clock, a socket, a file or a random device except through `sys`, so that
//!   a whole set of shards runs in one deterministic test thread.
//! - A shard is used by one thread at a time; nothing in it is shared, so nothing in it locks.
//! - A command is one function without a wait inside: it sees and leaves its shard consistent.
#![deny(unsafe_code)]

pub mod command;
pub mod journal;
pub mod keyspace;
pub mod notice;
pub mod persist;
pub mod script;
pub mod shard;
pub mod sys;
pub mod transaction;
pub mod types;
pub mod value;
pub mod waiting;

pub use tessera_proto as proto;
