//! Tree: a large collection as a counted B+-tree of shared nodes.
//!
//! Leaves are [`Page`]s, inner nodes hold up to 48 children with the number of records and the
//! bytes below each, so that the place of a record and the record at a place are found in
//! O(log n). Nodes are reference-counted and at most 4 KiB. Cloning a tree is the capture: O(1),
//! it shares the root; a write to a tree copies those nodes on its path that are shared.
//!
//! A write names its place by a [`Path`], which a search on the unchanged tree gave: one descent
//! with comparisons, one without. The search is the order's business ([`super::order`]); everything
//! here goes by places. Parts: `path` (places, and the ways to them), `write` (writes of one record),
//! `search` and `cursor` (reading), `free`.
//!
//! Invariants:
//! - all leaves have the same depth; no node but an empty root leaf is empty;
//! - `bound` of a child (the first's is not looked at) parts it from its left neighbour: nothing on
//!   the left is greater, nothing on the right is less. Removals leave bounds as they are;
//! - `count` and `bytes` of a child are the sums over the nodes below.
//!
//! Nodes are merged lazily, when a node and its neighbour together fill less than three quarters of
//! one. Full leaves at either end split off the new record alone, so that lists and ascending
//! scores fill their pages whole.
#![forbid(unsafe_code)]

use triomphe::Arc;

use super::{order::Order, page::Page};

mod cursor;
mod free;
mod path;
mod search;
#[cfg(test)]
mod tests;
mod write;

pub use cursor::Cursor;
pub use free::Garbage;
pub use path::Path;

/// Most children of an inner node: 48 of at most 72 bytes are less than 4 KiB.
const CHILDREN_MAX: usize = 48;

/// Where a place stands in the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// Before the first record.
    Front,
    /// Behind the last record.
    Back,
    Inside,
}

/// An ordered sequence of records. Cloning captures it in O(1).
#[derive(Clone, Debug)]
pub struct Tree<O: Order> {
    root: Node<O>,
    len: usize,
    /// Bytes of all nodes.
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Node<O: Order> {
    Leaf(Page),
    Inner(Arc<Inner<O>>),
}

#[derive(Clone, Debug)]
struct Inner<O: Order> {
    children: Vec<Child<O>>,
}

#[derive(Clone, Debug)]
struct Child<O: Order> {
    bound: O::Bound,
    count: usize,
    bytes: usize,
    node: Node<O>,
}

/// One of a tree's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before the first record.
    Front,
    /// Behind the last.
    Back,
}

impl<O: Order> Default for Tree<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Order> Tree<O> {
    /// An empty tree.
    pub fn new() -> Self {
        let root = Page::new();
        Self { len: 0, bytes: root.memory_bytes(), root: Node::Leaf(root) }
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory behind the tree: nodes and long bodies, shared ones counted whole.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Removes the records at the places `from..to`. What fell off is returned, to be freed in
    /// slices.
    pub fn remove_range(&mut self, from: usize, to: usize) -> Garbage<O> {
        let mut garbage = Garbage::new();
        if from < to {
            self.len -= to - from;
            if self.len == 0 {
                return std::mem::take(self).into_garbage();
            }
            cut(&mut self.root, &mut self.bytes, from, to, &mut garbage);
            self.settle_root();
        }
        garbage
    }

    /// Takes away levels with a single child.
    fn settle_root(&mut self) {
        while let Node::Inner(inner) = &self.root {
            let [only] = &inner.children[..] else { return };
            self.bytes = only.bytes;
            self.root = only.node.clone();
        }
    }
}

impl<O: Order> Node<O> {
    /// Whether the node is so empty that it should join a neighbour.
    fn is_sparse(&self) -> bool {
        match self {
            Self::Leaf(page) => is_sparse::<O>(page),
            Self::Inner(inner) => inner.children.len() < CHILDREN_MAX / 4,
        }
    }

    /// Whether the two fill less than three quarters of one node.
    fn join_well(&self, right: &Self) -> bool {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                let bytes = left.live_bytes::<O>() + right.live_bytes::<O>();
                bytes <= Page::room::<O>() / 4 * 3
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.children.len() + right.children.len() <= CHILDREN_MAX / 4 * 3
            }
            _ => false,
        }
    }
}

