//! A set of shards: those that a command concerns.
#![forbid(unsafe_code)]

use super::{SHARDS_MAX, ShardId};

/// A set of shard numbers below [`SHARDS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// The shards 0 to `shards` - 1.
    pub fn all(shards: usize) -> Self {
        (0..shards as ShardId).collect()
    }

    /// Adds a shard.
    ///
    /// # Panics
    ///
    /// When its number is [`SHARDS_MAX`] or more.
    pub fn insert(&mut self, shard: ShardId) {
        self.0[shard as usize / 64] |= 1 << (shard % 64);
    }

    /// Whether the shard is in the set.
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0.get(shard as usize / 64).is_some_and(|word| word & (1 << (shard % 64)) != 0)
    }

    /// Adds the shards of another set.
    pub fn extend(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    /// Whether no shard is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many shards are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many shards of the set have a lower number than `shard`.
    pub fn rank(&self, shard: ShardId) -> usize {
        self.iter().take_while(|&lower| lower < shard).count()
    }

    /// The only shard of the set, if there is just one.
    pub fn single(&self) -> Option<ShardId> {
        self.iter().next().filter(|_| self.len() == 1)
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + use<> {
        let words = self.0.into_iter().zip(0u32..);
        words.flat_map(|(word, number)| Bits(word).map(move |bit| number * 64 + bit))
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::default();
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

/// The numbers of the bits that are set, from the lowest.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (lowest < 64).then_some(lowest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn it_matches_a_tree(shards in vec(0..SHARDS_MAX as ShardId, 0..40), at in 0..300u32) {
            let set: ShardSet = shards.iter().copied().collect();
            let model: BTreeSet<ShardId> = shards.iter().copied().collect();
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(set.contains(at), model.contains(&at));
            prop_assert_eq!(set.rank(at), model.range(..at).count());
            let single = model.iter().next().copied().filter(|_| model.len() == 1);
            prop_assert_eq!(set.single(), single);
        }
    }

    #[test]
    fn sets_are_joined() {
        let mut set = ShardSet::all(3);
        set.extend([70, 2].into_iter().collect());
        assert!(set.iter().eq([0, 1, 2, 70]));
    }
}
