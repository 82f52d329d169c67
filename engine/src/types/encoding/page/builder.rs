//! Putting records together in a new page.
#![forbid(unsafe_code)]

use triomphe::Arc;

use super::{
    DISTANCE_BYTES, Format, Head, OVERHEAD_BYTES, PAGE_BYTES_MAX, Page, SIZE_CLASSES,
    record::{KIND_SHARED, varint},
};

/// A page that takes records.
pub(super) struct Builder {
    pub(super) page: Page,
}

impl Builder {
    /// A page with room for `need` bytes of records and slots.
    pub(super) fn new(need: usize) -> Self {
        static ZEROS: [u8; PAGE_BYTES_MAX] = [0; PAGE_BYTES_MAX];
        let need = need + OVERHEAD_BYTES;
        let class = SIZE_CLASSES.into_iter().find(|&class| class >= need).unwrap_or(PAGE_BYTES_MAX);
        let head = Head { len: 0, heap: 0, dead: 0, shared: None };
        let zeros = &ZEROS[..class - OVERHEAD_BYTES];
        Self { page: Page { block: Arc::from_header_and_slice(head, zeros) } }
    }

    /// Appends the records `from..to` of `page`.
    pub(super) fn take<F: Format>(&mut self, page: &Page, from: usize, to: usize) {
        let is_whole = from == 0 && to == page.len() && self.page.is_empty();
        if is_whole && page.block.header.dead == 0 && page.block.header.shared.is_none() {
            self.take_all::<F>(page);
        } else {
            self.take_some::<F>(page, from, to);
        }
    }

    /// The records of a page that has no dead ones: slots and heap as they are.
    fn take_all<F: Format>(&mut self, page: &Page) {
        let source = &page.block.slice;
        let (head, slice) = self.page.own();
        (head.len, head.heap) = (page.block.header.len, page.block.header.heap);
        let (slots, heap) = (page.len() * F::SLOT_BYTES, usize::from(head.heap));
        slice[..slots].copy_from_slice(&source[..slots]);
        let at = slice.len() - heap;
        slice[at..].copy_from_slice(&source[source.len() - heap..]);
    }

    fn take_some<F: Format>(&mut self, page: &Page, from: usize, to: usize) {
        let source = &page.block.slice;
        let (head, slice) = self.page.own();
        let mut slot_at = usize::from(head.len) * F::SLOT_BYTES;
        let mut record_at = slice.len() - usize::from(head.heap);
        for slot in source[from * F::SLOT_BYTES..to * F::SLOT_BYTES].chunks_exact(F::SLOT_BYTES) {
            let (tag, distance) = slot.split_at(F::SLOT_BYTES - DISTANCE_BYTES);
            let at = source.len() - usize::from(u16::from_le_bytes([distance[0], distance[1]]));
            let (prefix, meta) = varint(&source[at..]);
            let len = prefix + F::HEAD_BYTES + (meta >> 2);
            record_at -= len;
            slice[record_at..record_at + len].copy_from_slice(&source[at..at + len]);
            if meta & 3 == KIND_SHARED {
                let number = head.keep(page.shared_body(&source[at + len - 2..at + len]));
                slice[record_at + len - 2..record_at + len].copy_from_slice(&number.to_le_bytes());
            }
            let distance = (slice.len() - record_at) as u16;
            let slot = &mut slice[slot_at..slot_at + F::SLOT_BYTES];
            slot[..F::SLOT_BYTES - DISTANCE_BYTES].copy_from_slice(tag);
            slot[F::SLOT_BYTES - DISTANCE_BYTES..].copy_from_slice(&distance.to_le_bytes());
            slot_at += F::SLOT_BYTES;
        }
        head.len += (to - from) as u16;
        head.heap = (slice.len() - record_at) as u16;
    }
}
