//! The protocol between shards as plain data: no sockets, no threads, no clock.
//!
//! - [`map`] says which shard owns what, and where a command goes; [`set`] is a set of shards;
//! - [`parts`] splits a command over several shards into independent parts, [`merge`] joins their
//!   replies;
//! - [`gathered`] executes commands over shards that one worker holds for a moment;
//! - [`couplings`] says what must be at hand when a key is filled for which clients wait;
//! - [`exec`] holds what a client queues in MULTI and what it watches;
//! - [`round`] is the rule by which a worker runs and sends its connections' commands so that all
//!   see one order.
//!
//! The server's workers drive these types. The simulation takes the rule of rounds from here and
//! plays cuts and loans as the server makes them (its `cut`, `several` and `loan`), step by step.

#![forbid(unsafe_code)]

pub mod couplings;
pub mod exec;
pub mod gathered;
pub mod map;
pub mod merge;
pub mod parts;
pub mod round;
pub mod set;
#[cfg(test)]
mod simulation;

/// The most shards that a server has.
pub const SHARDS_MAX: usize = 256;

pub use crate::shard::ShardId;
pub use gathered::{Gathered, Missing};
pub use map::{Route, ShardMap};
pub use set::ShardSet;
