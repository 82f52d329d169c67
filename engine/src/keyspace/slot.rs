//! The place of one key, taken or vacant, as commands work on it.
//!
//! Why not the table's own handles: these keep the count of the objects' memory, give a new key its
//! usage bits, and say in one word what becomes of the deadline.
//!
//! Invariants:
//! - every change of a body goes through here, so that the memory of objects is counted, and the
//!   keys whose hashes have fields with deadlines are known;
//! - before anything is changed but the usage, it is preserved for the capture under way, if there
//!   is one.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    Aside, Held, Moment,
    entry::{Body, BodyMut, EntryRef, NewBody, RemovedBody},
    fields::{Objects, hash_of},
    garbage::Garbage,
    table::{Entry, EntryMut},
};
use crate::{
    sys::random::Random,
    types::Hash,
    value::{Object, Value},
};

/// What becomes of a key's deadline when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It stays.
    Keep,
    /// There is none.
    Never,
    /// It is this, in Unix milliseconds.
    At(i64),
}

/// The place of one key in its database.
pub struct Slot<'t, 'k> {
    entry: Entry<'t, 'k, Object>,
    /// What the database knows of its objects.
    objects: &'t mut Objects,
    aside: &'t mut Aside,
    /// The usage bits of a key made now.
    fresh_usage: u32,
    /// Whether what is changed must be preserved first.
    is_capturing: bool,
}

impl<'t, 'k> Slot<'t, 'k> {
    #[inline]
    pub(super) fn new(
        entry: Entry<'t, 'k, Object>,
        objects: &'t mut Objects,
        aside: &'t mut Aside,
        moment: &Moment,
    ) -> Self {
        let Moment { fresh_usage, is_capturing, .. } = *moment;
        Self { entry, objects, aside, fresh_usage, is_capturing }
    }

    /// Whether the key is not there.
    #[inline]
    pub fn is_vacant(&self) -> bool {
        matches!(self.entry, Entry::Vacant(_))
    }

