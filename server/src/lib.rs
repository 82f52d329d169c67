//! Tessera's server: sockets, threads and sessions around the engine.

#![deny(unsafe_code)]

pub mod config;
pub mod info;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod runtime;
pub mod signal;
