//! Slab allocator for the entries of one table: single-threaded, exact, without per-object headers.
//!
//! Why not the global allocator: its size classes are coarser than 8 bytes from 128 bytes on, it cannot say
//! exactly what one table uses, and it is shared between threads.
//!
//! Shape: chunks of 1 MiB from the system, aligned to 64 KiB, are cut into 16 pages of 64 KiB. A
//! page serves one size class; its header is found by masking an object's address. Classes step by
//! 8 bytes to 256, by 16 to 512, by 32 to 1,024 (at most 6 % lost); larger objects go to the global
//! allocator, rounded up by at most 1/8 so that a value appended to is not moved at every byte.
//!
//! Invariants:
//! - every page is exactly one of: free (its chunk's bit is set), the `current` page of its class,
//!   in one of its class's rank lists (used > 0, not full), or full (in no list);
//! - `used` objects of a page are live; the first `carved` slots have ever been handed out, and
//!   those not live are on the page's free list;
//! - at most one chunk is wholly free; any further one is returned to the system at once;
//! - `used_bytes` is the sum of `usable_size` over live objects.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use super::pages::{Pages, Supply};

const PAGE_BYTES: usize = 64 << 10;
const CHUNK_PAGES: usize = 16;
const CHUNK_BYTES: usize = PAGE_BYTES * CHUNK_PAGES;
const CHUNK_ALL_FREE: u16 = u16::MAX;
/// Objects larger than this come from the global allocator.
pub(super) const SLAB_MAX: usize = 1024;
const CLASSES: usize = 63;
/// Non-full pages are kept in four lists by how full they are.
const RANKS: usize = 4;
const RANK_NONE: u8 = u8::MAX;
const NOWHERE: u32 = u32::MAX;

/// The number of bytes that an allocation of `size` bytes really has. Two sizes with the same usable
/// size share an allocation in place.
#[inline]
pub(super) fn usable_size(size: usize) -> usize {
    match size {
        0..=16 => 16,
        17..=256 => size.next_multiple_of(8),
        257..=512 => size.next_multiple_of(16),
        513..=SLAB_MAX => size.next_multiple_of(32),
        _ => size.next_multiple_of(size.next_power_of_two() / 16),
    }
}

/// Index of the class whose objects have `usable` bytes (a result of `usable_size`, ≤ SLAB_MAX).
#[inline]
fn class_of(usable: usize) -> usize {
    match usable {
        ..=256 => usable / 8 - 2,
        257..=512 => 31 + (usable - 256) / 16 - 1,
        _ => 47 + (usable - 512) / 32 - 1,
    }
}

/// Header of a page, at its first byte.
#[repr(C, align(64))]
struct Page {
    free: *mut FreeObject,
    next: *mut Page,
    prev: *mut Page,
    object_bytes: u32,
    chunk: u32,
    used: u16,
    carved: u16,
    capacity: u16,
    /// The page changes its list, or is released, when `used` falls below this.
    relist_below: u16,
    class: u8,
    rank: u8,
}

struct FreeObject {
    next: *mut FreeObject,
}

impl Page {
    /// The rank list in which a page this full belongs.
    fn rank_due(&self) -> u8 {
        (self.used as usize * RANKS / (self.capacity as usize + 1)) as u8
    }

    /// The least `used` of a page of this rank, and at least 1.
    fn rank_floor(&self, rank: u8) -> u16 {
        (rank as usize * (self.capacity as usize + 1)).div_ceil(RANKS).max(1) as u16
    }

    fn is_full(&self) -> bool {
        self.used == self.capacity
    }
}

#[derive(Clone, Copy)]
struct Class {
    current: *mut Page,
    ranks: [*mut Page; RANKS],
}

struct Chunk {
    pages: Pages,
    /// One bit for each free page.
    free: u16,
    /// Its place in `available`, or NOWHERE when no page is free.
    available_at: u32,
}

pub(super) struct Slab {
    classes: [Class; CLASSES],
    /// Indexed by `Page::chunk`; the holes are listed in `holes`.
    chunks: Vec<Option<Chunk>>,
    holes: Vec<u32>,
    /// Chunks with free pages.
    available: Vec<u32>,
    supply: Supply,
    /// A wholly free chunk, kept so that a table that breathes does not map and unmap all the time.
    spare: u32,
    used_bytes: usize,
    large_bytes: usize,
}

