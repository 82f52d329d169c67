//! The runtime of one worker thread: executor, ring, sleep and wake.
//!
//! What: [`executor`] starts the worker threads, [`background`] runs what may wait, [`file`] is what such
//! work writes, [`ring`] moves bytes between sockets and memory, [`wake`] ends a worker's sleep from
//! another thread, and [`pace`] decides how a worker waits.
//!
//! Invariant: only [`executor`], [`background`], [`file`] and the parking in [`pace`] name glommio, and
//! only [`ring`] names io_uring, so that either can be replaced.

pub mod background;
mod error;
pub mod executor;
pub mod file;
#[allow(unsafe_code)]
pub mod pace;
#[allow(unsafe_code)]
pub mod ring;
#[cfg(test)]
mod tests;
#[allow(unsafe_code)]
pub mod wake;

pub use error::RuntimeError;
