//! Hashes: fields and their values.
//!
//! A small hash is a listpack of fields and values in turn, in the order of their first setting; a
//! larger one is a tree sorted by the fields' hashes ([`table`]).
//!
//! A hash of which a field has, or has had, a deadline is kept by [`timed`], in the same two forms with
//! the deadlines; another hash pays nothing for that. What has expired is still there until somebody
//! removes it: see [`deadline`].
//!
//! OBJECT ENCODING says `listpack` (or `listpackex`, with deadlines) until the hash outgrows
//! `hash-max-listpack-entries` or a field or value outgrows `hash-max-listpack-value`, then
//! `hashtable` for good, as in Redis.
#![forbid(unsafe_code)]

mod deadline;
mod table;
#[cfg(test)]
mod tests;
mod timed;

use super::{
    Either, Garbage, SMALL_BYTES_MAX, Thresholds,
    encoding::{
        Element,
        listpack::{self, Listpack},
    },
};
use deadline::is_live;
pub(super) use table::scan;
use table::{Table, parts};
use timed::Timed;

/// A packed hash stays so up to this size instead of [`SMALL_BYTES_MAX`] where
/// `hash-max-listpack-value` is raised above Redis's default: who does that wants hashes of few long
/// values packed and in the order of setting. Looking for a field takes a step a field, however long
/// the values are; the size bounds what a capture copies.
const RAISED_BYTES_MAX: usize = 128 << 10;
/// Most fields of such a hash: as many as Redis searches one by one by default.
const RAISED_FIELDS_MAX: usize = 512;

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
    Timed(Timed),
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
            Repr::Small(pack) if !self.is_hashtable && pack.raw().len() <= SMALL_BYTES_MAX => {
                Some(pack.raw())
            }
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

    /// Whether OBJECT ENCODING says `listpack` or `listpackex`.
    pub fn is_listpack(&self) -> bool {
        !self.is_hashtable
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
        let bytes_max = self.packed_bytes_max(thresholds);
        let is_new = match &mut self.repr {
            Repr::Small(pack) => match set_small(pack, field, value, bytes_max) {
                Some(is_new) => is_new,
                None => {
                    let mut table = Table::of(pack, thresholds.hash_seed);
                    let is_new = table.set(field, value);
                    self.repr = Repr::Large(table);
                    is_new
                }
            },
            Repr::Large(table) => table.set(field, value),
            Repr::Timed(timed) => timed.set(field, value, None, thresholds.hash_seed),
        };
        if self.len() > thresholds.hash_max_listpack_entries {
            self.is_hashtable = true;
        }
        is_new
    }

    /// The most bytes that the hash takes as a listpack, with one field more perhaps.
    fn packed_bytes_max(&self, thresholds: &Thresholds) -> usize {
        let is_raised = thresholds.hash_max_listpack_value
            > Thresholds::HASH_MAX_LISTPACK_VALUE_DEFAULT
            && !self.is_hashtable
            && self.len() < RAISED_FIELDS_MAX;
        if is_raised { RAISED_BYTES_MAX } else { SMALL_BYTES_MAX }
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
            Repr::Large(table) => table.remove(field),
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

/// Sets a field of a small hash; `None`, and nothing done, if that is too much for `bytes_max`.
fn set_small(pack: &mut Listpack, field: &[u8], value: &[u8], bytes_max: usize) -> Option<bool> {
    let found = pack.view().find(field, 2);
    let (field, value) = (Element::compact(field), Element::compact(value));
    let value_bytes = listpack::encoded_len(&value);
    match found {
        Some(at) => {
            if pack.raw().len() + value_bytes > bytes_max {
                return None;
            }
            pack.replace(pack.view().next_offset(at), value);
        }
        None => {
            let bytes = listpack::encoded_len(&field) + value_bytes;
            if pack.raw().len() + bytes > bytes_max {
                return None;
            }
            pack.push_back(field);
            pack.push_back(value);
        }
    }
    Some(found.is_none())
}
