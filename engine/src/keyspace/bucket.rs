//! A bucket: fourteen slots in one pair of cache lines, and what is needed to search them at once.
//!
//! Fingerprints, one byte of the hash each, are compared sixteen at a time (SSE2; plain code
//! elsewhere and as the oracle in tests). A slot adds sixteen more bits of the hash to the address of
//! its entry, so that a wrong entry is touched about once in a million look-ups.
//!
//! Invariants:
//! - a slot is empty exactly if its fingerprint is 0;
//! - `overflow` counts the entries that were placed beyond this bucket because it was full, and
//!   stays at 255 once it got there, until the segment is rebuilt;
//! - `spare` is 0; it rounds the bytes before the slots up to one vector.
#![allow(unsafe_code)]

use super::entry::RawEntry;

/// Slots in a bucket.
pub(super) const SLOTS: usize = 14;
const SLOT_MASK: u32 = (1 << SLOTS) - 1;
const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_fff8;
const TAG_MASK: u64 = 7;
/// The tag by which a capture knows the entries that it has: see `table/capture.rs`.
pub(super) const TAG_MARK: u64 = 4;
/// The counter has lost count.
pub(super) const OVERFLOW_MANY: u8 = u8::MAX;

/// Sixteen bits of hash, the address of an entry, its two tags and a mark. Only meaningful where the
/// fingerprint is not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(u64);

impl Slot {
    #[inline]
    pub(super) fn new(bits: u16, entry: RawEntry, tags: u64) -> Self {
        let address = entry.address() as u64;
        debug_assert!(address & !ADDRESS_MASK == 0 && tags & !TAG_MASK == 0);
        Self((bits as u64) << 48 | address | tags)
    }

    /// The sixteen bits of hash; which ones, the segment's depth says.
    #[inline]
    pub(super) fn bits(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    pub(super) fn with_bits(self, bits: u16) -> Self {
        Self(self.0 << 16 >> 16 | (bits as u64) << 48)
    }

    /// The same place in hash order, and the same mark, with another entry.
    #[inline]
    pub(super) fn with_entry(self, entry: RawEntry, tags: u64) -> Self {
        Self::new(self.bits(), entry, tags | self.mark())
    }

    /// The mark: [`TAG_MARK`] or nothing. What it means, the table says.
    #[inline]
    pub(super) fn mark(self) -> u64 {
        self.0 & TAG_MARK
    }

    /// The same with the mark `mark`.
    #[inline]
    pub(super) fn with_mark(self, mark: u64) -> Self {
        Self(self.0 & !TAG_MARK | mark)
    }

    #[inline]
    pub(super) fn has(self, tag: u64) -> bool {
        self.0 & tag != 0
    }

    /// The entry's own tags: all but the mark.
    #[inline]
    pub(super) fn tags(self) -> u64 {
        self.0 & TAG_MASK & !TAG_MARK
    }

    /// Address of the entry.
    #[inline]
    pub(super) fn address(self) -> usize {
        (self.0 & ADDRESS_MASK) as usize
    }
}

#[repr(C, align(128))]
pub(super) struct Bucket {
    fingerprints: [u8; SLOTS],
    overflow: u8,
    spare: u8,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 128);

impl Bucket {
    /// Empties the bucket. What the slots held stays there, unread.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.fingerprints = [0; SLOTS];
        self.overflow = 0;
        self.spare = 0;
    }

    #[inline]
    pub(super) fn overflow(&self) -> u8 {
        self.overflow
    }

    #[inline]
    pub(super) fn add_overflow(&mut self) {
        self.overflow = self.overflow.saturating_add(1);
    }

    #[inline]
    pub(super) fn remove_overflow(&mut self) {
        debug_assert!(self.overflow > 0);
        if self.overflow != OVERFLOW_MANY {
            self.overflow -= 1;
        }
    }

    /// The slots whose fingerprint is `fingerprint`.
    #[inline]
    pub(super) fn matches(&self, fingerprint: u8) -> Indices {
        Indices(self.equal_bytes(fingerprint) & SLOT_MASK)
    }

