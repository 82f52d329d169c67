//! Tessera's storage engine: no sockets, no threads.
#![deny(unsafe_code)]

pub mod keyspace;
pub mod types;
