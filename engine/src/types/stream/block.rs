//! A block: some entries of a stream, packed into one run of bytes.
//!
//! ```text
//! block = header, number of fields, fields, entry, entry, …
//! entry = length of the rest, flags, ms behind the first id, seq against the first id,
//!         [number of pairs, if the fields are not the block's], values or fields and values
//! ```
//!
//! Streams mostly hold entries with the same fields, so a block names the fields of its first entry
//! once, and an entry with just these in the same order leaves them out (as Redis does with the
//! master entry of a listpack). Numbers are LEB128, differences that may be negative zigzag; fields
//! and values have the form of a listpack's elements, so that integers are short.
//!
//! A deleted entry stays in place and is flagged, since moving what is behind it would cost more than
//! its bytes; a block without a live entry does not exist.
//!
//! When a block is full follows the size that Redis's listpack of the same entries would have: then
//! trimming by whole blocks (`~`) removes the same entries there and here, and a dump has the same
//! nodes.
//!
//! Invariant: the bytes of a block are only ever written here, so they are read without checks of
//! their form.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use super::StreamId;
use crate::types::encoding::{Element, listpack};

/// Offsets of the header's fields, little endian: first id (the one that differences are taken
/// against), last id (deleted or not), live entries, deleted entries, bytes of Redis's listpack
/// without its two counts, offset of the first entry.
const FIRST_AT: usize = 0;
const LAST_AT: usize = 16;
const LIVE_AT: usize = 32;
const DELETED_AT: usize = 36;
const REDIS_BYTES_AT: usize = 40;
const ENTRIES_AT: usize = 44;
const HEADER_BYTES: usize = 48;

const FLAG_DELETED: u8 = 1;
const FLAG_SAME_FIELDS: u8 = 2;

/// Header and terminator of Redis's listpack.
const REDIS_FRAME_BYTES: usize = 7;
/// A block is full at so many bytes whatever the configuration says: a write after a capture copies
/// its block, and that must stay short.
const BYTES_MAX: usize = 64 << 10;

/// When a block is full: Redis's directives of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// `stream-node-max-bytes`; 0 is no limit.
    pub bytes_max: usize,
    /// `stream-node-max-entries`, deleted ones counted; 0 is no limit.
    pub entries_max: usize,
}

impl BlockLimits {
    /// Whether `block` takes no further entry whose fields and values have `payload` bytes.
    #[inline]
    pub fn are_reached(self, block: Block<'_>, payload: usize) -> bool {
        let bytes_max = match self.bytes_max {
            0 => BYTES_MAX,
            bytes => bytes.min(BYTES_MAX),
        };
        block.redis_bytes() + payload >= bytes_max
            || (self.entries_max > 0 && block.live() + block.deleted() >= self.entries_max)
    }
}

