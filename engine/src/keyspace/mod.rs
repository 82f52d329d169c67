//! The keys of one shard: numbered databases of entries, with deadlines.
//!
//! # Invariants
//!
//! - an entry whose deadline has passed does not exist: every way to reach an entry compares its
//!   deadline with the shard's time first, and removes it when it has passed; a hash all of whose
//!   fields have expired does not exist either;
//! - the entry holds the only copy of its deadline; nothing else is kept in step;
//! - time stands still while a command runs, so a command never sees a key vanish half way;
//! - reaching a key takes one hash and one look-up, whatever is then done with it;
//! - no step here takes time in proportion to the number of keys: what a flush throws away is freed
//!   in slices by [`Keyspace::free_slice`].
#![deny(unsafe_code)]

pub mod attic;
pub mod awaited;
mod bucket;
pub mod budget;
pub mod capture;
pub mod entry;
pub mod events;
pub mod evict;
pub mod expire;
mod fields;
mod garbage;
pub mod hash;
mod memory;
pub mod notices;
mod pages;
mod segment;
mod slab;
mod slot;
pub mod table;
#[cfg(test)]
mod tests;
pub mod tracking;
pub mod usage;
mod walk;
pub mod watch;

use bytes::Bytes;

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    journal::Journal,
    notice::{
        Notice,
        audience::{Audience, Kind},
    },
    sys::{clock::Clock, random::Random},
    types,
    value::{Object, Value, outside_bytes},
};
use attic::Attic;
use capture::Capture;
use events::{Class, Events};
use fields::Objects;
use garbage::Garbage;
use notices::Notices;
use usage::Policy;
use watch::Watcher;

pub use capture::{CaptureBusy, CapturedKey, Preserved};
pub use entry::{Body, BodyMut, EntryRef, INLINE_MAX, KIND_MAX, LRU_MAX, NewBody, RemovedBody};
pub use hash::{KeyHash, Seed};
pub use notices::Savepoint;
pub use slot::{Deadline, Slot};
pub use table::{Among, CURSOR_BITS, Drain, Entry, EntryMut, Table, VacantEntry, Verdict};

/// What a keyspace has counted since it was made, or since CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because their deadline passed.
    pub expired: u64,
    /// Fields of hashes removed because their deadline passed.
    pub expired_fields: u64,
    /// Keys removed to make room.
    pub evicted: u64,
}

/// One numbered database.
struct Database {
    table: Table<Object>,
    /// What belongs to the entries' objects.
    objects: Objects,
}

/// What a deadline is compared with and use is noted by, fixed while a command runs.
#[derive(Clone, Copy)]
struct Moment {
    clock: Clock,
    now_ms: i64,
    policy: Policy,
    /// The usage bits of a key made now.
    fresh_usage: u32,
    /// Whether what is changed must be preserved for a capture first.
    is_capturing: bool,
}

impl Moment {
    fn new(clock: Clock, policy: Policy, is_capturing: bool) -> Self {
        let fresh_usage = policy.fresh(clock);
        Self { clock, now_ms: clock.now_ms(), policy, fresh_usage, is_capturing }
    }

    /// The usage bits of a key that had `before` and is used now.
    #[inline]
    fn usage_after(&self, before: u32, random: &mut Random) -> u32 {
        match self.policy {
            Policy::Recency => self.fresh_usage,
            Policy::Frequency { .. } => self.policy.used(before, self.clock, random),
        }
    }

    #[inline]
    fn has_passed(&self, deadline: Option<i64>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now_ms)
    }
}

/// Where values go that leave a table.
#[derive(Default)]
struct Aside {
    /// What was removed, on its way to the allocator.
    garbage: Garbage,
    /// What a snapshot wants to have.
    capture: Capture,
}

/// The keys that one shard owns, in all databases.
pub struct Keyspace {
    databases: Vec<Database>,
    /// The database of the command that runs.
    selected: usize,
    /// Whether the running command's access leaves usage alone.
    no_touch: bool,
    moment: Moment,
    /// For the counters of an LFU policy, and for samples.
    random: Random,
    /// The database of which a random key was evicted last.
    next_victim: usize,
    /// What left the tables.
    aside: Aside,
    /// What captures for replies have let go of.
    attic: Arc<Attic>,
    /// Counters for INFO.
    pub stats: KeyspaceStats,
    /// What happened to keys, and who hears of it.
    pub events: Events,
    /// What is to be told to clients, and who listens.
    pub notices: Notices,
    /// What was done, for the log.
    pub journal: Journal,
}

