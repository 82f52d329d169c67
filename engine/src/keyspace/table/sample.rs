//! Samples of entries, for eviction.
//!
//! A sample begins at an entry, each as likely as any other, and goes on with its neighbours. Where
//! entries stand follows from their hashes and nothing else, so neighbours in the table have nothing
//! to do with each other, and they share cache lines: a sample of five costs about what two random
//! entries do. So every entry is in about as many of the possible samples as any other.
//!
//! Invariant: a sample reads no more than [`SEGMENTS_MAX`] segments, however few entries are of the
//! kind that is wanted; it may be empty then although there are some.
#![allow(unsafe_code)]

use super::super::bucket::{SLOTS, Slot};
use super::super::entry::{EntryRef, TAG_DEADLINE};
use super::super::segment::{SIZE_MAX, View};
use super::Table;
use super::scan::below;

/// Segments that one sample looks at: with one entry of the wanted kind in 300,000 it finds one.
const SEGMENTS_MAX: usize = 512;
/// Draws of a slot before the fairness of a sample is given up.
const DRAWS_MAX: usize = 64;

/// Draws of a slot that is to hold an entry of the wanted kind.
const STARTS_MAX: usize = 16;

/// Of which entries a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Of all.
    All,
    /// Of those that have a deadline.
    Volatile,
}

/// A slot of the table: the first directory word of its segment, the bucket and the slot in it.
#[derive(Clone, Copy, Default)]
pub(super) struct SlotPlace {
    pub(super) word: usize,
    pub(super) bucket: usize,
    pub(super) slot: usize,
}

impl<T> Table<T> {
    /// Visits up to `count` entries, no one twice, from a random place on. Fewer only if there are
    /// no more of them, or if they are very rare. `draw` gives random numbers.
    pub fn sample<'t>(
        &'t self,
        count: usize,
        among: Among,
        mut draw: impl FnMut() -> u64,
        mut visit: impl FnMut(EntryRef<'t, T>),
    ) {
        let there = match among {
            Among::All => self.len(),
            Among::Volatile => self.volatile_len(),
        };
        let mut left = count.min(there);
        if left == 0 {
            return;
        }
        // Returns true once the sample is complete.
        let mut take = |slot: Slot| {
            if among == Among::All || slot.has(TAG_DEADLINE) {
                visit(self.view_of(slot));
                left -= 1;
            }
            left == 0
        };
        let overflow = &self.storage.overflow;
        let beside = || overflow.range(0, u64::MAX).map(|(_, _, slot)| slot);
        let begins_beside = !overflow.is_empty() && below(draw(), self.len()) < overflow.len();
        if begins_beside && beside().any(&mut take) {
            return;
        }
        let start = self.draw_start(among, &mut draw);
        if !self.sample_segments(start, among, &mut take) && !begins_beside {
            beside().any(&mut take);
        }
    }

    /// A slot that holds an entry of the wanted kind, each as likely as any other; if they are rare,
    /// perhaps another slot.
    fn draw_start(&self, among: Among, draw: &mut impl FnMut() -> u64) -> SlotPlace {
        let mut start = SlotPlace::default();
        for _ in 0..STARTS_MAX {
            start = self.draw_slot(draw).unwrap_or_default();
            // SAFETY: the directory holds live segments, and the table is borrowed.
            let view = unsafe { self.directory.at(start.word).0.view() };
            let bucket = &view.buckets[start.bucket];
            let is_used = bucket.fingerprint(start.slot) != 0;
            if is_used && (among == Among::All || bucket.slot(start.slot).has(TAG_DEADLINE)) {
                break;
            }
        }
        start
    }

    /// Hands the slots in use from `start` on to `take`, until that says that it is enough; answers
    /// whether it did.
    fn sample_segments(
        &self,
        start: SlotPlace,
        among: Among,
        take: &mut impl FnMut(Slot) -> bool,
    ) -> bool {
        let mut at = start;
        for _ in 0..SEGMENTS_MAX {
            let (segment, _) = self.directory.at(at.word);
            // SAFETY: the directory holds live segments, and the table is borrowed.
            let view = unsafe { segment.view() };
            let is_wanted = among == Among::All || view.header.volatile > 0;
            if is_wanted && for_each_from(view, at, take) {
                return true;
            }
            let words = 1 << (self.directory.depth() - segment.depth());
            let word = (at.word + words) % self.directory.words();
            if word == start.word {
                return false;
            }
            at = SlotPlace { word, bucket: 0, slot: 0 };
        }
        false
    }

