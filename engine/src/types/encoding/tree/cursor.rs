//! Reading a tree: a place in it, and steps from there.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    super::page::{Page, Record},
    Child, Edge, Node, Order, Path, Tree,
};

/// In an inner node its children and the one taken.
type Step<'a, O> = (&'a [Child<O>], usize);

/// A place in a tree: at a record, or behind the last.
#[derive(Clone, Debug)]
pub struct Cursor<'a, O: Order> {
    stack: SmallVec<[Step<'a, O>; 4]>,
    page: &'a Page,
    slot: usize,
}

impl<O: Order> Tree<O> {
    /// Goes down from the root: `choose` takes a child of each inner node, `slot` a place in the
    /// leaf.
    #[inline]
    pub(super) fn descend(
        &self,
        mut choose: impl FnMut(&[Child<O>]) -> usize,
        slot: impl FnOnce(&Page) -> usize,
    ) -> Cursor<'_, O> {
        let mut stack = SmallVec::new();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(page) => return Cursor { stack, page, slot: slot(page) },
                Node::Inner(inner) => {
                    let index = choose(&inner.children);
                    stack.push((&inner.children[..], index));
                    node = &inner.children[index].node;
                }
            }
        }
    }

    /// The place of the `index`-th record, counted from 0; the end if there are fewer.
    pub fn seek(&self, index: usize) -> Cursor<'_, O> {
        let rest = std::cell::Cell::new(index.min(self.len));
        let choose = |children: &[Child<O>]| {
            let last = children.len() - 1;
            for (at, child) in children[..last].iter().enumerate() {
                if rest.get() < child.count {
                    return at;
                }
                rest.set(rest.get() - child.count);
            }
            last
        };
        self.descend(choose, |_| rest.get())
    }

    /// The place of the first record.
    pub fn seek_start(&self) -> Cursor<'_, O> {
        self.descend(|_| 0, |_| 0)
    }

    /// The place behind the last record.
    pub fn seek_end(&self) -> Cursor<'_, O> {
        self.descend(|children| children.len() - 1, Page::len)
    }

    /// The `index`-th record, counted from 0.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.seek(index).record()
    }

    /// The record at `path`.
    pub fn at(&self, path: &Path) -> Option<Record<'_>> {
        let mut steps = path.steps.iter();
        let choose = |_: &[Child<O>]| steps.next().map_or(0, |&step| usize::from(step));
        self.descend(choose, |_| path.slot).record()
    }

    /// All records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.seek_start().forward()
    }
}

impl<'a, O: Order> Cursor<'a, O> {
    /// The record at this place; none at the end.
    #[inline]
    pub fn record(&self) -> Option<Record<'a>> {
        (self.slot < self.page.len()).then(|| self.page.record::<O>(self.slot))
    }

    /// The tag of the record at this place, in tagged trees.
    #[inline]
    pub fn tag(&self) -> Option<u32> {
        (self.slot < self.page.len()).then(|| self.page.tag(self.slot))
    }

    /// Goes to the next record or to the end.
    #[inline]
    pub fn step(&mut self) {
        self.slot += 1;
        self.settle();
    }

    /// Goes to the record before this place. False, and the place is kept, if there is none.
    #[inline]
    pub fn step_back(&mut self) -> bool {
        if self.slot == 0 && !self.climb_back() {
            return false;
        }
        self.slot -= 1;
        true
    }

    /// The records from here on.
    pub fn forward(mut self) -> impl Iterator<Item = Record<'a>> {
        std::iter::from_fn(move || {
            let record = self.record();
            self.step();
            record
        })
    }

    /// The records before this place, the nearest first.
    pub fn backward(mut self) -> impl Iterator<Item = Record<'a>> {
        std::iter::from_fn(move || if self.step_back() { self.record() } else { None })
    }

    /// Number of records before this place.
    pub fn index(&self) -> usize {
        let before = |(children, index): &Step<'a, O>| -> usize {
            children[..*index].iter().map(|child| child.count).sum()
        };
        self.stack.iter().map(before).sum::<usize>() + self.slot
    }

    /// The place, to write there.
    pub fn path(&self) -> Path {
        let front = self.slot == 0 && self.stack.iter().all(|(_, index)| *index == 0);
        let back = self.slot == self.page.len()
            && self.stack.iter().all(|(children, index)| index + 1 == children.len());
        let edge = match (front, back) {
            (_, true) => Edge::Back,
            (true, false) => Edge::Front,
            (false, false) => Edge::Inside,
        };
        let mut steps = SmallVec::new();
        self.stack.iter().for_each(|&(_, index)| steps.push(index as u16));
        Path { steps, slot: self.slot, edge }
    }

    /// Goes on to the next leaf if this place is the end of one and there is a next.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.slot < self.page.len() {
            return;
        }
        let up = self.stack.iter().rposition(|(children, index)| index + 1 < children.len());
        match up {
            Some(up) => {
                self.stack.truncate(up + 1);
                self.stack[up].1 += 1;
                self.slot = 0;
                self.go_down(|_| 0);
            }
            None => self.slot = self.page.len(),
        }
    }

    /// Goes to the end of the leaf before this one, if there is one.
    fn climb_back(&mut self) -> bool {
        let Some(up) = self.stack.iter().rposition(|(_, index)| *index > 0) else { return false };
        self.stack.truncate(up + 1);
        self.stack[up].1 -= 1;
        self.go_down(|children| children.len() - 1);
        self.slot = self.page.len();
        true
    }

    /// Goes down to a leaf from the child that the stack's top takes.
    fn go_down(&mut self, choose: impl Fn(&[Child<O>]) -> usize) {
        while let Some(&(children, index)) = self.stack.last() {
            match &children[index].node {
                Node::Leaf(page) => {
                    self.page = page;
                    return;
                }
                Node::Inner(inner) => {
                    self.stack.push((&inner.children[..], choose(&inner.children)));
                }
            }
        }
    }
}
