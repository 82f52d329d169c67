//! Memory from the operating system in whole pages.
//!
//! Why not the global allocator: slab chunks and segment spans need exact sizes at strong
//! alignments, must cost nothing until touched, and go back to the system the moment they are
//! unmapped, so that what the table accounts for is what the process occupies.
//!
//! # While keys are loaded
//!
//! A table that grows in service touches its memory a page at a time, and every first touch is a fault:
//! a few microseconds that a client hardly sees. While keys are loaded nobody waits for a step, and
//! these faults are a third of all work. So a [`Supply`] that is told so asks the system for
//! *extents* of a huge page each, all of it at once, and cuts them up. Where the system has no huge pages
//! an extent is small pages, in one call nevertheless. Where it has none free it would make room, by
//! moving other processes' pages, which takes many times as long as small pages: a supply that meets
//! with that takes small pages for a while, and each time longer.
//!
//! Invariants of a supply:
//! - a piece that it hands out is unmapped by whoever has it, alone: extents are not kept together;
//! - extents are begun only beyond [`EXTENTS_FROM`] bytes, so what is left of the last one is a fraction
//!   of what is in use, and the end of loading gives it back.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::mem;
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::sys::clock::monotonic;

/// Bytes of an extent: a huge page of x86-64.
const EXTENT_BYTES: usize = 2 << 20;
/// A supply that has handed out so many bytes asks for extents.
const EXTENTS_FROM: usize = 4 * EXTENT_BYTES;
/// A huge page that takes longer was not there and had to be made free: as small pages it would have
/// cost less. (Or another process had the processor: then a few small pages do no harm.)
const HUGE_TIME_MAX: Duration = Duration::from_millis(1);
/// How many extents are of small pages after the first huge page that took too long.
const REST_FIRST: u32 = 4;

/// Where a table gets its pages from.
#[derive(Default)]
pub(super) struct Supply {
    /// Whether keys are loaded.
    is_loading: bool,
    /// Bytes handed out since loading began.
    handed_out: usize,
    /// What is left of the last extent.
    rest: Option<Pages>,
    /// How many extents are of small pages before the next huge one.
    small_left: u32,
    /// How many there were after the last huge page that took too long.
    small_last: u32,
}

impl Supply {
    /// Pages from now on come from extents, or no longer.
    pub(super) fn set_loading(&mut self, is_loading: bool) {
        *self = Self { is_loading, ..Self::default() };
    }

