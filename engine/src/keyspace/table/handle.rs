//! Entries borrowed by callers, to be changed, removed or made.
//!
//! Invariant: a handle borrows its table mutably, so its place and its entry stay valid but for what
//! the handle itself does; when the entry moves, the handle tells the slot before it returns.
#![allow(unsafe_code)]

use super::super::entry::{Body, BodyMut, EntryRef, NewBody, RawEntry, RemovedBody};
use super::super::hash::KeyHash;
use super::super::segment::Place;
use super::Table;

/// What `Table::entry` found.
pub enum Entry<'t, 'k, T> {
    /// The key is there.
    Occupied(EntryMut<'t, T>),
    /// The key is not there.
    Vacant(VacantEntry<'t, 'k, T>),
}

/// An entry of the table, to be read, changed or removed.
pub struct EntryMut<'t, T> {
    pub(super) table: &'t mut Table<T>,
    pub(super) hash: KeyHash,
    pub(super) place: Place,
    pub(super) entry: RawEntry,
}

impl<'t, T> EntryMut<'t, T> {
    /// The entry to be read.
    #[inline]
    pub fn view(&self) -> EntryRef<'_, T> {
        // SAFETY: the entry is alive and of type T, and `self` is borrowed as long as the view.
        unsafe { self.entry.view() }
    }

    /// The entry to be read for as long as the table was borrowed.
    #[inline]
    pub fn into_view(self) -> EntryRef<'t, T> {
        // SAFETY: the entry is alive and of type T, and the table stays borrowed for `'t`.
        unsafe { self.entry.view() }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.view().key()
    }

    /// The deadline in unix milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        self.view().deadline()
    }

    /// The body to be read.
    pub fn body(&self) -> Body<'_, T> {
        self.view().body()
    }

    /// The 24 bits that eviction keeps for each key.
    pub fn lru(&self) -> u32 {
        self.view().lru()
    }

    /// The body to be changed in place.
    #[inline]
    pub fn body_mut(&mut self) -> BodyMut<'_, T> {
        // SAFETY: the entry is alive and of type T, and `self` is borrowed mutably as long as the
        // body.
        unsafe { self.entry.body_mut() }
    }

    /// Sets the 24 bits that eviction keeps; higher bits are dropped.
    #[inline]
    pub fn set_lru(&mut self, lru: u32) {
        // SAFETY: the entry is alive, and `self` is borrowed mutably.
        unsafe { self.entry.set_lru(lru) }
    }

    /// Replaces the body; key, deadline and lru stay. Within the size class of the entry this is a
    /// plain overwrite. Returns the old body, so that a large object can be dropped elsewhere.
    ///
    /// Panics if an inline body is longer than [`INLINE_MAX`](super::super::entry::INLINE_MAX).
    pub fn set_body(&mut self, body: NewBody<'_, T>) -> RemovedBody<T> {
        // SAFETY: the entry is alive, and `self` is borrowed mutably.
        if let Some(removed) = unsafe { self.entry.overwrite(&body) } {
            return removed;
        }
        let before = self.tags();
        // SAFETY: the entry is alive, of this table's slab and of type T; `changed` puts its new
        // address into the slot before anybody else can look.
        let (entry, removed) = unsafe { self.entry.set_body(&mut self.table.storage.slab, body) };
        self.changed(before, entry);
        removed
    }

    /// Makes the inline body `len` bytes long, keeping the bytes that fit and adding zeroes, and lends
    /// it to be filled. A body of another form becomes an inline one of `len` zeroes and kind 0,
    /// and what it held is dropped.
    ///
    /// Panics if `len` is more than [`INLINE_MAX`](super::super::entry::INLINE_MAX).
    pub fn resize_inline(&mut self, len: usize) -> &mut [u8] {
        if !matches!(self.body(), Body::Inline { .. }) {
            self.set_body(NewBody::Inline { kind: 0, bytes: &[] });
        }
        let before = self.tags();
        // SAFETY: as in `set_body`, and the body is inline.
        let entry = unsafe { self.entry.resize_inline(&mut self.table.storage.slab, len) };
        self.changed(before, entry);
        match self.body_mut() {
            BodyMut::Inline { bytes, .. } => bytes,
            BodyMut::Int(_) | BodyMut::Object(_) => &mut [],
        }
    }

    /// Sets or clears the deadline, in unix milliseconds.
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        let (before, had) = (self.tags(), self.deadline().is_some());
        // SAFETY: as in `set_body`.
        let entry = unsafe { self.entry.set_deadline(&mut self.table.storage.slab, deadline) };
        self.table.volatile += usize::from(deadline.is_some());
        self.table.volatile -= usize::from(had);
        self.changed(before, entry);
    }

    /// Whether the capture under way lacks this entry, which it takes for captured from now on. Not
    /// asked without a capture.
    pub fn mark_captured(&mut self) -> bool {
        self.table.mark_captured(self.hash.0, self.place)
    }

    /// The number under which the capture under way knows this table.
    pub fn captured_as(&self) -> u32 {
        self.table.captured_as()
    }

    /// Removes the entry.
    pub fn remove(self) -> RemovedBody<T> {
        let removed = self.table.remove_at(self.hash.0, self.place);
        self.table.shrink(self.hash.0);
        removed
    }

    /// Removes the entry and keeps the place of its key, which is `key`.
    pub fn vacate<'k>(self, key: &'k [u8]) -> (RemovedBody<T>, VacantEntry<'t, 'k, T>) {
        debug_assert_eq!(self.key(), key);
        let removed = self.table.remove_at(self.hash.0, self.place);
        self.table.shrink(self.hash.0);
        (removed, VacantEntry { table: self.table, hash: self.hash, key })
    }

    /// Tells the slot where the entry is now and what its tags are. A plain overwrite changes
    /// neither, and then the bucket's cache lines stay clean.
    fn changed(&mut self, before: u64, entry: RawEntry) {
        if entry != self.entry || before != self.tags() {
            self.entry = entry;
            self.table.update_place(self.hash.0, self.place, entry);
        }
    }

    fn tags(&self) -> u64 {
        // SAFETY: the entry is alive.
        unsafe { self.entry.tags() }
    }
}

/// The place where a key would be.
pub struct VacantEntry<'t, 'k, T> {
    pub(super) table: &'t mut Table<T>,
    pub(super) hash: KeyHash,
    pub(super) key: &'k [u8],
}

impl<'t, T> VacantEntry<'t, '_, T> {
    /// Puts the key in, with lru 0.
    ///
    /// Panics if an inline body is longer than [`INLINE_MAX`](super::super::entry::INLINE_MAX).
    pub fn insert(self, body: NewBody<'_, T>, deadline: Option<i64>) -> EntryMut<'t, T> {
        let (place, entry) = self.table.insert_new(self.hash, self.key, body, deadline);
        EntryMut { table: self.table, hash: self.hash, place, entry }
    }
}
