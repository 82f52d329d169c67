//! Lists: elements by position.
//!
//! A small list is a listpack, a larger one a tree sorted by position. Elements that are integers
//! are stored as such in both.
//!
//! OBJECT ENCODING says `listpack` until the list outgrows `list-max-listpack-size`, then
//! `quicklist` until it has shrunk to half of that, as in Redis.
#![forbid(unsafe_code)]

use super::{
    Either, Garbage, SHRINK_BYTES_MAX, SMALL_BYTES_MAX, Thresholds,
    encoding::{
        Element,
        element::with_body,
        listpack::{self, Listpack},
        order::ByIndex,
        page::NewRecord,
        tree::Tree,
    },
};

/// One of a list's ends: LPUSH pushes at the front.
pub use super::encoding::tree::End;

/// Bytes of an empty listpack of Redis.
const REDIS_LISTPACK_BYTES: usize = 7;
/// Where `list-max-listpack-size` counts elements, this size in bytes is the limit too.
const REDIS_SAFETY_BYTES: usize = 8192;

/// A `quicklist` of at most so many bytes of memory is counted in Redis's format.
const COUNTED_BYTES_MAX: usize = 64 << 10;
/// One of more bytes in that format is not: far enough from the other bound that a list at the border is
/// not counted anew again and again.
const UNCOUNTED_BYTES_MIN: usize = 256 << 10;

/// A list. Cloning captures it in O(1) when it is large.
#[derive(Clone, Debug)]
pub struct List {
    repr: Repr,
    /// Whether OBJECT ENCODING says `quicklist`.
    is_quicklist: bool,
    /// Size of a tree in Redis's listpack format, by which that name changes: known while it says
    /// `listpack`, and of a `quicklist` once that is so small that it may become a `listpack` again. Not
    /// kept of a listpack, whose size is no limit's: [`SMALL_BYTES_MAX`] of ours are below 4 KiB of
    /// Redis's.
    redis_bytes: Option<usize>,
}

#[derive(Clone, Debug)]
enum Repr {
    Small(Listpack),
    Large(Tree<ByIndex>),
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list.
    pub fn new() -> Self {
        Self { repr: Repr::Small(Listpack::new()), is_quicklist: false, redis_bytes: None }
    }

    /// The list that [`Self::packed`] gave.
    #[inline]
    pub fn from_packed(bytes: &[u8]) -> Self {
        let repr = Repr::Small(Listpack::from_trusted(bytes));
        Self { repr, is_quicklist: false, redis_bytes: None }
    }

    /// The list as packed bytes, if it is small and OBJECT ENCODING says `listpack`.
    #[inline]
    pub fn packed(&self) -> Option<&[u8]> {
        match &self.repr {
            Repr::Small(pack) if !self.is_quicklist => Some(pack.raw()),
            _ => None,
        }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.len(),
            Repr::Large(tree) => tree.len(),
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding that OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        if self.is_quicklist { "quicklist" } else { "listpack" }
    }

