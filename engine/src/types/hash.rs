//! Hashes: fields and their values.
//!
//! A small hash is a listpack of fields and values in turn, in the order of their first setting; a
//! larger one is a tree sorted by the fields' hashes, a record being `varint(field length) field
//! value`.
//!
//! A hash of which a field has, or has had, a deadline is kept by [`timed`], whatever its size; another
//! hash pays nothing for that. What has expired is still there until somebody removes it: the
//! functions that take a time leave it out, the others do not.
//!
//! OBJECT ENCODING says `listpack` (or `listpackex`, with deadlines) until the hash outgrows `hash-max-listpack-entries` or a field
//! or value outgrows `hash-max-listpack-value`, then `hashtable` for good, as in Redis.
#![forbid(unsafe_code)]

mod timed;

use smallvec::SmallVec;
use timed::Timed;

use super::{
    Either, Garbage, SMALL_BYTES_MAX, Thresholds,
    encoding::{
        Element,
        element::with_body,
        listpack::{self, Listpack},
        order::{ByHash, hash},
        page::{NewRecord, Record},
        tree::{Path, Tree},
    },
};

/// A hash. Cloning captures it in O(1) when it is large.
#[derive(Clone, Debug)]
pub struct Hash {
    repr: Repr,
    /// Whether OBJECT ENCODING says `hashtable`.
    is_hashtable: bool,
}

#[derive(Clone, Debug)]
enum Repr {
    Small(Listpack),
    Large(Table),
    /// Fields have deadlines.
    Timed(Box<Timed>),
}

#[derive(Clone, Debug)]
struct Table {
    tree: Tree<ByHash<0>>,
    seed: u64,
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash {
    /// A hash without fields.
    pub fn new() -> Self {
        Self { repr: Repr::Small(Listpack::new()), is_hashtable: false }
    }

    /// The hash that [`Self::packed`] gave.
    #[inline]
    pub fn from_packed(bytes: &[u8]) -> Self {
        Self { repr: Repr::Small(Listpack::from_trusted(bytes)), is_hashtable: false }
    }

    /// The hash as packed bytes, if it is small and OBJECT ENCODING says `listpack`.
    #[inline]
    pub fn packed(&self) -> Option<&[u8]> {
        match &self.repr {
            Repr::Small(pack) if !self.is_hashtable => Some(pack.raw()),
            _ => None,
        }
    }

    /// Number of fields.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.len() / 2,
            Repr::Large(table) => table.tree.len(),
            Repr::Timed(timed) => timed.len(),
        }
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding that OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.repr {
            _ if self.is_hashtable => "hashtable",
            Repr::Timed(_) => "listpackex",
            Repr::Small(_) | Repr::Large(_) => "listpack",
        }
    }

    /// Bytes of memory behind the hash.
    pub fn memory_bytes(&self) -> usize {
        match &self.repr {
            Repr::Small(pack) => pack.memory_bytes(),
            Repr::Large(table) => table.tree.memory_bytes(),
            Repr::Timed(timed) => timed.memory_bytes(),
        }
    }

    /// The hash's memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        match self.repr {
            Repr::Small(_) => Garbage::default(),
            Repr::Large(table) => table.tree.into_garbage().into(),
            Repr::Timed(timed) => timed.into_garbage(),
        }
    }

    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let at = view.find(field, 2)?;
                Some(view.get(view.next_offset(at)))
            }
            Repr::Large(table) => table.get(field),
            Repr::Timed(timed) => timed.get(field).map(|(value, _)| value),
        }
    }

    /// Whether there is `field`.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets `field` to `value`, without a deadline; whether the field is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], thresholds: &Thresholds) -> bool {
        if field.len().max(value.len()) > thresholds.hash_max_listpack_value {
            self.is_hashtable = true;
        }
        let is_new = match &mut self.repr {
            Repr::Small(pack) => match set_small(pack, field, value) {
                Some(is_new) => is_new,
                None => {
                    let mut table = Table::of(pack, thresholds.hash_seed);
                    let is_new = table.set(field, value);
                    self.repr = Repr::Large(table);
                    is_new
                }
            },
            Repr::Large(table) => table.set(field, value),
            Repr::Timed(timed) => timed.set(field, value, None),
        };
        if self.len() > thresholds.hash_max_listpack_entries {
            self.is_hashtable = true;
        }
        is_new
    }

    /// Removes `field`; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Small(pack) => {
                let found = pack.view().find(field, 2);
                if let Some(at) = found {
                    pack.remove(at, 2);
                }
                found.is_some()
            }
            Repr::Large(table) => {
                let (path, found) = table.find(hash(table.seed, field), field);
                if found {
                    table.tree.remove(&path);
                }
                found
            }
            Repr::Timed(timed) => timed.remove(field),
        }
    }

    /// All fields with their values: small hashes in the order of setting, others in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        match &self.repr {
            Repr::Small(pack) => {
                let view = pack.view();
                let mut elements = view.iter().map(|(_, element)| element);
                Either::Left(std::iter::from_fn(move || Some((elements.next()?, elements.next()?))))
            }
            Repr::Large(table) => {
                Either::Right(Either::Left(table.tree.iter().map(|record| parts(&record))))
            }
            Repr::Timed(timed) => Either::Right(Either::Right(
                timed.iter_from(0).map(|(field, value, _)| (field, value)),
            )),
        }
    }

    /// The fields and values from `index` of [`Self::iter`]'s order on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        match &self.repr {
            Repr::Small(_) => Either::Left(self.iter().skip(index)),
            Repr::Large(table) => {
                let records = table.tree.seek(index).forward();
                Either::Right(Either::Left(records.map(|record| parts(&record))))
            }
            Repr::Timed(timed) => Either::Right(Either::Right(
                timed.iter_from(index).map(|(field, value, _)| (field, value)),
            )),
        }
    }

    /// The field and value at `index` of [`Self::iter`]'s order, found in O(log n): a random index
    /// gives a random field.
    pub fn at(&self, index: usize) -> Option<(Element<'_>, Element<'_>)> {
        match &self.repr {
            Repr::Small(_) => self.iter().nth(index),
            Repr::Large(table) => table.tree.get(index).map(|record| parts(&record)),
            Repr::Timed(timed) => {
                timed.iter_from(index).next().map(|(field, value, _)| (field, value))
            }
        }
    }

    /// Calls `each` with about `count` fields and values from `cursor` on; the next cursor, 0 at
    /// the end. A field that is there from the first call to the last is seen at least once; one
    /// that has expired at `now_ms` is not.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now_ms: i64,
        mut each: impl FnMut(Element<'_>, Element<'_>),
    ) -> u64 {
        match &self.repr {
            Repr::Small(_) => {
                self.iter().for_each(|(field, value)| each(field, value));
                0
            }
            Repr::Large(table) => scan(&table.tree, cursor, count, |record| {
                let (field, value) = parts(record);
                each(field, value);
            }),
            Repr::Timed(timed) => timed.scan(cursor, count, |field, value, deadline| {
                if is_live(deadline, now_ms) {
                    each(field, value);
                }
            }),
        }
    }
}

