//! A large hash without deadlines: a tree sorted by the fields' hashes, a record being
//! `varint(field length) field value`; and what the records and walks of all such trees have in
//! common.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use crate::types::encoding::{
    Element,
    element::with_body,
    listpack::Listpack,
    order::{ByHash, hash},
    page::{NewRecord, Record},
    tree::{Path, Tree},
};

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) tree: Tree<ByHash<0>>,
    seed: u64,
}

impl Table {
    /// The fields of a listpack of fields and values in turn.
    pub(super) fn of(pack: &Listpack, seed: u64) -> Self {
        let mut table = Self { tree: Tree::new(), seed };
        let mut elements = pack.view().iter().map(|(_, element)| element);
        while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
            field.with_bytes(|field| value.with_bytes(|value| table.set(field, value)));
        }
        table
    }

    /// The value of `field`.
    #[inline]
    pub(super) fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        let (_, record) = self.tree.find(hash(self.seed, field), |record| is(record, field));
        record.map(|record| parts(&record).1)
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let (path, found) = self.find(hash(self.seed, field), field);
        if found {
            self.tree.remove(&path);
        }
        found
    }

    #[inline]
    fn find(&self, tag: u32, field: &[u8]) -> (Path, bool) {
        let (path, record) = self.tree.find(tag, |record| is(record, field));
        (path, record.is_some())
    }

    /// Sets a field; whether it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
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
pub(super) fn body_of(field: &[u8], value: &[u8]) -> SmallVec<[u8; 256]> {
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
pub(super) fn parts<'a>(record: &Record<'a>) -> (Element<'a>, Element<'a>) {
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

/// Whether a record is that of `field`.
#[inline]
pub(super) fn is(record: &Record<'_>, field: &[u8]) -> bool {
    parts(record).0.is(field)
}

/// Calls `each` with about `count` records from `cursor`, a hash, on; the next cursor, 0 at the
/// end. Records of one hash are never parted, so a cursor is the hash to go on with.
pub(in crate::types) fn scan<const HEAD: usize>(
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
