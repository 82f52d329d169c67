//! The protocol between shards as plain data: no sockets, no threads, no clock.
//!
//! - [`round`] is the rule by which a worker runs and sends its connections' commands so that all
//!   see one order;
//! - [`coordinator`] takes a transaction over several shards through its course;
//! - [`locks`] is what each shard knows of such transactions;
//! - [`ids`] numbers them.
//!
//! The server's workers and the simulation drive the same types.

#![forbid(unsafe_code)]

pub mod coordinator;
pub mod ids;
pub mod locks;
pub mod round;
#[cfg(test)]
mod simulation;

/// The number of a shard, and of the worker that owns it.
pub type ShardId = u32;
