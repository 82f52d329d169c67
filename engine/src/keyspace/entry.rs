//! One key with everything that belongs to it, in one allocation.
//!
//! ```text
//! 8 bytes   header: form 2 | has deadline 1 | - 1 | kind 4 | key length 8 | lru 24 | inline length 24
//! 0 or 8    deadline, unix milliseconds
//! 0 or 8    the integer, or the pointer of the boxed object (absent for inline bodies)
//! 0 or 4    the key's length, when it is 255 or more (the header then says 255)
//! n         the key
//! m         the inline body
//! ```
//! Why in this order: what is read as a word stays aligned to 8 bytes, so an integer can be changed
//! in place by reference, and nothing is padded; a 16-byte key with 8 bytes of value takes 32 bytes.
//!
//! Invariants:
//! - the allocation has `usable_size(size())` bytes of the table's slab;
//! - an entry belongs to exactly one slot, which repeats the tags of `RawEntry::tags`;
//! - an entry of form `Object` owns a `Box<T>`.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use super::slab::{SLAB_MAX, Slab, usable_size};

/// The longest inline body in bytes. Callers keep longer values as objects.
pub const INLINE_MAX: usize = (1 << 24) - 1;
/// The largest `lru` value: the field has 24 bits.
pub const LRU_MAX: u32 = (1 << 24) - 1;
/// The greatest `kind` of an inline body: the field has 4 bits.
pub const KIND_MAX: u8 = 15;

/// Slot tag: the entry has a deadline.
pub(super) const TAG_DEADLINE: u64 = 1;
/// Slot tag: the entry owns memory outside the slab's pages, so it cannot be dropped unseen.
pub(super) const TAG_OWNER: u64 = 2;

