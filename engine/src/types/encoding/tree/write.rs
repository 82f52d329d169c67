//! Writes of one record.
//!
//! Nearly every write changes one leaf and leaves it as large as it was: it goes down once, counts on
//! the way and is done. Only when the leaf has another size, has split or has become sparse, a second
//! way down tells the nodes above.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use triomphe::Arc;

use super::{
    super::page::{NewRecord, Page, Record},
    Child, Edge, End, Inner, Node, Order, Path, Tree,
};

/// The children taken on the way to a leaf.
type Steps = SmallVec<[u16; 8]>;

/// A tree of more than so many full pages gives an edge that grows a page of the full size at once, which
/// will be filled and need not grow class by class.
const PAGES_OF_LARGE: usize = 4;

/// What a removal has left of its leaf.
struct Left {
    /// Its bytes before and after.
    bytes: (usize, usize),
    /// It should join a neighbour, or go.
    is_sparse: bool,
}

impl<O: Order> Tree<O> {
    /// Inserts `record` before the place `path`.
    pub fn insert(&mut self, path: &Path, record: &NewRecord<'_>) {
        self.len += 1;
        let place = (path.edge, self.is_large());
        let page = leaf_at(&mut self.root, &path.steps, 1);
        let before = page.memory_bytes();
        if page.insert::<O>(path.slot, record) {
            let after = page.memory_bytes();
            return self.resized(&path.steps, before, after);
        }
        let right = insert_splitting::<O>(page, path.slot, place, record);
        self.split(&path.steps, path.edge, right);
    }

    /// Puts `record` at `end`.
    #[inline]
    pub fn push(&mut self, end: End, record: &NewRecord<'_>) {
        self.len += 1;
        let page = end_leaf(&mut self.root, end, 1);
        let slot = if end == End::Front { 0 } else { page.len() };
        let before = page.memory_bytes();
        if page.insert::<O>(slot, record) {
            let after = page.memory_bytes();
            if before != after {
                self.resized(&self.end_steps(end), before, after);
            }
        } else {
            self.push_splitting(end, record);
        }
    }

    /// Appends `record`.
    pub fn push_back(&mut self, record: &NewRecord<'_>) {
        self.push(End::Back, record);
    }

    /// Puts `record` in the place of the one at `path`.
    pub fn replace(&mut self, path: &Path, record: &NewRecord<'_>) {
        let place = (path.edge, self.is_large());
        let page = leaf_at(&mut self.root, &path.steps, 0);
        let before = page.memory_bytes();
        if !page.replace::<O>(path.slot, record) {
            page.remove::<O>(path.slot, path.slot + 1);
            if !page.insert::<O>(path.slot, record) {
                let right = insert_splitting::<O>(page, path.slot, place, record);
                return self.split(&path.steps, path.edge, right);
            }
        }
        let after = page.memory_bytes();
        self.resized(&path.steps, before, after);
    }

    /// Removes the record at `path`.
    pub fn remove(&mut self, path: &Path) {
        self.len -= 1;
        let page = leaf_at(&mut self.root, &path.steps, -1);
        let left = remove_from::<O>(page, path.slot);
        self.removed(&path.steps, left);
    }

    /// Removes the record at `end` after `f` has seen it; nothing if the tree is empty.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Record<'_>) -> R) -> Option<R> {
        self.len = self.len.checked_sub(1)?;
        let page = end_leaf(&mut self.root, end, -1);
        let slot = if end == End::Front { 0 } else { page.len() - 1 };
        let result = f(page.record::<O>(slot));
        let left = remove_from::<O>(page, slot);
        if left.is_sparse || left.bytes.0 != left.bytes.1 {
            self.removed(&self.end_steps(end), left);
        }
        Some(result)
    }

    /// Whether one page more or less does not matter.
    #[inline]
    fn is_large(&self) -> bool {
        self.bytes > PAGES_OF_LARGE * O::BYTES_MAX
    }

    /// The way to the leaf at `end`.
    fn end_steps(&self, end: End) -> Steps {
        let (mut steps, mut node) = (Steps::new(), &self.root);
        while let Node::Inner(inner) = node {
            let index = inner.index_at(end);
            steps.push(index as u16);
            node = &inner.children[index].node;
        }
        steps
    }

    /// Puts `record` at `end`, where the leaf is full; the nodes above have counted it.
    #[cold]
    fn push_splitting(&mut self, end: End, record: &NewRecord<'_>) {
        let (steps, is_large) = (self.end_steps(end), self.is_large());
        let page = leaf_at(&mut self.root, &steps, 0);
        let (slot, edge) = match end {
            End::Front => (0, Edge::Front),
            End::Back => (page.len(), Edge::Back),
        };
        let right = insert_splitting::<O>(page, slot, (edge, is_large), record);
        self.split(&steps, edge, right);
    }

    /// The leaf at the end of `steps` had `before` bytes and has `after`.
    #[inline]
    fn resized(&mut self, steps: &[u16], before: usize, after: usize) {
        if before != after {
            self.resize(steps, before, after);
        }
    }

    #[cold]
    fn resize(&mut self, steps: &[u16], before: usize, after: usize) {
        self.bytes = self.bytes - before + after;
        let mut node = &mut self.root;
        for &step in steps {
            let child = child_at(node, step);
            child.bytes = child.bytes - before + after;
            node = &mut child.node;
        }
    }

    /// The leaf at the end of `steps`, in which everything is counted, has become two.
    #[cold]
    fn split(&mut self, steps: &[u16], edge: Edge, right: Page) {
        let Some(right) = adopt_at(&mut self.root, &mut self.bytes, steps, (edge, right)) else {
            return;
        };
        let left = Child {
            bound: O::Bound::default(),
            count: self.len - right.count,
            bytes: self.bytes,
            node: std::mem::replace(&mut self.root, Node::Leaf(Page::new())),
        };
        let root = Inner { children: vec![left, right] };
        self.bytes = root.bytes();
        self.root = Node::Inner(Arc::new(root));
    }

    /// A record was removed from the leaf at the end of `steps`.
    #[inline]
    fn removed(&mut self, steps: &[u16], left: Left) {
        if left.is_sparse && !steps.is_empty() {
            mend_at(&mut self.root, &mut self.bytes, steps);
            self.settle_root();
        } else {
            self.resized(steps, left.bytes.0, left.bytes.1);
        }
    }
}

