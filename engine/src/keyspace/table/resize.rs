//! Growing and shrinking, one or two segments at a time.
//!
//! A segment grows by four buckets when 90 % of its slots are taken (or when an entry finds no place
//! near its home), and at 64 buckets splits in two by the next bit of the hash. A segment less than
//! 62 % full steps down; at 32 buckets it merges with its buddy if both fit with room to spare. The
//! bounds lie far enough apart that no key inserted and removed again can make a segment go back and forth.
#![allow(unsafe_code)]

use super::super::bucket::SLOTS;
use super::super::entry::RawEntry;
use super::super::hash::{KeyHash, Seed};
use super::super::segment::{
    DEPTH_MAX, Filler, SIZE_MAX, SIZE_SHARED_MIN, SIZES, Segment, View, next_prefix_bit,
    opens_window, slot_bits, slot_bits_before,
};
use super::Table;
use super::loading::Growth;
use crate::sys::prefetch::prefetch;

/// Buckets of an empty table.
pub(super) const SIZE_FIRST: usize = SIZES[0];
/// Two buddies merge when they hold no more than this together: 69 % of the largest segment.
const MERGE_MAX: usize = SIZE_MAX * SLOTS * 69 / 100;
/// A directory of this size or less may double whatever the number of keys.
const DIRECTORY_FREE: usize = 64;
/// Beyond that it must have at least this many keys a word. Hashes that are spread evenly need 200
/// and more; only crafted ones would go below, and they are sent to the overflow.
const KEYS_PER_WORD_MIN: usize = 32;

/// The least size, at least `min` buckets, that `len` entries fill to no more than 85 %.
pub(super) fn size_for(len: usize, min: usize) -> usize {
    let fits = |&size: &usize| size >= min && len * 100 <= size * SLOTS * 85;
    SIZES.iter().copied().find(fits).unwrap_or(SIZE_MAX)
}

fn size_after(size: usize) -> Option<usize> {
    SIZES.iter().copied().find(|&other| other > size)
}

/// The least size of a segment of this depth.
pub(super) fn size_least(depth: u32) -> usize {
    if depth == 0 { SIZE_FIRST } else { SIZE_SHARED_MIN }
}

/// Entries below which a segment should step down: 62 % of its slots, while it is alone 30 %.
#[inline]
pub(super) fn shrink_below(size: usize, depth: u32) -> usize {
    if depth == 0 && size <= SIZE_SHARED_MIN {
        if size == SIZE_FIRST { 0 } else { size * SLOTS * 30 / 100 }
    } else {
        size * SLOTS * 62 / 100
    }
}

impl<T> Table<T> {
    /// Makes room in the segment of `hash`, and says whether that was possible.
    #[cold]
    pub(super) fn grow(&mut self, hash: u64) -> bool {
        self.directory.migrate_step();
        let segment = self.directory.segment(hash);
        let size = size_after(segment.size());
        match size.map(|size| size.max(self.growth.size_min())) {
            Some(size) => {
                self.resize(segment, size);
                true
            }
            None => self.split(segment),
        }
    }

    /// Gives room back after a removal, if the segment of `hash` has become sparse.
    #[inline]
    pub(super) fn shrink(&mut self, hash: u64) {
        let segment = self.directory.segment(hash);
        let len = self.directory.view(hash).header.len as usize;
        if len < shrink_below(segment.size(), segment.depth()) {
            self.shrink_sparse(segment, len);
        }
    }

    #[cold]
    fn shrink_sparse(&mut self, segment: Segment, len: usize) {
        if matches!(self.growth, Growth::Roomy) {
            // What is too much when all is loaded is given back then.
            return;
        }
        self.directory.migrate_step();
        let size = size_for(len, size_least(segment.depth()));
        if size < segment.size() {
            self.resize(segment, size);
        } else if segment.depth() > 0 {
            self.merge(segment, len);
        }
    }

    /// Moves a segment's entries into a new one of another size.
    pub(super) fn resize(&mut self, segment: Segment, size: usize) {
        // SAFETY: `segment` comes from the directory and is alive until `replace_one` frees it; the
        // new one is ours alone.
        let (from, new) = unsafe {
            let from = segment.view();
            (from, self.storage.pool.allocate(size, from.depth, from.header.prefix))
        };
        // SAFETY: as above.
        let mut to = Filler::new(unsafe { new.view_mut() });
        from.slots().for_each(|(fingerprint, slot)| to.place(fingerprint, slot));
        self.directory.set(new);
        self.release(segment);
    }

