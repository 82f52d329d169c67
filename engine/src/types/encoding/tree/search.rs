//! Searches in trees sorted by hash, by score or by id.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{
    super::{
        order::{ByHash, ById, ByScore, id_of, score_of, score_tag},
        page::{Page, Record, halving},
    },
    Cursor, Path, Tree,
};

impl<const HEAD: usize> Tree<ByHash<HEAD>> {
    /// The place of the first record whose hash is not below `hash`, or the end.
    pub fn seek_hash(&self, hash: u32) -> Cursor<'_, ByHash<HEAD>> {
        let mut cursor = self.lower_bound(hash);
        cursor.settle();
        cursor
    }

    /// The record with `hash` for which `is` holds, and its place, if one stands in any leaf.
    #[cold]
    pub(super) fn find_behind(
        &self,
        hash: u32,
        is: impl Fn(&Record<'_>) -> bool,
    ) -> Option<(Path, Record<'_>)> {
        let mut cursor = self.seek_hash(hash);
        while cursor.tag() == Some(hash) {
            let record = cursor.record()?;
            if is(&record) {
                return Some((cursor.path(), record));
            }
            cursor.step();
        }
        None
    }

    /// Equal hashes may reach over several leaves: goes to the first leaf that can hold one.
    fn lower_bound(&self, hash: u32) -> Cursor<'_, ByHash<HEAD>> {
        self.descend(
            |children| children[1..].partition_point(|child| child.bound < hash),
            |page| halving(0, page.len(), |slot| page.tag(slot) < hash),
        )
    }
}

impl Tree<ByScore> {
    /// The place of the first record for which `below` does not hold, or the end. `below` gets a
    /// score and a member (or the beginning of one) and must hold for a first part of the order and
    /// for nothing behind.
    pub fn seek_by(&self, below: impl Fn(f64, &[u8]) -> bool) -> Cursor<'_, ByScore> {
        let mut cursor = self.lower_bound_by(&below, |page| partition(page, 0..page.len(), &below));
        cursor.settle();
        cursor
    }

    /// The place of `member`, which has `score`; of the next one if it is not there.
    pub fn seek_member(&self, score: f64, member: &[u8]) -> Cursor<'_, ByScore> {
        let below = is_below(score, member);
        let slots = |page: &Page| page.slots_of(score_tag(score));
        let mut cursor = self.lower_bound_by(&below, |page| partition(page, slots(page), &below));
        cursor.settle();
        cursor
    }

    fn lower_bound_by(
        &self,
        below: &impl Fn(f64, &[u8]) -> bool,
        slot: impl FnOnce(&Page) -> usize,
    ) -> Cursor<'_, ByScore> {
        self.descend(
            |children| {
                children[1..]
                    .partition_point(|child| below(child.bound.score(), child.bound.member()))
            },
            slot,
        )
    }
}

impl Tree<ById> {
    /// The place of the first record whose id is not below `id`, or the end.
    pub fn seek_id(&self, id: u128) -> Cursor<'_, ById> {
        let mut cursor = self.id_place(id);
        cursor.settle();
        cursor
    }

    /// The place of the last record whose id is not above `id`, unless all are.
    pub fn seek_id_back(&self, id: u128) -> Option<Cursor<'_, ById>> {
        let (mut cursor, found) = self.find_id(id);
        (found || cursor.step_back()).then_some(cursor)
    }

    /// The place of the record with `id`, and true; or the place to insert one, and false.
    #[inline]
    pub fn find_id(&self, id: u128) -> (Cursor<'_, ById>, bool) {
        let cursor = self.id_place(id);
        let found = cursor.record().is_some_and(|record| id_of(&record) == id);
        (cursor, found)
    }

    /// No two records share an id, so one that equals a bound stands on the bound's right.
    #[inline]
    fn id_place(&self, id: u128) -> Cursor<'_, ById> {
        self.descend(
            |children| children[1..].partition_point(|child| child.bound <= id),
            |page| halving(0, page.len(), |slot| id_of(&page.record::<ById>(slot)) < id),
        )
    }
}

/// Whether a score and member stand before `score` and `member`.
pub(super) fn is_below(score: f64, member: &[u8]) -> impl Fn(f64, &[u8]) -> bool {
    move |other, name| other < score || (other == score && name < member)
}

/// Index of the first record of `slots` for which `below` does not hold, or their end.
pub(super) fn partition(
    page: &Page,
    slots: Range<usize>,
    below: &impl Fn(f64, &[u8]) -> bool,
) -> usize {
    halving(slots.start, slots.end, |index| {
        let record = page.record::<ByScore>(index);
        record.body.with_bytes(|member| below(score_of(&record), member))
    })
}
