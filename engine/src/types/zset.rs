//! Sorted sets: members with a score, ordered by score and then by member.
//!
//! A small sorted set is a listpack of members and scores in turn, in order; integral scores are
//! integers there, others eight bytes. A larger one is two trees: one sorted by score finds by rank,
//! by score and by member among equal scores; one sorted by the members' hashes finds a member's
//! score. Both hold the member's bytes: that is less memory than a pointer and an allocation of its
//! own for all but long members, and those are one shared allocation.
//!
//! Ranges of every kind come down to ranks: [`Zset::count_below`] finds the rank at which a range
//! by score or by member begins or ends.
//!
//! OBJECT ENCODING says `listpack` until the set outgrows `zset-max-listpack-entries` or a member
//! outgrows `zset-max-listpack-value`, then `skiplist` for good, as in Redis.
#![forbid(unsafe_code)]

use super::{
    Either, Garbage, SMALL_BYTES_MAX, Thresholds,
    encoding::{
        Element,
        element::with_body,
        listpack::{self, Listpack, Packed},
        order::{ByHash, ByScore, hash, score_of, score_tag},
        page::{NewRecord, Record},
        tree::{End, Tree},
    },
    hash::scan,
};

/// A sorted set. Cloning captures it in O(1) when it is large.
#[derive(Clone, Debug)]
pub struct Zset {
    repr: Repr,
    /// Whether OBJECT ENCODING says `skiplist`.
    is_skiplist: bool,
}

#[derive(Clone, Debug)]
enum Repr {
    Small(Listpack),
    Large(Box<Table>),
}

#[derive(Clone, Debug)]
struct Table {
    /// Sorted by hash; the scores are the heads.
    members: Tree<ByHash<8>>,
    /// Sorted by score; the scores are the heads.
    scores: Tree<ByScore>,
    seed: u64,
}

/// What [`Zset::set`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The member is new.
    Added,
    /// The member had another score.
    Moved,
    /// The member had this score.
    Unchanged,
}

impl Default for Zset {
    fn default() -> Self {
        Self::new()
    }
}

impl Zset {
    /// An empty sorted set.
    pub fn new() -> Self {
        Self { repr: Repr::Small(Listpack::new()), is_skiplist: false }
    }

    /// Prepares for `members` more members of up to `member_len` bytes: so many at once, or so long
    /// ones, make a `skiplist` of it, as in Redis.
    pub fn expect(&mut self, members: usize, member_len: usize, thresholds: &Thresholds) {
        self.is_skiplist |= members > thresholds.zset_max_listpack_entries
            || member_len > thresholds.zset_max_listpack_value;
    }

    /// The sorted set that [`Self::packed`] gave.
    #[inline]
    pub fn from_packed(bytes: &[u8]) -> Self {
        Self { repr: Repr::Small(Listpack::from_trusted(bytes)), is_skiplist: false }
    }

