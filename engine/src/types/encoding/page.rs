//! Page: the leaf of a tree, a slotted block of at most 4 KiB with a reference count.
//!
//! Slots grow from the front in order of the records; records lie at the back in any order. A slot
//! holds the record's distance from the end, so that a page grows without touching its slots, and,
//! in trees sorted by hash, the record's hash: a search reads one dense array.
//!
//! ```text
//! | slot 0 | slot 1 | …            free            … | record 1 | record 0 |
//! slot   = [tag: u32 if tagged] distance: u16
//! record = varint(body length << 2 | kind), head (0 or 8 bytes), body
//! ```
//!
//! Bodies are bytes, integers in their significant bytes, or the number of a shared allocation
//! ([`Bytes`]) beside the page, which holds what is too long for it.
//!
//! The allocation follows the allocator's size classes and grows class by class, so that pages are
//! nearly full whatever the order of insertions: a tree of half-full 4 KiB blocks would cost a third
//! more memory. A page that a capture shares is never changed: writes work on a copy.
//!
//! The count is atomic (`triomphe`: no weak count, so asking whether a page is unique is one plain
//! load on x86 and costs a write nothing), which lets whole values change their shard.
#![forbid(unsafe_code)]

mod builder;
mod record;
mod search;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use triomphe::{Arc, HeaderSlice};

use super::element::{Element, int_from_bytes};
use crate::sys::prefetch::{LINE_BYTES, prefetch};
use builder::Builder;
use record::{KIND_INT, KIND_SHARED, encode, encoded_len, varint};

pub use record::{NewRecord, Record};
pub(super) use search::{halving, interpolate, lower_bound_near};

/// Largest allocation of a page in bytes.
pub const PAGE_BYTES_MAX: usize = 4096;
/// Longest body that stands in the page itself: short enough that each half of a full page, however
/// unevenly its records split, has room for one more.
pub const INLINE_BYTES_MAX: usize = 384;

const OVERHEAD_BYTES: usize = size_of::<usize>() + size_of::<Head>();
const TAG_BYTES: usize = 4;
const DISTANCE_BYTES: usize = 2;

/// Allocation sizes of a page, as mimalloc and jemalloc have them.
const SIZE_CLASSES: [usize; 20] = [
    64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072,
    3584, 4096,
];

/// A page with dead records that is rebuilt gets this part of what it holds as room, so that a page
/// from which and to which records keep moving is not rebuilt every few moves.
const ROOM_OF_CHANGING: usize = 4;

/// What the pages of one tree have in common.
pub trait Format {
    /// Whether slots hold a tag.
    const TAGGED: bool;
    /// Bytes of a record's head.
    const HEAD_BYTES: usize;
    /// Largest allocation.
    const BYTES_MAX: usize;
    /// Bytes of a slot.
    const SLOT_BYTES: usize = DISTANCE_BYTES + if Self::TAGGED { TAG_BYTES } else { 0 };
}

#[derive(Clone, Debug)]
struct Head {
    /// Number of records.
    len: u16,
    /// Bytes at the back taken by records, dead ones too.
    heap: u16,
    /// Bytes of dead records.
    dead: u16,
    /// Bodies too long for the page. Numbers of dead ones hold an empty string until the page is
    /// next rebuilt.
    shared: Option<Box<Shared>>,
}

#[derive(Clone, Debug, Default)]
struct Shared {
    bodies: Vec<Bytes>,
    bytes: usize,
}

/// A slotted page. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Page {
    block: Arc<HeaderSlice<Head, [u8]>>,
}

impl Page {
    /// An empty page of the smallest size.
    pub fn new() -> Self {
        Builder::new(0).page
    }

