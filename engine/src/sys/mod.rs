//! What the engine needs of the machine, as values that a simulation can make up.
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod random;