    /// The sorted set as packed bytes, if it is small and OBJECT ENCODING says `listpack`.
    #[inline]
    pub fn packed(&self) -> Option<&[u8]> {
        match &self.repr {
            Repr::Small(pack) if !self.is_skiplist => Some(pack.raw()),
            _ => None,
        }
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.len() / 2,
            Repr::Large(table) => table.members.len(),
        }
    }

    /// Whether there is no member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding that OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        if self.is_skiplist { "skiplist" } else { "listpack" }
    }

    /// Bytes of memory behind the sorted set.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.memory_bytes(),
            Repr::Large(table) => {
                size_of::<Table>() + table.members.memory_bytes() + table.scores.memory_bytes()
            }
        }
    }

    /// The sorted set's memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        match self.repr {
            Repr::Small(_) => Garbage::default(),
            Repr::Large(table) => {
                let mut garbage: Garbage = table.members.into_garbage().into();
                garbage.extend(table.scores.into_garbage().into());
                garbage
            }
        }
    }

    /// The score of `member`.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let at = view.find(member, 2)?;
                Some(score_at(view, view.next_offset(at)))
            }
            Repr::Large(table) => {
                let hash = hash(table.seed, member);
                let (_, record) = table.members.find(hash, |record| record.body.is(member));
                record.map(|record| score_of(&record))
            }
        }
    }

    /// Gives `member` the score `score`, which is a number.
    pub fn set(&mut self, member: &[u8], score: f64, thresholds: &Thresholds) -> Change {
        debug_assert!(!score.is_nan());
        let outgrows = |zset: &Self| {
            member.len() > thresholds.zset_max_listpack_value
                || (zset.len() >= thresholds.zset_max_listpack_entries
                    && zset.score(member).is_none())
        };
        if !self.is_skiplist && outgrows(self) {
            self.is_skiplist = true;
        }
        // In Redis's listpack a zero has no sign, since it is an integer there.
        let score = if score == 0.0 && !self.is_skiplist { 0.0 } else { score };
        match &mut self.repr {
            Repr::Small(pack) => match set_small(pack, member, score) {
                Some(change) => change,
                None => {
                    let mut table = Box::new(Table::of(self, thresholds.hash_seed));
                    let change = table.set(member, score);
                    self.repr = Repr::Large(table);
                    change
                }
            },
            Repr::Large(table) => table.set(member, score),
        }
    }

    /// Removes `member`; its score if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let at = view.find(member, 2)?;
                let score = score_at(view, view.next_offset(at));
                pack.remove(at, 2);
                Some(score)
            }
            Repr::Large(table) => table.remove(member),
        }
    }

    /// The rank of `member`, counted from the lowest score, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.repr {
            Repr::Small(_) => {
                let found = self.iter_from(0).enumerate().find(|(_, (name, _))| name.is(member));
                found.map(|(rank, (_, score))| (rank, score))
            }
            Repr::Large(table) => {
                let score = self.score(member)?;
                Some((table.scores.seek_member(score, member).index(), score))
            }
        }
    }

    /// Number of members for which `below` holds. It gets a score and a member (or the beginning of
    /// one) and must hold for a first part of the order and for nothing behind.
    pub fn count_below(&self, below: impl Fn(f64, &[u8]) -> bool) -> usize {
        match &self.repr {
            Repr::Small(_) => self
                .iter_from(0)
                .take_while(|(member, score)| member.with_bytes(|member| below(*score, member)))
                .count(),
            Repr::Large(table) => table.scores.seek_by(below).index(),
        }
    }

    /// The member of that rank and its score.
    pub fn at(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        self.iter_from(rank).next()
    }

    /// The members from `rank` on, ascending.
    pub fn iter_from(&self, rank: usize) -> impl Iterator<Item = (Element<'_>, f64)> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let mut at = view.offset_of(2 * rank);
                Either::Left(std::iter::from_fn(move || {
                    if at >= view.end() {
                        return None;
                    }
                    let score = view.next_offset(at);
                    let pair = (view.get(at), score_at(view, score));
                    at = view.next_offset(score);
                    Some(pair)
                }))
            }
            Repr::Large(table) => Either::Right(table.scores.seek(rank).forward().map(pair)),
        }
    }

    /// The members below `rank`, descending.
    pub fn iter_back_from(&self, rank: usize) -> impl Iterator<Item = (Element<'_>, f64)> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let skipped = pack.len().saturating_sub(2 * rank);
                let mut back = view.iter_back().skip(skipped);
                Either::Left(std::iter::from_fn(move || {
                    let (score, _) = back.next()?;
                    let (_, member) = back.next()?;
                    Some((member, score_at(view, score)))
                }))
            }
            Repr::Large(table) => Either::Right(table.scores.seek(rank).backward().map(pair)),
        }
    }

    /// Removes the member of that rank after `f` has seen it.
    pub fn pop_at<R>(&mut self, rank: usize, f: impl FnOnce(Element<'_>, f64) -> R) -> Option<R> {
        match &mut self.repr {
            Repr::Small(pack) => {
                if 2 * rank >= pack.len() {
                    return None;
                }
                let view = pack.view();
                let at = view.offset_of(2 * rank);
                let result = f(view.get(at), score_at(view, view.next_offset(at)));
                pack.remove(at, 2);
                Some(result)
            }
            Repr::Large(table) => {
                let Table { members, scores, seed } = &mut **table;
                let each = |record: Record<'_>| {
                    let (member, score) = pair(record);
                    let result = f(member, score);
                    member.with_bytes(|member| {
                        remove_member(members, hash(*seed, member), member);
                    });
                    result
                };
                if rank == 0 {
                    return scores.pop(End::Front, each);
                } else if rank + 1 == scores.len() {
                    return scores.pop(End::Back, each);
                }
                let cursor = scores.seek(rank);
                let result = each(cursor.record()?);
                let path = cursor.path();
                drop(cursor);
                scores.remove(&path);
                Some(result)
            }
        }
    }

    /// Removes the members of the ranks `from..to`, which exist.
    pub fn remove_range(&mut self, from: usize, to: usize) -> Garbage {
        match &mut self.repr {
            Repr::Small(pack) => {
                pack.remove(pack.view().offset_of(2 * from), 2 * (to - from));
                Garbage::default()
            }
            Repr::Large(table) => {
                if (from, to) == (0, table.scores.len()) {
                    return std::mem::take(self).into_garbage();
                }
                for record in table.scores.seek(from).forward().take(to - from) {
                    record.body.with_bytes(|member| {
                        remove_member(&mut table.members, hash(table.seed, member), member);
                    });
                }
                table.scores.remove_range(from, to).into()
            }
        }
    }

    /// Calls `each` with about `count` members from `cursor` on; the next cursor, 0 at the end. A
    /// member that is there from the first call to the last is seen at least once, also when its
    /// score changes.
    pub fn scan(&self, cursor: u64, count: usize, mut each: impl FnMut(Element<'_>, f64)) -> u64 {
        match &self.repr {
            Repr::Small(_) => {
                self.iter_from(0).for_each(|(member, score)| each(member, score));
                0
            }
            Repr::Large(table) => scan(&table.members, cursor, count, |record| {
                each(record.body, score_of(record));
            }),
        }
    }
}