impl Slab {
    pub(super) fn new() -> Self {
        let class = Class { current: ptr::null_mut(), ranks: [ptr::null_mut(); RANKS] };
        Self {
            classes: [class; CLASSES],
            chunks: Vec::new(),
            holes: Vec::new(),
            available: Vec::new(),
            supply: Supply::default(),
            spare: NOWHERE,
            used_bytes: 0,
            large_bytes: 0,
        }
    }

    /// Gets chunks as suits a table that is loaded, or no longer.
    pub(super) fn set_loading(&mut self, is_loading: bool) {
        self.supply.set_loading(is_loading);
    }

    /// Bytes in live objects, rounding included.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes taken from the system: whole chunks and large objects.
    pub(super) fn reserved_bytes(&self) -> usize {
        (self.chunks.len() - self.holes.len()) * CHUNK_BYTES + self.large_bytes
    }

    /// Allocates `usable_size(size)` uninitialised bytes, aligned to 8. Aborts when memory is out.
    #[inline]
    pub(super) fn allocate(&mut self, size: usize) -> NonNull<u8> {
        let usable = usable_size(size);
        self.used_bytes += usable;
        if usable > SLAB_MAX {
            self.large_bytes += usable;
            return allocate_large(usable);
        }
        let class = class_of(usable);
        let mut page = self.classes[class].current;
        // SAFETY: a non-null `current` is a live page of this slab (invariant 1).
        if page.is_null() || unsafe { (*page).is_full() } {
            page = self.next_page(class, usable);
        }
        // SAFETY: the page is live and not full, so either its free list holds an object or there is
        // a slot left to carve inside its 64 KiB.
        unsafe {
            let page = &mut *page;
            page.used += 1;
            if page.free.is_null() {
                let offset = size_of::<Page>() + page.carved as usize * usable;
                page.carved += 1;
                let base: *mut u8 = ptr::from_mut(page).cast();
                NonNull::new_unchecked(base.add(offset))
            } else {
                let object = page.free;
                page.free = (*object).next;
                NonNull::new_unchecked(object.cast())
            }
        }
    }

    /// Gives back an allocation.
    ///
    /// # Safety
    /// `object` came from `allocate` of this slab with a size of the same usable size, and is not
    /// used again.
    #[inline]
    pub(super) unsafe fn free(&mut self, object: NonNull<u8>, size: usize) {
        let usable = usable_size(size);
        self.used_bytes -= usable;
        if usable > SLAB_MAX {
            self.large_bytes -= usable;
            // SAFETY: by the caller's promise this is one of `allocate_large`'s, of this size.
            return unsafe { dealloc(object.as_ptr(), large_layout(usable)) };
        }
        let page = object.as_ptr().map_addr(|addr| addr & !(PAGE_BYTES - 1)).cast::<Page>();
        // SAFETY: objects lie inside pages aligned to PAGE_BYTES, whose header is at the start; the
        // object is ours again, so its first 8 bytes may hold the link.
        unsafe {
            let object = object.as_ptr().cast::<FreeObject>();
            (*object).next = (*page).free;
            (*page).free = object;
            (*page).used -= 1;
            debug_assert_eq!((*page).object_bytes as usize, usable);
            if (*page).used < (*page).relist_below {
                self.relist(page);
            }
        }
    }

    /// Puts a page whose fill has crossed a boundary where it belongs.
    ///
    /// # Safety
    /// `page` is a live page of this slab.
    #[cold]
    unsafe fn relist(&mut self, page: *mut Page) {
        // SAFETY: promised by the caller; links of listed pages are live pages (invariant 1).
        unsafe {
            self.unlink(page);
            if (*page).used > 0 {
                self.link(page);
                return;
            }
            let current = &mut self.classes[(*page).class as usize].current;
            if *current == page {
                *current = ptr::null_mut();
            }
            self.release_page(page);
        }
    }

    /// Chooses the next page to allocate from: the fullest one with room, else a fresh one. Fuller
    /// pages first, so that sparse ones run empty and can be returned.
    #[cold]
    fn next_page(&mut self, class: usize, usable: usize) -> *mut Page {
        let listed = self.classes[class].ranks.iter().rev().find(|head| !head.is_null()).copied();
        let page = match listed {
            Some(page) => {
                // SAFETY: a list head is a live page of this slab.
                unsafe { self.unlink(page) };
                page
            }
            None => self.fresh_page(class, usable),
        };
        let full = std::mem::replace(&mut self.classes[class].current, page);
        // SAFETY: both are live pages of this slab, if not null. The old one is full, so its next
        // free object puts it into a list; the new one stays current until it is full or empty.
        unsafe {
            if !full.is_null() {
                (*full).relist_below = (*full).capacity;
            }
            (*page).relist_below = 1;
        }
        page
    }