/// What an entry holds.
pub enum Body<'a, T> {
    /// A 64-bit integer.
    Int(i64),
    /// Bytes kept beside the key. The table gives `kind` (0 to 15) no meaning.
    Inline { kind: u8, bytes: &'a [u8] },
    /// A value in memory of its own.
    Object(&'a T),
}

/// What an entry holds, to be changed in place.
pub enum BodyMut<'a, T> {
    Int(&'a mut i64),
    Inline { kind: u8, bytes: &'a mut [u8] },
    Object(&'a mut T),
}

/// What an entry shall hold.
pub enum NewBody<'a, T> {
    Int(i64),
    /// At most [`INLINE_MAX`] bytes and a kind of at most [`KIND_MAX`]; more is a fault of the caller
    /// and panics.
    Inline {
        kind: u8,
        bytes: &'a [u8],
    },
    Object(Box<T>),
}

/// What an entry held when it was removed or replaced. Inline bytes are gone: read them before.
#[derive(Debug, PartialEq, Eq)]
pub enum RemovedBody<T> {
    Int(i64),
    Inline { kind: u8 },
    Object(Box<T>),
}

impl<T> RemovedBody<T> {
    /// The object, if there was one.
    pub fn into_object(self) -> Option<Box<T>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Int(_) | Self::Inline { .. } => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Int = 0,
    Inline = 1,
    Object = 2,
}

/// Everything that decides how an entry is laid out.
#[derive(Clone, Copy)]
struct Shape {
    form: Form,
    kind: u8,
    has_deadline: bool,
    key_len: usize,
    inline_len: usize,
}

const LONG_KEY: usize = 255;
const DEADLINE_BIT: u64 = 1 << 2;

impl Shape {
    #[inline]
    fn has_word(self) -> bool {
        self.form != Form::Inline
    }

    /// Offset of the integer or pointer, if there is one.
    #[inline]
    fn word_at(self) -> usize {
        8 + 8 * usize::from(self.has_deadline)
    }

    /// Offset of what follows the words: the long key length, the key, the inline body.
    #[inline]
    fn tail_at(self) -> usize {
        self.word_at() + 8 * usize::from(self.has_word())
    }

    #[inline]
    fn key_at(self) -> usize {
        self.tail_at() + 4 * usize::from(self.key_len >= LONG_KEY)
    }

    #[inline]
    fn inline_at(self) -> usize {
        self.key_at() + self.key_len
    }

    #[inline]
    fn size(self) -> usize {
        self.inline_at() + self.inline_len
    }

    /// The header of this shape with the given lru.
    #[inline]
    fn header(self, lru: u32) -> u64 {
        self.form as u64
            | if self.has_deadline { DEADLINE_BIT } else { 0 }
            | (self.kind as u64) << 4
            | (self.key_len.min(LONG_KEY) as u64) << 8
            | (lru as u64) << 16
            | (self.inline_len as u64) << 40
    }
}

/// The address of an entry. Copies of it are free; whoever dereferences one answers for it being
/// alive, which is why every method that does is unsafe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RawEntry(NonNull<u8>);

impl RawEntry {
    /// From an address that `address` gave out.
    ///
    /// # Safety
    /// `address` is that of an entry.
    #[inline]
    pub(super) unsafe fn from_address(address: usize) -> Self {
        // SAFETY: entries are never at the null address.
        Self(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) })
    }

    #[inline]
    pub(super) fn address(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// Allocates an entry.
    pub(super) fn create<T>(
        slab: &mut Slab,
        key: &[u8],
        deadline: Option<i64>,
        body: NewBody<'_, T>,
    ) -> Self {
        assert!(key.len() <= u32::MAX as usize, "keys are at most 512 MB");
        let shape = shape_for(&body, key.len(), deadline.is_some());
        let raw = Self(slab.allocate(shape.size()));
        // SAFETY: the allocation is fresh and has `shape.size()` bytes; all offsets of `shape` lie
        // within, those of words being multiples of 8.
        unsafe {
            raw.write_header(shape, 0);
            if let Some(deadline) = deadline {
                raw.at(8).cast::<i64>().write(deadline);
            }
            if key.len() >= LONG_KEY {
                raw.at(shape.tail_at()).cast::<u32>().write_unaligned(key.len() as u32);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), raw.at(shape.key_at()), key.len());
            raw.write_body(shape, body);
        }
        raw
    }

    /// Frees the entry and hands back its body.
    ///
    /// # Safety
    /// The entry is alive, of this slab and of type `T`, and not used again.
    pub(super) unsafe fn destroy<T>(self, slab: &mut Slab) -> RemovedBody<T> {
        // SAFETY: promised by the caller; the object's ownership moves to the result.
        unsafe {
            let shape = self.shape();
            let body = self.take_body(shape);
            slab.free(self.0, shape.size());
            body
        }
    }

    /// The tags that the slot of this entry must carry.
    ///
    /// # Safety
    /// The entry is alive.
    #[inline]
    pub(super) unsafe fn tags(self) -> u64 {
        // SAFETY: promised by the caller.
        let shape = unsafe { self.shape() };
        let owner = shape.form == Form::Object || usable_size(shape.size()) > SLAB_MAX;
        (u64::from(shape.has_deadline) * TAG_DEADLINE) | (u64::from(owner) * TAG_OWNER)
    }

    /// A view of the entry.
    ///
    /// # Safety
    /// The entry is alive and of type `T`, and neither freed nor changed during `'a`.
    #[inline]
    pub(super) unsafe fn view<'a, T>(self) -> EntryRef<'a, T> {
        EntryRef { raw: self, marker: PhantomData }
    }

    /// Bytes of the allocation.
    ///
    /// # Safety
    /// The entry is alive.
    pub(super) unsafe fn allocated_bytes(self) -> usize {
        // SAFETY: promised by the caller.
        usable_size(unsafe { self.shape() }.size())
    }

    /// Sets the lru field, of which the low 24 bits are kept.
    ///
    /// # Safety
    /// The entry is alive and nobody reads it meanwhile.
    #[inline]
    pub(super) unsafe fn set_lru(self, lru: u32) {
        // SAFETY: promised by the caller.
        unsafe {
            let header = self.header() & !((LRU_MAX as u64) << 16);
            self.at(0).cast::<u64>().write(header | ((lru & LRU_MAX) as u64) << 16);
        }
    }

    /// The body, to be changed in place.
    ///
    /// # Safety
    /// The entry is alive, of type `T`, and used by nobody else during `'a`.
    pub(super) unsafe fn body_mut<'a, T>(self) -> BodyMut<'a, T> {
        // SAFETY: promised by the caller; the word is aligned and initialised for these forms.
        unsafe {
            let shape = self.shape();
            let word = self.at(shape.word_at());
            match shape.form {
                Form::Int => BodyMut::Int(&mut *word.cast::<i64>()),
                Form::Object => BodyMut::Object(&mut **word.cast::<*mut T>()),
                Form::Inline => {
                    let bytes = self.at(shape.inline_at());
                    let bytes = slice::from_raw_parts_mut(bytes, shape.inline_len);
                    BodyMut::Inline { kind: shape.kind, bytes }
                }
            }
        }
    }

    /// Replaces the body; key, deadline and lru stay. Returns where the entry now is (the same place
    /// if the size class allows it) and the old body.
    ///
    /// # Safety
    /// The entry is alive, of this slab and of type `T`, and nobody else uses it. If it moves, the
    /// old address is not used again.
    pub(super) unsafe fn set_body<T>(
        self,
        slab: &mut Slab,
        body: NewBody<'_, T>,
    ) -> (Self, RemovedBody<T>) {
        // SAFETY: promised by the caller. `reshape` leaves room for a body of the new shape, and the
        // old body has been taken out before.
        unsafe {
            let old = self.shape();
            let removed = self.take_body(old);
            let new = shape_for(&body, old.key_len, old.has_deadline);
            let raw = self.reshape(slab, old, Shape { inline_len: 0, ..old }, new);
            raw.write_body(new, body);
            (raw, removed)
        }
    }

    /// Replaces the body where that changes neither the entry's place nor its tags: an integer by an
    /// integer, inline bytes by others of the same size class. Returns the old body, or nothing if
    /// it was not done.
    ///
    /// # Safety
    /// The entry is alive and nobody else uses it.
    #[inline]
    pub(super) unsafe fn overwrite<T>(self, body: &NewBody<'_, T>) -> Option<RemovedBody<T>> {
        // SAFETY: promised by the caller. The allocation has room for the new shape, as its usable
        // size is that of the old one, and `bytes` is borrowed, so it does not lie in the entry.
        unsafe {
            let old = self.shape();
            match (old.form, body) {
                (Form::Int, NewBody::Int(value)) => {
                    let word = self.at(old.word_at()).cast::<i64>();
                    Some(RemovedBody::Int(word.replace(*value)))
                }
                (Form::Inline, NewBody::Inline { kind, bytes }) if *kind <= KIND_MAX => {
                    let new = Shape { kind: *kind, inline_len: bytes.len(), ..old };
                    let fits = bytes.len() == old.inline_len
                        || (bytes.len() <= INLINE_MAX
                            && usable_size(new.size()) == usable_size(old.size()));
                    if !fits {
                        return None;
                    }
                    self.write_header(new, self.lru());
                    let to = self.at(new.inline_at());
                    ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
                    Some(RemovedBody::Inline { kind: old.kind })
                }
                _ => None,
            }
        }
    }

    /// Makes the inline body `len` bytes long, keeping what fits and filling with zeroes.
    ///
    /// # Safety
    /// As for `set_body`, and the body is inline.
    pub(super) unsafe fn resize_inline(self, slab: &mut Slab, len: usize) -> Self {
        assert!(len <= INLINE_MAX, "an inline body is at most INLINE_MAX bytes");
        // SAFETY: promised by the caller; the bytes from the kept ones to `len` are within the new
        // shape.
        unsafe {
            let old = self.shape();
            debug_assert_eq!(old.form, Form::Inline);
            let keep = Shape { inline_len: old.inline_len.min(len), ..old };
            let new = Shape { inline_len: len, ..old };
            let raw = self.reshape(slab, old, keep, new);
            let fresh = raw.at(new.inline_at() + keep.inline_len);
            ptr::write_bytes(fresh, 0, len - keep.inline_len);
            raw
        }
    }

    /// Sets or clears the deadline.
    ///
    /// # Safety
    /// As for `set_body`.
    pub(super) unsafe fn set_deadline(self, slab: &mut Slab, deadline: Option<i64>) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            let old = self.shape();
            let new = Shape { has_deadline: deadline.is_some(), ..old };
            let raw = self.reshape(slab, old, old, new);
            if let Some(deadline) = deadline {
                raw.at(8).cast::<i64>().write(deadline);
            }
            raw
        }
    }

    /// Makes the allocation fit `new`, keeping lru, deadline, word (if both shapes have one), key
    /// and the inline bytes counted by `keep`, which is `old` but for `inline_len`.
    ///
    /// # Safety
    /// As for `set_body`; `old` is the entry's shape, `new` has the same key length.
    unsafe fn reshape(self, slab: &mut Slab, old: Shape, keep: Shape, new: Shape) -> Self {
        // SAFETY: promised by the caller. The tail is copied with room for overlap; words are read
        // before anything is overwritten, and every offset lies within the shape it is taken from.
        unsafe {
            let lru = self.lru();
            let deadline = if old.has_deadline { self.at(8).cast::<u64>().read() } else { 0 };
            let word = if old.has_word() { self.at(old.word_at()).cast::<u64>().read() } else { 0 };
            let stays = usable_size(old.size()) == usable_size(new.size());
            let raw = if stays { self } else { Self(slab.allocate(new.size())) };
            if !stays || old.tail_at() != new.tail_at() {
                let tail_len = keep.size() - keep.tail_at();
                ptr::copy(self.at(old.tail_at()), raw.at(new.tail_at()), tail_len);
            }
            raw.write_header(new, lru);
            if new.has_deadline && old.has_deadline {
                raw.at(8).cast::<u64>().write(deadline);
            }
            if new.has_word() {
                raw.at(new.word_at()).cast::<u64>().write(word);
            }
            if !stays {
                slab.free(self.0, old.size());
            }
            raw
        }
    }

    /// Moves the body out, leaving the entry without a valid one.
    ///
    /// # Safety
    /// The entry is alive, of type `T` and of this shape; its body is written or the entry freed
    /// before anybody reads it.
    unsafe fn take_body<T>(self, shape: Shape) -> RemovedBody<T> {
        // SAFETY: promised by the caller; `Object` words come from `Box::into_raw`.
        unsafe {
            let word = self.at(shape.word_at());
            match shape.form {
                Form::Int => RemovedBody::Int(word.cast::<i64>().read()),
                Form::Inline => RemovedBody::Inline { kind: shape.kind },
                Form::Object => RemovedBody::Object(Box::from_raw(word.cast::<*mut T>().read())),
            }
        }
    }

    /// Writes the body of an entry whose header says `shape`.
    ///
    /// # Safety
    /// The allocation has the size of `shape`, which was made for this body.
    unsafe fn write_body<T>(self, shape: Shape, body: NewBody<'_, T>) {
        // SAFETY: promised by the caller.
        unsafe {
            let word = self.at(shape.word_at());
            match body {
                NewBody::Int(value) => word.cast::<i64>().write(value),
                NewBody::Object(object) => word.cast::<*mut T>().write(Box::into_raw(object)),
                NewBody::Inline { bytes, .. } => {
                    ptr::copy_nonoverlapping(
                        bytes.as_ptr(),
                        self.at(shape.inline_at()),
                        bytes.len(),
                    );
                }
            }
        }
    }

    /// # Safety
    /// The allocation is ours and nobody reads it meanwhile.
    unsafe fn write_header(self, shape: Shape, lru: u32) {
        // SAFETY: every allocation has at least 16 bytes, aligned to 8.
        unsafe { self.at(0).cast::<u64>().write(shape.header(lru)) }
    }

    /// # Safety
    /// The entry is alive.
    #[inline]
    unsafe fn header(self) -> u64 {
        // SAFETY: promised by the caller; the header is the first, aligned word.
        unsafe { self.at(0).cast::<u64>().read() }
    }

    /// # Safety
    /// The entry is alive.
    #[inline]
    unsafe fn lru(self) -> u32 {
        // SAFETY: promised by the caller.
        (unsafe { self.header() } >> 16) as u32 & LRU_MAX
    }

    /// # Safety
    /// The entry is alive.
    #[inline]
    unsafe fn shape(self) -> Shape {
        // SAFETY: promised by the caller.
        let header = unsafe { self.header() };
        let mut shape = Shape {
            form: match header & 3 {
                0 => Form::Int,
                1 => Form::Inline,
                _ => Form::Object,
            },
            kind: (header >> 4) as u8 & KIND_MAX,
            has_deadline: header & DEADLINE_BIT != 0,
            key_len: (header >> 8) as usize & 0xff,
            inline_len: (header >> 40) as usize,
        };
        if shape.key_len == LONG_KEY {
            // SAFETY: a header that says 255 is followed by the true length before the key.
            let long = unsafe { self.at(shape.tail_at()).cast::<u32>().read_unaligned() };
            shape.key_len = long as usize;
        }
        shape
    }

    /// # Safety
    /// `offset` lies within the allocation.
    #[inline]
    unsafe fn at(self, offset: usize) -> *mut u8 {
        // SAFETY: promised by the caller.
        unsafe { self.0.as_ptr().add(offset) }
    }
}