/// Fields that expire. Deadlines are Unix milliseconds.
impl Hash {
    /// The latest deadline that clients may give a field.
    pub const DEADLINE_MAX_MS: i64 = (1 << 46) - 1;

    /// The deadline of `field`, if it is there and has one.
    pub fn deadline(&self, field: &[u8]) -> Option<i64> {
        match &self.repr {
            Repr::Timed(timed) => timed.get(field)?.1,
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Gives `field` a deadline, or takes it away; whether the field is there.
    pub fn set_deadline(
        &mut self,
        field: &[u8],
        deadline: Option<i64>,
        thresholds: &Thresholds,
    ) -> bool {
        if !matches!(self.repr, Repr::Timed(_)) {
            if deadline.is_none() || !self.contains(field) {
                return self.contains(field);
            }
            let mut timed = Box::new(Timed::new(thresholds.hash_seed));
            for (field, value) in self.iter() {
                field.with_bytes(|field| value.with_bytes(|value| timed.set(field, value, None)));
            }
            self.repr = Repr::Timed(timed);
        }
        match &mut self.repr {
            Repr::Timed(timed) => timed.set_deadline(field, deadline),
            Repr::Small(_) | Repr::Large(_) => false,
        }
    }

    /// Sets `field` to `value` and leaves its deadline alone; whether the field is new.
    pub fn set_keeping_deadline(
        &mut self,
        field: &[u8],
        value: &[u8],
        thresholds: &Thresholds,
    ) -> bool {
        let deadline = self.deadline(field);
        let is_new = self.set(field, value, thresholds);
        if deadline.is_some() {
            self.set_deadline(field, deadline, thresholds);
        }
        is_new
    }

    /// The earliest deadline of a field.
    #[inline]
    pub fn earliest_deadline(&self) -> Option<i64> {
        match &self.repr {
            Repr::Timed(timed) => timed.earliest(),
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Removes `field` if it has expired at `now_ms`; whether it did.
    pub fn remove_expired(&mut self, field: &[u8], now_ms: i64) -> bool {
        let expired = self.deadline(field).is_some_and(|deadline| deadline <= now_ms);
        expired && self.remove(field)
    }

    /// A field that has expired at `now_ms`, the earliest first.
    pub fn expired_field(&self, now_ms: i64) -> Option<Vec<u8>> {
        match &self.repr {
            Repr::Timed(timed) => timed.expired_field(now_ms),
            Repr::Small(_) | Repr::Large(_) => None,
        }
    }

    /// Number of fields that have not expired at `now_ms`.
    #[inline]
    pub fn live_len(&self, now_ms: i64) -> usize {
        match &self.repr {
            Repr::Timed(timed) => timed.len() - timed.expired_len(now_ms),
            Repr::Small(_) | Repr::Large(_) => self.len(),
        }
    }

    /// The value of `field`, unless it has expired at `now_ms`.
    pub fn get_live(&self, field: &[u8], now_ms: i64) -> Option<Element<'_>> {
        match &self.repr {
            Repr::Timed(timed) => {
                let (value, deadline) = timed.get(field)?;
                is_live(deadline, now_ms).then_some(value)
            }
            Repr::Small(_) | Repr::Large(_) => self.get(field),
        }
    }

    /// All fields and values but those that have expired at `now_ms`.
    pub fn iter_live(&self, now_ms: i64) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        match &self.repr {
            Repr::Timed(timed) => {
                let live = move |&(_, _, deadline): &(_, _, Option<i64>)| is_live(deadline, now_ms);
                let fields = timed.iter_from(0).filter(live);
                Either::Left(fields.map(|(field, value, _)| (field, value)))
            }
            Repr::Small(_) | Repr::Large(_) => Either::Right(self.iter()),
        }
    }

    /// The fields and values from `index` on with their deadlines, for what is written of a hash
    /// that has any.
    pub fn iter_timed(
        &self,
        index: usize,
    ) -> impl Iterator<Item = (Element<'_>, Element<'_>, Option<i64>)> {
        match &self.repr {
            Repr::Timed(timed) => Either::Left(timed.iter_from(index)),
            Repr::Small(_) | Repr::Large(_) => {
                Either::Right(self.iter_from(index).map(|(field, value)| (field, value, None)))
            }
        }
    }
}

/// Whether a field with `deadline` has not expired at `now_ms`.
#[inline]
fn is_live(deadline: Option<i64>, now_ms: i64) -> bool {
    deadline.is_none_or(|deadline| deadline > now_ms)
}

/// Sets a field of a small hash; `None`, and nothing done, if the hash becomes too large.
fn set_small(pack: &mut Listpack, field: &[u8], value: &[u8]) -> Option<bool> {
    let found = pack.view().find(field, 2);
    let (field, value) = (Element::compact(field), Element::compact(value));
    let value_bytes = listpack::encoded_len(&value);
    match found {
        Some(at) => {
            if pack.raw().len() + value_bytes > SMALL_BYTES_MAX {
                return None;
            }
            pack.replace(pack.view().next_offset(at), value);
        }
        None => {
            let bytes = listpack::encoded_len(&field) + value_bytes;
            if pack.raw().len() + bytes > SMALL_BYTES_MAX {
                return None;
            }
            pack.push_back(field);
            pack.push_back(value);
        }
    }
    Some(found.is_none())
}

/// Calls `each` with about `count` records from `cursor`, a hash, on; the next cursor, 0 at the
/// end. Records of one hash are never parted, so a cursor is the hash to go on with.
pub(super) fn scan<const HEAD: usize>(
    tree: &Tree<ByHash<HEAD>>,
    cursor: u64,
    count: usize,
    mut each: impl FnMut(&Record<'_>),
) -> u64 {
    let Ok(hash) = u32::try_from(cursor) else { return 0 };
    let mut place = tree.seek_hash(hash);
    let (mut seen, mut last) = (0, None);
    while let (Some(record), Some(tag)) = (place.record(), place.tag()) {
        if seen >= count && last != Some(tag) {
            return u64::from(tag);
        }
        each(&record);
        (seen, last) = (seen + 1, Some(tag));
        place.step();
    }
    0
}

impl Table {
    fn of(pack: &Listpack, seed: u64) -> Self {
        let mut table = Self { tree: Tree::new(), seed };
        let mut elements = pack.view().iter().map(|(_, element)| element);
        while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
            field.with_bytes(|field| value.with_bytes(|value| table.set(field, value)));
        }
        table
    }

    #[inline]
    fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        let (cursor, found) = self.tree.find(hash(self.seed, field), |record| is(record, field));
        if !found {
            return None;
        }
        cursor.record().map(|record| parts(&record).1)
    }

    #[inline]
    fn find(&self, tag: u32, field: &[u8]) -> (Path, bool) {
        let (cursor, found) = self.tree.find(tag, |record| is(record, field));
        (cursor.path(), found)
    }

    fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let tag = hash(self.seed, field);
        let (path, found) = self.find(tag, field);
        with_body(&body_of(field, value), |body| {
            let record = NewRecord { tag, head: &[], body };
            if found {
                self.tree.replace(&path, &record);
            } else {
                self.tree.insert(&path, &record);
            }
        });
        !found
    }
}