    /// The slots in use.
    #[inline]
    pub(super) fn occupied(&self) -> Indices {
        Indices(!self.equal_bytes(0) & SLOT_MASK)
    }

    /// The first free slot.
    #[inline]
    pub(super) fn vacant(&self) -> Option<usize> {
        self.matches(0).next()
    }

    #[inline]
    pub(super) fn slot(&self, index: usize) -> Slot {
        debug_assert!(self.fingerprints[index] != 0);
        self.slots[index]
    }

    #[inline]
    pub(super) fn fingerprint(&self, index: usize) -> u8 {
        self.fingerprints[index]
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, fingerprint: u8, slot: Slot) {
        debug_assert!(fingerprint != 0);
        self.fingerprints[index] = fingerprint;
        self.slots[index] = slot;
    }

    #[inline]
    pub(super) fn replace(&mut self, index: usize, slot: Slot) {
        debug_assert!(self.fingerprints[index] != 0);
        self.slots[index] = slot;
    }

    #[inline]
    pub(super) fn clear(&mut self, index: usize) {
        self.fingerprints[index] = 0;
    }

    /// The sixteen bytes before the slots as two little-endian words: one load.
    #[inline]
    fn words(&self) -> (u64, u64) {
        let f = &self.fingerprints;
        let low = u64::from_le_bytes([f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]]);
        let high = [f[8], f[9], f[10], f[11], f[12], f[13], self.overflow, self.spare];
        (low, u64::from_le_bytes(high))
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    #[inline]
    fn equal_bytes(&self, byte: u8) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let (low, high) = self.words();
        // SAFETY: the build has SSE2 (it is part of x86-64), and no memory is accessed.
        unsafe {
            let group = _mm_set_epi64x(high as i64, low as i64);
            _mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8(byte as i8))) as u32
        }
    }

    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
    #[inline]
    fn equal_bytes(&self, byte: u8) -> u32 {
        equal_bytes_plain(self.words(), byte)
    }
}

/// Bit `i` is set if byte `i` of the sixteen equals `byte`.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
fn equal_bytes_plain((low, high): (u64, u64), byte: u8) -> u32 {
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
    bytes.iter().enumerate().map(|(i, &b)| u32::from(b == byte) << i).sum()
}

/// Slot numbers in ascending order.
#[derive(Clone, Copy)]
pub(super) struct Indices(u32);

impl Iterator for Indices {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let index = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        // The mask left fourteen bits; saying so again spares the callers' bounds checks.
        Some(index.min(SLOTS - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(fingerprints: [u8; SLOTS], overflow: u8) -> Bucket {
        Bucket { fingerprints, overflow, spare: overflow, slots: [Slot(0); SLOTS] }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_plain_search(
            fingerprints in prop::array::uniform14(0u8..4), overflow: u8, byte in 0u8..4,
        ) {
            let bucket = bucket(fingerprints, overflow);
            prop_assert_eq!(bucket.equal_bytes(byte), equal_bytes_plain(bucket.words(), byte));
            let naive: Vec<usize> = (0..SLOTS).filter(|&i| fingerprints[i] == byte).collect();
            prop_assert_eq!(bucket.matches(byte).collect::<Vec<_>>(), naive);
            let used = fingerprints.iter().filter(|&&f| f != 0).count();
            prop_assert_eq!(Iterator::count(bucket.occupied()), used);
            prop_assert_eq!(bucket.vacant(), fingerprints.iter().position(|&f| f == 0));
        }
    }

    #[test]
    fn an_overflow_counter_that_lost_count_stays() {
        let mut bucket = bucket([1; SLOTS], OVERFLOW_MANY - 1);
        bucket.add_overflow();
        bucket.add_overflow();
        bucket.remove_overflow();
        assert_eq!(bucket.overflow(), OVERFLOW_MANY);
        bucket.reset();
        assert_eq!(bucket.overflow(), 0);
    }
}
