//! Memory from the operating system in whole pages.
//!
//! Why not the global allocator: slab chunks and segment spans need exact sizes at strong
//! alignments, must cost nothing until touched, and go back to the system the moment they are
//! unmapped, so that what the table accounts for is what the process occupies.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};

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
