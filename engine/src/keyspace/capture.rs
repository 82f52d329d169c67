//! Capturing the keyspace as it is at one instant, the cut, while commands go on changing it.
//!
//! A snapshot is written over seconds; what it holds is the state at its cut. To begin is O(1) for
//! each database. From then on a key reaches the snapshot in one of two ways, whichever comes
//! first: the *walk* visits it in its place and the snapshot writes it out at once; or a command is
//! about to change or remove it, and what it holds is first *preserved*: small values are copied,
//! large ones held by their root (later changes copy the nodes on their path, see
//! `types::encoding::tree`). Which keys have been captured, the marks in the table say
//! (`table/capture.rs`).
//!
//! # Invariants
//!
//! - every key that is there at the cut, and whose deadline has not passed then, is handed out
//!   exactly once, with the value and the deadline it has at the cut, under the number its database
//!   has at the cut. Its usage bits may be later ones;
//! - a write preserves no key but those it changes, and nothing twice: growing, shrinking and
//!   splitting the table captures nothing;
//! - FLUSHALL and FLUSHDB hand the table over as it is: the walk goes on in it, and then it is freed;
//!   SWAPDB swaps tables, which know their numbers at the cut;
//! - nobody here waits. What is preserved counts in [`Keyspace::preserved_bytes`]; whoever drives
//!   the snapshot bounds it, by fetching it before anything else and by holding up writers;
//! - a capture that was given up ends in slices as well: what it held is freed, and the rest of the
//!   keys is marked unseen ([`Keyspace::free_slice`] does both), before another can begin.
//!
//! Without a capture a write pays one comparison, with a flag beside the shard's time.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, ops::ControlFlow};

use super::{
    EntryRef, Held, Keyspace,
    garbage::Garbage,
    table::{EntryMut, Table},
};
use crate::{
    keyspace::Body,
    value::{Object, Value},
};

/// Keys that one slice of giving up a capture marks: 50 to 100 µs.
const KEYS_A_SWEEP: usize = 4_000;
/// What a large collection counts for that is preserved to be changed: it stays shared but for the
/// nodes that changes copy.
const SHARED_BYTES_MAX: usize = 64 << 10;

/// A key as it is at the cut.
pub struct CapturedKey<'a> {
    /// The number of its database.
    pub database: u32,
    /// The key.
    pub key: &'a [u8],
    /// Its deadline in Unix milliseconds.
    pub deadline: Option<i64>,
    /// Its usage bits (see [`super::usage`]).
    pub usage: u32,
    /// What it holds.
    pub body: Body<'a, Object>,
}

/// A key as it was at the cut, kept because it was to be changed.
#[derive(Debug)]
pub struct Preserved {
    database: u32,
    key: Box<[u8]>,
    held: Held,
    /// What it counts for.
    bytes: usize,
}

impl Preserved {
    /// A copy of a key that the walk has reached; large values share their nodes.
    pub fn copy_of(key: &CapturedKey<'_>) -> Self {
        let value = Value::copy_of(&key.body);
        Self {
            database: key.database,
            key: key.key.into(),
            held: Held { value, deadline: key.deadline, usage: key.usage },
            bytes: 0,
        }
    }

    /// The key to be read.
    pub fn view(&self) -> CapturedKey<'_> {
        CapturedKey {
            database: self.database,
            key: &self.key,
            deadline: self.held.deadline,
            usage: self.held.usage,
            body: self.held.value.body(),
        }
    }

    /// What it holds, taken out.
    pub fn into_value(self) -> Value {
        self.held.value
    }
}

/// How far a capture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is none: all keys are marked.
    #[default]
    Idle,
    /// Keys are captured.
    Open,
    /// It was given up; keys are marked without being captured.
    Sweep,
}

/// The capture of one keyspace.
#[derive(Default)]
pub(super) struct Capture {
    phase: Phase,
    cut_ms: i64,
    preserved: VecDeque<Preserved>,
    preserved_bytes: usize,
    /// Bytes that were ever preserved.
    preserved_total: u64,
    /// Databases that were flushed since the cut, with the bytes of their objects.
    detached: Vec<(Table<Object>, usize)>,
}