    /// Bytes of memory behind the list.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.memory_bytes(),
            Repr::Large(tree) => tree.memory_bytes(),
        }
    }

    /// The list's memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        match self.repr {
            Repr::Small(_) => Garbage::default(),
            Repr::Large(tree) => tree.into_garbage().into(),
        }
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        if index >= self.len() {
            return None;
        }
        match &self.repr {
            Repr::Small(pack) => Some(pack.view().get(pack.view().offset_of(index))),
            Repr::Large(tree) => tree.get(index).map(|record| record.body),
        }
    }

    /// The elements from `index` on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Element<'_>> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                Either::Left(view.iter_from(view.offset_of(index)).map(|(_, element)| element))
            }
            Repr::Large(tree) => {
                Either::Right(tree.seek(index).forward().map(|record| record.body))
            }
        }
    }

    /// The elements before `index`, the nearest first.
    pub fn iter_back_from(&self, index: usize) -> impl Iterator<Item = Element<'_>> {
        match &self.repr {
            Repr::Small(pack) => {
                let skipped = pack.len() - index.min(pack.len());
                Either::Left(pack.view().iter_back().skip(skipped).map(|(_, element)| element))
            }
            Repr::Large(tree) => {
                Either::Right(tree.seek(index).backward().map(|record| record.body))
            }
        }
    }

    /// Pushes `text` at `end`.
    pub fn push(&mut self, end: End, text: &[u8], thresholds: &Thresholds) {
        if let Repr::Large(tree) = &mut self.repr
            && self.is_quicklist
            && self.redis_bytes.is_none()
        {
            // Nothing is counted, and no name can change.
            return with_record(Element::compact(text), |record| tree.push(end, record));
        }
        let element = self.admit(text, thresholds);
        match &mut self.repr {
            Repr::Small(pack) => match end {
                End::Front => pack.push_front(element),
                End::Back => pack.push_back(element),
            },
            Repr::Large(tree) => {
                with_record(element, |record| tree.push(end, record));
            }
        }
    }

    /// Inserts `text` before the element at `index`, or at the end.
    pub fn insert(&mut self, index: usize, text: &[u8], thresholds: &Thresholds) {
        let element = self.admit(text, thresholds);
        match &mut self.repr {
            Repr::Small(pack) => pack.insert(pack.view().offset_of(index), element),
            Repr::Large(tree) => {
                let path = tree.seek(index).path();
                with_record(element, |record| tree.insert(&path, record));
            }
        }
    }

    /// Puts `text` in the place of the element at `index`; false if there is none.
    pub fn set(&mut self, index: usize, text: &[u8], thresholds: &Thresholds) -> bool {
        let Some(old) = self.get(index).map(|old| old.redis_listpack_len()) else { return false };
        let element = self.admit(text, thresholds);
        self.count_removed(old);
        match &mut self.repr {
            Repr::Small(pack) => pack.replace(pack.view().offset_of(index), element),
            Repr::Large(tree) => {
                let path = tree.seek(index).path();
                with_record(element, |record| tree.replace(&path, record));
            }
        }
        self.shrink(thresholds);
        true
    }

    /// Removes the element at `end`, after `f` has seen it; none of an empty list.
    #[inline]
    pub fn pop<R>(
        &mut self,
        end: End,
        thresholds: &Thresholds,
        f: impl FnOnce(Element<'_>) -> R,
    ) -> Option<R> {
        if let Repr::Large(tree) = &mut self.repr {
            let is_counted = self.redis_bytes.is_some();
            let (result, removed) = tree.pop(end, |record| {
                let removed = if is_counted { record.body.redis_listpack_len() } else { 0 };
                (f(record.body), removed)
            })?;
            self.count_removed(removed);
            self.shrink(thresholds);
            return Some(result);
        }
        let index = match end {
            End::Front => 0,
            End::Back => self.len().checked_sub(1)?,
        };
        let result = f(self.get(index)?);
        self.remove(index, thresholds);
        Some(result)
    }

    /// Removes the element at `index`, which exists.
    pub fn remove(&mut self, index: usize, thresholds: &Thresholds) {
        if self.redis_bytes.is_some() {
            let removed = self.get(index).map_or(0, |old| old.redis_listpack_len());
            self.count_removed(removed);
        }
        match &mut self.repr {
            Repr::Small(pack) => pack.remove(pack.view().offset_of(index), 1),
            Repr::Large(tree) => {
                let path = tree.seek(index).path();
                tree.remove(&path);
            }
        }
        self.shrink(thresholds);
    }

    /// Removes the elements `from..to`, which exist. What is returned is to be freed in slices.
    pub fn remove_range(&mut self, from: usize, to: usize, thresholds: &Thresholds) -> Garbage {
        if self.redis_bytes.is_some() {
            let removed = self.iter_from(from).take(to - from);
            let removed = removed.map(|old| old.redis_listpack_len()).sum();
            self.count_removed(removed);
        }
        let garbage = match &mut self.repr {
            Repr::Small(pack) => {
                pack.remove(pack.view().offset_of(from), to - from);
                Garbage::default()
            }
            Repr::Large(tree) => tree.remove_range(from, to).into(),
        };
        self.shrink(thresholds);
        garbage
    }

    /// Removes up to `limit` elements that are `text`, beginning at `end`; how many.
    pub fn remove_equal(
        &mut self,
        text: &[u8],
        end: End,
        limit: usize,
        thresholds: &Thresholds,
    ) -> usize {
        let indexes: Vec<usize> = match end {
            End::Front => matches(self.iter_from(0), text).take(limit).collect(),
            End::Back => {
                let len = self.len();
                let found = matches(self.iter_back_from(len), text).take(limit);
                found.map(|from_back| len - 1 - from_back).collect()
            }
        };
        for (removed, index) in indexes.iter().enumerate() {
            let shift = if end == End::Front { removed } else { 0 };
            self.remove(index - shift, thresholds);
        }
        indexes.len()
    }

    /// Makes room for `text` and counts it; the form in which to store it.
    fn admit<'a>(&mut self, text: &'a [u8], thresholds: &Thresholds) -> Element<'a> {
        let element = Element::compact(text);
        if let Repr::Small(pack) = &self.repr {
            let bytes = pack.raw().len() + listpack::encoded_len(&element);
            if bytes > SMALL_BYTES_MAX {
                self.repr = Repr::Large(tree_of(pack));
                self.redis_bytes = (!self.is_quicklist).then(|| self.redis_listpack_bytes());
            }
        }
        let mut total = 0;
        if let Some(bytes) = &mut self.redis_bytes {
            *bytes += element.redis_listpack_len();
            total = *bytes;
        }
        let limit = thresholds.list_max_listpack_size;
        if !self.is_quicklist && !fits_listpack(total, self.len() + 1, limit, 1) {
            self.is_quicklist = true;
        }
        if self.is_quicklist && total > UNCOUNTED_BYTES_MIN {
            self.redis_bytes = None;
        }
        element
    }

    /// Size that the list would have as a listpack of Redis.
    fn redis_listpack_bytes(&self) -> usize {
        let elements: usize = self.iter_from(0).map(|element| element.redis_listpack_len()).sum();
        REDIS_LISTPACK_BYTES + elements
    }

    fn count_removed(&mut self, removed: usize) {
        if let Some(bytes) = &mut self.redis_bytes {
            *bytes -= removed;
        }
    }

    /// After a removal: takes the smaller representation and the name of one, once they fit well.
    fn shrink(&mut self, thresholds: &Thresholds) {
        let Repr::Large(tree) = &self.repr else { return self.shrink_name(thresholds) };
        let memory = tree.memory_bytes();
        if memory > COUNTED_BYTES_MAX && self.redis_bytes.is_none() {
            return;
        }
        if memory <= SHRINK_BYTES_MAX {
            let mut pack = Listpack::new();
            tree.iter().for_each(|record| pack.push_back(record.body));
            self.repr = Repr::Small(pack);
            self.redis_bytes = None;
        }
        self.shrink_name(thresholds);
    }

    fn shrink_name(&mut self, thresholds: &Thresholds) {
        let limit = thresholds.list_max_listpack_size;
        let len = self.len();
        if !self.is_quicklist || !fits_listpack(2 * len, len, limit, 2) {
            return;
        }
        let bytes = self.redis_bytes.unwrap_or_else(|| self.redis_listpack_bytes());
        if matches!(self.repr, Repr::Large(_)) {
            // From now on it is counted along, so that no removal looks at all elements again.
            self.redis_bytes = Some(bytes);
        }
        self.is_quicklist = !fits_listpack(bytes, len, limit, 2);
    }
}

