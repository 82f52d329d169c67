//! The table: all keys of one database on one shard. Extendible hashing, without pauses at any size.
//!
//! A look-up costs two cache misses: the bucket and the entry. The directory word that leads to the
//! bucket (8 bytes for about 650 keys) stays in the caches. No operation does work in proportion to the
//! number of keys: one insertion or removal resizes, splits or merges at most a segment or two, of at
//! most 896 entries each, and the directory changes its size piecemeal.
//!
//! Parts, beside this file: `hash` (keyed hash), `slab` (memory of entries), `entry` (one key), `bucket`
//! (14 slots), `segment` (2 to 64 buckets, placement and search); below it: `pool` (memory of segments),
//! `directory` (hash to segment), `resize` (grow, split, merge), `loading` (growth while nobody waits),
//! `overflow` (the refuge of equal hashes),
//! `handle` (entries borrowed by callers), `drain` (tearing down in slices), `scan` (walks in hash
//! order), `sample` (entries from random places), `capture` (what a snapshot has of it).
//!
//! Invariants:
//! - `len` is the number of entries in all segments and in `overflow`, `volatile` the number of
//!   those with a deadline;
//! - a key is in the table once;
//! - the slots and `overflow` own the entries; every entry is of this table's slab and of type `T`.
#![allow(unsafe_code)]

mod capture;
mod check;
mod directory;
mod drain;
mod handle;
mod loading;
mod overflow;
mod pool;
mod resize;
mod sample;
mod scan;
#[cfg(test)]
mod tests;

use super::entry::{EntryRef, NewBody, RawEntry, RemovedBody};
use super::hash::{KeyHash, Seed};
use super::segment::{Place, grow_above};
use crate::sys::prefetch::prefetch;
use directory::Directory;
use drain::Storage;
use loading::Growth;
use overflow::OVERFLOW_BUCKET;

pub use drain::Drain;
pub use handle::{Entry, EntryMut, VacantEntry};
pub use sample::Among;
pub use scan::{CURSOR_BITS, Verdict};

/// A map from binary keys to entries (see the module's head). `T` is the type of the objects that
/// entries may own.
pub struct Table<T> {
    directory: Directory,
    storage: Storage<T>,
    seed: Seed,
    len: usize,
    volatile: usize,
    /// What a capture must know.
    capture: capture::Marks,
    growth: Growth,
}

// SAFETY: the table owns everything it points at, and no two tables share memory; so it may go to
// another thread with its objects if they may.
unsafe impl<T: Send> Send for Table<T> {}

impl<T> Table<T> {
    /// An empty table that hashes with `seed`.
    pub fn new(seed: Seed) -> Self {
        let mut storage = Storage::new();
        let directory = Directory::new(storage.pool.allocate(resize::SIZE_FIRST, 0, 0));
        let capture = capture::Marks::default();
        let growth = Growth::Tight;
        Self { directory, storage, seed, len: 0, volatile: 0, capture, growth }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of entries that have a deadline.
    pub fn volatile_len(&self) -> usize {
        self.volatile
    }

    /// Bytes in use by entries and by the table's own structure; objects' own memory is not counted.
    pub fn used_bytes(&self) -> usize {
        self.storage.slab.used_bytes() + self.structure_bytes()
    }

    /// Bytes of directory and segments.
    pub fn structure_bytes(&self) -> usize {
        self.storage.pool.used_bytes() + self.directory.bytes()
    }

    /// Bytes that the table holds from the system: `used_bytes` and what is free within its chunks.
    pub fn reserved_bytes(&self) -> usize {
        self.storage.slab.reserved_bytes() + self.structure_bytes()
    }

    /// The hash of `key`, to be handed to the other methods.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.seed.hash(key)
    }