    /// # Safety
    /// `page` is a live page of this slab in no list, neither full nor empty.
    unsafe fn link(&mut self, page: *mut Page) {
        // SAFETY: promised by the caller; the head, if any, is a live page.
        unsafe {
            let rank = (*page).rank_due();
            let head = &mut self.classes[(*page).class as usize].ranks[rank as usize];
            (*page).rank = rank;
            (*page).relist_below = (*page).rank_floor(rank);
            (*page).prev = ptr::null_mut();
            (*page).next = *head;
            if !head.is_null() {
                (**head).prev = page;
            }
            *head = page;
        }
    }

    /// Takes a page out of its list, if it is in one.
    ///
    /// # Safety
    /// `page` is a live page of this slab.
    unsafe fn unlink(&mut self, page: *mut Page) {
        // SAFETY: promised by the caller; neighbours in a list are live pages.
        unsafe {
            let (next, prev, rank) = ((*page).next, (*page).prev, (*page).rank);
            if rank == RANK_NONE {
                return;
            }
            if prev.is_null() {
                self.classes[(*page).class as usize].ranks[rank as usize] = next;
            } else {
                (*prev).next = next;
            }
            if !next.is_null() {
                (*next).prev = prev;
            }
            (*page).rank = RANK_NONE;
        }
    }

    fn fresh_page(&mut self, class: usize, usable: usize) -> *mut Page {
        let index = match self.available.last() {
            Some(&index) => index,
            None => self.map_chunk(),
        };
        if index == self.spare {
            self.spare = NOWHERE;
        }
        let chunk = self.chunks[index as usize].as_mut().expect("an available chunk is mapped");
        let number = chunk.free.trailing_zeros();
        chunk.free &= !(1 << number);
        if chunk.free == 0 {
            chunk.available_at = NOWHERE;
            self.available.pop();
        }
        let header = Page {
            free: ptr::null_mut(),
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
            object_bytes: usable as u32,
            chunk: index,
            used: 0,
            carved: 0,
            relist_below: 1,
            capacity: ((PAGE_BYTES - size_of::<Page>()) / usable) as u16,
            class: class as u8,
            rank: RANK_NONE,
        };
        // SAFETY: `number < 16`, so the page lies inside the chunk, and as it was free nobody else
        // points into it.
        unsafe {
            let page = chunk.pages.start().add(number as usize * PAGE_BYTES).cast::<Page>();
            page.write(header);
            page.as_ptr()
        }
    }

    fn map_chunk(&mut self) -> u32 {
        let chunk = Chunk {
            pages: self.supply.take(CHUNK_BYTES, PAGE_BYTES),
            free: CHUNK_ALL_FREE,
            available_at: self.available.len() as u32,
        };
        let index = match self.holes.pop() {
            Some(hole) => {
                self.chunks[hole as usize] = Some(chunk);
                hole
            }
            None => {
                self.chunks.push(Some(chunk));
                self.chunks.len() as u32 - 1
            }
        };
        self.available.push(index);
        index
    }

    /// Marks an empty, unlisted page free, and returns its chunk to the system when that is wholly
    /// free and not the only such chunk.
    ///
    /// # Safety
    /// `page` is a live page of this slab with no live object, in no list and not current.
    unsafe fn release_page(&mut self, page: *mut Page) {
        // SAFETY: promised by the caller.
        let index = unsafe { (*page).chunk };
        let chunk = self.chunks[index as usize].as_mut().expect("a live page's chunk is mapped");
        let number = (page.addr() - chunk.pages.start().addr().get()) / PAGE_BYTES;
        chunk.free |= 1 << number;
        if chunk.available_at == NOWHERE {
            chunk.available_at = self.available.len() as u32;
            self.available.push(index);
        }
        if chunk.free != CHUNK_ALL_FREE {
            return;
        }
        if self.spare == NOWHERE {
            self.spare = index;
            return;
        }
        let at = chunk.available_at as usize;
        self.available.swap_remove(at);
        if let Some(&moved) = self.available.get(at) {
            let moved = self.chunks[moved as usize].as_mut().expect("available chunks are mapped");
            moved.available_at = at as u32;
        }
        self.chunks[index as usize] = None;
        self.holes.push(index);
    }

