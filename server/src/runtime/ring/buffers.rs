//! The provided buffer ring: memory into which the kernel receives, shared by all connections.
//!
//! The kernel picks a buffer only when bytes are there, so ten thousand idle connections hold none.
//! It picks them one after the other, so whatever it is offered becomes resident memory sooner or
//! later: it is offered a few, and twice as many each time that it has run out ([`Pool::grow`]).
//! A [`Lease`] is one filled buffer; dropping it queues the buffer for the kernel, and
//! [`Pool::publish`] hands over all that are queued with one store.
//!
//! Invariants:
//! - a buffer is either in reserve, or the kernel's (between `publish` and its completion), or of
//!   exactly one lease, or queued; so bytes under a lease never change;
//! - the memory outlives the registration: leases and the ring hold the pool by `Rc`.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    cell::Cell,
    fmt,
    ops::Deref,
    ptr::NonNull,
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;
/// Buffers that the kernel is offered at first. `tuning.md` says why.
const OFFERED_MIN: u16 = 4;

/// The memory of all receive buffers of one ring.
pub(super) struct Pool {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    size: usize,
    /// Buffers in use; those from this number on are in reserve, and have never been touched.
    offered: Cell<u16>,
    /// The tail as we count it; what the kernel sees is stored by `publish`.
    tail: Cell<u16>,
}

impl Pool {
    /// Makes `count` buffers (a power of two, at most 32,768) of `size` bytes.
    pub(super) fn new(count: u16, size: usize) -> Rc<Pool> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "a ring holds a power of two");
        assert!(size > 0 && u32::try_from(size).is_ok(), "the length of a buffer is a u32");
        let pool = Pool {
            entries: allocate(entries_layout(count)).cast(),
            memory: allocate(memory_layout(count, size)),
            count,
            size,
            offered: Cell::new(0),
            tail: Cell::new(0),
        };
        pool.offer(count.min(OFFERED_MIN));
        pool.publish();
        Rc::new(pool)
    }

    /// The kernel has run out of buffers: doubles what it is offered, as long as there is a reserve.
    pub(super) fn grow(&self) {
        self.offer(self.offered.get().saturating_mul(2).min(self.count));
    }

    fn offer(&self, count: u16) {
        (self.offered.get()..count).for_each(|id| self.recycle(id));
        self.offered.set(count);
    }

    /// The address of the entries, as the kernel wants it for the registration.
    pub(super) fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Takes over a buffer that a completion names.
    ///
    /// # Safety
    /// The kernel has filled the first `len` bytes of buffer `id` and has given it up, and no other
    /// lease of it exists.
    pub(super) unsafe fn lease(self: &Rc<Self>, id: u16, len: usize) -> Lease {
        assert!(id < self.count && len <= self.size, "the kernel names a buffer of this pool");
        Lease { pool: Rc::clone(self), id, len: len as u32 }
    }

    /// Hands all queued buffers to the kernel.
    pub(super) fn publish(&self) {
        // SAFETY: `entries` points to entries that `allocate` zeroed; the tail is a field of the
        // first one, aligned to two bytes, and all accesses to it by both sides are atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail.get(), Ordering::Release);
    }

    fn recycle(&self, id: u16) {
        let tail = self.tail.get();
        let place = usize::from(tail & (self.count - 1));
        // SAFETY: `place` is below `count`. Between the kernel's head and our tail lie at most
        // `count` buffers, since each is queued once, so the kernel does not read this entry now.
        let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
        entry.set_addr(self.start(id) as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
    }

    fn start(&self, id: u16) -> *mut u8 {
        // SAFETY: `id` is below `count`, so the offset lies within the allocation.
        unsafe { self.memory.as_ptr().add(usize::from(id) * self.size) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts. The kernel no longer uses them: the ring
        // holds an `Rc` of the pool for longer than its registration lasts.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count, self.size));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    Layout::array::<BufRingEntry>(usize::from(count))
        .and_then(|layout| layout.align_to(PAGE))
        .expect("at most 512 KiB")
}

fn memory_layout(count: u16, size: usize) -> Layout {
    Layout::from_size_align(usize::from(count) * size, PAGE).expect("at most 2^47 bytes")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout is empty.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// One receive buffer with the bytes that the kernel has put there.
///
/// Hold it no longer than a turn: the buffers serve all connections of the worker.
pub struct Lease {
    pool: Rc<Pool>,
    id: u16,
    len: u32,
}

impl Deref for Lease {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel filled these bytes before it gave the buffer up (see `Pool::lease`),
        // and it gets the buffer back only after this lease is dropped.
        unsafe { std::slice::from_raw_parts(self.pool.start(self.id), self.len as usize) }
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.pool.recycle(self.id);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).field("len", &self.len).finish()
    }
}

/// A lease of these bytes from a pool of its own, for tests of those who use leases.
#[cfg(test)]
pub(crate) fn lease_of(bytes: &[u8]) -> Lease {
    let pool = Pool::new(1, bytes.len().max(1));
    // SAFETY: the pool is registered with no ring, so its only buffer is ours to fill and to lease.
    unsafe {
        pool.start(0).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        pool.lease(0, bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pool: &Pool, place: usize) -> (u64, u32, u16) {
        // SAFETY: the place is below the count, and no ring uses this pool.
        let entry = unsafe { &*pool.entries.as_ptr().add(place) };
        (entry.addr(), entry.len(), entry.bid())
    }

    fn published(pool: &Pool) -> u16 {
        // SAFETY: as in `publish`.
        unsafe { *BufRingEntry::tail(pool.entries.as_ptr()) }
    }

    #[test]
    fn dropped_leases_go_back_in_order_when_published() {
        let pool = Pool::new(4, 100);
        assert_eq!(published(&pool), 4);
        // SAFETY: no ring uses this pool, and each buffer is leased once.
        let (second, third) = unsafe { (pool.lease(2, 10), pool.lease(1, 0)) };
        drop(second);
        drop(third);
        assert_eq!(published(&pool), 4);
        pool.publish();
        assert_eq!(published(&pool), 6);
        assert_eq!(entry(&pool, 0), (pool.start(2) as u64, 100, 2));
        assert_eq!(entry(&pool, 1), (pool.start(1) as u64, 100, 1));
    }

    #[test]
    fn more_buffers_are_offered_only_when_they_ran_out() {
        let pool = Pool::new(64, 8);
        assert_eq!(published(&pool), OFFERED_MIN);
        for offered in [8, 16, 32, 64, 64] {
            pool.grow();
            pool.publish();
            assert_eq!(published(&pool), offered);
        }
        assert_eq!(entry(&pool, 63).2, 63);
    }

    #[test]
    fn the_tail_wraps_around() {
        let pool = Pool::new(2, 8);
        for _ in 0..70_000 {
            // SAFETY: no ring uses this pool, and the lease is dropped at once.
            drop(unsafe { pool.lease(1, 8) });
        }
        pool.publish();
        assert_eq!(published(&pool), (70_002_u32 & 0xffff) as u16);
    }

    #[test]
    fn a_lease_outlives_the_pool_that_its_maker_held() {
        let lease = lease_of(b"some bytes");
        assert_eq!(&*lease, b"some bytes");
        assert_eq!(lease_of(b"").len(), 0);
    }
}
