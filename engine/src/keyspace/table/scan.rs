//! Walks over the table in hash order: SCAN, random keys, and the search for deadlines.
//!
//! A cursor is a position in hash order: the top [`CURSOR_BITS`] bits of the first hash not yet
//! visited. Growth and shrinking never change that order (see `segment.rs`), so an entry that is there from
//! the first call to the last is visited at least once, whatever happens in between, and twice only if
//! its segment was merged with another while the cursor stood inside it.
#![allow(unsafe_code)]

use super::super::bucket::Slot;
use super::super::entry::{EntryRef, RawEntry, RemovedBody, TAG_DEADLINE};
use super::super::segment::{DEPTH_MAX, HOME_BITS, Place, View, home, position, slot_bits};
use super::{Table, sample::Among};

/// Cursors are below 2^45: enough for every boundary between home buckets of the deepest segments.
pub const CURSOR_BITS: u32 = DEPTH_MAX + HOME_BITS;
const CURSOR_SHIFT: u32 = 64 - CURSOR_BITS;
/// Home buckets that a scan looks at for each entry asked for, before it returns with fewer.
const HOMES_PER_ENTRY: usize = 10;
/// Draws before `random` gives up on perfect fairness.
const DRAWS_MAX: usize = 200;

/// What shall become of an entry that was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Remove,
}

/// One home bucket, from a position in hash order on.
struct Stop<'t> {
    view: View<'t>,
    home: usize,
    at: u64,
    /// The first hash of the next home bucket, if there is one.
    next: Option<u64>,
}

/// The first hash of home position `position` (2^HOME_BITS is the end of the segment), or none
/// beyond the last of all hashes.
fn first_hash(view: View<'_>, position: usize) -> Option<u64> {
    let offset = ((position as u128) << (64 - HOME_BITS)) >> view.depth;
    u64::try_from(u128::from(view.header.prefix) + offset).ok()
}

impl<T> Table<T> {
    /// The home bucket of hash `at`.
    fn stop(&self, at: u64) -> Stop<'_> {
        let view = self.directory.view(at);
        let size = view.buckets.len();
        let home = home(position(slot_bits(at, view.depth), view.depth), size);
        let next = first_hash(view, ((home + 1) << HOME_BITS).div_ceil(size));
        Stop { view, home, at, next }
    }

    /// Visits what belongs to a stop, with hash (exact only for what overflowed) and place.
    fn for_each_at(&self, stop: &Stop<'_>, mut visit: impl FnMut(u64, Place, Slot)) {
        let (view, at) = (stop.view, stop.at);
        // A cursor from before a merge may stand inside a home bucket: what lies before was visited.
        let from = position(slot_bits(at, view.depth), view.depth);
        view.for_each_at_home(stop.home, |place, slot| {
            if position(slot.bits(), view.depth) >= from {
                visit(at, place, slot);
            }
        });
        if !self.storage.overflow.is_empty() {
            let last = stop.next.map_or(u64::MAX, |next| next - 1);
            for (hash, place, slot) in self.storage.overflow.range(at, last) {
                visit(hash, place, slot);
            }
        }
    }

    /// Visits the entries of home buckets from `cursor` on until `count` or more were visited, and
    /// returns the next cursor, 0 at the end. Start with 0. Looks at ten home buckets for each
    /// entry asked for at most, so that a sparse table costs no more than a full one.
    pub fn scan<'t>(
        &'t self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(EntryRef<'t, T>),
    ) -> u64 {
        let mut at = cursor << CURSOR_SHIFT;
        let mut visited = 0;
        for _ in 0..count.max(1).saturating_mul(HOMES_PER_ENTRY) {
            let stop = self.stop(at);
            self.for_each_at(&stop, |_, _, slot| {
                visited += 1;
                visit(self.view_of(slot));
            });
            let Some(next) = stop.next else { return 0 };
            at = next;
            if visited >= count {
                break;
            }
        }
        at >> CURSOR_SHIFT
    }

    /// One entry, each with the same probability, or none if the table is empty. `draw` gives
    /// random numbers.
    pub fn random(&self, mut draw: impl FnMut() -> u64) -> Option<EntryRef<'_, T>> {
        if self.is_empty() {
            return None;
        }
        let overflow = &self.storage.overflow;
        if !overflow.is_empty() {
            let pick = below(draw(), self.len());
            if pick < overflow.len() {
                let (_, _, slot) = overflow.range(0, u64::MAX).nth(pick)?;
                return Some(self.view_of(slot));
            }
        }
        for _ in 0..DRAWS_MAX {
            let Some(place) = self.draw_slot(&mut draw) else { break };
            // SAFETY: the directory holds live segments, and the table is borrowed.
            let view = unsafe { self.directory.at(place.word).0.view() };
            let bucket = &view.buckets[place.bucket];
            if bucket.fingerprint(place.slot) != 0 {
                return Some(self.view_of(bucket.slot(place.slot)));
            }
        }
        let mut found = None;
        self.sample(1, Among::All, &mut draw, |entry| found = Some(entry));
        found
    }

    /// Visits entries that have a deadline, from `cursor` on, and removes those that `visit` says;
    /// their bodies go to `reclaim`. `visit` also hears whether the capture under way, if there is
    /// one, has the entry. Entries without deadline are not touched: the slots' tags tell.
    /// Stops when `budget` home buckets and entries together were looked at; returns the next
    /// cursor, 0 at the end of the table.
    pub fn for_each_volatile_slice(
        &mut self,
        cursor: u64,
        budget: usize,
        mut visit: impl FnMut(EntryRef<'_, T>, bool) -> Verdict,
        mut reclaim: impl FnMut(RemovedBody<T>),
    ) -> u64 {
        let mut at = cursor << CURSOR_SHIFT;
        let mut spent = 0;
        let mut doomed: Vec<(u64, Place)> = Vec::new();
        while spent < budget.max(1) {
            let mut stop = self.stop(at);
            spent += 1;
            if stop.view.header.volatile == 0 && self.storage.overflow.is_empty() {
                stop.next = first_hash(stop.view, 1 << HOME_BITS);
            } else {
                self.for_each_at(&stop, |hash, place, slot| {
                    if slot.has(TAG_DEADLINE) {
                        spent += 1;
                        if visit(self.view_of(slot), self.capture.has(slot)) == Verdict::Remove {
                            doomed.push((hash, place));
                        }
                    }
                });
            }
            let next = stop.next;
            self.remove_doomed(at, &mut doomed, &mut reclaim);
            let Some(next) = next else { return 0 };
            at = next;
        }
        at >> CURSOR_SHIFT
    }

    /// Removes entries found at one stop. The last first: a removal among equal hashes that
    /// overflowed moves the last of them into the gap.
    fn remove_doomed(
        &mut self,
        at: u64,
        doomed: &mut Vec<(u64, Place)>,
        reclaim: &mut impl FnMut(RemovedBody<T>),
    ) {
        if doomed.is_empty() {
            return;
        }
        while let Some((hash, place)) = doomed.pop() {
            reclaim(self.remove_at(hash, place));
        }
        self.shrink(at);
    }

    /// A view of the entry of a slot of this table.
    pub(super) fn view_of(&self, slot: Slot) -> EntryRef<'_, T> {
        // SAFETY: slots hold live entries of type T, and the table is borrowed as long as the view.
        unsafe { RawEntry::from_address(slot.address()).view() }
    }
}

/// A number below `bound` from 64 random bits.
pub(super) fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}
