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

use std::ops::Range;

use bytes::Bytes;
use triomphe::{Arc, HeaderSlice};

use super::element::{Element, int_from_bytes, int_len};

/// Largest allocation of a page in bytes.
pub const PAGE_BYTES_MAX: usize = 4096;
/// Longest body that stands in the page itself: short enough that each half of a full page, however
/// unevenly its records split, has room for one more.
pub const INLINE_BYTES_MAX: usize = 384;

const OVERHEAD_BYTES: usize = size_of::<usize>() + size_of::<Head>();
const TAG_BYTES: usize = 4;
const DISTANCE_BYTES: usize = 2;

const KIND_BYTES: usize = 0;
const KIND_INT: usize = 1;
const KIND_SHARED: usize = 2;

/// Allocation sizes of a page, as mimalloc and jemalloc have them.
const SIZE_CLASSES: [usize; 20] = [
    64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072,
    3584, 4096,
];

/// What the pages of one tree have in common.
#[derive(Clone, Copy, Debug)]
pub struct PageFormat {
    /// Whether slots hold a tag.
    pub tagged: bool,
    /// Bytes of a record's head.
    pub head_bytes: usize,
    /// Largest allocation.
    pub bytes_max: usize,
}

impl PageFormat {
    const fn slot_bytes(self) -> usize {
        if self.tagged { TAG_BYTES + DISTANCE_BYTES } else { DISTANCE_BYTES }
    }
}

/// A record to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The slot's tag; ignored by untagged pages.
    pub tag: u32,
    /// Exactly as many bytes as the format says.
    pub head: &'a [u8],
    /// The body. Bytes beyond [`INLINE_BYTES_MAX`] must come as [`Element::Shared`].
    pub body: Element<'a>,
}