/// The score whose element stands at `offset`.
#[inline]
fn score_at(view: Packed<'_>, offset: usize) -> f64 {
    match view.get(offset) {
        Element::Int(int) => int as f64,
        Element::Bytes(bytes) => bytes.try_into().map_or(0.0, f64::from_le_bytes),
        Element::Shared(_) => 0.0,
    }
}

/// Calls `f` with the element that stands for `score` in a listpack.
fn with_score<R>(score: f64, f: impl FnOnce(Element<'_>) -> R) -> R {
    let int = score as i64;
    if (int as f64).to_bits() == score.to_bits() && int != i64::MAX {
        f(Element::Int(int))
    } else {
        f(Element::Bytes(&score.to_le_bytes()))
    }
}

/// Sets a member's score in a small set; `None`, and nothing done, if it becomes too large.
fn set_small(pack: &mut Listpack, member: &[u8], score: f64) -> Option<Change> {
    let view = pack.view();
    let found = view.find(member, 2);
    if found.is_some_and(|at| score_at(view, view.next_offset(at)) == score) {
        return Some(Change::Unchanged);
    }
    let element = Element::compact(member);
    // A score takes nine bytes at most.
    if pack.raw().len() + listpack::encoded_len(&element) + 9 > SMALL_BYTES_MAX {
        return None;
    }
    if let Some(at) = found {
        pack.remove(at, 2);
    }
    let view = pack.view();
    let mut at = view.first();
    while at < view.end() {
        let other = view.next_offset(at);
        let score_there = score_at(view, other);
        let is_below = score_there < score
            || (score_there == score && view.get(at).with_bytes(|name| name < member));
        if !is_below {
            break;
        }
        at = view.next_offset(other);
    }
    with_score(score, |score| pack.insert(at, score));
    pack.insert(at, element);
    Some(if found.is_some() { Change::Moved } else { Change::Added })
}

fn pair(record: Record<'_>) -> (Element<'_>, f64) {
    (record.body, score_of(&record))
}

fn remove_member(members: &mut Tree<ByHash<8>>, hash: u32, member: &[u8]) {
    let (path, record) = members.find(hash, |record| record.body.is(member));
    debug_assert!(record.is_some(), "both trees hold the same members");
    if record.is_some() {
        members.remove(&path);
    }
}

impl Table {
    fn of(zset: &Zset, seed: u64) -> Self {
        let mut table = Self { members: Tree::new(), scores: Tree::new(), seed };
        for (member, score) in zset.iter_from(0) {
            member.with_bytes(|member| table.set(member, score));
        }
        table
    }

    /// All ways are found, and their leaves asked for, before any leaf is read: a large set lies outside
    /// the caches, and so it is waited for once and not three times.
    fn set(&mut self, member: &[u8], score: f64) -> Change {
        let tag = hash(self.seed, member);
        let lookup = self.members.approach(tag);
        let target = self.scores.approach_score(score, member);
        let (place, known) = lookup.find(|record| record.body.is(member));
        let old = known.map(|record| score_of(&record));
        match old {
            Some(old) if old == score => return Change::Unchanged,
            Some(old) => _ = self.scores.approach_score(old, member),
            None => {}
        }
        let path = target.insertion();
        with_body(member, |body| {
            let record = NewRecord { tag, head: &score.to_le_bytes(), body };
            self.scores.insert(&path, &NewRecord { tag: score_tag(score), ..record });
            match old {
                Some(_) => self.members.replace(&place, &record),
                None => self.members.insert(&place, &record),
            }
        });
        let Some(old) = old else { return Change::Added };
        self.remove_score(old, member);
        Change::Moved
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let tag = hash(self.seed, member);
        let (path, record) = self.members.find(tag, |record| record.body.is(member));
        let score = score_of(&record?);
        self.members.remove(&path);
        self.remove_score(score, member);
        Some(score)
    }

    fn remove_score(&mut self, score: f64, member: &[u8]) {
        let path = self.scores.member_path(score, member);
        self.scores.remove(&path);
    }
}

#[cfg(test)]
mod tests;
