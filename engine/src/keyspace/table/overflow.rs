//! Where entries go that their segment cannot take: a plain ordered map beside the table.
//!
//! With a keyed hash this stays empty for ever. It exists so that many keys with (nearly) equal hashes
//! can never make an insertion fail or loop, nor the directory double without end. Entries stay here
//! until they are removed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::bucket::Slot;
use super::super::entry::{RawEntry, TAG_DEADLINE};
use super::super::segment::Place;

/// The bucket number that means "not in a segment but here"; the slot number is the index among
/// the entries of equal hash.
pub(super) const OVERFLOW_BUCKET: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Overflow {
    map: BTreeMap<u64, Vec<Slot>>,
    len: usize,
}

impl Overflow {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entries of this very hash with their places.
    pub(super) fn of_hash(&self, hash: u64) -> impl Iterator<Item = (Place, Slot)> + '_ {
        let slots = self.map.get(&hash).map_or(&[][..], Vec::as_slice);
        slots.iter().enumerate().map(|(index, &slot)| (place(index), slot))
    }

    pub(super) fn insert(&mut self, hash: u64, entry: RawEntry, tags: u64) -> Place {
        let slots = self.map.entry(hash).or_default();
        slots.push(Slot::new(0, entry, tags));
        self.len += 1;
        place(slots.len() - 1)
    }

    pub(super) fn remove(&mut self, hash: u64, place: Place) -> Slot {
        let slots = self.map.get_mut(&hash).expect("a place is only used while its entry is there");
        let slot = slots.swap_remove(place.slot as usize);
        if slots.is_empty() {
            self.map.remove(&hash);
        }
        self.len -= 1;
        slot
    }

    pub(super) fn update(&mut self, hash: u64, place: Place, entry: RawEntry, tags: u64) {
        let slots = self.map.get_mut(&hash).expect("a place is only used while its entry is there");
        let slot = &mut slots[place.slot as usize];
        *slot = slot.with_entry(entry, tags);
    }

    /// Gives all slots the mark `mark`, and calls `visit` for each that lacked it. Stops behind the
    /// one at which `visit` breaks. Looks at all of them anew each time: crafted keys pay for that.
    pub(super) fn mark_all(
        &mut self,
        mark: u64,
        visit: &mut impl FnMut(Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for slot in self.map.values_mut().flatten() {
            if slot.mark() != mark {
                let before = std::mem::replace(slot, slot.with_mark(mark));
                visit(before)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Gives the slot of a place the mark `mark`; answers whether it lacked it.
    pub(super) fn mark(&mut self, hash: u64, place: Place, mark: u64) -> bool {
        let slots = self.map.get_mut(&hash).expect("a place is only used while its entry is there");
        let slot = &mut slots[place.slot as usize];
        let before = std::mem::replace(slot, slot.with_mark(mark));
        before.mark() != mark
    }

    /// All entries in hash order from hash `from` to `to`, both included.
    pub(super) fn range(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (u64, Place, Slot)> + '_ {
        self.map.range(from..=to).flat_map(|(&hash, slots)| {
            slots.iter().enumerate().map(move |(index, &slot)| (hash, place(index), slot))
        })
    }

    /// The last entry, taken out.
    pub(super) fn pop(&mut self) -> Option<Slot> {
        let mut last = self.map.last_entry()?;
        let slot = last.get_mut().pop();
        if last.get().is_empty() {
            last.remove();
        }
        self.len -= usize::from(slot.is_some());
        slot
    }

    /// Number of entries with a deadline.
    pub(super) fn volatile(&self) -> usize {
        self.range(0, u64::MAX).filter(|(_, _, slot)| slot.has(TAG_DEADLINE)).count()
    }
}

fn place(index: usize) -> Place {
    Place { bucket: OVERFLOW_BUCKET, slot: index as u32 }
}
