//! The protocol between shards as plain data: no sockets, no threads, no clock.
//!
//! [`round`] is the rule by which a worker runs and sends its connections' commands so that all see
//! one order. The server's workers and the simulation drive the same types.

#![forbid(unsafe_code)]

pub mod round;
#[cfg(test)]
mod simulation;

/// The number of a shard, and of the worker that owns it.
pub type ShardId = usize;
