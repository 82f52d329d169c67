//! A segment: all keys whose hashes share a prefix, in 2 to 64 buckets.
//!
//! ```text
//! hash   | prefix: `depth` bits | 13 bits: home position | …            | fingerprint: 8 bits |
//! slot                 | 16 bits from `window(depth)` on |
//! ```
//! Home bucket = home position × buckets / 2^13: monotone in the hash, whatever the number of
//! buckets. So the order of home buckets over the whole table is hash order, and neither growth nor
//! split, merge or shrinking ever changes it; scan cursors are positions in that order. A full
//! bucket's entries go to the following ones (wrapping round in the segment); `Bucket::overflow`
//! lets a search stop at the first bucket that nothing passed.
//!
//! Why 16 bits in the slot: they give the home position, and the next bits for three more splits,
//! without touching the entry. `window(depth)` moves by four at every fourth split, when the keys
//! of the segment are hashed again.
//!
//! Why so many sizes: a segment that only ever doubled would be 67 % full on average, and as all
//! segments fill alike, the table would swing between 45 and 90 %. Steps of four buckets keep it
//! between 80 and 90 % at any size.
//!
//! Invariants:
//! - the header's `len` and `volatile` count the occupied slots, and those tagged TAG_DEADLINE;
//! - an entry lies in its home bucket or beyond it, and each bucket passed has counted it;
//! - every occupied slot's address is that of a live entry of the table.
#![allow(unsafe_code)]

use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::slice;

use super::bucket::{Bucket, SLOTS, Slot};
use super::entry::{RawEntry, TAG_DEADLINE};
use super::hash::{KeyHash, fingerprint};
use crate::sys::prefetch::prefetch;

/// Bits of hash that choose the home bucket within a segment.
pub(super) const HOME_BITS: u32 = 13;
/// The deepest prefix. Hashes that agree in more bits overflow instead of splitting further.
pub(super) const DEPTH_MAX: u32 = 32;
/// The numbers of buckets a segment can have. Below 32 only while one segment holds the whole table.
pub(super) const SIZES: [usize; 14] = [2, 4, 8, 16, 24, 32, 36, 40, 44, 48, 52, 56, 60, 64];
/// The least size of a segment that is not alone, and the greatest.
pub(super) const SIZE_SHARED_MIN: usize = 32;
pub(super) const SIZE_MAX: usize = 64;
/// How far beyond its home an entry may be placed before the segment grows instead.
pub(super) const PROBES_MAX: usize = 16;

/// First hash bit kept in the slots of a segment of this depth.
#[inline]
fn window(depth: u32) -> u32 {
    depth & !3
}

/// Whether slots of depth `depth` hold other bits than those of `depth - 1`.
pub(super) fn opens_window(depth: u32) -> bool {
    depth.is_multiple_of(4)
}

/// The bits that a slot keeps of a hash in a segment of this depth.
#[inline]
pub(super) fn slot_bits(hash: u64, depth: u32) -> u16 {
    (hash << window(depth) >> 48) as u16
}

/// The bits after opening the window of `depth - 1` again, for a segment of this depth and prefix.
pub(super) fn slot_bits_before(bits: u16, prefix: u64, depth: u32) -> u16 {
    if opens_window(depth) {
        let reopened = (prefix >> (64 - depth)) as u16;
        reopened << 12 | bits >> 4
    } else {
        bits
    }
}

/// The first hash bit below a prefix of `depth` bits.
pub(super) fn next_prefix_bit(bits: u16, depth: u32) -> bool {
    bits >> (15 - (depth - window(depth))) & 1 == 1
}

/// The home position, 0 to 2^13 - 1.
#[inline]
pub(super) fn position(bits: u16, depth: u32) -> usize {
    (bits >> (3 - (depth - window(depth)))) as usize & ((1 << HOME_BITS) - 1)
}

/// The home bucket of a position in a segment of `buckets` buckets.
#[inline]
pub(super) fn home(position: usize, buckets: usize) -> usize {
    (position * buckets) >> HOME_BITS
}