/// A stored record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// As many bytes as the format says.
    pub head: &'a [u8],
    /// The body.
    pub body: Element<'a>,
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
    pub fn live_bytes(&self, format: PageFormat) -> usize {
        self.len() * format.slot_bytes() + self.record_bytes()
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

    /// Index of the first slot whose tag is not below `tag`.
    #[inline]
    pub fn lower_bound(&self, tag: u32) -> usize {
        match self.len() {
            0 => 0,
            len => {
                let guess = interpolate(tag, self.tag(0), self.tag(len - 1), len);
                lower_bound_near(len, guess, |index| self.tag(index) < tag)
            }
        }
    }

    /// The slots whose tag is `tag`, which may be spread in any way.
    #[inline]
    pub fn slots_of(&self, tag: u32) -> Range<usize> {
        let start = halving(0, self.len(), |index| self.tag(index) < tag);
        start..halving(start, self.len(), |index| self.tag(index) <= tag)
    }

    /// The record in slot `index`.
    #[inline]
    pub fn record(&self, index: usize, format: PageFormat) -> Record<'_> {
        let bytes = &self.block.slice[self.record_at(index, format)..];
        let (prefix, meta) = varint(bytes);
        let body_at = prefix + format.head_bytes;
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
    pub fn insert(&mut self, index: usize, record: &NewRecord<'_>, format: PageFormat) -> bool {
        let len = encoded_len(record);
        if !self.reserve(len + format.slot_bytes(), format) {
            return false;
        }
        let width = format.slot_bytes();
        let (head, slice) = self.own();
        let slots = usize::from(head.len) * width;
        slice.copy_within(index * width..slots, (index + 1) * width);
        head.len += 1;
        write_record(head, slice, index, record, len, format);
        true
    }

    /// Puts `record` in the place of the one in slot `index`. False, and the old one is still
    /// there, if the page is full.
    #[must_use]
    pub fn replace(&mut self, index: usize, record: &NewRecord<'_>, format: PageFormat) -> bool {
        let len = encoded_len(record);
        let old = self.record_len(index, format);
        let inline =
            !matches!(record.body, Element::Shared(_)) && !self.holds_shared(index, format);
        if old == len && inline && self.reserve(0, format) {
            let at = self.record_at(index, format);
            let (_, slice) = self.own();
            encode(record, 0, &mut slice[at..at + len]);
            write_tag(slice, index, record.tag, format);
            return true;
        }
        if !self.reserve(len, format) {
            return false;
        }
        self.bury(index, format);
        let (head, slice) = self.own();
        write_record(head, slice, index, record, len, format);
        true
    }

    /// Removes the records of slots `from..to`.
    pub fn remove(&mut self, from: usize, to: usize, format: PageFormat) {
        if !self.block.is_unique() {
            self.rebuild(self.live_bytes(format), format);
        }
        for index in from..to {
            self.bury(index, format);
        }
        let width = format.slot_bytes();
        let (head, slice) = self.own();
        slice.copy_within(to * width..usize::from(head.len) * width, from * width);
        head.len -= (to - from) as u16;
        let live = self.live_bytes(format);
        if live + OVERHEAD_BYTES < self.block.slice.len() / 2 {
            self.rebuild(live, format);
        }
    }

    /// Moves the records from slot `index` on to a new page.
    pub fn split_off(&mut self, index: usize, format: PageFormat) -> Self {
        let bytes = |from, to| {
            (from..to).map(|at| self.record_len(at, format) + format.slot_bytes()).sum::<usize>()
        };
        let mut left = Builder::new(bytes(0, index));
        left.take(self, 0, index, format);
        let mut right = Builder::new(bytes(index, self.len()));
        right.take(self, index, self.len(), format);
        *self = left.page;
        right.page
    }

    /// Appends the records of `other`; the caller knows that they fit.
    pub fn append(&mut self, other: &Self, format: PageFormat) {
        let mut both = Builder::new(self.live_bytes(format) + other.live_bytes(format));
        both.take(self, 0, self.len(), format);
        both.take(other, 0, other.len(), format);
        *self = both.page;
    }

    /// The slot that splits the records into halves of about the same bytes; neither is empty.
    pub fn middle(&self, format: PageFormat) -> usize {
        let half = self.live_bytes(format) / 2;
        let mut before = 0;
        for index in 0..self.len() - 1 {
            before += self.record_len(index, format) + format.slot_bytes();
            if before >= half {
                return index + 1;
            }
        }
        self.len() - 1
    }

    /// Bytes that `bytes` of records and slots may take at most in a page.
    pub fn room(format: PageFormat) -> usize {
        format.bytes_max - OVERHEAD_BYTES
    }

    #[inline]
    fn record_bytes(&self) -> usize {
        usize::from(self.block.header.heap - self.block.header.dead)
    }

    #[inline]
    fn record_at(&self, index: usize, format: PageFormat) -> usize {
        let at = (index + 1) * format.slot_bytes() - DISTANCE_BYTES;
        let slice = &self.block.slice;
        slice.len() - usize::from(u16::from_le_bytes([slice[at], slice[at + 1]]))
    }

    #[inline]
    fn record_len(&self, index: usize, format: PageFormat) -> usize {
        let (prefix, meta) = varint(&self.block.slice[self.record_at(index, format)..]);
        prefix + format.head_bytes + (meta >> 2)
    }

    fn holds_shared(&self, index: usize, format: PageFormat) -> bool {
        varint(&self.block.slice[self.record_at(index, format)..]).1 & 3 == KIND_SHARED
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
    fn reserve(&mut self, extra: usize, format: PageFormat) -> bool {
        let head = &self.block.header;
        let used = self.len() * format.slot_bytes() + usize::from(head.heap);
        if used + extra <= self.block.slice.len() && self.block.is_unique() {
            return true;
        }
        let need = self.live_bytes(format) + extra;
        let fits = need <= Self::room(format);
        if fits {
            self.rebuild(need, format);
        }
        fits
    }

    /// Moves the records to a new block with room for `need` bytes, without the dead ones.
    #[cold]
    fn rebuild(&mut self, need: usize, format: PageFormat) {
        let mut builder = Builder::new(need);
        builder.take(self, 0, self.len(), format);
        *self = builder.page;
    }

    /// Counts the record of slot `index` as dead.
    fn bury(&mut self, index: usize, format: PageFormat) {
        let at = self.record_at(index, format);
        let (prefix, meta) = varint(&self.block.slice[at..]);
        let len = prefix + format.head_bytes + (meta >> 2);
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

/// Puts records together in a new page.
struct Builder {
    page: Page,
}

impl Builder {
    /// A page with room for `need` bytes of records and slots.
    fn new(need: usize) -> Self {
        static ZEROS: [u8; PAGE_BYTES_MAX] = [0; PAGE_BYTES_MAX];
        let need = need + OVERHEAD_BYTES;
        let class = SIZE_CLASSES.into_iter().find(|&class| class >= need).unwrap_or(PAGE_BYTES_MAX);
        let head = Head { len: 0, heap: 0, dead: 0, shared: None };
        let zeros = &ZEROS[..class - OVERHEAD_BYTES];
        Self { page: Page { block: Arc::from_header_and_slice(head, zeros) } }
    }

    /// Appends the records `from..to` of `page`.
    fn take(&mut self, page: &Page, from: usize, to: usize, format: PageFormat) {
        let width = format.slot_bytes();
        let source = &page.block.slice;
        let (head, slice) = self.page.own();
        let whole = from == 0 && to == page.len() && head.len == 0;
        if whole && page.block.header.dead == 0 && page.block.header.shared.is_none() {
            let heap = usize::from(page.block.header.heap);
            let at = slice.len() - heap;
            slice[..to * width].copy_from_slice(&source[..to * width]);
            slice[at..].copy_from_slice(&source[source.len() - heap..]);
            (head.len, head.heap) = (to as u16, heap as u16);
            return;
        }
        for index in from..to {
            let at = page.record_at(index, format);
            let (prefix, meta) = varint(&source[at..]);
            let len = prefix + format.head_bytes + (meta >> 2);
            head.heap += len as u16;
            let to = slice.len() - usize::from(head.heap);
            slice[to..to + len].copy_from_slice(&source[at..at + len]);
            if meta & 3 == KIND_SHARED {
                let number = head.keep(page.shared_body(&source[at + len - 2..at + len]));
                slice[to + len - 2..to + len].copy_from_slice(&number.to_le_bytes());
            }
            let slot = usize::from(head.len) * width;
            slice[slot..slot + width].copy_from_slice(&source[index * width..][..width]);
            slice[slot + width - DISTANCE_BYTES..slot + width]
                .copy_from_slice(&head.heap.to_le_bytes());
            head.len += 1;
        }
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

/// Where a hash stands about among `len` that are evenly spread from `first` to `last`.
#[inline]
pub(super) fn interpolate(hash: u32, first: u32, last: u32, len: usize) -> usize {
    let (offset, span) = (hash.saturating_sub(first), last.saturating_sub(first));
    // In floating point, since a division of integers takes three times as long.
    (offset as f32 / (span as f32 + 1.0) * len as f32) as usize
}

/// The first of `len` indexes for which `below` does not hold, looked for near `guess`: with hashes
/// the guess is a few places off, and looking at those reads a cache line or two where halving
/// would read one a step.
#[inline]
pub(super) fn lower_bound_near(len: usize, guess: usize, below: impl Fn(usize) -> bool) -> usize {
    const STEPS_MAX: usize = 12;
    let mut at = guess.min(len);
    if at < len && below(at) {
        let near = len.min(at + STEPS_MAX);
        loop {
            at += 1;
            if at == near {
                return if at < len { halving(at, len, below) } else { len };
            }
            if !below(at) {
                return at;
            }
        }
    }
    let near = at.saturating_sub(STEPS_MAX);
    while at > near {
        if below(at - 1) {
            return at;
        }
        at -= 1;
    }
    halving(0, at, below)
}

/// The first index in `low..high` for which `below` does not hold, or `high`.
pub(super) fn halving(mut low: usize, mut high: usize, below: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = usize::midpoint(low, high);
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Writes `record` of `len` bytes at the front of the heap and its slot at `index`; there is room.
#[inline]
fn write_record(
    head: &mut Head,
    slice: &mut [u8],
    index: usize,
    record: &NewRecord<'_>,
    len: usize,
    format: PageFormat,
) {
    let number = match record.body {
        Element::Shared(body) => head.keep(body),
        _ => 0,
    };
    head.heap += len as u16;
    let at = slice.len() - usize::from(head.heap);
    encode(record, number, &mut slice[at..at + len]);
    write_tag(slice, index, record.tag, format);
    let slot_end = (index + 1) * format.slot_bytes();
    slice[slot_end - DISTANCE_BYTES..slot_end].copy_from_slice(&head.heap.to_le_bytes());
}

#[inline]
fn write_tag(slice: &mut [u8], index: usize, tag: u32, format: PageFormat) {
    if format.tagged {
        let at = index * format.slot_bytes();
        slice[at..at + TAG_BYTES].copy_from_slice(&tag.to_le_bytes());
    }
}

/// Length and kind of a body as the page stores it.
#[inline]
fn body_meta(body: &Element<'_>) -> usize {
    match body {
        Element::Int(int) => int_len(*int) << 2 | KIND_INT,
        Element::Bytes(bytes) => bytes.len() << 2 | KIND_BYTES,
        Element::Shared(_) => size_of::<u16>() << 2 | KIND_SHARED,
    }
}

#[inline]
fn encoded_len(record: &NewRecord<'_>) -> usize {
    let meta = body_meta(&record.body);
    debug_assert!(meta >> 2 <= INLINE_BYTES_MAX, "long bodies come shared");
    let prefix = if meta < 0x80 { 1 } else { 2 };
    prefix + record.head.len() + (meta >> 2)
}

fn encode(record: &NewRecord<'_>, number: u16, out: &mut [u8]) {
    let meta = body_meta(&record.body);
    let prefix = if meta < 0x80 {
        out[0] = meta as u8;
        1
    } else {
        out[0] = 0x80 | (meta & 0x7F) as u8;
        out[1] = (meta >> 7) as u8;
        2
    };
    let body_at = prefix + record.head.len();
    out[prefix..body_at].copy_from_slice(record.head);
    let body = &mut out[body_at..];
    match record.body {
        Element::Int(int) => body.copy_from_slice(&int.to_le_bytes()[..meta >> 2]),
        Element::Bytes(bytes) => body.copy_from_slice(bytes),
        Element::Shared(_) => body.copy_from_slice(&number.to_le_bytes()),
    }
}

/// The number of one or two bytes that `bytes` begins with, and its length.
#[inline]
fn varint(bytes: &[u8]) -> (usize, usize) {
    let first = usize::from(bytes[0]);
    if first < 0x80 { (1, first) } else { (2, (first & 0x7F) | usize::from(bytes[1]) << 7) }
}

#[cfg(test)]
mod tests;