impl Capture {
    /// Keeps what an entry holds if it is not captured yet. `is_replaced`: the value is about to go as a
    /// whole, not to be changed in place.
    pub(super) fn preserve(&mut self, entry: &mut EntryMut<'_, Object>, is_replaced: bool) {
        if self.phase == Phase::Open && entry.mark_captured() {
            self.keep(entry.captured_as(), entry.view(), is_replaced);
        }
    }

    /// Keeps what an entry holds that is not captured yet and is about to be removed.
    pub(super) fn preserve_removed(&mut self, database: u32, entry: EntryRef<'_, Object>) {
        if self.phase == Phase::Open {
            self.keep(database, entry, true);
        }
    }

    fn keep(&mut self, database: u32, entry: EntryRef<'_, Object>, is_replaced: bool) {
        if !was_there(entry, self.cut_ms) {
            return;
        }
        let bytes = size_of::<Preserved>() + entry.key().len() + kept_bytes(entry, is_replaced);
        self.preserved_bytes += bytes;
        self.preserved_total += bytes as u64;
        self.preserved.push_back(Preserved {
            database,
            key: entry.key().into(),
            held: Held::copy_of(entry),
            bytes,
        });
    }

    /// Takes over a database that is flushed, if the walk has not been through it. `object_bytes` is
    /// what its objects take.
    pub(super) fn adopt(
        &mut self,
        table: Table<Object>,
        object_bytes: usize,
        garbage: &mut Garbage,
    ) {
        if self.phase == Phase::Open && !table.is_captured() {
            self.detached.push((table, object_bytes));
        } else {
            discard_table(table, object_bytes, garbage);
        }
    }

    /// Whether a capture that was given up is not wound up yet.
    pub(super) fn is_sweeping(&self) -> bool {
        self.phase == Phase::Sweep
    }
}

/// Frees a database that nobody needs any more, later.
fn discard_table(table: Table<Object>, object_bytes: usize, garbage: &mut Garbage) {
    let bytes = table.used_bytes() + object_bytes;
    garbage.add_database(table.into_drain(), bytes);
}

/// Whether an entry was there at `cut_ms`, as its deadline goes.
fn was_there(entry: EntryRef<'_, Object>, cut_ms: i64) -> bool {
    entry.deadline().is_none_or(|deadline| deadline > cut_ms)
}

/// Bytes that a value takes which is kept while its key goes on.
fn kept_bytes(entry: EntryRef<'_, Object>, is_replaced: bool) -> usize {
    match entry.body() {
        Body::Int(_) => 0,
        Body::Inline { bytes, .. } => bytes.len(),
        Body::Object(object @ Object::String(_)) => object.memory_bytes(),
        Body::Object(object) if is_replaced => object.memory_bytes(),
        Body::Object(object) => object.memory_bytes().min(SHARED_BYTES_MAX),
    }
}

/// Another capture is under way, or one that was given up is not wound up yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a capture is under way")]
pub struct CaptureBusy;

impl Keyspace {
    /// Begins a capture of all databases as they are now.
    ///
    /// # Errors
    ///
    /// Another one is not over.
    pub fn begin_capture(&mut self) -> Result<(), CaptureBusy> {
        if !self.may_begin_capture() {
            return Err(CaptureBusy);
        }
        for (number, database) in (0..).zip(&mut self.databases) {
            database.table.begin_capture(number);
        }
        let capture = &mut self.aside.capture;
        capture.phase = Phase::Open;
        capture.cut_ms = self.moment.now_ms;
        self.moment.is_capturing = true;
        Ok(())
    }

    /// Whether a capture could begin now.
    pub fn may_begin_capture(&self) -> bool {
        self.aside.capture.phase == Phase::Idle && self.aside.capture.preserved.is_empty()
    }

    /// Whether keys are being captured: the walk is not over.
    pub fn is_capturing(&self) -> bool {
        self.moment.is_capturing
    }

