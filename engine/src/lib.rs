//! Tessera.

pub mod types;