/// Entries beyond which a segment grows: 90 % of its slots.
#[inline]
pub(super) fn grow_above(buckets: usize) -> usize {
    buckets * SLOTS * 9 / 10
}

/// Head of a segment; its buckets follow. Look-ups do not read it, writes do.
#[repr(C, align(128))]
pub(super) struct Header {
    /// The hash prefix in the top `depth` bits, zeroes below.
    pub(super) prefix: u64,
    /// Place in the pool's class.
    pub(super) index: u32,
    pub(super) len: u32,
    pub(super) volatile: u32,
    pub(super) depth: u32,
    pub(super) buckets: u32,
}

const _: () = assert!(size_of::<Header>() == 128);

/// Bytes of a segment with this many buckets.
pub(super) const fn segment_bytes(buckets: usize) -> usize {
    size_of::<Header>() + buckets * size_of::<Bucket>()
}

/// What a directory word says: address (a multiple of 128, below 2^48), number of buckets in the
/// low seven bits, depth in the top sixteen. With these a look-up goes straight to the bucket and
/// does not read the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment(u64);

impl Segment {
    /// The segment whose header is at `header`.
    ///
    /// # Safety
    /// `header` is a live, initialised header.
    pub(super) unsafe fn from_header(header: NonNull<Header>) -> Self {
        // SAFETY: promised by the caller.
        let (depth, buckets) = unsafe { ((*header.as_ptr()).depth, (*header.as_ptr()).buckets) };
        let address = header.as_ptr().expose_provenance() as u64;
        debug_assert!(address < 1 << 48 && address.is_multiple_of(128));
        Self(address | u64::from(buckets) | u64::from(depth) << 48)
    }

    /// From a directory word, which is not 0.
    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        debug_assert!(word != 0);
        Self(word)
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn depth(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// Number of buckets.
    #[inline]
    pub(super) fn size(self) -> usize {
        (self.0 & 127) as usize
    }

    #[inline]
    pub(super) fn header(self) -> *mut Header {
        ptr::with_exposed_provenance_mut((self.0 & 0x0000_ffff_ffff_ff80) as usize)
    }

    #[inline]
    fn first_bucket(self) -> *mut Bucket {
        self.header().wrapping_add(1).cast()
    }

    /// Asks the processor to fetch the home bucket of `hash`.
    #[inline]
    pub(super) fn prefetch(self, hash: KeyHash) {
        let position = position(slot_bits(hash.0, self.depth()), self.depth());
        let bucket = self.first_bucket().wrapping_add(home(position, self.size()));
        prefetch(bucket.cast());
        prefetch(bucket.cast::<u8>().wrapping_add(64));
    }

    /// Empties all buckets, without a look at what they held.
    ///
    /// # Safety
    /// The segment is alive and nobody else uses it.
    pub(super) unsafe fn reset_buckets(self) {
        // SAFETY: promised by the caller.
        let view = unsafe { self.view_mut() };
        view.buckets.iter_mut().for_each(Bucket::reset);
    }

    /// # Safety
    /// The segment is alive and not changed during `'a`.
    #[inline]
    pub(super) unsafe fn view<'a>(self) -> View<'a> {
        // SAFETY: promised by the caller; a segment is a header followed by `size` buckets, all
        // initialised (fresh spans are zeroed).
        unsafe {
            let buckets = slice::from_raw_parts(self.first_bucket(), self.size());
            View { header: &*self.header(), buckets, depth: self.depth() }
        }
    }

    /// # Safety
    /// The segment is alive and used by nobody else during `'a`.
    #[inline]
    pub(super) unsafe fn view_mut<'a>(self) -> ViewMut<'a> {
        // SAFETY: as in `view`.
        unsafe {
            let buckets = slice::from_raw_parts_mut(self.first_bucket(), self.size());
            ViewMut { header: &mut *self.header(), buckets, depth: self.depth() }
        }
    }
}

/// Where an entry lies in its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) bucket: u32,
    pub(super) slot: u32,
}

/// A segment to be read.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) header: &'a Header,
    pub(super) buckets: &'a [Bucket],
    pub(super) depth: u32,
}

