//! What a table owns, and tearing it down in slices.
//!
//! Only entries that own memory beyond the slab's pages are touched; the others go with their pages.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use super::super::bucket::Slot;
use super::super::entry::{RawEntry, RemovedBody, TAG_OWNER};
use super::super::slab::Slab;
use super::overflow::Overflow;
use super::pool::Pool;

/// One chunk of the slab costs about as much to unmap as this many entries to free.
const CHUNK_COST: usize = 128;

/// Entries and segments of a table. Dropping it drops them all.
pub(super) struct Storage<T> {
    pub(super) pool: Pool,
    pub(super) slab: Slab,
    pub(super) overflow: Overflow,
    /// Buckets of the pool's last segment that have been freed already.
    freed: usize,
    marker: PhantomData<Box<T>>,
}

impl<T> Storage<T> {
    pub(super) fn new() -> Self {
        Self {
            pool: Pool::new(),
            slab: Slab::new(),
            overflow: Overflow::default(),
            freed: 0,
            marker: PhantomData,
        }
    }

    /// Frees for about the cost of `budget` entries and says whether nothing is left.
    fn free(&mut self, budget: usize, sink: &mut impl FnMut(Box<T>)) -> bool {
        let mut left = budget.max(1);
        while left > 0 {
            let spent = self.free_bucket(sink).or_else(|| self.free_overflowed(sink));
            let Some(spent) = spent else {
                // SAFETY: no slot is left, so nobody knows an entry any more.
                return unsafe { self.slab.unmap_chunks(left.div_ceil(CHUNK_COST)) };
            };
            left = left.saturating_sub(spent);
        }
        false
    }

    /// Frees the entries of the next bucket, and its segment after the last one.
    fn free_bucket(&mut self, sink: &mut impl FnMut(Box<T>)) -> Option<usize> {
        let segment = self.pool.last()?;
        // SAFETY: the pool's last segment is alive, and nobody else has a view of it.
        let view = unsafe { segment.view() };
        let mut spent = 1;
        if let Some(bucket) = view.buckets.get(self.freed) {
            self.freed += 1;
            for index in bucket.occupied() {
                spent += self.free_entry(bucket.slot(index), sink);
            }
        } else {
            self.freed = 0;
            // SAFETY: all its entries are freed, the directory is gone; as it is the last of its
            // class, no other moves.
            unsafe { self.pool.free(segment) };
        }
        Some(spent)
    }

    fn free_overflowed(&mut self, sink: &mut impl FnMut(Box<T>)) -> Option<usize> {
        let slot = self.overflow.pop()?;
        Some(1 + self.free_entry(slot, sink))
    }

    fn free_entry(&mut self, slot: Slot, sink: &mut impl FnMut(Box<T>)) -> usize {
        if !slot.has(TAG_OWNER) {
            return 0;
        }
        // SAFETY: slots hold live entries of type T, and this one is not looked at again.
        let body = unsafe { RawEntry::from_address(slot.address()).destroy(&mut self.slab) };
        if let RemovedBody::Object(object) = body {
            sink(object);
        }
        1
    }
}

impl<T> Drop for Storage<T> {
    fn drop(&mut self) {
        while !self.free(usize::MAX, &mut drop) {}
    }
}

/// The contents of a table that was taken away, to be freed in slices. Dropping it frees the rest at
/// once.
pub struct Drain<T> {
    storage: Storage<T>,
}

// SAFETY: as for `Table`: everything is owned, nothing is shared.
unsafe impl<T: Send> Send for Drain<T> {}

impl<T> Drain<T> {
    pub(super) fn new(storage: Storage<T>) -> Self {
        Self { storage }
    }

    /// Frees about `budget` entries' worth, handing objects to `sink`, which may free them in slices of
    /// its own, and says whether nothing is left. A budget of 1,000 takes some 50 to 100 µs.
    pub fn free(&mut self, budget: usize, mut sink: impl FnMut(Box<T>)) -> bool {
        self.storage.free(budget, &mut sink)
    }
}