    /// `len` bytes whose start is a multiple of `align`, as [`Pages::map`] gives them.
    pub(super) fn take(&mut self, len: usize, align: usize) -> Pages {
        if !self.is_loading || len > EXTENT_BYTES || align > len {
            return Pages::map(len, align);
        }
        self.handed_out += len;
        if self.handed_out < EXTENTS_FROM {
            return Pages::map(len, align);
        }
        let fits = |rest: &Pages| rest.len >= len && rest.start.addr().get().is_multiple_of(align);
        let rest = self.rest.take().filter(fits).unwrap_or_else(|| self.extent());
        let (taken, rest) = rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn extent(&mut self) -> Pages {
        if self.small_left > 0 {
            self.small_left -= 1;
            return Pages::extent(false);
        }
        let start = monotonic();
        let extent = Pages::extent(true);
        if start.elapsed() > HUGE_TIME_MAX {
            self.small_last = (2 * self.small_last).max(REST_FIRST);
            self.small_left = self.small_last;
        }
        extent
    }
}

/// A private mapping of zeroed memory, unmapped when dropped.
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Maps `len` bytes whose start is a multiple of `align`. `len` must be a multiple of 4 KiB and
    /// `align` a power of two of at least 4 KiB. Aborts like any failed allocation if the system
    /// refuses.
    pub(super) fn map(len: usize, align: usize) -> Self {
        debug_assert!(len.is_multiple_of(4096) && align.is_power_of_two() && align >= 4096);
        let span = len + align - 4096;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let raw = unsafe {
            libc::mmap(
                ptr::null_mut(),
                span,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            let layout = Layout::from_size_align(len, align).unwrap_or(Layout::new::<u64>());
            handle_alloc_error(layout);
        }
        let raw = raw.cast::<u8>();
        let before = raw.align_offset(align);
        // SAFETY: `before < align`, so the aligned range lies inside the `span` bytes just mapped.
        let start = unsafe { raw.add(before) };
        unmap(raw, before);
        // SAFETY: as above; the tail begins inside the mapping or exactly at its end.
        unmap(unsafe { start.add(len) }, span - before - len);
        // SAFETY: mmap never returns the null page without MAP_FIXED.
        Self { start: unsafe { NonNull::new_unchecked(start) }, len }
    }

    /// Maps an extent, all of it in memory at once, as one huge page if that is wanted.
    fn extent(as_huge: bool) -> Self {
        let pages = Self::map(EXTENT_BYTES, EXTENT_BYTES);
        let advise = |advice| {
            // The advice only hurries what comes anyway, so it does not matter if the system cannot.
            // SAFETY: the range is our own fresh mapping, and the advice does not change what it holds.
            unsafe { libc::madvise(pages.start.as_ptr().cast(), EXTENT_BYTES, advice) };
        };
        if as_huge {
            advise(libc::MADV_HUGEPAGE);
        }
        advise(libc::MADV_POPULATE_WRITE);
        pages
    }

    /// The first `len` bytes, a multiple of 4 KiB, and the rest if there is one.
    fn split_at(self, len: usize) -> (Self, Option<Self>) {
        debug_assert!(len <= self.len && len.is_multiple_of(4096));
        let (start, whole) = (self.start, self.len);
        // Its range goes on in the two parts.
        mem::forget(self);
        let rest = (len < whole).then(|| {
            // SAFETY: `len` is less than the length of the mapping, so the sum lies inside it.
            let start = unsafe { start.add(len) };
            Self { start, len: whole - len }
        });
        (Self { start, len }, rest)
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        unmap(self.start.as_ptr(), self.len);
    }
}

/// Gives back `len` bytes (a multiple of the page size, or none) of a mapping of this module.
fn unmap(start: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: the only callers are `map`, with the margins of its own fresh mapping, and `drop`,
        // with the whole range; nobody holds pointers into either any more.
        let status = unsafe { libc::munmap(start.cast(), len) };
        debug_assert_eq!(status, 0, "munmap of our own mapping cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_extents_are_apart_and_zeroed_and_go_one_by_one() {
        let mut supply = Supply::default();
        supply.set_loading(true);
        let (len, count) = (256 << 10, 2 * EXTENTS_FROM / (256 << 10));
        let mut pieces: Vec<Pages> = (0..count).map(|_| supply.take(len, 64 << 10)).collect();
        for (number, piece) in pieces.iter().enumerate() {
            assert!(piece.start().addr().get().is_multiple_of(64 << 10));
            // SAFETY: the piece is ours, `len` bytes long, and nobody else has a reference.
            let bytes = unsafe { std::slice::from_raw_parts_mut(piece.start().as_ptr(), len) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(number as u8 + 1);
        }
        let mut step = 0;
        pieces.retain(|_| {
            step += 1;
            step % 3 == 0
        });
        supply.set_loading(false);
        for piece in &pieces {
            // SAFETY: as above; what was unmapped beside it is not read.
            let bytes = unsafe { std::slice::from_raw_parts(piece.start().as_ptr(), len) };
            assert!(bytes.iter().all(|&byte| byte == bytes[0]) && bytes[0] % 3 == 0);
        }
    }

    #[test]
    fn mappings_are_aligned_and_zeroed() {
        for align in [4096, 64 << 10, 2 << 20] {
            let pages = Pages::map(256 << 10, align);
            assert_eq!(pages.start().as_ptr() as usize % align, 0);
            // SAFETY: the mapping is `len` bytes long and readable.
            let bytes = unsafe { std::slice::from_raw_parts(pages.start().as_ptr(), pages.len) };
            assert!(bytes.iter().all(|&byte| byte == 0));
        }
    }
}
