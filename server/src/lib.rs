//! Tessera's server: sockets, threads and sessions around the engine.

pub mod config;
pub mod info;
pub mod log;
pub mod mesh;
pub mod metrics;