impl<'a> View<'a> {
    /// The home bucket of a hash.
    #[inline]
    fn home(&self, bits: u16) -> usize {
        home(position(bits, self.depth), self.buckets.len())
    }

    /// The home bucket of the entry in `slot`.
    pub(super) fn home_of(&self, slot: Slot) -> usize {
        self.home(slot.bits())
    }

    /// Finds a key.
    #[inline]
    pub(super) fn find(&self, hash: KeyHash, key: &[u8]) -> Option<(Place, RawEntry)> {
        let (bits, fingerprint) = (slot_bits(hash.0, self.depth), hash.fingerprint());
        let mut at = self.home(bits);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for index in bucket.matches(fingerprint) {
                let slot = bucket.slot(index);
                if slot.bits() != bits {
                    continue;
                }
                // SAFETY: occupied slots hold live entries (invariant 3), and the table is borrowed
                // during the view.
                let entry = unsafe { RawEntry::from_address(slot.address()) };
                // SAFETY: as above; the key does not depend on the type of objects.
                if unsafe { entry.view::<()>() }.key() == key {
                    return Some((Place { bucket: at as u32, slot: index as u32 }, entry));
                }
            }
            if bucket.overflow() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Prefetches the entry that a look-up of this hash will most likely compare.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: KeyHash) {
        let bits = slot_bits(hash.0, self.depth);
        let mut at = self.home(bits);
        // Where most entries are; a third bucket is rarely worth the walk.
        for _ in 0..2 {
            let bucket = &self.buckets[at];
            for index in bucket.matches(hash.fingerprint()) {
                let slot = bucket.slot(index);
                if slot.bits() == bits {
                    let address = ptr::without_provenance::<u8>(slot.address());
                    prefetch(address);
                    // An entry of 32 bytes or more often straddles two lines.
                    prefetch(address.wrapping_add(63));
                    return;
                }
            }
            if bucket.overflow() == 0 {
                return;
            }
            at = self.after(at);
        }
    }

    /// Calls `visit` for every slot whose home is bucket `home`, with its place.
    pub(super) fn for_each_at_home(&self, home: usize, mut visit: impl FnMut(Place, Slot)) {
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for index in bucket.occupied() {
                let slot = bucket.slot(index);
                if self.home_of(slot) == home {
                    visit(Place { bucket: at as u32, slot: index as u32 }, slot);
                }
            }
            if bucket.overflow() == 0 {
                return;
            }
            at = self.after(at);
        }
    }

    /// The slot of a place.
    pub(super) fn slot(&self, place: Place) -> Slot {
        self.buckets[place.bucket as usize].slot(place.slot as usize)
    }

    /// All occupied slots with their fingerprints, bucket by bucket.
    pub(super) fn slots(self) -> impl Iterator<Item = (u8, Slot)> + use<'a> {
        self.buckets.iter().flat_map(|bucket| {
            bucket.occupied().map(|index| (bucket.fingerprint(index), bucket.slot(index)))
        })
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

/// A segment to be changed.
pub(super) struct ViewMut<'a> {
    pub(super) header: &'a mut Header,
    buckets: &'a mut [Bucket],
    depth: u32,
}

