//! Sets: distinct members.
//!
//! A small set of integers is an intset, another small one a listpack, a larger one a tree sorted
//! by the members' hashes.
//!
//! OBJECT ENCODING says `intset`, `listpack` or `hashtable` by the thresholds of Redis, and only
//! goes forward among them.
#![forbid(unsafe_code)]

use super::{
    Either, Garbage, SMALL_BYTES_MAX, Thresholds,
    encoding::{
        Element,
        element::{canonical_i64, with_body},
        intset::Intset,
        listpack::{self, Listpack},
        order::{ByHash, hash},
        page::NewRecord,
        tree::{Path, Tree},
    },
    hash::scan,
};

/// Longest intset in members: at most 4 KiB.
const INTSET_LEN_MAX: usize = 512;

/// A set. Cloning captures it in O(1) when it is large.
#[derive(Clone, Debug)]
pub struct Set {
    repr: Repr,
    name: Name,
}

#[derive(Clone, Debug)]
enum Repr {
    Ints(Intset),
    Small(Listpack),
    Large(Table),
}

/// A small set as packed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedSet<'a> {
    /// Of integers alone.
    Ints(&'a [u8]),
    /// Of any members.
    Members(&'a [u8]),
}

/// What OBJECT ENCODING says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Intset,
    Listpack,
    Hashtable,
}

#[derive(Clone, Debug)]
struct Table {
    tree: Tree<ByHash<0>>,
    seed: u64,
}

impl Set {
    /// An empty set, for `first` and about `expected` members in all.
    pub fn new(first: &[u8], expected: usize, thresholds: &Thresholds) -> Self {
        let name = match canonical_i64(first) {
            Some(_) if expected <= thresholds.set_max_intset_entries => Name::Intset,
            _ if expected <= thresholds.set_max_listpack_entries => Name::Listpack,
            _ => Name::Hashtable,
        };
        let repr = match name {
            Name::Intset => Repr::Ints(Intset::new()),
            Name::Listpack | Name::Hashtable => Repr::Small(Listpack::new()),
        };
        Self { repr, name }
    }

    /// Prepares for about `expected` more members: that many at once make a `hashtable` of a small
    /// set, as in Redis.
    pub fn expect(&mut self, expected: usize, thresholds: &Thresholds) {
        let limit = match self.name {
            Name::Intset => thresholds.set_max_intset_entries,
            Name::Listpack => thresholds.set_max_listpack_entries,
            Name::Hashtable => return,
        };
        if expected > limit {
            self.name = Name::Hashtable;
        }
    }

    /// The set that [`Self::packed`] gave.
    #[inline]
    pub fn from_packed(packed: PackedSet<'_>) -> Self {
        match packed {
            PackedSet::Ints(bytes) => {
                Self { repr: Repr::Ints(Intset::from_trusted(bytes)), name: Name::Intset }
            }
            PackedSet::Members(bytes) => {
                Self { repr: Repr::Small(Listpack::from_trusted(bytes)), name: Name::Listpack }
            }
        }
    }