impl<O: Order> Inner<O> {
    /// The child at `end`.
    #[inline]
    fn index_at(&self, end: End) -> usize {
        if end == End::Front { 0 } else { self.children.len() - 1 }
    }
}

/// The child `step` of `node`, to be changed.
#[inline]
fn child_at<O: Order>(node: &mut Node<O>, step: u16) -> &mut Child<O> {
    match node {
        Node::Inner(inner) => &mut Arc::make_mut(inner).children[usize::from(step)],
        Node::Leaf(_) => unreachable!("a path ends at a leaf"),
    }
}

/// The leaf at the end of `steps`, to be changed. The nodes on the way count `change` records more.
#[inline]
fn leaf_at<'a, O: Order>(mut node: &'a mut Node<O>, steps: &[u16], change: isize) -> &'a mut Page {
    for &step in steps {
        let child = child_at(node, step);
        child.count = child.count.wrapping_add_signed(change);
        node = &mut child.node;
    }
    match node {
        Node::Leaf(page) => page,
        Node::Inner(_) => unreachable!("a path reaches a leaf"),
    }
}

/// The same with the leaf at `end`.
#[inline]
fn end_leaf<O: Order>(mut node: &mut Node<O>, end: End, change: isize) -> &mut Page {
    loop {
        match node {
            Node::Leaf(page) => return page,
            Node::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let index = inner.index_at(end);
                let child = &mut inner.children[index];
                child.count = child.count.wrapping_add_signed(change);
                node = &mut child.node;
            }
        }
    }
}

/// Inserts `record` into a leaf that is full, at an edge of the tree or not; of a large tree or not. Its
/// right part is returned.
#[cold]
fn insert_splitting<O: Order>(
    page: &mut Page,
    slot: usize,
    (edge, is_large): (Edge, bool),
    record: &NewRecord<'_>,
) -> Page {
    let new = || if is_large { Page::roomy::<O>() } else { Page::new() };
    let mut right = match edge {
        Edge::Back => new(),
        Edge::Front => std::mem::replace(page, new()),
        Edge::Inside => page.split_off::<O>(page.middle::<O>()),
    };
    let fits = match slot.checked_sub(page.len()) {
        Some(slot) if slot > 0 || edge == Edge::Back => right.insert::<O>(slot, record),
        _ => page.insert::<O>(slot, record),
    };
    debug_assert!(fits, "half a page has room for a record");
    right
}

#[inline]
fn remove_from<O: Order>(page: &mut Page, slot: usize) -> Left {
    let before = page.memory_bytes();
    page.remove::<O>(slot, slot + 1);
    Left { bytes: (before, page.memory_bytes()), is_sparse: super::is_sparse::<O>(page) }
}

/// Lets the nodes on the way to a leaf know that `right` has split off from it. A node that overflows
/// keeps its left part; the right part is returned.
fn adopt_at<O: Order>(
    node: &mut Node<O>,
    bytes: &mut usize,
    steps: &[u16],
    (edge, right): (Edge, Page),
) -> Option<Child<O>> {
    match (node, steps) {
        (Node::Inner(inner), [step, rest @ ..]) => {
            let index = usize::from(*step);
            let inner = Arc::make_mut(inner);
            let child = &mut inner.children[index];
            let before = child.bytes;
            let right = adopt_at(&mut child.node, &mut child.bytes, rest, (edge, right));
            *bytes = *bytes + child.bytes - before;
            let right = right?;
            child.count -= right.count;
            inner.adopt(index + 1, right, edge, bytes)
        }
        (Node::Leaf(page), _) => {
            *bytes = page.memory_bytes();
            Some(Child {
                bound: O::bound(page, &right),
                count: right.len(),
                bytes: right.memory_bytes(),
                node: Node::Leaf(right),
            })
        }
        (Node::Inner(_), []) => unreachable!("a path reaches a leaf"),
    }
}

/// Counts the bytes below `node` on the way to a leaf that has become sparse, and joins what should be
/// joined.
#[cold]
fn mend_at<O: Order>(node: &mut Node<O>, bytes: &mut usize, steps: &[u16]) {
    match (node, steps) {
        (Node::Inner(inner), [step, rest @ ..]) => {
            let index = usize::from(*step);
            let inner = Arc::make_mut(inner);
            let child = &mut inner.children[index];
            let before = child.bytes;
            mend_at(&mut child.node, &mut child.bytes, rest);
            *bytes = *bytes + child.bytes - before;
            if (child.count == 0 || child.node.is_sparse()) && inner.mend(index) {
                *bytes = inner.bytes();
            }
        }
        (Node::Leaf(page), _) => *bytes = page.memory_bytes(),
        (Node::Inner(_), []) => unreachable!("a path reaches a leaf"),
    }
}