impl ViewMut<'_> {
    /// Puts an entry into the first free slot from its home on, at most `PROBES_MAX` buckets away.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, entry: RawEntry, tags: u64) -> Option<Place> {
        let slot = Slot::new(slot_bits(hash, self.depth), entry, tags);
        let size = self.buckets.len();
        let home = home(position(slot.bits(), self.depth), size);
        let mut at = home;
        for passed in 0..PROBES_MAX.min(size) {
            if let Some(index) = self.buckets[at].vacant() {
                self.buckets[at].set(index, fingerprint(hash), slot);
                self.header.len += 1;
                self.header.volatile += u32::from(slot.has(TAG_DEADLINE));
                for step in 0..passed {
                    self.buckets[(home + step) % size].add_overflow();
                }
                return Some(Place { bucket: at as u32, slot: index as u32 });
            }
            at = if at + 1 == size { 0 } else { at + 1 };
        }
        None
    }

    /// Empties a place that is in use and returns what it held.
    pub(super) fn remove(&mut self, place: Place) -> Slot {
        let size = self.buckets.len();
        let (at, index) = (place.bucket as usize, place.slot as usize);
        let slot = self.buckets[at].slot(index);
        self.buckets[at].clear(index);
        self.header.len -= 1;
        self.header.volatile -= u32::from(slot.has(TAG_DEADLINE));
        let mut passed = home(position(slot.bits(), self.depth), size);
        while passed != at {
            self.buckets[passed].remove_overflow();
            passed = if passed + 1 == size { 0 } else { passed + 1 };
        }
        slot
    }

    /// Points a place that is in use to the address and tags that its entry now has.
    pub(super) fn update(&mut self, place: Place, entry: RawEntry, tags: u64) {
        let bucket = &mut self.buckets[place.bucket as usize];
        let old = bucket.slot(place.slot as usize);
        self.header.volatile -= u32::from(old.has(TAG_DEADLINE));
        self.header.volatile += u32::from(tags & TAG_DEADLINE != 0);
        bucket.replace(place.slot as usize, old.with_entry(entry, tags));
    }
}

impl ViewMut<'_> {
    /// Gives all slots the mark `mark`, bucket by bucket, and calls `visit` for each that lacked it.
    /// Stops behind the one at which `visit` breaks.
    pub(super) fn mark_all(
        &mut self,
        mark: u64,
        visit: &mut impl FnMut(Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for at in 0..self.buckets.len() {
            if let Some(ahead) = self.buckets.get(at + 2) {
                fetch_unmarked(ahead, mark);
            }
            let bucket = &mut self.buckets[at];
            for index in bucket.occupied() {
                let slot = bucket.slot(index);
                if slot.mark() != mark {
                    bucket.replace(index, slot.with_mark(mark));
                    visit(slot)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Gives the slot of a place in use the mark `mark`; answers whether it lacked it.
    #[inline]
    pub(super) fn mark(&mut self, place: Place, mark: u64) -> bool {
        let bucket = &mut self.buckets[place.bucket as usize];
        let slot = bucket.slot(place.slot as usize);
        bucket.replace(place.slot as usize, slot.with_mark(mark));
        slot.mark() != mark
    }
}

/// Asks the processor for the entries of a bucket that lack the mark `mark`.
fn fetch_unmarked(bucket: &Bucket, mark: u64) {
    for index in bucket.occupied() {
        let slot = bucket.slot(index);
        if slot.mark() != mark {
            prefetch(ptr::without_provenance(slot.address()));
        }
    }
}

/// An empty segment that is being filled from others: as nothing is removed meanwhile, a count a
/// bucket says where the next free slot is.
pub(super) struct Filler<'a> {
    target: ViewMut<'a>,
    filled: [u8; SIZE_MAX],
}

impl<'a> Filler<'a> {
    /// Fills `target`, which is empty.
    pub(super) fn new(target: ViewMut<'a>) -> Self {
        debug_assert_eq!(target.header.len, 0);
        Self { target, filled: [0; SIZE_MAX] }
    }

    /// Puts a slot, whose bits are right for the target's depth, into the first free place from its
    /// home on, however far that is. The caller sees to it that there is one.
    #[inline]
    pub(super) fn place(&mut self, fingerprint: u8, slot: Slot) {
        let ViewMut { header, buckets, depth } = &mut self.target;
        let size = buckets.len();
        assert!((header.len as usize) < size * SLOTS, "a segment is never filled beyond its slots");
        let mut at = home(position(slot.bits(), *depth), size);
        while self.filled[at] as usize == SLOTS {
            buckets[at].add_overflow();
            at = if at + 1 == size { 0 } else { at + 1 };
        }
        buckets[at].set(self.filled[at] as usize, fingerprint, slot);
        self.filled[at] += 1;
        header.len += 1;
        header.volatile += u32::from(slot.has(TAG_DEADLINE));
    }
}