/// A block to be read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads what [`begin`] and [`push`] wrote.
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() >= HEADER_BYTES);
        Self { bytes }
    }

    /// The block's bytes.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The id of the entry that the block began with, deleted or not: the block's key in the order
    /// of blocks.
    #[inline]
    pub fn first(self) -> StreamId {
        self.id_at(FIRST_AT)
    }

    /// The id of the last entry, deleted or not.
    #[inline]
    pub fn last(self) -> StreamId {
        self.id_at(LAST_AT)
    }

    /// Number of entries that are not deleted.
    #[inline]
    pub fn live(self) -> usize {
        self.number_at(LIVE_AT)
    }

    /// Number of deleted entries that still take their place.
    #[inline]
    pub fn deleted(self) -> usize {
        self.number_at(DELETED_AT)
    }

    /// The bytes of Redis's listpack with the same entries.
    #[inline]
    fn redis_bytes(self) -> usize {
        self.number_at(REDIS_BYTES_AT) + int_bytes(self.live()) + int_bytes(self.deleted())
    }

    /// The fields that entries may leave out.
    #[inline]
    pub fn fields(self) -> impl Iterator<Item = Element<'a>> + Clone {
        let (count, rest) = self.field_count();
        Elements { rest }.take(count)
    }

    /// All entries in order, deleted ones too.
    #[inline]
    pub fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        let mut at = self.number_at(ENTRIES_AT);
        std::iter::from_fn(move || {
            let (entry, end) = (at < self.bytes.len()).then(|| self.entry_at(at))?;
            at = end;
            Some(entry)
        })
    }

    /// All entries, the last first, deleted ones too.
    pub fn entries_back(self) -> impl Iterator<Item = Entry<'a>> {
        let mut offsets: SmallVec<[u32; 128]> = SmallVec::new();
        let mut at = self.number_at(ENTRIES_AT);
        while at < self.bytes.len() {
            offsets.push(at as u32);
            at = self.entry_end(at).1;
        }
        offsets.into_iter().rev().map(move |at| self.entry_at(at as usize).0)
    }

    /// The live entry `id`.
    pub(super) fn find(self, id: StreamId) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.id >= id).filter(|entry| entry.id == id && !entry.deleted)
    }

    /// The entry at offset `at`, and the offset behind it.
    #[inline]
    fn entry_at(self, at: usize) -> (Entry<'a>, usize) {
        let (start, end) = self.entry_end(at);
        let bytes = &self.bytes[..end];
        let flags = bytes[start];
        let mut body = start + 1;
        let ms = take_number(bytes, &mut body);
        let seq = take_number(bytes, &mut body);
        let first = self.first();
        let id =
            StreamId { ms: first.ms.wrapping_add(ms), seq: first.seq.wrapping_add(unzigzag(seq)) };
        let same_fields = flags & FLAG_SAME_FIELDS != 0;
        let len = match same_fields {
            true => self.field_count().0,
            false => take_number(bytes, &mut body) as usize,
        };
        let deleted = flags & FLAG_DELETED != 0;
        let entry = Entry {
            id,
            deleted,
            same_fields,
            len,
            block: self,
            flags_at: start,
            body: &bytes[body..],
        };
        (entry, end)
    }

    /// Where the flags of the entry at `at` stand, and its end.
    #[inline]
    fn entry_end(self, at: usize) -> (usize, usize) {
        let mut start = at;
        let len = take_number(self.bytes, &mut start) as usize;
        (start, start + len)
    }

    /// Number of fields, and what is behind the number.
    #[inline]
    fn field_count(self) -> (usize, &'a [u8]) {
        let mut at = HEADER_BYTES;
        let count = take_number(self.bytes, &mut at) as usize;
        (count, &self.bytes[at..])
    }

    #[inline]
    fn id_at(self, at: usize) -> StreamId {
        let mut number = [0; 16];
        number.copy_from_slice(&self.bytes[at..at + 16]);
        StreamId::from_number(u128::from_le_bytes(number))
    }

    #[inline]
    fn number_at(self, at: usize) -> usize {
        let bytes = &self.bytes[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }
}

/// An entry of a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Whether it was deleted, so that only its place is left.
    pub deleted: bool,
    /// Whether its fields are those of the block.
    pub same_fields: bool,
    len: usize,
    block: Block<'a>,
    flags_at: usize,
    body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Number of pairs.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The fields and values in their order.
    #[inline]
    pub fn pairs(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> {
        let mut own = Elements { rest: self.body };
        let mut shared = Elements { rest: self.block.field_count().1 };
        let same = self.same_fields;
        (0..self.len).map_while(move |_| {
            let field = if same { shared.next() } else { own.next() };
            field.zip(own.next())
        })
    }
}

/// Elements one behind the other.
#[derive(Clone, Debug)]
struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (element, len) = listpack::read(self.rest);
        self.rest = &self.rest[len..];
        Some(element)
    }
}

/// The fields and values of an entry to be added.
pub trait Pairs<'p>: ExactSizeIterator<Item = (&'p [u8], &'p [u8])> + Clone {}

impl<'p, P: ExactSizeIterator<Item = (&'p [u8], &'p [u8])> + Clone> Pairs<'p> for P {}

/// Begins a block in the empty `bytes` for entries from `first` on, with the fields of `pairs`.
pub(super) fn begin<'p>(bytes: &mut Vec<u8>, first: StreamId, pairs: impl Pairs<'p>) {
    debug_assert!(bytes.is_empty());
    let mut redis_bytes = REDIS_FRAME_BYTES + int_bytes(pairs.len()) + int_bytes(0);
    bytes.resize(HEADER_BYTES, 0);
    put_number(bytes, pairs.len() as u64);
    for (field, _) in pairs {
        redis_bytes += put_text(bytes, field);
    }
    bytes[FIRST_AT..FIRST_AT + 16].copy_from_slice(&first.to_number().to_le_bytes());
    let end = bytes.len();
    set_number(bytes, REDIS_BYTES_AT, redis_bytes);
    set_number(bytes, ENTRIES_AT, end);
}