fn shape_for<T>(body: &NewBody<'_, T>, key_len: usize, has_deadline: bool) -> Shape {
    let (form, kind, inline_len) = match body {
        NewBody::Int(_) => (Form::Int, 0, 0),
        NewBody::Object(_) => (Form::Object, 0, 0),
        NewBody::Inline { kind, bytes } => (Form::Inline, *kind, bytes.len()),
    };
    assert!(inline_len <= INLINE_MAX, "an inline body is at most INLINE_MAX bytes");
    assert!(kind <= KIND_MAX, "an inline kind is at most KIND_MAX");
    Shape { form, kind, has_deadline, key_len, inline_len }
}

/// A key and what belongs to it, to be read.
pub struct EntryRef<'a, T> {
    raw: RawEntry,
    marker: PhantomData<&'a T>,
}

impl<T> Clone for EntryRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for EntryRef<'_, T> {}

impl<'a, T> EntryRef<'a, T> {
    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: whoever made this view promised that the entry lives unchanged during `'a`.
        unsafe {
            let shape = self.raw.shape();
            slice::from_raw_parts(self.raw.at(shape.key_at()), shape.key_len)
        }
    }

    /// The deadline in unix milliseconds.
    #[inline]
    pub fn deadline(self) -> Option<i64> {
        // SAFETY: as in `key`; the deadline is there when the header says so.
        unsafe {
            let has = self.raw.header() & DEADLINE_BIT != 0;
            has.then(|| self.raw.at(8).cast::<i64>().read())
        }
    }

    /// The 24 bits that eviction keeps for each key.
    #[inline]
    pub fn lru(self) -> u32 {
        // SAFETY: as in `key`.
        unsafe { self.raw.lru() }
    }

    /// What the key holds.
    #[inline]
    pub fn body(self) -> Body<'a, T> {
        // SAFETY: as in `key`; the form says what the word or the inline bytes are.
        unsafe {
            let shape = self.raw.shape();
            let word = self.raw.at(shape.word_at());
            match shape.form {
                Form::Int => Body::Int(word.cast::<i64>().read()),
                Form::Object => Body::Object(&**word.cast::<*const T>()),
                Form::Inline => {
                    let bytes = self.raw.at(shape.inline_at());
                    let bytes = slice::from_raw_parts(bytes, shape.inline_len);
                    Body::Inline { kind: shape.kind, bytes }
                }
            }
        }
    }

    /// Bytes of the entry's allocation, without an object's own memory and without its slot.
    pub fn allocated_bytes(self) -> usize {
        // SAFETY: as in `key`.
        unsafe { self.raw.allocated_bytes() }
    }
}