    /// A slot of any segment, in use or not, each as likely as any other; nothing if the draws would
    /// not have it.
    ///
    /// Every slot that a segment of the greatest size could have is equally likely; those that are
    /// not there are drawn again.
    pub(super) fn draw_slot(&self, draw: &mut impl FnMut() -> u64) -> Option<SlotPlace> {
        let is_alone = self.directory.at(0).0.depth() == 0;
        for _ in 0..DRAWS_MAX {
            let word = below(draw(), self.directory.words());
            let (segment, is_first) = self.directory.at(word);
            if !is_first {
                continue;
            }
            let size = if is_alone { segment.size() } else { SIZE_MAX };
            let pick = below(draw(), size * SLOTS);
            let (bucket, slot) = (pick / SLOTS, pick % SLOTS);
            if bucket < segment.size() {
                return Some(SlotPlace { word, bucket, slot });
            }
        }
        None
    }
}

/// Hands the slots in use of a segment to `take`, from a place in it on and round to that place
/// again, until that says that it is enough; answers whether it did.
fn for_each_from(view: View<'_>, at: SlotPlace, take: &mut impl FnMut(Slot) -> bool) -> bool {
    let size = view.buckets.len();
    (0..=size).any(|step| {
        let bucket = &view.buckets[(at.bucket + step) % size];
        let is_in_turn = |index: usize| match step {
            0 => index >= at.slot,
            _ if step == size => index < at.slot,
            _ => true,
        };
        bucket.occupied().filter(|&index| is_in_turn(index)).any(|index| take(bucket.slot(index)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{entry::NewBody, hash::Seed};
    use super::super::Entry;
    use super::*;
    use crate::sys::random::Random;

    /// A table of `count` numbered keys; every `volatile_every`th has a deadline.
    fn filled(count: u32, volatile_every: u32) -> Table<()> {
        let mut table = Table::new(Seed::fixed(9));
        for number in 0..count {
            let key = number.to_le_bytes();
            let deadline = number.is_multiple_of(volatile_every).then_some(i64::from(number));
            match table.entry(table.hash(&key), &key) {
                Entry::Vacant(vacant) => drop(vacant.insert(NewBody::Int(0), deadline)),
                Entry::Occupied(_) => panic!("inserted twice"),
            }
        }
        table
    }

    fn number(entry: EntryRef<'_, ()>) -> usize {
        u32::from_le_bytes(entry.key().try_into().expect("four bytes")) as usize
    }

    #[test]
    fn every_entry_is_in_about_as_many_samples_as_any_other() {
        const SIZE: usize = 5;
        for count in [40, 700, 3_000] {
            // So many that chance makes little of the differences.
            let samples = 100 * count as usize;
            let table = filled(count, 3);
            for among in [Among::All, Among::Volatile] {
                let mut random = Random::from_seed(u64::from(count));
                let mut seen = vec![0_usize; count as usize];
                for _ in 0..samples {
                    table.sample(SIZE, among, || random.next_u64(), |it| seen[number(it)] += 1);
                }
                let wanted = |number: &usize| among == Among::All || number.is_multiple_of(3);
                let kind = (0..count as usize).filter(wanted).count();
                let mean = samples * SIZE / kind;
                // Gaps before entries differ, and most so where those of a kind stand far apart.
                let (least, most) = match among {
                    Among::All => (mean / 3, mean * 3),
                    Among::Volatile => (mean / 3, mean * 3),
                };
                for (number, &times) in seen.iter().enumerate() {
                    let bounds = if wanted(&number) { least..most } else { 0..1 };
                    assert!(bounds.contains(&times), "{number} of {count}: {times}, mean {mean}");
                }
            }
        }
    }

    #[test]
    fn a_sample_has_as_many_distinct_entries_as_there_are() {
        let table = filled(1_000, 100);
        let mut random = Random::from_seed(4);
        for (wanted, among, there) in [
            (16, Among::All, 16),
            (2_000, Among::All, 1_000),
            (4, Among::Volatile, 4),
            (64, Among::Volatile, 10),
        ] {
            let mut seen = std::collections::BTreeSet::new();
            table.sample(
                wanted,
                among,
                || random.next_u64(),
                |entry| {
                    assert!(among == Among::All || entry.deadline().is_some());
                    assert!(seen.insert(number(entry)), "visited twice");
                },
            );
            assert_eq!(seen.len(), there);
        }
    }

    #[test]
    fn what_is_rare_is_found_by_and_by() {
        let table = filled(400_000, 1_000_000);
        assert_eq!(table.volatile_len(), 1);
        let mut random = Random::from_seed(5);
        let mut found = 0;
        for _ in 0..100 {
            table.sample(1, Among::Volatile, || random.next_u64(), |_| found += 1);
        }
        assert!(found > 20, "{found}");
    }
}