    /// Whether a change of `key` would have to preserve it: it is there, and not captured yet.
    pub fn is_to_be_captured(&self, database: usize, key: &[u8]) -> bool {
        let table = &self.databases[database].table;
        self.is_capturing() && table.lacks(table.hash(key), key)
    }

    /// Hands the keys that are not captured yet to `visit`, until it breaks. Continues once no key is
    /// left: the capture is over then, but for what [`next_preserved`](Self::next_preserved) has.
    ///
    /// What `visit` was given is captured, whether it breaks or not.
    pub fn walk_capture(
        &mut self,
        mut visit: impl FnMut(CapturedKey<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.aside.capture.phase != Phase::Open {
            return ControlFlow::Continue(());
        }
        let cut_ms = self.aside.capture.cut_ms;
        self.for_each_uncaptured(&mut |number, entry| {
            if !was_there(entry, cut_ms) {
                return ControlFlow::Continue(());
            }
            visit(CapturedKey {
                database: number,
                key: entry.key(),
                deadline: entry.deadline(),
                usage: entry.lru(),
                body: entry.body(),
            })
        })?;
        self.close_capture();
        ControlFlow::Continue(())
    }

    /// Visits and marks the keys that are not captured in any database, flushed ones too.
    fn for_each_uncaptured(
        &mut self,
        visit: &mut impl FnMut(u32, EntryRef<'_, Object>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let own = self.databases.iter_mut().map(|database| &mut database.table);
        let detached = self.aside.capture.detached.iter_mut().map(|(table, _)| table);
        for table in own.chain(detached).filter(|table| !table.is_captured()) {
            let number = table.captured_as();
            table.walk_uncaptured(|entry| visit(number, entry))?;
        }
        ControlFlow::Continue(())
    }

    /// All keys are marked.
    fn close_capture(&mut self) {
        self.moment.is_capturing = false;
        let super::Aside { capture, garbage } = &mut self.aside;
        capture.phase = Phase::Idle;
        for (table, object_bytes) in capture.detached.drain(..) {
            discard_table(table, object_bytes, garbage);
        }
    }

    /// The next key that was preserved, in the order of their changes.
    pub fn next_preserved(&mut self) -> Option<Preserved> {
        let capture = &mut self.aside.capture;
        let preserved = capture.preserved.pop_front()?;
        capture.preserved_bytes -= preserved.bytes;
        Some(preserved)
    }

    /// Frees a key that was preserved and is not needed any more: in slices, if it is large.
    pub fn free_preserved(&mut self, preserved: Preserved) {
        let bytes = preserved.bytes;
        if let Value::Object(object) = preserved.into_value() {
            self.aside.garbage.add_object(*object, bytes);
        }
    }

    /// Bytes that preserved keys take which nobody has fetched yet.
    #[inline]
    pub fn preserved_bytes(&self) -> usize {
        self.aside.capture.preserved_bytes
    }

    /// Bytes of all keys that were ever preserved.
    pub fn preserved_total(&self) -> u64 {
        self.aside.capture.preserved_total
    }

    /// Gives up the capture, if there is one. What it holds is freed in slices, and the keys it
    /// lacks are marked in slices, by [`free_slice`](Self::free_slice).
    pub fn abort_capture(&mut self) {
        let super::Aside { capture, garbage } = &mut self.aside;
        for preserved in capture.preserved.drain(..) {
            let bytes = preserved.bytes;
            if let Value::Object(object) = preserved.into_value() {
                garbage.add_object(*object, bytes);
            }
        }
        capture.preserved_bytes = 0;
        for (table, object_bytes) in capture.detached.drain(..) {
            discard_table(table, object_bytes, garbage);
        }
        if capture.phase == Phase::Open {
            capture.phase = Phase::Sweep;
            self.moment.is_capturing = false;
        }
    }

    /// Marks a slice of the keys that a capture lacks which was given up.
    pub(super) fn sweep_slice(&mut self) {
        let mut left = KEYS_A_SWEEP;
        let swept = self.for_each_uncaptured(&mut |_, _| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if swept.is_continue() {
            self.close_capture();
        }
    }
}

#[cfg(test)]
mod tests;
