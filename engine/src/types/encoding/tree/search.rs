//! Searches in trees sorted by hash, by score or by id.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{
    super::{
        order::{ByHash, ById, ByScore, Order, id_of, score_of, score_tag},
        page::{Page, Record, halving, interpolate, lower_bound_near},
    },
    Cursor, Tree,
};

impl<const HEAD: usize> Tree<ByHash<HEAD>> {
    /// The place of the first record whose hash is not below `hash`, or the end.
    pub fn seek_hash(&self, hash: u32) -> Cursor<'_, ByHash<HEAD>> {
        let mut cursor = self.lower_bound(hash);
        cursor.settle();
        cursor
    }

    /// The place of the record with `hash` for which `is` holds, and true; or the place to insert
    /// one, and false.
    #[inline]
    pub fn find(
        &self,
        hash: u32,
        is: impl Fn(&Record<'_>) -> bool,
    ) -> (Cursor<'_, ByHash<HEAD>>, bool) {
        let place = self.lower_bound(hash);
        if place.tag().is_some_and(|tag| tag > hash) {
            return (place, false);
        }
        let mut cursor = place.clone();
        cursor.settle();
        while cursor.tag() == Some(hash) {
            if cursor.record().is_some_and(|record| is(&record)) {
                return (cursor, true);
            }
            cursor.step();
        }
        (place, false)
    }

    /// Equal hashes may reach over several leaves: goes to the first leaf that can hold one.
    #[inline]
    fn lower_bound(&self, hash: u32) -> Cursor<'_, ByHash<HEAD>> {
        self.descend(
            |children| {
                let bounds = &children[1..];
                let [first, .., last] = bounds else {
                    return bounds.iter().filter(|child| child.bound < hash).count();
                };
                let guess = interpolate(hash, first.bound, last.bound, bounds.len());
                lower_bound_near(bounds.len(), guess, |index| bounds[index].bound < hash)
            },
            |page| page.lower_bound(hash),
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
        let mut cursor = self.seek_insertion(score, member);
        cursor.settle();
        cursor
    }

    /// The place to insert `member`, which is not there, with `score`: on the left of a bound that
    /// is not below it, where searches will look.
    pub fn seek_insertion(&self, score: f64, member: &[u8]) -> Cursor<'_, ByScore> {
        let below = is_below(score, member);
        self.lower_bound_by(&below, |page| partition(page, page.slots_of(score_tag(score)), &below))
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
            |page| halving(0, page.len(), |slot| id_of(&page.record(slot, ById::FORMAT)) < id),
        )
    }
}

/// Whether a score and member stand before `score` and `member`.
fn is_below(score: f64, member: &[u8]) -> impl Fn(f64, &[u8]) -> bool {
    move |other, name| other < score || (other == score && name < member)
}

/// Index of the first record of `slots` for which `below` does not hold, or their end.
fn partition(page: &Page, slots: Range<usize>, below: &impl Fn(f64, &[u8]) -> bool) -> usize {
    halving(slots.start, slots.end, |index| {
        let record = page.record(index, ByScore::FORMAT);
        record.body.with_bytes(|member| below(score_of(&record), member))
    })
}
