//! What the engine needs of the machine, as values that a simulation can make up.
#![deny(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod prefetch;
pub mod random;
