//! What trees are sorted by.
//!
//! - [`ByIndex`]: position; lists.
//! - [`ByHash`]: hash of the member; sets, hashes, and the members of sorted sets. A position in
//!   the order of hashes outlives growth and shrinking, so it serves as cursor of SSCAN, HSCAN and
//!   ZSCAN, and counts in the inner nodes make every member equally likely at random access.
//! - [`ByScore`]: score, then member; sorted sets.
//! - [`ById`]: a number of 128 bits; what belongs to ids of streams.
#![forbid(unsafe_code)]

use std::{cmp::Ordering, fmt::Debug};

use ahash::RandomState;
use triomphe::Arc;

use super::page::{Format, Page, Record};

/// The order of a tree's records and what its inner nodes need to find them.
pub trait Order: Format + Clone + Debug + 'static {
    /// A bound between two neighbouring nodes: nothing in the left one is greater, nothing in the
    /// right one is less.
    type Bound: Clone + Debug + Default;

    /// A bound between two neighbouring leaves, neither of them empty.
    fn bound(left: &Page, right: &Page) -> Self::Bound;
}

/// Ordered by position.
#[derive(Clone, Copy, Debug)]
pub enum ByIndex {}

impl Format for ByIndex {
    const TAGGED: bool = false;
    const HEAD_BYTES: usize = 0;
    const BYTES_MAX: usize = 4096;
}

impl Order for ByIndex {
    type Bound = ();

    fn bound(_: &Page, _: &Page) {}
}

/// Ordered by a 32-bit hash, which the slots hold. Records of one hash stand side by side in any
/// order and may fill several leaves. `HEAD` is the length of the records' heads.
#[derive(Clone, Copy, Debug)]
pub enum ByHash<const HEAD: usize> {}

impl<const HEAD: usize> Format for ByHash<HEAD> {
    const TAGGED: bool = true;
    const HEAD_BYTES: usize = HEAD;
    const BYTES_MAX: usize = 2048;
}

impl<const HEAD: usize> Order for ByHash<HEAD> {
    type Bound = u32;

    fn bound(_: &Page, right: &Page) -> u32 {
        right.tag(0)
    }
}

/// The hash of `member` in trees made with `seed`. Seeds are drawn at random, so that nobody can
/// choose members that collide.
#[inline]
pub fn hash(seed: u64, member: &[u8]) -> u32 {
    let state = RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0x5445_5353_4552_4121);
    (state.hash_one(member) >> 32) as u32
}

/// Ordered by score, then member. The score, as eight bytes, is the head of a record; the slots hold
/// its [`score_tag`], so that a search reads one dense array before it looks at records.
#[derive(Clone, Copy, Debug)]
pub enum ByScore {}

/// A place in the order of scores: between everything below it and everything not below it.
#[derive(Clone, Debug, Default)]
pub struct ScoreBound {
    score: f64,
    /// The shortest prefix that tells the neighbours apart; none if their scores do.
    member: Option<Arc<[u8]>>,
}

impl Format for ByScore {
    const TAGGED: bool = true;
    const HEAD_BYTES: usize = 8;
    const BYTES_MAX: usize = 2048;
}

impl Order for ByScore {
    type Bound = ScoreBound;

    fn bound(left: &Page, right: &Page) -> ScoreBound {
        let (last, first) = (left.record::<Self>(left.len() - 1), right.record::<Self>(0));
        let score = score_of(&first);
        if score_of(&last) != score {
            return ScoreBound { score, member: None };
        }
        let member = last.body.with_bytes(|last| {
            first.body.with_bytes(|first| {
                let common = last.iter().zip(first).take_while(|(a, b)| a == b).count();
                Arc::from(&first[..(common + 1).min(first.len())])
            })
        });
        ScoreBound { score, member: Some(member) }
    }
}

impl ScoreBound {
    /// Whether the bound stands before `member` with `score`.
    #[inline]
    pub fn is_below(&self, score: f64, member: &[u8]) -> bool {
        self.score < score || (self.score == score && self.member() < member)
    }

    /// The bound's score.
    #[inline]
    pub fn score(&self) -> f64 {
        self.score
    }

    /// The bound's member prefix, empty if the score alone is the bound.
    #[inline]
    pub fn member(&self) -> &[u8] {
        self.member.as_deref().unwrap_or_default()
    }
}

/// Ordered by a number of 128 bits that no two records share: the ids of streams. The number, as 16
/// bytes, is the head of a record.
#[derive(Clone, Copy, Debug)]
pub enum ById {}

impl Format for ById {
    const TAGGED: bool = false;
    const HEAD_BYTES: usize = 16;
    const BYTES_MAX: usize = 2048;
}

impl Order for ById {
    type Bound = u128;

    fn bound(_: &Page, right: &Page) -> u128 {
        id_of(&right.record::<Self>(0))
    }
}

/// The number in a record's head.
#[inline]
pub fn id_of(record: &Record<'_>) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&record.head[..16]);
    u128::from_le_bytes(bytes)
}

/// The score in a record's head.
#[inline]
pub fn score_of(record: &Record<'_>) -> f64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record.head[..8]);
    f64::from_le_bytes(bytes)
}

/// The upper half of a score in a form whose order as an integer is that of the scores: a lower tag
/// means a lower score, equal tags leave it open.
#[inline]
pub fn score_tag(score: f64) -> u32 {
    // Adding zero takes the sign from -0, which equals 0.
    let bits = (score + 0.0).to_bits();
    let sortable = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    (sortable >> 32) as u32
}

/// Orders scores as Redis does: by value, so that -0 equals 0. Scores are never NaN.
#[inline]
pub fn cmp_scores(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_order_of_scores() {
        let scores =
            [f64::NEG_INFINITY, -1e300, -2.5, -1.0, -1e-300, 0.0, 1e-300, 1.0, 1e18, f64::INFINITY];
        assert!(scores.windows(2).all(|pair| score_tag(pair[0]) < score_tag(pair[1])));
        assert_eq!(score_tag(-0.0), score_tag(0.0));
        assert!(score_tag(1.0) <= score_tag(1.0 + f64::EPSILON));
    }
}
