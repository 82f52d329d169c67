//! Tessera's server: sockets, threads and sessions around the engine.

pub mod config;