    /// What the key holds.
    #[inline]
    pub fn body(&self) -> Option<Body<'_, Object>> {
        self.occupied().map(EntryMut::body)
    }

    /// The key's deadline in Unix milliseconds.
    #[inline]
    pub fn deadline(&self) -> Option<i64> {
        self.occupied()?.deadline()
    }

    /// How many fields the hash has that the key holds, if all of them have expired at `now_ms`.
    #[inline]
    pub(super) fn expired_fields(&self, now_ms: i64) -> Option<usize> {
        if self.objects.due.is_empty() {
            return None;
        }
        self.objects.expired_fields(&self.body()?, now_ms)
    }

    /// The entry, to be read as long as the keyspace is borrowed.
    #[inline]
    pub fn into_view(self) -> Option<EntryRef<'t, Object>> {
        match self.entry {
            Entry::Occupied(entry) => Some(entry.into_view()),
            Entry::Vacant(_) => None,
        }
    }

    /// The integer that the key holds, to be changed in place.
    #[inline]
    pub fn integer_mut(&mut self) -> Option<&mut i64> {
        self.preserve(false);
        match self.occupied_mut()?.body_mut() {
            BodyMut::Int(number) => Some(number),
            BodyMut::Inline { .. } | BodyMut::Object(_) => None,
        }
    }

    /// The inline bytes that the key holds, made `len` long: what is kept stays, zeros are added.
    /// Nothing if the key holds anything else.
    pub fn resize_inline(&mut self, len: usize) -> Option<&mut [u8]> {
        self.preserve(false);
        let entry = self.occupied_mut()?;
        match entry.body() {
            Body::Inline { .. } => Some(entry.resize_inline(len)),
            Body::Int(_) | Body::Object(_) => None,
        }
    }

    /// Lets `change` work on the object that the key holds; nothing if it holds none.
    pub fn change_object<R>(&mut self, change: impl FnOnce(&mut Object) -> R) -> Option<R> {
        self.preserve(false);
        let Entry::Occupied(entry) = &mut self.entry else { return None };
        let BodyMut::Object(object) = entry.body_mut() else { return None };
        let before = object.memory_bytes();
        let result = change(object);
        self.objects.bytes = self.objects.bytes - before + object.memory_bytes();
        if let Some(hash) = hash_of(object) {
            let deadline = hash.earliest_deadline();
            if deadline.is_some() || !self.objects.due.is_empty() {
                self.objects.due.note(entry.key(), deadline);
            }
        }
        Some(result)
    }

    /// Makes the key hold `body`.
    #[inline]
    pub fn put(self, body: NewBody<'_, Object>, deadline: Deadline) {
        let usage = self.fresh_usage;
        self.put_used(body, deadline, usage);
    }

    /// Makes the key hold what was held elsewhere, its deadline and usage too.
    pub fn put_held(self, held: Held) {
        let Held { value, deadline, usage } = held;
        let deadline = deadline.map_or(Deadline::Never, Deadline::At);
        value.put_with(|body| self.put_used(body, deadline, usage));
    }

    /// Makes the key hold `body`. `usage` is for a new key; one that is there keeps its own.
    #[inline]
    pub fn put_used(mut self, body: NewBody<'_, Object>, deadline: Deadline, usage: u32) {
        self.preserve(true);
        self.forget_fields();
        let mut due = None;
        if let NewBody::Object(object) = &body {
            self.objects.bytes += object.memory_bytes();
            due = hash_of(object).and_then(Hash::earliest_deadline);
        }
        match self.entry {
            Entry::Occupied(mut entry) => {
                let removed = entry.set_body(body);
                match deadline {
                    Deadline::Keep => {}
                    Deadline::Never => change_deadline(&mut entry, None),
                    Deadline::At(at) => change_deadline(&mut entry, Some(at)),
                }
                discard(removed, &mut self.objects.bytes, &mut self.aside.garbage);
                if due.is_some() {
                    self.objects.due.note(entry.key(), due);
                }
            }
            Entry::Vacant(vacant) => {
                let deadline = match deadline {
                    Deadline::Keep | Deadline::Never => None,
                    Deadline::At(at) => Some(at),
                };
                let mut entry = vacant.insert(body, deadline);
                entry.set_lru(usage);
                if due.is_some() {
                    self.objects.due.note(entry.key(), due);
                }
            }
        }
    }

    /// Sets or clears the deadline, in Unix milliseconds, of a key that is there.
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        self.preserve(false);
        if let Entry::Occupied(entry) = &mut self.entry {
            change_deadline(entry, deadline);
        }
    }

    /// Removes the key; answers whether it was there.
    pub fn remove(mut self) -> bool {
        self.preserve(true);
        self.forget_fields();
        match self.entry {
            Entry::Occupied(entry) => {
                discard(entry.remove(), &mut self.objects.bytes, &mut self.aside.garbage);
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// Removes the key and hands over what belonged to it.
    pub fn take(mut self) -> Option<Held> {
        self.preserve(false);
        self.forget_fields();
        let Entry::Occupied(entry) = self.entry else { return None };
        let (deadline, usage) = (entry.deadline(), entry.lru());
        let inline = match entry.body() {
            Body::Inline { bytes, .. } => SmallVec::from_slice(bytes),
            Body::Int(_) | Body::Object(_) => SmallVec::new(),
        };
        let value = match entry.remove() {
            RemovedBody::Int(number) => Value::Int(number),
            RemovedBody::Inline { kind } => Value::Inline { kind, bytes: inline },
            RemovedBody::Object(object) => {
                self.objects.bytes -= object.memory_bytes();
                Value::Object(object)
            }
        };
        Some(Held { value, deadline, usage })
    }

    /// Removes the key, whose deadline has passed, and keeps the place.
    #[cold]
    pub(super) fn vacate(mut self, key: &'k [u8]) -> Self {
        self.preserve(true);
        self.forget_fields();
        match self.entry {
            Entry::Occupied(entry) => {
                let (removed, vacant) = entry.vacate(key);
                discard(removed, &mut self.objects.bytes, &mut self.aside.garbage);
                Self { entry: Entry::Vacant(vacant), ..self }
            }
            Entry::Vacant(_) => self,
        }
    }

    /// Notes that the key is used.
    #[inline]
    pub(super) fn note_use(&mut self, moment: &Moment, random: &mut Random) {
        if let Entry::Occupied(entry) = &mut self.entry {
            note_use(entry, moment, random);
        }
    }

    /// Preserves what the key holds, if a capture needs it. To be called before every change.
    #[inline]
    fn preserve(&mut self, is_replaced: bool) {
        if self.is_capturing {
            self.preserve_entry(is_replaced);
        }
    }

    #[cold]
    fn preserve_entry(&mut self, is_replaced: bool) {
        if let Entry::Occupied(entry) = &mut self.entry {
            self.aside.capture.preserve(entry, is_replaced);
        }
    }

    /// Notes that the key will hold something else, or nothing. To be called before that.
    #[inline]
    fn forget_fields(&mut self) {
        if !self.objects.due.is_empty()
            && let Entry::Occupied(entry) = &self.entry
        {
            self.objects.due.forget(entry.key());
        }
    }

    #[inline]
    fn occupied(&self) -> Option<&EntryMut<'t, Object>> {
        match &self.entry {
            Entry::Occupied(entry) => Some(entry),
            Entry::Vacant(_) => None,
        }
    }

    #[inline]
    fn occupied_mut(&mut self) -> Option<&mut EntryMut<'t, Object>> {
        match &mut self.entry {
            Entry::Occupied(entry) => Some(entry),
            Entry::Vacant(_) => None,
        }
    }
}

/// Notes that an entry is used.
#[inline]
pub(super) fn note_use(entry: &mut EntryMut<'_, Object>, moment: &Moment, random: &mut Random) {
    let before = entry.lru();
    let after = moment.usage_after(before, random);
    // A line that is only read need not be written back.
    if before != after {
        entry.set_lru(after);
    }
}

/// Sets the deadline unless it is so already: that may move the entry.
#[inline]
fn change_deadline(entry: &mut EntryMut<'_, Object>, deadline: Option<i64>) {
    if entry.deadline() != deadline {
        entry.set_deadline(deadline);
    }
}

/// Lets go of what an entry held.
#[inline]
pub(super) fn discard(
    removed: RemovedBody<Object>,
    object_bytes: &mut usize,
    garbage: &mut Garbage,
) {
    if let RemovedBody::Object(object) = removed {
        let bytes = object.memory_bytes();
        *object_bytes -= bytes;
        garbage.add_object(*object, bytes);
    }
}