impl<O: Order> Inner<O> {
    /// Bytes of the node and of all below it.
    fn bytes(&self) -> usize {
        let below: usize = self.children.iter().map(|child| child.bytes).sum();
        size_of::<usize>() + size_of::<Self>() + self.children.len() * size_of::<Child<O>>() + below
    }

    /// Takes in a child that split off from the one before `index`. If this node overflows, its
    /// right part is returned.
    fn adopt(
        &mut self,
        index: usize,
        child: Child<O>,
        edge: Edge,
        bytes: &mut usize,
    ) -> Option<Child<O>> {
        let len = self.children.len();
        if len == self.children.capacity() {
            self.children.reserve_exact(len.min(CHILDREN_MAX + 1 - len));
        }
        *bytes += child.bytes + size_of::<Child<O>>();
        self.children.insert(index, child);
        if self.children.len() <= CHILDREN_MAX {
            return None;
        }
        let right = self.split_off(match edge {
            Edge::Front => 1,
            Edge::Back => CHILDREN_MAX,
            Edge::Inside => CHILDREN_MAX / 2,
        });
        *bytes = self.bytes();
        Some(right)
    }

    /// Moves the children from `at` on to a new node, which is returned as a right neighbour.
    fn split_off(&mut self, at: usize) -> Child<O> {
        let right = Self { children: self.children.drain(at..).collect() };
        Child {
            bound: right.children[0].bound.clone(),
            count: right.children.iter().map(|child| child.count).sum(),
            bytes: right.bytes(),
            node: Node::Inner(Arc::new(right)),
        }
    }

    /// Takes away child `index` if it is empty, or joins it with a neighbour if it is sparse; whether
    /// something was done.
    fn mend(&mut self, index: usize) -> bool {
        let Some(child) = self.children.get(index) else { return false };
        if child.count == 0 {
            self.children.remove(index);
            return true;
        }
        if child.node.is_sparse() {
            let lefts = [index.checked_sub(1), Some(index)];
            for left in lefts.into_iter().flatten() {
                let pair = self.children.get(left).zip(self.children.get(left + 1));
                if pair.is_some_and(|(left, right)| left.node.join_well(&right.node)) {
                    self.join(left);
                    return true;
                }
            }
        }
        false
    }

    /// Joins child `left` with its right neighbour.
    fn join(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let left = &mut self.children[left];
        left.count += right.count;
        match (&mut left.node, right.node) {
            (Node::Leaf(page), Node::Leaf(other)) => {
                page.append::<O>(&other);
                left.bytes = page.memory_bytes();
            }
            (Node::Inner(inner), Node::Inner(other)) => {
                let inner = Arc::make_mut(inner);
                let seam = inner.children.len();
                inner.children.extend(Arc::unwrap_or_clone(other).children);
                inner.children[seam].bound = right.bound;
                left.bytes = inner.bytes();
            }
            _ => unreachable!("neighbours have the same depth"),
        }
    }
}

/// Whether a leaf is so empty that it should join a neighbour.
#[inline]
fn is_sparse<O: Order>(page: &Page) -> bool {
    page.live_bytes::<O>() < Page::room::<O>() / 4
}

/// Removes the records `from..to` below `node`, some of which stay. Whole nodes go to `garbage`.
fn cut<O: Order>(
    node: &mut Node<O>,
    bytes: &mut usize,
    from: usize,
    to: usize,
    garbage: &mut Garbage<O>,
) {
    match node {
        Node::Leaf(page) => {
            page.remove::<O>(from, to);
            *bytes = page.memory_bytes();
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let mut kept = Vec::with_capacity(inner.children.len());
            let (mut start, mut seam) = (0, None);
            for mut child in inner.children.drain(..) {
                let end = start + child.count;
                let (first, last) = (from.clamp(start, end) - start, to.clamp(start, end) - start);
                if first < last {
                    seam.get_or_insert(kept.len());
                }
                if last - first == child.count {
                    garbage.push(child.node);
                } else {
                    if first < last {
                        child.count -= last - first;
                        cut(&mut child.node, &mut child.bytes, first, last, garbage);
                    }
                    kept.push(child);
                }
                start = end;
            }
            inner.children = kept;
            let seam = seam.unwrap_or(0);
            inner.mend(seam + 1);
            inner.mend(seam);
            *bytes = inner.bytes();
        }
    }
}
