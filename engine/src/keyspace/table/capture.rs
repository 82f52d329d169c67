//! Marks: which entries the capture of a snapshot already has.
//!
//! A capture sees the table as it was at one instant, the cut, while commands go on changing it. Each
//! slot has one bit, its *mark*, and the table says which value of the bit means "captured". To begin
//! a capture is to turn that meaning round, in O(1): at once no entry is captured. A walk then
//! visits and marks all entries in slices; and whoever changes or removes an entry that is not
//! marked captures it first (`keyspace::slot` does that).
//!
//! Why a bit a slot and not an epoch a bucket: entries are displaced to other buckets, and resizing,
//! splitting and merging deals whole segments out anew. The bit goes with the slot wherever that
//! goes, so none of these has to capture anything, and a write captures one entry, its own.
//!
//! Invariants:
//! - while no walk is under way, every slot has the table's mark;
//! - a new entry has the table's mark: it does not belong to the capture;
//! - a slot changes its mark only to the table's, and an entry that is replaced leaves the mark to its
//!   successor, so that nothing is captured twice;
//! - the walk has marked every entry whose hash is below `next`. It goes segment by segment in the
//!   order of hashes, which resizing does not change, and marks a segment that it left half way
//!   again from the beginning.
#![allow(unsafe_code)]

use std::ops::ControlFlow;

use super::super::bucket::{Slot, TAG_MARK};
use super::super::entry::{EntryRef, RawEntry};
use super::super::segment::Place;
use super::overflow::OVERFLOW_BUCKET;
use super::{KeyHash, Table};

/// What a table knows of captures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The mark of what is captured: [`TAG_MARK`] or nothing.
    mark: u64,
    /// Where the walk goes on, while there is one.
    next: Option<u64>,
    /// The table's number in the capture.
    number: u32,
}

impl Marks {
    /// The marks of an empty table in this one's place.
    pub(super) fn of_empty(self) -> Self {
        Self { next: None, ..self }
    }

    #[inline]
    pub(super) fn mark(self) -> u64 {
        self.mark
    }

    /// Whether the entry of `slot` is captured.
    #[inline]
    pub(super) fn has(self, slot: Slot) -> bool {
        slot.mark() == self.mark
    }
}

impl<T> Table<T> {
    /// Begins a capture, in which this table has the number `number`. Takes no time. The one before
    /// must be over: [`is_captured`](Self::is_captured).
    pub fn begin_capture(&mut self, number: u32) {
        assert!(self.is_captured(), "one capture at a time");
        let next = (!self.is_empty()).then_some(0);
        self.capture = Marks { mark: self.capture.mark ^ TAG_MARK, next, number };
    }

    /// Whether every entry is captured.
    #[inline]
    pub fn is_captured(&self) -> bool {
        self.capture.next.is_none()
    }

    /// The table's number in the capture under way.
    pub fn captured_as(&self) -> u32 {
        self.capture.number
    }

    /// Visits entries that are not captured yet, and takes them for captured, until `visit` breaks or
    /// all are.
    pub fn walk_uncaptured(
        &mut self,
        mut visit: impl FnMut(EntryRef<'_, T>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mark = self.capture.mark;
        let mut visit = |slot: Slot| {
            // SAFETY: slots hold live entries of type T, and nothing is changed during the visit.
            visit(unsafe { RawEntry::from_address(slot.address()).view() })
        };
        while let Some(at) = self.capture.next {
            let segment = self.directory.segment(at);
            let mut view = self.directory.view_mut(at);
            view.mark_all(mark, &mut visit)?;
            let behind = u128::from(view.header.prefix) + (1u128 << (64 - segment.depth()));
            match u64::try_from(behind) {
                Ok(next) => self.capture.next = Some(next),
                Err(_) => {
                    self.storage.overflow.mark_all(mark, &mut visit)?;
                    self.capture.next = None;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether the capture under way lacks the entry of `key`.
    pub fn lacks(&self, hash: KeyHash, key: &[u8]) -> bool {
        if self.is_captured() {
            return false;
        }
        let Some((place, _)) = self.find(hash, key) else { return false };
        let slot = if place.bucket == OVERFLOW_BUCKET {
            let mut slots = self.storage.overflow.of_hash(hash.0);
            slots.find_map(|(other, slot)| (other.slot == place.slot).then_some(slot))
        } else {
            Some(self.directory.view(hash.0).slot(place))
        };
        slot.is_some_and(|slot| !self.capture.has(slot))
    }

    /// Takes the entry of a place for captured; answers whether it was not.
    #[inline]
    pub(super) fn mark_captured(&mut self, hash: u64, place: Place) -> bool {
        let mark = self.capture.mark;
        if place.bucket == OVERFLOW_BUCKET {
            self.storage.overflow.mark(hash, place, mark)
        } else {
            self.directory.view_mut(hash).mark(place, mark)
        }
    }

    /// Panics unless a slot's mark is what the walk's progress demands.
    pub(super) fn check_mark(&self, hash: u64, slot: Slot) {
        let is_passed = self.capture.next.is_none_or(|next| hash < next);
        assert!(!is_passed || self.capture.has(slot), "a passed entry is not captured");
    }
}