/// Appends an entry to the block in `bytes`; `id` is greater than that of every other.
#[inline]
pub(super) fn push<'p>(bytes: &mut Vec<u8>, id: StreamId, pairs: impl Pairs<'p>) {
    let block = Block::new(bytes);
    let first = block.first();
    let (field_count, _) = block.field_count();
    let same_fields = pairs.len() == field_count
        && pairs.clone().zip(block.fields()).all(|((field, _), shared)| shared.is(field));
    let (ms, seq) = (id.ms.wrapping_sub(first.ms), id.seq.wrapping_sub(first.seq));
    let live = block.live();
    let mut redis_bytes = block.number_at(REDIS_BYTES_AT) + id_redis_bytes(ms, seq);
    let at = bytes.len();
    bytes.extend_from_slice(&[0, if same_fields { FLAG_SAME_FIELDS } else { 0 }]);
    put_number(bytes, ms);
    put_number(bytes, zigzag(seq));
    // Flags, both differences and the count of elements come besides the values.
    let mut elements = 3 + pairs.len();
    if !same_fields {
        put_number(bytes, pairs.len() as u64);
        redis_bytes += int_bytes(pairs.len());
        elements += pairs.len() + 1;
    }
    for (field, value) in pairs {
        if !same_fields {
            redis_bytes += put_text(bytes, field);
        }
        redis_bytes += put_text(bytes, value);
    }
    finish_entry(bytes, at);
    bytes[LAST_AT..LAST_AT + 16].copy_from_slice(&id.to_number().to_le_bytes());
    set_number(bytes, LIVE_AT, live + 1);
    set_number(bytes, REDIS_BYTES_AT, redis_bytes + int_bytes(elements));
}

/// Flags the live entry whose flags stand at `flags_at` as deleted.
fn flag_deleted(bytes: &mut [u8], flags_at: usize) {
    bytes[flags_at] |= FLAG_DELETED;
}

/// Deletes the first live entries of the block in `bytes` for which `chosen` holds, until it does not
/// hold; how many.
pub(super) fn delete_while(bytes: &mut [u8], chosen: impl FnMut(StreamId) -> bool) -> usize {
    let mut chosen = chosen;
    let places: SmallVec<[usize; 128]> = Block::new(bytes)
        .entries()
        .filter(|entry| !entry.deleted)
        .take_while(|entry| chosen(entry.id))
        .map(|entry| entry.flags_at)
        .collect();
    places.iter().for_each(|&at| flag_deleted(bytes, at));
    count_deleted(bytes, places.len());
    places.len()
}

/// Deletes the entry `id` from the block in `bytes`; whether it was there.
pub(super) fn delete(bytes: &mut [u8], id: StreamId) -> bool {
    let Some(at) = Block::new(bytes).find(id).map(|entry| entry.flags_at) else { return false };
    flag_deleted(bytes, at);
    count_deleted(bytes, 1);
    true
}

fn count_deleted(bytes: &mut [u8], count: usize) {
    let block = Block::new(bytes);
    let (live, deleted) = (block.live() - count, block.deleted() + count);
    set_number(bytes, LIVE_AT, live);
    set_number(bytes, DELETED_AT, deleted);
}

/// Puts the length of the entry that begins at `at` into the byte left for it, or makes room for the
/// bytes that it takes.
#[inline]
fn finish_entry(bytes: &mut Vec<u8>, at: usize) {
    let len = bytes.len() - at - 1;
    if len < 0x80 {
        bytes[at] = len as u8;
        return;
    }
    let mut number = SmallVec::<[u8; 10]>::new();
    encode_number(len as u64, |byte| number.push(byte));
    bytes.splice(at..=at, number);
}

/// Appends a field or a value; the bytes that it takes in Redis's listpack.
#[inline]
fn put_text(bytes: &mut Vec<u8>, text: &[u8]) -> usize {
    let element = Element::compact(text);
    listpack::append(bytes, &element);
    element.redis_listpack_len()
}

/// Bytes in Redis's listpack of an entry's flags and of the two parts of its id.
#[inline]
fn id_redis_bytes(ms: u64, seq: u64) -> usize {
    let int = |number: u64| Element::Int(number as i64).redis_listpack_len();
    int(0) + int(ms) + int(seq)
}

#[inline]
fn int_bytes(number: usize) -> usize {
    Element::Int(number as i64).redis_listpack_len()
}

#[inline]
fn set_number(bytes: &mut [u8], at: usize, number: usize) {
    bytes[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
}

#[inline]
fn put_number(bytes: &mut Vec<u8>, number: u64) {
    encode_number(number, |byte| bytes.push(byte));
}

#[inline]
fn encode_number(mut number: u64, mut put: impl FnMut(u8)) {
    while number >= 0x80 {
        put(number as u8 | 0x80);
        number >>= 7;
    }
    put(number as u8);
}

/// Reads the number at `at` and moves `at` behind it.
#[inline]
fn take_number(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}

/// Small numbers of either sign as small numbers.
#[inline]
fn zigzag(number: u64) -> u64 {
    number << 1 ^ ((number as i64) >> 63) as u64
}

#[inline]
fn unzigzag(number: u64) -> u64 {
    number >> 1 ^ (number & 1).wrapping_neg()
}