    /// An empty page of the largest size: for one that is sure to be filled.
    pub fn roomy<F: Format>() -> Self {
        Builder::new(Self::room::<F>()).page
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.block.header.len)
    }

    /// Whether there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the page holds, long bodies included.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        let shared = match &self.block.header.shared {
            Some(shared) => shared.bytes + shared.bodies.capacity() * size_of::<Bytes>(),
            None => 0,
        };
        OVERHEAD_BYTES + self.block.slice.len() + shared
    }

    /// Bytes that the live records take with their slots.
    #[inline]
    pub fn live_bytes<F: Format>(&self) -> usize {
        self.len() * F::SLOT_BYTES + self.record_bytes()
    }

    /// Whether this page and `other` are the same allocation.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.block, &other.block)
    }

    /// The tag in slot `index` of a tagged page.
    #[inline]
    pub fn tag(&self, index: usize) -> u32 {
        let at = index * (TAG_BYTES + DISTANCE_BYTES);
        let tag = &self.block.slice[at..at + TAG_BYTES];
        u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]])
    }

    /// Asks the processor for the head, and for the slots `from..to`, which need not be there.
    #[inline]
    pub fn prefetch<F: Format>(&self, from: usize, to: usize) {
        let slots = self.block.slice.as_ptr();
        prefetch(slots.wrapping_sub(OVERHEAD_BYTES));
        let end = (to * F::SLOT_BYTES).min(self.block.slice.len());
        let mut at = from * F::SLOT_BYTES;
        while at < end {
            prefetch(slots.wrapping_add(at));
            at += LINE_BYTES;
        }
        prefetch(slots.wrapping_add(end));
    }

    /// Index of the first slot whose tag is not below `tag`, which is expected near `guess`.
    #[inline]
    pub fn lower_bound(&self, tag: u32, guess: usize) -> usize {
        lower_bound_near(self.len(), guess, |index| self.tag(index) < tag)
    }

    /// The slots whose tag is `tag`, which may be spread in any way.
    #[inline]
    pub fn slots_of(&self, tag: u32) -> Range<usize> {
        let len = self.len();
        let start = halving(0, len, |index| self.tag(index) < tag);
        // Few have the same, as a rule.
        let mut end = start;
        while end < len && self.tag(end) == tag {
            end += 1;
            if end == start + 4 {
                return start..halving(end, len, |index| self.tag(index) <= tag);
            }
        }
        start..end
    }

    /// The record in slot `index`.
    #[inline]
    pub fn record<F: Format>(&self, index: usize) -> Record<'_> {
        let bytes = &self.block.slice[self.record_at::<F>(index)..];
        let (prefix, meta) = varint(bytes);
        let body_at = prefix + F::HEAD_BYTES;
        let body = &bytes[body_at..body_at + (meta >> 2)];
        Record {
            head: &bytes[prefix..body_at],
            body: match meta & 3 {
                KIND_INT => Element::Int(int_from_bytes(body)),
                KIND_SHARED => Element::Shared(self.shared_body(body)),
                _ => Element::Bytes(body),
            },
        }
    }

    /// Inserts `record` before slot `index`. False, and nothing done, if the page is full.
    #[must_use]
    pub fn insert<F: Format>(&mut self, index: usize, record: &NewRecord<'_>) -> bool {
        let len = encoded_len::<F>(record);
        if !self.reserve::<F>(len + F::SLOT_BYTES) {
            return false;
        }
        let width = F::SLOT_BYTES;
        let (head, slice) = self.own();
        let slots = usize::from(head.len) * width;
        if index * width < slots {
            slice.copy_within(index * width..slots, (index + 1) * width);
        }
        head.len += 1;
        write_record::<F>(head, slice, index, record, len);
        true
    }

    /// Puts `record` in the place of the one in slot `index`. False, and the old one is still
    /// there, if the page is full.
    #[must_use]
    pub fn replace<F: Format>(&mut self, index: usize, record: &NewRecord<'_>) -> bool {
        let len = encoded_len::<F>(record);
        let at = self.record_at::<F>(index);
        let (prefix, meta) = varint(&self.block.slice[at..]);
        let is_inline = !matches!(record.body, Element::Shared(_)) && meta & 3 != KIND_SHARED;
        let fits_exactly = prefix + F::HEAD_BYTES + (meta >> 2) == len;
        if fits_exactly && is_inline && self.reserve::<F>(0) {
            let at = self.record_at::<F>(index);
            let (_, slice) = self.own();
            encode::<F>(record, 0, &mut slice[at..at + len]);
            write_tag::<F>(slice, index, record.tag);
            return true;
        }
        if !self.reserve::<F>(len) {
            return false;
        }
        self.bury::<F>(index);
        let (head, slice) = self.own();
        write_record::<F>(head, slice, index, record, len);
        true
    }

    /// Removes the records of slots `from..to`.
    pub fn remove<F: Format>(&mut self, from: usize, to: usize) {
        if !self.block.is_unique() {
            self.rebuild::<F>(self.live_bytes::<F>());
        }
        for index in from..to {
            self.bury::<F>(index);
        }
        let width = F::SLOT_BYTES;
        let (head, slice) = self.own();
        slice.copy_within(to * width..usize::from(head.len) * width, from * width);
        head.len -= (to - from) as u16;
        let live = self.live_bytes::<F>();
        if live + OVERHEAD_BYTES < self.block.slice.len() / 2 {
            self.rebuild::<F>(live);
        }
    }

    /// Moves the records from slot `index` on to a new page.
    pub fn split_off<F: Format>(&mut self, index: usize) -> Self {
        let bytes =
            |from, to| (from..to).map(|at| self.record_len::<F>(at) + F::SLOT_BYTES).sum::<usize>();
        let mut left = Builder::new(bytes(0, index));
        left.take::<F>(self, 0, index);
        let mut right = Builder::new(bytes(index, self.len()));
        right.take::<F>(self, index, self.len());
        *self = left.page;
        right.page
    }

    /// Appends the records of `other`; the caller knows that they fit.
    pub fn append<F: Format>(&mut self, other: &Self) {
        let mut both = Builder::new(self.live_bytes::<F>() + other.live_bytes::<F>());
        both.take::<F>(self, 0, self.len());
        both.take::<F>(other, 0, other.len());
        *self = both.page;
    }

    /// The slot that splits the records into halves of about the same bytes; neither is empty.
    pub fn middle<F: Format>(&self) -> usize {
        let half = self.live_bytes::<F>() / 2;
        let mut before = 0;
        for index in 0..self.len() - 1 {
            before += self.record_len::<F>(index) + F::SLOT_BYTES;
            if before >= half {
                return index + 1;
            }
        }
        self.len() - 1
    }

    /// Bytes that records and slots may take at most in a page.
    pub fn room<F: Format>() -> usize {
        F::BYTES_MAX - OVERHEAD_BYTES
    }

    #[inline]
    fn record_bytes(&self) -> usize {
        usize::from(self.block.header.heap - self.block.header.dead)
    }

    #[inline]
    fn record_at<F: Format>(&self, index: usize) -> usize {
        let at = (index + 1) * F::SLOT_BYTES - DISTANCE_BYTES;
        let slice = &self.block.slice;
        slice.len() - usize::from(u16::from_le_bytes([slice[at], slice[at + 1]]))
    }

    #[inline]
    fn record_len<F: Format>(&self, index: usize) -> usize {
        let (prefix, meta) = varint(&self.block.slice[self.record_at::<F>(index)..]);
        prefix + F::HEAD_BYTES + (meta >> 2)
    }

    fn shared_body(&self, number: &[u8]) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        let number = usize::from(u16::from_le_bytes([number[0], number[1]]));
        match &self.block.header.shared {
            Some(shared) => &shared.bodies[number],
            None => &EMPTY,
        }
    }

    /// The page's parts, which the caller knows to be unshared.
    #[inline]
    fn own(&mut self) -> (&mut Head, &mut [u8]) {
        match Arc::get_mut(&mut self.block) {
            Some(block) => (&mut block.header, &mut block.slice),
            None => unreachable!("`reserve` and `rebuild` leave the page unshared"),
        }
    }

    /// Makes the page unshared with room for `extra` bytes. False if it cannot hold them.
    #[inline]
    fn reserve<F: Format>(&mut self, extra: usize) -> bool {
        let head = &self.block.header;
        let used = self.len() * F::SLOT_BYTES + usize::from(head.heap);
        if used + extra <= self.block.slice.len() && self.block.is_unique() {
            return true;
        }
        self.make_room::<F>(extra)
    }

    /// Moves the records to where they are unshared and have room for `extra` bytes. False, and nothing
    /// done, if no page can hold them.
    #[cold]
    fn make_room<F: Format>(&mut self, extra: usize) -> bool {
        let need = self.live_bytes::<F>() + extra;
        let fits = need <= Self::room::<F>();
        if fits {
            let is_changing = self.block.header.dead > 0;
            let room = if is_changing { need / ROOM_OF_CHANGING } else { 0 };
            self.rebuild::<F>((need + room).min(Self::room::<F>()));
        }
        fits
    }

    /// Moves the records to a new block with room for `need` bytes, without the dead ones.
    fn rebuild<F: Format>(&mut self, need: usize) {
        let mut builder = Builder::new(need);
        builder.take::<F>(self, 0, self.len());
        *self = builder.page;
    }

    /// Counts the record of slot `index` as dead.
    fn bury<F: Format>(&mut self, index: usize) {
        let at = self.record_at::<F>(index);
        let (prefix, meta) = varint(&self.block.slice[at..]);
        let len = prefix + F::HEAD_BYTES + (meta >> 2);
        let number = (meta & 3 == KIND_SHARED).then(|| {
            let body = &self.block.slice[at + len - 2..at + len];
            usize::from(u16::from_le_bytes([body[0], body[1]]))
        });
        let (head, slice) = self.own();
        if at == slice.len() - usize::from(head.heap) {
            head.heap -= len as u16;
        } else {
            head.dead += len as u16;
        }
        if let (Some(number), Some(shared)) = (number, head.shared.as_mut()) {
            shared.bytes -= shared.bodies[number].len();
            shared.bodies[number] = Bytes::new();
            while shared.bodies.last().is_some_and(Bytes::is_empty) {
                shared.bodies.pop();
            }
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

impl Head {
    /// Keeps a long body; its number.
    fn keep(&mut self, body: &Bytes) -> u16 {
        let shared = self.shared.get_or_insert_default();
        shared.bytes += body.len();
        shared.bodies.push(body.clone());
        (shared.bodies.len() - 1) as u16
    }
}

/// Writes `record` of `len` bytes at the front of the heap and its slot at `index`; there is room.
#[inline]
fn write_record<F: Format>(
    head: &mut Head,
    slice: &mut [u8],
    index: usize,
    record: &NewRecord<'_>,
    len: usize,
) {
    let number = match record.body {
        Element::Shared(body) => head.keep(body),
        _ => 0,
    };
    head.heap += len as u16;
    let at = slice.len() - usize::from(head.heap);
    encode::<F>(record, number, &mut slice[at..at + len]);
    write_tag::<F>(slice, index, record.tag);
    let slot_end = (index + 1) * F::SLOT_BYTES;
    slice[slot_end - DISTANCE_BYTES..slot_end].copy_from_slice(&head.heap.to_le_bytes());
}

#[inline]
fn write_tag<F: Format>(slice: &mut [u8], index: usize, tag: u32) {
    if F::TAGGED {
        let at = index * F::SLOT_BYTES;
        slice[at..at + TAG_BYTES].copy_from_slice(&tag.to_le_bytes());
    }
}