    /// Asks the processor to fetch the key's bucket. First of two steps: when the buckets of a batch
    /// have been asked for, `prefetch_entry` finds them in the cache.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        self.directory.segment(hash.0).prefetch(hash);
    }

    /// The same for a key that will be put in if it is not there: that changes the segment's head too.
    #[inline]
    pub fn prefetch_to_insert(&self, hash: KeyHash) {
        let segment = self.directory.segment(hash.0);
        prefetch(segment.header().cast());
        segment.prefetch(hash);
    }

    /// Asks the processor to fetch the entry that has this hash, if there is one.
    #[inline]
    pub fn prefetch_entry(&self, hash: KeyHash) {
        self.directory.view(hash.0).prefetch_entry(hash);
    }

    /// The entry of `key`, to be read.
    #[inline]
    pub fn get(&self, hash: KeyHash, key: &[u8]) -> Option<EntryRef<'_, T>> {
        let (_, entry) = self.find(hash, key)?;
        // SAFETY: entries in the table are alive and of type T (invariant 3), and the table is
        // borrowed as long as the view.
        Some(unsafe { entry.view() })
    }

    /// The entry of `key`, to be changed or removed.
    #[inline]
    pub fn get_mut(&mut self, hash: KeyHash, key: &[u8]) -> Option<EntryMut<'_, T>> {
        let (place, entry) = self.find(hash, key)?;
        Some(EntryMut { table: self, hash, place, entry })
    }

    /// The entry of `key`, or the place where it would be.
    #[inline]
    pub fn entry<'t, 'k>(&'t mut self, hash: KeyHash, key: &'k [u8]) -> Entry<'t, 'k, T> {
        match self.find(hash, key) {
            Some((place, entry)) => Entry::Occupied(EntryMut { table: self, hash, place, entry }),
            None => Entry::Vacant(VacantEntry { table: self, hash, key }),
        }
    }

    /// All entries in no useful order. For tests and for walks that may take their time: nothing
    /// can be inserted meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_, T>> {
        let in_segments = self.storage.pool.segments().flat_map(|segment| {
            // SAFETY: the pool lists live segments; they do not change while the table is borrowed.
            unsafe { segment.view() }.slots().map(|(_, slot)| slot)
        });
        let beside = self.storage.overflow.range(0, u64::MAX).map(|(_, _, slot)| slot);
        // SAFETY: slots hold live entries of type T (invariant 3).
        in_segments
            .chain(beside)
            .map(|slot| unsafe { RawEntry::from_address(slot.address()).view() })
    }

    /// Empties the table and hands back what was in it, to be freed in slices. Takes no time itself.
    pub fn take(&mut self) -> Drain<T> {
        self.detach().into_drain()
    }

    /// Empties the table and hands back all that it was.
    pub fn detach(&mut self) -> Self {
        let mut fresh = Self::new(self.seed.clone());
        fresh.capture = self.capture.of_empty();
        if self.growth == Growth::Roomy {
            fresh.begin_loading();
        }
        std::mem::replace(self, fresh)
    }

    /// The table's contents, to be freed in slices.
    pub fn into_drain(self) -> Drain<T> {
        Drain::new(self.storage)
    }

    /// Removes all entries and drops them at once. `take` does it in slices.
    pub fn clear(&mut self) {
        drop(self.take());
    }

    #[inline]
    fn find(&self, hash: KeyHash, key: &[u8]) -> Option<(Place, RawEntry)> {
        let found = self.directory.view(hash.0).find(hash, key);
        if found.is_none() && !self.storage.overflow.is_empty() {
            return self.find_overflowed(hash, key);
        }
        found
    }

    #[cold]
    fn find_overflowed(&self, hash: KeyHash, key: &[u8]) -> Option<(Place, RawEntry)> {
        self.storage.overflow.of_hash(hash.0).find_map(|(place, slot)| {
            // SAFETY: slots hold live entries of type T (invariant 3).
            let entry = unsafe { RawEntry::from_address(slot.address()) };
            // SAFETY: as above.
            (unsafe { entry.view::<T>() }.key() == key).then_some((place, entry))
        })
    }

    /// Puts in a key that is not there yet.
    fn insert_new(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        body: NewBody<'_, T>,
        deadline: Option<i64>,
    ) -> (Place, RawEntry) {
        let entry = RawEntry::create(&mut self.storage.slab, key, deadline, body);
        // SAFETY: the entry has just been made.
        let tags = unsafe { entry.tags() } | self.capture.mark();
        let place = self.make_place(hash.0, entry, tags);
        self.len += 1;
        self.volatile += usize::from(deadline.is_some());
        (place, entry)
    }

    #[inline]
    fn make_place(&mut self, hash: u64, entry: RawEntry, tags: u64) -> Place {
        loop {
            let segment = self.directory.segment(hash);
            let mut view = self.directory.view_mut(hash);
            if (view.header.len as usize) < grow_above(segment.size())
                && let Some(place) = view.insert(hash, entry, tags)
            {
                return place;
            }
            if !self.grow(hash) {
                return self.storage.overflow.insert(hash, entry, tags);
            }
        }
    }

    /// Takes an entry out of its place and frees it.
    pub(super) fn remove_at(&mut self, hash: u64, place: Place) -> RemovedBody<T> {
        let slot = if place.bucket == OVERFLOW_BUCKET {
            self.storage.overflow.remove(hash, place)
        } else {
            self.directory.view_mut(hash).remove(place)
        };
        self.len -= 1;
        self.volatile -= usize::from(slot.has(super::entry::TAG_DEADLINE));
        // SAFETY: the slot held a live entry of type T (invariant 3) and is empty now, so nobody
        // else knows it.
        unsafe { RawEntry::from_address(slot.address()).destroy(&mut self.storage.slab) }
    }

    /// Notes that the entry of a place has moved or changed its tags.
    fn update_place(&mut self, hash: u64, place: Place, entry: RawEntry) {
        // SAFETY: callers hand in the live entry of this place.
        let tags = unsafe { entry.tags() };
        if place.bucket == OVERFLOW_BUCKET {
            self.storage.overflow.update(hash, place, entry, tags);
        } else {
            self.directory.view_mut(hash).update(place, entry, tags);
        }
    }
}
