//! The keys of one shard: numbered databases of entries, with deadlines.
//!
//! ```text
//! access, slot      the ways to reach a key; the place of one key, taken or vacant
//! table             all keys of a database, by hash; below it entry (one key), segment and bucket (where
//!                   entries stand), slab and pages (their memory), hash
//! walk              SCAN, KEYS, RANDOMKEY
//! expire, fields    keys, and fields of hashes, whose deadline passes
//! evict, usage      which keys go when memory is short; what an entry remembers of its use
//! budget, memory    the limit that all shards share; what the keyspace takes
//! capture           the keyspace as it is at one instant, for a snapshot
//! garbage           what was removed and is yet to be freed, in slices; deferred_free brings some of it
//! events            the one signal that a key has changed. It has listeners: watch (WATCH), tracking
//!                   (CLIENT TRACKING), awaited (waiting clients), notices (keyspace notifications)
//! ```
//!
//! # Invariants
//!
//! - an entry whose deadline has passed does not exist: every way to reach an entry compares its
//!   deadline with the shard's time first, and removes it when it has passed ([`access`]); a hash all
//!   of whose fields have expired does not exist either;
//! - the entry holds the only copy of its deadline; nothing else is kept in step;
//! - time stands still while a command runs, so a command never sees a key vanish half way;
//! - reaching a key takes one hash and one look-up, whatever is then done with it;
//! - no step here takes time in proportion to the number of keys: what a flush throws away is freed
//!   in slices by [`Keyspace::free_slice`].
#![deny(unsafe_code)]

mod access;
pub mod awaited;
mod bucket;
pub mod budget;
pub mod capture;
pub mod deferred_free;
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
use capture::Capture;
use deferred_free::DeferredFree;
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
    /// Whether what has expired is hidden and not removed.
    holds_expiry: bool,
}

impl Moment {
    fn new(clock: Clock, policy: Policy) -> Self {
        let (now_ms, fresh_usage) = (clock.now_ms(), policy.fresh(clock));
        Self { clock, now_ms, policy, fresh_usage, is_capturing: false, holds_expiry: false }
    }

    /// The same at another time.
    #[inline]
    fn at_us(self, now_us: i64) -> Self {
        let clock = Clock::at_us(now_us);
        Self { clock, now_ms: clock.now_ms(), fresh_usage: self.policy.fresh(clock), ..self }
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
    /// What replies have captured and let go of, to be freed here.
    deferred_free: Arc<DeferredFree>,
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
            moment: Moment::new(Clock::default(), Policy::Recency),
            random: Random::from_seed(seed),
            next_victim: 0,
            aside: Aside::default(),
            deferred_free: Arc::default(),
            stats: KeyspaceStats::default(),
            events: Events::new(seed),
            notices: Notices::new(seed),
            journal: Journal::default(),
        }
    }

    /// Remembers the use of keys by `policy` from now on.
    pub fn set_usage_policy(&mut self, policy: Policy) {
        let fresh_usage = policy.fresh(self.moment.clock);
        self.moment = Moment { policy, fresh_usage, ..self.moment };
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
            self.moment = self.moment.at_us(now_us);
        }
    }

    /// Puts the time back to `now_us`: the machine's clock was set back.
    #[cold]
    pub fn set_clock_back_us(&mut self, now_us: i64) {
        self.moment = self.moment.at_us(now_us);
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
        self.slot_of(database, key);
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
        !self.aside.garbage.is_empty()
            || self.aside.capture.is_sweeping()
            || self.deferred_free.has_some()
    }

    /// Takes what a reply has captured when the reply is sent, to be freed here in slices.
    pub fn deferred_free(&self) -> &Arc<DeferredFree> {
        &self.deferred_free
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
        if self.deferred_free.has_some() {
            self.deferred_free.take().into_iter().for_each(|nodes| self.free_later(nodes));
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
    /// A copy of what an entry holds, its deadline and usage too.
    pub fn copy_of(entry: EntryRef<'_, Object>) -> Self {
        Self {
            value: Value::copy_of(&entry.body()),
            deadline: entry.deadline(),
            usage: entry.lru(),
        }
    }
}