    /// Splits a segment of the greatest size by the next bit of the hash.
    fn split(&mut self, segment: Segment) -> bool {
        let depth = segment.depth() + 1;
        if depth > DEPTH_MAX || (depth > self.directory.depth() && !self.may_double()) {
            return false;
        }
        if depth > self.directory.depth() {
            self.directory.double();
        }
        // SAFETY: the segment is in the directory, thus alive until it is released below.
        let from = unsafe { segment.view() };
        let ones = from.slots().filter(|(_, slot)| next_prefix_bit(slot.bits(), depth - 1)).count();
        let zeroes = from.header.len as usize - ones;
        let prefix = from.header.prefix;
        let least = self.growth.size_min().max(SIZE_SHARED_MIN);
        let pool = &mut self.storage.pool;
        let low = pool.allocate(size_for(zeroes, least), depth, prefix);
        let prefix = prefix | 1 << (64 - depth);
        let high = pool.allocate(size_for(ones, least), depth, prefix);
        // SAFETY: both are fresh and nobody else's.
        let (to_low, to_high) =
            unsafe { (Filler::new(low.view_mut()), Filler::new(high.view_mut())) };
        distribute(from, to_low, to_high, depth, &self.seed);
        self.directory.count_split(depth - 1);
        self.directory.set(low);
        self.directory.set(high);
        self.release(segment);
        true
    }

    /// Merges a segment with its buddy if that is of the same depth and they fit; answers whether it
    /// did.
    pub(super) fn merge(&mut self, segment: Segment, len: usize) -> bool {
        let depth = segment.depth();
        // SAFETY: the segment is in the directory, thus alive until it is released below.
        let one = unsafe { segment.view() };
        let buddy = self.directory.segment(one.header.prefix ^ 1 << (64 - depth));
        // SAFETY: as above; a buddy is another segment, as the prefixes differ.
        let other = unsafe { buddy.view() };
        let sum = len + other.header.len as usize;
        if buddy.depth() != depth || sum > MERGE_MAX {
            return false;
        }
        let prefix = one.header.prefix & !(1 << (64 - depth));
        let size = size_for(sum, size_least(depth - 1));
        let merged = self.storage.pool.allocate(size, depth - 1, prefix);
        // SAFETY: it is fresh and nobody else's.
        let mut to = Filler::new(unsafe { merged.view_mut() });
        for from in [one, other] {
            for (fingerprint, slot) in from.slots() {
                let bits = slot_bits_before(slot.bits(), from.header.prefix, depth);
                to.place(fingerprint, slot.with_bits(bits));
            }
        }
        self.directory.count_merge(depth);
        self.directory.set(merged);
        self.release_both(segment, buddy);
        self.directory.halve_if_sparse();
        true
    }

    fn may_double(&self) -> bool {
        let words = self.directory.words() * 2;
        words <= DIRECTORY_FREE || self.len / words >= KEYS_PER_WORD_MIN
    }

    /// Frees a segment that the directory no longer knows.
    fn release(&mut self, segment: Segment) {
        // SAFETY: the caller has put another segment in its place, and holds no view any more.
        if let Some((_, moved)) = unsafe { self.storage.pool.free(segment) } {
            self.directory.set(moved);
        }
    }

    /// Frees two segments that the directory no longer knows.
    fn release_both(&mut self, first: Segment, mut second: Segment) {
        // SAFETY: as in `release`.
        match unsafe { self.storage.pool.free(first) } {
            // The hole may have been filled with the other one of the two.
            Some((old, new)) if old == second => second = new,
            Some((_, moved)) => self.directory.set(moved),
            None => {}
        }
        self.release(second);
    }
}

/// Deals the entries of a segment out to its two halves, of depth `depth`.
fn distribute<'a>(
    from: View<'_>,
    mut low: Filler<'a>,
    mut high: Filler<'a>,
    depth: u32,
    seed: &Seed,
) {
    let rehash = opens_window(depth);
    for (at, bucket) in from.buckets.iter().enumerate() {
        if rehash && let Some(ahead) = from.buckets.get(at + 2) {
            for index in ahead.occupied() {
                prefetch(std::ptr::without_provenance(ahead.slot(index).address()));
            }
        }
        for index in bucket.occupied() {
            let (fingerprint, slot) = (bucket.fingerprint(index), bucket.slot(index));
            let is_high = next_prefix_bit(slot.bits(), depth - 1);
            let half = if is_high { &mut high } else { &mut low };
            let slot = if rehash {
                slot.with_bits(slot_bits(hash_of(slot.address(), seed).0, depth))
            } else {
                slot
            };
            half.place(fingerprint, slot);
        }
    }
}

/// The hash of the key of the entry at `address`, which a slot of the table gave.
pub(super) fn hash_of(address: usize, seed: &Seed) -> KeyHash {
    // SAFETY: slots hold live entries.
    let entry = unsafe { RawEntry::from_address(address) };
    // SAFETY: as above; the key does not depend on the type of objects.
    seed.hash(unsafe { entry.view::<()>() }.key())
}