    /// The set as packed bytes, if it is small and OBJECT ENCODING says so.
    #[inline]
    pub fn packed(&self) -> Option<PackedSet<'_>> {
        match (&self.repr, self.name) {
            (Repr::Ints(ints), Name::Intset) => Some(PackedSet::Ints(ints.raw())),
            (Repr::Small(pack), Name::Listpack) => Some(PackedSet::Members(pack.raw())),
            _ => None,
        }
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.len(),
            Repr::Small(pack) => pack.len(),
            Repr::Large(table) => table.tree.len(),
        }
    }

    /// Whether there is no member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding that OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.name {
            Name::Intset => "intset",
            Name::Listpack => "listpack",
            Name::Hashtable => "hashtable",
        }
    }

    /// Bytes of memory behind the set.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.memory_bytes(),
            Repr::Small(pack) => pack.memory_bytes(),
            Repr::Large(table) => table.tree.memory_bytes(),
        }
    }

    /// The set's memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        match self.repr {
            Repr::Ints(_) | Repr::Small(_) => Garbage::default(),
            Repr::Large(table) => table.tree.into_garbage().into(),
        }
    }

    /// Whether `member` is in the set.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.repr {
            Repr::Ints(ints) => canonical_i64(member).is_some_and(|int| ints.contains(int)),
            Repr::Small(pack) => pack.view().find(member, 1).is_some(),
            Repr::Large(table) => {
                let hash = hash(table.seed, member);
                table.tree.find(hash, |record| record.body.is(member)).1.is_some()
            }
        }
    }

    /// Adds `member`; whether it was new.
    pub fn add(&mut self, member: &[u8], thresholds: &Thresholds) -> bool {
        let is_new = match &mut self.repr {
            Repr::Ints(ints) => match canonical_i64(member) {
                Some(int) if ints.len() < INTSET_LEN_MAX => ints.insert(int),
                Some(int) if ints.contains(int) => false,
                _ => self.grow(member, thresholds),
            },
            Repr::Small(pack) => {
                let element = Element::compact(member);
                if pack.view().find(member, 1).is_some() {
                    false
                } else if pack.raw().len() + listpack::encoded_len(&element) > SMALL_BYTES_MAX {
                    self.grow(member, thresholds)
                } else {
                    pack.push_back(element);
                    true
                }
            }
            Repr::Large(table) => table.add(member),
        };
        if is_new && self.name != Name::Hashtable {
            self.rename(member, thresholds);
        }
        is_new
    }

    /// Removes `member`; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Ints(ints) => canonical_i64(member).is_some_and(|int| ints.remove(int)),
            Repr::Small(pack) => {
                let found = pack.view().find(member, 1);
                if let Some(at) = found {
                    pack.remove(at, 1);
                }
                found.is_some()
            }
            Repr::Large(table) => {
                let (path, found) = table.find(hash(table.seed, member), member);
                if found {
                    table.tree.remove(&path);
                }
                found
            }
        }
    }

    /// All members, integers of an intset ascending, others in no order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        match &self.repr {
            Repr::Ints(ints) => Either::Left(Either::Left(ints.iter().map(Element::Int))),
            Repr::Small(pack) => {
                Either::Left(Either::Right(pack.view().iter().map(|(_, element)| element)))
            }
            Repr::Large(table) => Either::Right(table.tree.iter().map(|record| record.body)),
        }
    }

    /// The members from `index` of [`Self::iter`]'s order on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Element<'_>> {
        match &self.repr {
            Repr::Ints(_) | Repr::Small(_) => Either::Left(self.iter().skip(index)),
            Repr::Large(table) => {
                Either::Right(table.tree.seek(index).forward().map(|record| record.body))
            }
        }
    }

    /// The member at `index` of [`Self::iter`]'s order, found in O(log n): a random index gives a
    /// random member.
    pub fn at(&self, index: usize) -> Option<Element<'_>> {
        match &self.repr {
            Repr::Ints(ints) => ints.get(index).map(Element::Int),
            Repr::Small(_) => self.iter().nth(index),
            Repr::Large(table) => table.tree.get(index).map(|record| record.body),
        }
    }

    /// Removes the member at `index` of [`Self::iter`]'s order after `f` has seen it.
    pub fn pop_at<R>(&mut self, index: usize, f: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        match &mut self.repr {
            Repr::Ints(ints) => {
                let int = ints.get(index)?;
                let result = f(Element::Int(int));
                ints.remove(int);
                Some(result)
            }
            Repr::Small(pack) => {
                if index >= pack.len() {
                    return None;
                }
                let at = pack.view().offset_of(index);
                let result = f(pack.view().get(at));
                pack.remove(at, 1);
                Some(result)
            }
            Repr::Large(table) => {
                let cursor = table.tree.seek(index);
                let result = f(cursor.record()?.body);
                let path = cursor.path();
                drop(cursor);
                table.tree.remove(&path);
                Some(result)
            }
        }
    }

    /// Calls `each` with about `count` members from `cursor` on; the next cursor, 0 at the end. A
    /// member that is there from the first call to the last is seen at least once.
    pub fn scan(&self, cursor: u64, count: usize, mut each: impl FnMut(Element<'_>)) -> u64 {
        match &self.repr {
            Repr::Ints(_) | Repr::Small(_) => {
                self.iter().for_each(each);
                0
            }
            Repr::Large(table) => scan(&table.tree, cursor, count, |record| each(record.body)),
        }
    }

    /// Adds `member`, which is new and does not fit the packed representation, after changing that.
    #[cold]
    fn grow(&mut self, member: &[u8], thresholds: &Thresholds) -> bool {
        let small = matches!(self.repr, Repr::Ints(_))
            && canonical_i64(member).is_none()
            && self.len() * 9 + member.len() < SMALL_BYTES_MAX;
        if small {
            let mut pack = Listpack::new();
            self.iter().for_each(|element| pack.push_back(element));
            pack.push_back(Element::Bytes(member));
            self.repr = Repr::Small(pack);
        } else {
            let mut table = Table { tree: Tree::new(), seed: thresholds.hash_seed };
            for element in self.iter() {
                element.with_bytes(|element| table.add(element));
            }
            table.add(member);
            self.repr = Repr::Large(table);
        }
        true
    }

    /// Changes the name after `member` was added, as Redis would have changed the encoding.
    fn rename(&mut self, member: &[u8], thresholds: &Thresholds) {
        let len = self.len();
        let fits = len <= thresholds.set_max_listpack_entries
            && member.len() <= thresholds.set_max_listpack_value;
        match self.name {
            Name::Intset if canonical_i64(member).is_some() => {
                if len > thresholds.set_max_intset_entries {
                    self.name = Name::Hashtable;
                }
            }
            Name::Intset if fits => self.name = Name::Listpack,
            Name::Listpack if fits => {}
            Name::Intset | Name::Listpack | Name::Hashtable => self.name = Name::Hashtable,
        }
    }
}