/// Whether so many bytes and elements fit a listpack of 1/`part` of the size that
/// `list-max-listpack-size` allows.
fn fits_listpack(bytes: usize, len: usize, limit: i64, part: usize) -> bool {
    let (bytes_max, len_max) = match limit {
        // As in Redis, where a listpack of no element would be no use.
        0.. => (REDIS_SAFETY_BYTES, limit.max(1) as usize),
        -5..0 => (2048 << -limit, usize::MAX),
        _ => (65_536, usize::MAX),
    };
    bytes <= bytes_max / part && len <= len_max / part
}

fn matches<'a>(
    elements: impl Iterator<Item = Element<'a>>,
    text: &[u8],
) -> impl Iterator<Item = usize> {
    elements.enumerate().filter(|(_, element)| element.is(text)).map(|(index, _)| index)
}

fn with_record<R>(element: Element<'_>, f: impl FnOnce(&NewRecord<'_>) -> R) -> R {
    match element {
        Element::Bytes(text) => with_body(text, |body| f(&NewRecord { tag: 0, head: &[], body })),
        body => f(&NewRecord { tag: 0, head: &[], body }),
    }
}

fn tree_of(pack: &Listpack) -> Tree<ByIndex> {
    let mut tree = Tree::new();
    for (_, element) in pack.view().iter() {
        with_record(element, |record| tree.push_back(record));
    }
    tree
}

#[cfg(test)]
mod tests;