/// The body of the record of a field and its value.
fn body_of(field: &[u8], value: &[u8]) -> SmallVec<[u8; 256]> {
    let mut body: SmallVec<[u8; 256]> = SmallVec::new();
    let mut rest = field.len();
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
    body.extend_from_slice(field);
    body.extend_from_slice(value);
    body
}

/// The bytes of a record's body, which is never a number.
#[inline]
fn bytes_of<'a>(record: &Record<'a>) -> &'a [u8] {
    match record.body {
        Element::Bytes(bytes) => bytes,
        Element::Shared(bytes) => bytes,
        Element::Int(_) => &[],
    }
}

/// Field and value of a record.
#[inline]
fn parts<'a>(record: &Record<'a>) -> (Element<'a>, Element<'a>) {
    let bytes = bytes_of(record);
    let (mut len, mut shift, mut head) = (0, 0, 0);
    for &byte in bytes {
        len |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        head += 1;
        if byte < 0x80 {
            break;
        }
    }
    let (field, value) = bytes[head..].split_at(len);
    (Element::Bytes(field), Element::Bytes(value))
}

#[inline]
fn is(record: &Record<'_>, field: &[u8]) -> bool {
    parts(record).0.is(field)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => (0..300_u32).prop_map(|number| format!("field:{number}").into_bytes()),
            2 => (0..20_u32).prop_map(|number| number.to_string().into_bytes()),
            1 => (0..3_u8).prop_map(|byte| vec![byte; 500]),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 300..700)]
    }

    proptest! {
        #[test]
        fn a_hash_matches_a_map(
            ops in vec((0..4_u8, field(), value()), 1..600),
            entries in prop_oneof![Just(16_usize), Just(512)],
        ) {
            let thresholds = Thresholds { hash_max_listpack_entries: entries, ..Thresholds::default() };
            let (mut hash, mut model) = (Hash::new(), BTreeMap::new());
            for (kind, field, value) in ops {
                if kind == 0 {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let is_new = hash.set(&field, &value, &thresholds);
                    prop_assert_eq!(is_new, model.insert(field.clone(), value.clone()).is_none());
                    prop_assert_eq!(hash.get(&field).map(|value| value.to_vec()), Some(value));
                }
                prop_assert_eq!(hash.len(), model.len());
            }
            let all: BTreeMap<_, _> =
                hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&all, &model);
            let indexed: BTreeMap<_, _> = (0..hash.len())
                .filter_map(|index| hash.at(index))
                .map(|(field, value)| (field.to_vec(), value.to_vec()))
                .collect();
            prop_assert_eq!(&indexed, &model);
            prop_assert!(hash.at(hash.len()).is_none());
        }
    }

    #[test]
    fn a_scan_sees_what_stays_while_others_come_and_go() {
        let thresholds = Thresholds::default();
        let mut hash = Hash::new();
        for number in 0..2000 {
            hash.set(format!("stays:{number}").as_bytes(), b"1", &thresholds);
        }
        let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), 0, 0);
        loop {
            cursor = hash.scan(cursor, 10, 0, |field, _| {
                seen.insert(field.to_vec());
            });
            for number in 0..20 {
                let name = format!("passes:{calls}:{number}");
                hash.set(name.as_bytes(), b"1", &thresholds);
                if calls % 2 == 0 {
                    hash.remove(name.as_bytes());
                }
            }
            calls += 1;
            if cursor == 0 {
                break;
            }
        }
        assert!(calls > 100);
        let stayed = seen.iter().filter(|field| field.starts_with(b"stays")).count();
        assert_eq!(stayed, 2000);
    }

    #[test]
    fn the_name_changes_for_good() {
        let thresholds = Thresholds::default();
        let mut hash = Hash::new();
        hash.set(b"f", &[b'v'; 64], &thresholds);
        assert_eq!(hash.encoding_name(), "listpack");
        hash.set(b"f", &[b'v'; 65], &thresholds);
        assert_eq!(hash.encoding_name(), "hashtable");
        hash.set(b"f", b"v", &thresholds);
        assert_eq!(hash.encoding_name(), "hashtable");
        let mut hash = Hash::new();
        for number in 0..513 {
            assert_eq!(hash.encoding_name(), "listpack");
            hash.set(format!("{number}").as_bytes(), b"some value", &thresholds);
        }
        assert_eq!(hash.encoding_name(), "hashtable");
    }
}
