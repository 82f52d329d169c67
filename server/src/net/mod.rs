//! The network layer of one worker: listeners, connections, and the turn that drives them.
//!
//! What: [`network`] holds the connections of a worker and turns completions of the ring into
//! events; [`listener`] opens the listening sockets; [`board`] spreads connections evenly over the
//! workers; [`connection`] and [`buffer`] are what a worker works on.
//!
//! Invariants:
//! - no byte of input is copied when a request arrives whole, and no reply is copied at all;
//! - between reading a request and sending its reply nothing is allocated, hashed or locked;
//! - no connection can make another one wait: filled buffers are given back each turn.

pub mod board;
pub mod buffer;
pub mod connection;
pub mod listener;
pub mod network;
#[cfg(test)]
mod tests;

pub use board::Board;
pub use buffer::Input;
pub use connection::{CloseCause, CloseMode, Connection, ConnectionId, Endpoint};
pub use listener::{BindAddress, ListenConfig, ListenError, Listener};
pub use network::{Counters, NetEvent, Network, NetworkConfig};
