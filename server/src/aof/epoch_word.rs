//! The epoch in which rounds are, as all workers read it.
//!
//! Invariants:
//! - it is read between entering and leaving the cut, and moves on within one: so all places that are
//!   taken in an epoch are before all of the next (checked with loom, `cut::model`);
//! - it never falls.
#![forbid(unsafe_code)]

use crate::mesh::sync::{AtomicU64, Ordering::SeqCst};

/// The number of the present epoch; 0 without a log.
pub(crate) struct EpochWord(AtomicU64);

impl EpochWord {
    /// Begins with `epoch`.
    pub(crate) fn new(epoch: u64) -> Self {
        Self(AtomicU64::new(epoch))
    }

    /// The present epoch.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Begins the next one.
    pub(crate) fn begin(&self, epoch: u64) {
        self.0.store(epoch, SeqCst);
    }
}