impl Keyspace {
    /// `databases` empty databases whose hash function follows from `seed`.
    pub fn new(seed: u64, databases: usize) -> Self {
        let hash_seed = Seed::fixed(seed);
        let database =
            || Database { table: Table::new(hash_seed.clone()), objects: Objects::default() };
        Self {
            databases: (0..databases).map(|_| database()).collect(),
            selected: 0,
            no_touch: false,
            moment: Moment::new(Clock::default(), Policy::Recency, false),
            random: Random::from_seed(seed),
            next_victim: 0,
            aside: Aside::default(),
            attic: Arc::default(),
            stats: KeyspaceStats::default(),
            events: Events::new(seed),
            notices: Notices::new(seed),
            journal: Journal::default(),
        }
    }

    /// Remembers the use of keys by `policy` from now on.
    pub fn set_usage_policy(&mut self, policy: Policy) {
        let Moment { clock, now_ms, is_capturing, .. } = self.moment;
        self.moment = Moment { now_ms, ..Moment::new(clock, policy, is_capturing) };
    }

    /// How the use of keys is remembered.
    pub fn usage_policy(&self) -> Policy {
        self.moment.policy
    }

    /// Selects the database of the command that runs next.
    #[inline]
    pub fn select(&mut self, database: usize, no_touch: bool) {
        debug_assert!(database < self.databases.len());
        self.selected = database;
        self.no_touch = no_touch;
    }

    /// The number of the selected database.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// How many databases there are.
    pub fn database_count(&self) -> usize {
        self.databases.len()
    }

    /// Moves the time on to `now_us`, microseconds since the Unix epoch; never back.
    #[inline]
    pub fn advance_clock_us(&mut self, now_us: i64) {
        if now_us > self.moment.clock.now_us() {
            let Moment { policy, is_capturing, .. } = self.moment;
            self.moment = Moment::new(Clock::at_us(now_us), policy, is_capturing);
        }
    }

    /// Puts the time back to `now_us`: the machine's clock was set back.
    #[cold]
    pub fn set_clock_back_us(&mut self, now_us: i64) {
        let Moment { policy, is_capturing, .. } = self.moment;
        self.moment = Moment::new(Clock::at_us(now_us), policy, is_capturing);
    }

    /// Lets no deadline pass while keys are loaded, by comparing deadlines with the time 0; what is
    /// noted of their use is of the time `now_us`. [`set_clock_back_us`](Self::set_clock_back_us) ends
    /// it.
    pub fn begin_loading(&mut self, now_us: i64) {
        self.set_clock_back_us(now_us);
        self.moment.now_ms = 0;
    }

    /// The shard's time.
    #[inline]
    pub fn clock(&self) -> Clock {
        self.moment.clock
    }