    /// Unmaps up to `count` chunks whatever is in them and says whether none is left. For tearing a
    /// table down in slices, after everything that owns something else has been taken out of it.
    ///
    /// # Safety
    /// No small object of this slab is used again, and nothing more is allocated from it.
    pub(super) unsafe fn unmap_chunks(&mut self, count: usize) -> bool {
        let keep = self.chunks.len().saturating_sub(count);
        self.chunks.truncate(keep);
        self.holes.clear();
        self.used_bytes = self.large_bytes;
        keep == 0
    }
}

#[cold]
fn allocate_large(usable: usize) -> NonNull<u8> {
    let layout = large_layout(usable);
    // SAFETY: the size is not zero: only sizes above SLAB_MAX come here.
    let raw = unsafe { alloc(layout) };
    NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout))
}

fn large_layout(usable: usize) -> Layout {
    Layout::from_size_align(usable, 8).expect("entries are far smaller than isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_usable_size_has_its_own_class() {
        let mut last = None;
        for size in 1..=SLAB_MAX {
            let usable = usable_size(size);
            assert!(usable >= size && usable_size(usable) == usable);
            assert!(usable <= size.max(16) + size / 16 + 8, "{size} -> {usable}");
            let class = class_of(usable);
            let fresh = last.is_none_or(|(u, _)| u != usable);
            if let Some((_, before)) = last {
                assert_eq!(class, before + usize::from(fresh));
            }
            last = Some((usable, class));
        }
        assert_eq!(last, Some((SLAB_MAX, CLASSES - 1)));
    }

    #[test]
    fn large_objects_round_up_by_at_most_an_eighth() {
        for size in (SLAB_MAX + 1..1 << 20).step_by(977) {
            let usable = usable_size(size);
            assert!(usable >= size && usable <= size + size / 8 + 1);
            assert_eq!(usable_size(usable), usable);
        }
    }

    #[test]
    fn emptied_chunks_go_back_to_the_system() {
        let mut slab = Slab::new();
        let objects: Vec<_> = (0..200_000).map(|_| slab.allocate(56)).collect();
        assert_eq!(slab.used_bytes(), 200_000 * 56);
        let slack = slab.reserved_bytes() - slab.used_bytes();
        assert!(slack < CHUNK_BYTES + slab.used_bytes() / 100, "{slack}");
        for object in objects {
            // SAFETY: allocated above with this size and freed once.
            unsafe { slab.free(object, 56) };
        }
        assert_eq!((slab.used_bytes(), slab.reserved_bytes()), (0, CHUNK_BYTES));
    }

    proptest! {
        #[test]
        fn objects_never_overlap_and_accounts_are_exact(
            ops in prop::collection::vec((any::<u16>(), 1usize..3000), 1..600),
        ) {
            let mut slab = Slab::new();
            let mut live: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
            for (number, &(choice, size)) in ops.iter().enumerate() {
                if choice % 3 == 0 && !live.is_empty() {
                    let (object, size, mark) = live.swap_remove(choice as usize % live.len());
                    // SAFETY: allocated with `size` below, and leaves `live` here.
                    unsafe {
                        let bytes = std::slice::from_raw_parts(object.as_ptr(), usable_size(size));
                        prop_assert!(bytes.iter().all(|&byte| byte == mark));
                        slab.free(object, size);
                    }
                } else {
                    // Mostly small sizes, of which many share a page.
                    let size = if choice % 4 == 0 { size } else { size % 64 + 1 };
                    let object = slab.allocate(size);
                    prop_assert_eq!(object.as_ptr() as usize % 8, 0);
                    // SAFETY: the allocation has `usable_size(size)` bytes.
                    unsafe { object.as_ptr().write_bytes(number as u8, usable_size(size)) };
                    live.push((object, size, number as u8));
                }
                let sum: usize = live.iter().map(|&(_, size, _)| usable_size(size)).sum();
                prop_assert_eq!(slab.used_bytes(), sum);
            }
            for (object, size, _) in live {
                // SAFETY: still live, freed once.
                unsafe { slab.free(object, size) };
            }
            prop_assert!(slab.reserved_bytes() <= CHUNK_BYTES);
        }
    }
}
