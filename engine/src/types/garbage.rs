//! What is left of a collection that was deleted, to be freed in slices.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::encoding::{
    order::{ByHash, ById, ByIndex, ByScore},
    tree,
};

/// Nodes that nobody reaches any more. Dropping them frees them at once; of a huge collection that
/// would take too long for one step.
#[derive(Debug, Default)]
#[must_use]
pub struct Garbage {
    parts: SmallVec<[Part; 1]>,
}

#[derive(Debug)]
enum Part {
    Index(tree::Garbage<ByIndex>),
    Members(tree::Garbage<ByHash<0>>),
    Scored(tree::Garbage<ByHash<8>>),
    Scores(tree::Garbage<ByScore>),
    Pending(tree::Garbage<ById>),
    Blocks(tree::Garbage<ById>),
}

/// What a leaf whose records are blocks of a stream counts for: each block is an allocation.
const BLOCKS_OF_LEAF: usize = 64;

impl Garbage {
    /// Whether nothing is left to free.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Frees up to `budget` nodes (each at most 4 KiB and the long strings in it); whether nothing
    /// is left.
    pub fn free_slice(&mut self, budget: usize) -> bool {
        let Some(part) = self.parts.last_mut() else { return true };
        let done = match part {
            Part::Index(nodes) => nodes.free_slice(budget),
            Part::Members(nodes) => nodes.free_slice(budget),
            Part::Scored(nodes) => nodes.free_slice(budget),
            Part::Scores(nodes) => nodes.free_slice(budget),
            Part::Pending(nodes) => nodes.free_slice(budget),
            Part::Blocks(nodes) => nodes.free_slice(budget.div_ceil(BLOCKS_OF_LEAF)),
        };
        if done {
            self.parts.pop();
        }
        self.parts.is_empty()
    }

    /// The nodes of a tree whose records have no allocations of their own.
    pub(super) fn of_pending(nodes: tree::Garbage<ById>) -> Self {
        Self::of(Part::Pending(nodes))
    }

    /// The nodes of a tree of a stream's blocks.
    pub(super) fn of_blocks(nodes: tree::Garbage<ById>) -> Self {
        Self::of(Part::Blocks(nodes))
    }

    fn of(part: Part) -> Self {
        Self { parts: SmallVec::from_buf([part]) }
    }

    /// Adds what `other` holds.
    pub(super) fn extend(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }
}

impl From<tree::Garbage<ByIndex>> for Garbage {
    fn from(nodes: tree::Garbage<ByIndex>) -> Self {
        Self::of(Part::Index(nodes))
    }
}

impl From<tree::Garbage<ByHash<0>>> for Garbage {
    fn from(nodes: tree::Garbage<ByHash<0>>) -> Self {
        Self::of(Part::Members(nodes))
    }
}

impl From<tree::Garbage<ByHash<8>>> for Garbage {
    fn from(nodes: tree::Garbage<ByHash<8>>) -> Self {
        Self::of(Part::Scored(nodes))
    }
}

impl From<tree::Garbage<ByScore>> for Garbage {
    fn from(nodes: tree::Garbage<ByScore>) -> Self {
        Self::of(Part::Scores(nodes))
    }
}
