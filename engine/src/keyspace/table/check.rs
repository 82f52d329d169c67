//! A full check of the table's invariants, for tests and debug commands.
#![allow(unsafe_code)]

use super::super::bucket::{OVERFLOW_MANY, SLOTS};
use super::super::entry::{RawEntry, TAG_DEADLINE};
use super::super::hash::fingerprint;
use super::super::segment::{SIZE_SHARED_MIN, Segment, View, slot_bits};
use super::Table;
use super::resize::hash_of;

#[derive(Default)]
struct Sums {
    len: usize,
    volatile: usize,
    entry_bytes: usize,
}

impl<T> Table<T> {
    /// Panics if any invariant of the table does not hold. Visits every entry.
    pub fn check(&self) {
        self.directory.check();
        let mut sums = Sums::default();
        for segment in self.storage.pool.segments() {
            // SAFETY: the pool lists live segments, and the table is borrowed.
            let view = unsafe { segment.view() };
            assert_eq!(self.directory.segment(view.header.prefix), segment);
            assert!(view.depth == 0 || segment.size() >= SIZE_SHARED_MIN);
            self.check_segment(segment, view, &mut sums);
        }
        let overflow = &self.storage.overflow;
        for (hash, _, slot) in overflow.range(0, u64::MAX) {
            assert_eq!(hash_of(slot.address(), &self.seed).0, hash);
            assert!(!self.is_captured() || self.capture.has(slot));
            sums.entry_bytes += entry_bytes(slot.address(), slot.tags());
        }
        assert_eq!(sums.len + overflow.len(), self.len);
        assert_eq!(sums.volatile + overflow.volatile(), self.volatile);
        assert_eq!(sums.entry_bytes, self.storage.slab.used_bytes());
        assert!(self.reserved_bytes() >= self.used_bytes());
    }

    fn check_segment(&self, segment: Segment, view: View<'_>, sums: &mut Sums) {
        let size = segment.size();
        let mut passed = vec![0usize; size];
        let (mut len, mut volatile) = (0, 0);
        for (at, bucket) in view.buckets.iter().enumerate() {
            for index in bucket.occupied() {
                let slot = bucket.slot(index);
                let hash = hash_of(slot.address(), &self.seed).0;
                assert_eq!(bucket.fingerprint(index), fingerprint(hash));
                assert_eq!(slot.bits(), slot_bits(hash, view.depth));
                assert_eq!(self.directory.segment(hash), segment);
                let mut step = view.home_of(slot);
                while step != at {
                    passed[step] += 1;
                    step = (step + 1) % size;
                }
                self.check_mark(hash, slot);
                len += 1;
                volatile += usize::from(slot.has(TAG_DEADLINE));
                sums.entry_bytes += entry_bytes(slot.address(), slot.tags());
            }
        }
        for (bucket, &passed) in view.buckets.iter().zip(&passed) {
            let counted = bucket.overflow();
            assert!(counted == OVERFLOW_MANY || usize::from(counted) == passed);
        }
        assert!(len <= size * SLOTS);
        assert_eq!((view.header.len as usize, view.header.volatile as usize), (len, volatile));
        sums.len += len;
        sums.volatile += volatile;
    }
}

/// Bytes of the entry at `address`, whose tags must be `tags`.
fn entry_bytes(address: usize, tags: u64) -> usize {
    // SAFETY: slots hold live entries.
    let entry = unsafe { RawEntry::from_address(address) };
    // SAFETY: as above.
    unsafe {
        assert_eq!(entry.tags(), tags);
        entry.allocated_bytes()
    }
}