    /// Milliseconds since the Unix epoch: what deadlines are compared with.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.moment.now_ms
    }

    /// Asks the processor for the first cache line that a command on `key` will touch. When those of
    /// a batch have been asked for, [`prefetch_entry`](Self::prefetch_entry) asks for the second.
    #[inline]
    pub fn prefetch(&self, database: usize, key: &[u8]) -> KeyHash {
        let table = &self.databases[database].table;
        let hash = table.hash(key);
        table.prefetch(hash);
        hash
    }

    /// The second step of [`prefetch`](Self::prefetch), with the hash that the first has answered.
    #[inline]
    pub fn prefetch_entry(&self, database: usize, hash: KeyHash) {
        self.databases[database].table.prefetch_entry(hash);
    }

    /// The entry of `key`, for a command that reads it: counts a hit or a miss and notes the use.
    ///
    /// The same as `slot_read(key).into_view()`, in fewer steps: this is the hot path of reads.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<EntryRef<'_, Object>> {
        if self.has_field_deadlines() {
            return self.slot_read(key).into_view();
        }
        let Self { databases, aside, stats, events, journal, moment, random, .. } = self;
        let Database { table, objects } = &mut databases[self.selected];
        let hash = table.hash(key);
        let Some(mut entry) = table.get_mut(hash, key) else {
            stats.misses += 1;
            events.report(Class::MISS, "keymiss", self.selected, key);
            return None;
        };
        if moment.has_passed(entry.deadline()) {
            aside.capture.preserve(&mut entry, true);
            objects.due.forget(key);
            slot::discard(entry.remove(), &mut objects.bytes, &mut aside.garbage);
            journal.record_gone(self.selected, key);
            note_expired(stats, events, self.selected, key);
            stats.misses += 1;
            events.report(Class::MISS, "keymiss", self.selected, key);
            return None;
        }
        stats.hits += 1;
        if !self.no_touch {
            slot::note_use(&mut entry, moment, random);
        }
        Some(entry.into_view())
    }

    /// The entry of `key`, for a command that asks about it without using its value (TTL, TYPE):
    /// counts a hit or a miss.
    pub fn inspect(&mut self, key: &[u8]) -> Option<EntryRef<'_, Object>> {
        self.slot_counted(key, false).into_view()
    }

    /// The entry of `key` without counting or noting anything.
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Option<EntryRef<'_, Object>> {
        self.slot_in(self.selected, key, false).into_view()
    }

    /// Whether `key` is there.
    #[inline]
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The place of `key`, taken or not, for a command that changes it. Notes the use.
    #[inline]
    pub fn slot<'k>(&mut self, key: &'k [u8]) -> Slot<'_, 'k> {
        self.slot_in(self.selected, key, !self.no_touch)
    }

    /// The place of `key` for a command that reads it and then changes it: also counts a hit or a
    /// miss.
    #[inline]
    pub fn slot_read<'k>(&mut self, key: &'k [u8]) -> Slot<'_, 'k> {
        self.slot_counted(key, !self.no_touch)
    }

    #[inline]
    fn slot_counted<'k>(&mut self, key: &'k [u8], touch: bool) -> Slot<'_, 'k> {
        let selected = self.selected;
        let (slot, stats, events) = self.find(selected, key, touch);
        if slot.is_vacant() {
            stats.misses += 1;
            events.report(Class::MISS, "keymiss", selected, key);
        } else {
            stats.hits += 1;
        }
        slot
    }

    /// The place of `key` in `database`, whichever is selected, without noting the use.
    pub fn slot_of<'k>(&mut self, database: usize, key: &'k [u8]) -> Slot<'_, 'k> {
        self.slot_in(database, key, false)
    }

    #[inline]
    fn slot_in<'k>(&mut self, database: usize, key: &'k [u8], touch: bool) -> Slot<'_, 'k> {
        self.find(database, key, touch).0
    }

    /// The place of `key` in `database`, whose hash [`prefetch`](Self::prefetch) has answered, if the
    /// key is not there.
    #[inline]
    pub fn vacant_slot<'k>(
        &mut self,
        database: usize,
        hash: KeyHash,
        key: &'k [u8],
    ) -> Option<Slot<'_, 'k>> {
        let Self { databases, aside, moment, .. } = self;
        let Database { table, objects } = &mut databases[database];
        let slot = Slot::new(table.entry(hash, key), objects, aside, moment);
        slot.is_vacant().then_some(slot)
    }

    /// The one look-up: finds the place of `key`, removes what has expired there, notes the use. The
    /// counters come along, as they cannot be reached while the place is borrowed.
    #[inline]
    fn find<'k>(
        &mut self,
        number: usize,
        key: &'k [u8],
        touch: bool,
    ) -> (Slot<'_, 'k>, &mut KeyspaceStats, &mut Events) {
        let Self { databases, aside, stats, events, journal, moment, random, .. } = self;
        let Database { table, objects } = &mut databases[number];
        let hash = table.hash(key);
        let mut slot = Slot::new(table.entry(hash, key), objects, aside, moment);
        if moment.has_passed(slot.deadline()) {
            slot = slot.vacate(key);
            journal.record_gone(number, key);
            note_expired(stats, events, number, key);
        } else if let Some(fields) = slot.expired_fields(moment.now_ms) {
            slot = slot.vacate(key);
            journal.record_gone(number, key);
            fields::note_all_expired(stats, events, (number, key), fields);
        } else if touch {
            slot.note_use(moment, random);
        }
        (slot, stats, events)
    }

    /// Removes `key` of the selected database; answers whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.slot_in(self.selected, key, false).remove()
    }

    /// Takes `key` of `database` away with all that belongs to it.
    pub fn take(&mut self, database: usize, key: &[u8]) -> Option<Held> {
        self.slot_in(database, key, false).take()
    }

    /// A copy of what `key` of `database` holds.
    pub fn copy(&mut self, database: usize, key: &[u8]) -> Option<Held> {
        let entry = self.slot_in(database, key, false).into_view()?;
        Some(Held::copy_of(entry))
    }

    /// Puts `held` at `key` of `database` in place of whatever was there; answers whether something
    /// was.
    pub fn put(&mut self, database: usize, key: &[u8], held: Held) -> bool {
        let slot = self.slot_in(database, key, false);
        let replaced = !slot.is_vacant();
        slot.put_held(held);
        replaced
    }

    /// Reports that `name` happened to `key` of the selected database.
    #[inline]
    pub fn notify(&mut self, class: Class, name: &'static str, key: &[u8]) {
        self.events.report(class, name, self.selected, key);
    }

    /// Publishes `payload` on `channel`; answers how many clients receive it.
    pub fn publish(&mut self, kind: Kind, channel: &Bytes, payload: &Bytes) -> usize {
        self.notices.publish(&mut self.events, kind, channel, payload)
    }

    /// What waits to be told now, for [`forget_since`](Self::forget_since).
    pub fn savepoint(&self) -> Savepoint {
        self.notices.savepoint(&self.events)
    }

    /// Drops what has come to be told since: what it tells of is undone.
    pub fn forget_since(&mut self, savepoint: Savepoint) {
        self.notices.forget_since(&mut self.events, savepoint);
    }

    /// Whether there is something to tell clients.
    #[inline]
    pub fn has_notices(&self) -> bool {
        self.events.is_waiting()
    }

    /// Hands over what is to be told to clients, each notice with the worker that is to tell it.
    pub fn take_notices(&mut self) -> Vec<(u32, Notice)> {
        self.notices.take(&mut self.events)
    }

    /// Who listens to what, to be changed: what has happened so far is for those who listened.
    pub fn audience_mut(&mut self) -> &mut Audience {
        self.notices.settle(&mut self.events);
        &mut self.notices.audience
    }

    /// Records `arguments` as what was done to the selected database.
    #[inline]
    pub fn record(&mut self, arguments: &[&[u8]]) {
        self.journal.record(self.selected, arguments);
    }

    /// How many keys `database` holds, those past their deadline and not yet removed included.
    pub fn len(&self, database: usize) -> usize {
        self.databases[database].table.len()
    }

    /// Whether no database holds a key.
    pub fn is_empty(&self) -> bool {
        self.databases.iter().all(|database| database.table.is_empty())
    }

    /// How many keys of `database` have a deadline.
    pub fn volatile_len(&self, database: usize) -> usize {
        self.databases[database].table.volatile_len()
    }

    /// Removes keys of `database` whose deadline has passed, from `cursor` on, looking at about
    /// `budget` keys.
    fn expire_slice(&mut self, database: usize, cursor: u64, budget: usize) -> ExpireSlice {
        let Self { databases, aside, stats, events, journal, moment, .. } = self;
        let Aside { capture, garbage } = aside;
        let Database { table, objects: Objects { bytes, due } } = &mut databases[database];
        let number = table.captured_as();
        let (mut visited, mut expired) = (0, 0);
        let cursor = table.for_each_volatile_slice(
            cursor,
            budget,
            |entry, is_captured| {
                visited += 1;
                if !moment.has_passed(entry.deadline()) {
                    return Verdict::Keep;
                }
                expired += 1;
                if !is_captured {
                    capture.preserve_removed(number, entry);
                }
                due.forget(entry.key());
                journal.record_gone(database, entry.key());
                note_expired(stats, events, database, entry.key());
                Verdict::Remove
            },
            |removed| slot::discard(removed, bytes, garbage),
        );
        ExpireSlice { cursor, visited, expired }
    }

    /// Swaps two databases.
    pub fn swap(&mut self, first: usize, second: usize) {
        if self.events.is_watched() {
            self.touch_watched(first, Some(second));
            self.touch_watched(second, Some(first));
        }
        self.databases.swap(first, second);
        self.events.swapped(first, second);
    }

    /// Marks `watcher` when `key` of `database` changes. A key whose deadline has passed is removed
    /// first: what is watched then is that it is not there.
    pub fn watch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        self.slot_in(database, key, false);
        self.events.watch(database, key, watcher);
    }

    /// Forgets that `watcher` watches `key`.
    pub fn unwatch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        self.events.unwatch(database, key, watcher);
    }

    /// How many keys are watched.
    pub fn watched(&self) -> usize {
        self.events.watched()
    }

    /// Tells who watches keys of `database` that it loses them, and gets those of another one. A key
    /// that was not there and is past its deadline in the other one is not there afterwards either.
    fn touch_watched(&mut self, database: usize, gets: Option<usize>) {
        let Self { databases, events, moment, .. } = self;
        let deadline = |number: usize, key: &[u8]| {
            let table = &databases[number].table;
            table.get(table.hash(key), key).map(|entry| entry.deadline())
        };
        events.touch(database, |key| {
            let gets = gets.and_then(|other| deadline(other, key));
            deadline(database, key).is_some() || gets.is_some_and(|at| !moment.has_passed(at))
        });
    }

    /// Empties `database`; answers how many keys it had. The memory is freed in slices.
    pub fn flush(&mut self, database: usize) -> usize {
        if self.events.is_watched() {
            self.touch_watched(database, None);
        }
        self.events.flushed(database);
        let Database { table, objects } = &mut self.databases[database];
        let keys = table.len();
        if keys > 0 {
            let Aside { capture, garbage } = &mut self.aside;
            capture.adopt(table.detach(), objects.bytes, garbage);
            *objects = Objects::default();
        }
        keys
    }

    /// Whether something that was removed waits to be freed.
    pub fn has_garbage(&self) -> bool {
        !self.aside.garbage.is_empty() || self.aside.capture.is_sweeping() || self.attic.has_some()
    }

    /// Where what a reply has captured goes when it is sent.
    pub fn attic(&self) -> &Arc<Attic> {
        &self.attic
    }

    /// Values that wait to be freed in slices, and values that were.
    pub fn lazily_freed(&self) -> (u64, u64) {
        self.aside.garbage.counts()
    }

    /// Frees what was cut off a collection, in slices if it is much.
    pub fn free_later(&mut self, nodes: types::Garbage) {
        self.aside.garbage.add_nodes(nodes);
    }

    /// Frees a slice of what was removed, well below half a millisecond; answers whether more is
    /// left.
    pub fn free_slice(&mut self) -> bool {
        if self.attic.has_some() {
            self.attic.take().into_iter().for_each(|nodes| self.free_later(nodes));
        }
        if self.aside.capture.is_sweeping() {
            self.sweep_slice();
        } else {
            self.aside.garbage.free_slice();
        }
        self.has_garbage()
    }

    /// Checks everything that must always hold, at the cost of visiting every key. For tests.
    pub fn check(&self) {
        for Database { table, objects } in &self.databases {
            table.check();
            let outside: usize = table.iter().map(|entry| outside_bytes(&entry.body())).sum();
            assert_eq!(objects.bytes, outside, "objects' memory is miscounted");
            let dated = table.iter().filter_map(|entry| match entry.body() {
                Body::Object(object) => {
                    let deadline = fields::hash_of(object)?.earliest_deadline()?;
                    Some((deadline, entry.key().to_vec()))
                }
                Body::Int(_) | Body::Inline { .. } => None,
            });
            let dated: BTreeSet<_> = dated.collect();
            let known = objects.due.iter().map(|(key, deadline)| (deadline, key.to_vec()));
            assert!(known.eq(dated), "deadlines of fields are out of step");
        }
    }
}

/// What one call of `Keyspace::expire_slice` did.
struct ExpireSlice {
    /// Where to go on, 0 at the end of the database.
    cursor: u64,
    /// How many keys with a deadline were looked at.
    visited: usize,
    /// How many of them were removed.
    expired: usize,
}

#[cold]
fn note_expired(stats: &mut KeyspaceStats, events: &mut Events, database: usize, key: &[u8]) {
    stats.expired += 1;
    events.report(Class::EXPIRED, "expired", database, key);
}

/// A value with its deadline and usage, away from any key.
#[derive(Clone, Debug)]
pub struct Held {
    /// The value.
    pub value: Value,
    /// Its deadline in Unix milliseconds.
    pub deadline: Option<i64>,
    /// Its usage bits (see [`usage`]).
    pub usage: u32,
}

impl Held {
    fn copy_of(entry: EntryRef<'_, Object>) -> Self {
        Self {
            value: Value::copy_of(&entry.body()),
            deadline: entry.deadline(),
            usage: entry.lru(),
        }
    }
}