impl Table {
    #[inline]
    fn find(&self, tag: u32, member: &[u8]) -> (Path, bool) {
        let (path, record) = self.tree.find(tag, |record| record.body.is(member));
        (path, record.is_some())
    }

    fn add(&mut self, member: &[u8]) -> bool {
        let tag = hash(self.seed, member);
        let (path, found) = self.find(tag, member);
        if !found {
            with_body(member, |body| {
                self.tree.insert(&path, &NewRecord { tag, head: &[], body });
            });
        }
        !found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            20 => (-400..400_i64).prop_map(|int| int.to_string().into_bytes()),
            1 => (0..400_i64).prop_map(|int| format!("member {int}").into_bytes()),
            1 => (0..3_u8).prop_map(|byte| vec![byte; 700]),
        ]
    }

    proptest! {
        #[test]
        fn a_set_matches_an_ordered_set(ops in vec((0..5_u8, member()), 1..900)) {
            let thresholds = Thresholds::default();
            let mut set = Set::new(b"1", 1, &thresholds);
            let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
            for (number, (kind, member)) in ops.into_iter().enumerate() {
                match kind {
                    0 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                    1 if !model.is_empty() => {
                        let index = number % model.len();
                        let at = set.at(index).map(|element| element.to_vec());
                        let popped = set.pop_at(index, |element| element.to_vec());
                        prop_assert_eq!(&popped, &at);
                        prop_assert!(popped.is_some_and(|member| model.remove(&member)));
                    }
                    _ => {
                        prop_assert_eq!(set.add(&member, &thresholds), model.insert(member.clone()));
                        prop_assert!(set.contains(&member));
                    }
                }
                prop_assert_eq!(set.len(), model.len());
            }
            let all: BTreeSet<_> = set.iter().map(|element| element.to_vec()).collect();
            prop_assert_eq!(&all, &model);
            let (mut seen, mut cursor) = (BTreeSet::new(), 0);
            loop {
                cursor = set.scan(cursor, 7, |element| {
                    seen.insert(element.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&seen, &model);
        }
    }

    #[test]
    fn names_go_forward_by_redis_thresholds() {
        let thresholds = Thresholds::default();
        let mut set = Set::new(b"1", 1, &thresholds);
        for number in 0..512 {
            set.add(number.to_string().as_bytes(), &thresholds);
        }
        assert_eq!(set.encoding_name(), "intset");
        let mut other = set.clone();
        set.add(b"512", &thresholds);
        assert_eq!(set.encoding_name(), "hashtable");
        other.add(b"x", &thresholds);
        assert_eq!(other.encoding_name(), "hashtable");

        let mut set = Set::new(b"1", 1, &thresholds);
        set.add(b"1", &thresholds);
        set.add(b"x", &thresholds);
        assert_eq!(set.encoding_name(), "listpack");
        let mut other = set.clone();
        set.add(&[b'x'; 65], &thresholds);
        assert_eq!(set.encoding_name(), "hashtable");
        for number in 0..126 {
            other.add(format!("m{number}").as_bytes(), &thresholds);
        }
        assert_eq!(other.encoding_name(), "listpack");
        other.add(b"one more", &thresholds);
        assert_eq!(other.encoding_name(), "hashtable");
        assert_eq!(Set::new(b"1", 600, &thresholds).encoding_name(), "hashtable");
    }
}
