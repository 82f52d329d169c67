//! Active expiry: removes keys whose deadline passed and that nobody reads.
//!
//! A pass over the keys that have a deadline, in slices. After each slice the share of keys that it
//! found stale decides how soon the next one follows: while more are stale than the effort tolerates,
//! slices come as densely as a quarter of the core allows, else a few times a second, which costs
//! less than one per cent of it. As the order of the pass is that of hashes, a slice is a fair sample.
//!
//! Why counted and not timed: the engine reads no clock while it works. A slice of
//! [`SLICE_KEYS`] takes 0.1 ms, or 0.3 ms when it removes them all.
//!
//! Invariants:
//! - the entry holds the only copy of its deadline; nothing else is kept in step;
//! - without keys that have a deadline, no work is done;
//! - while expiry is held up, nothing is removed; what has expired is hidden all the same.
#![forbid(unsafe_code)]

use super::{
    Aside, Database, Keyspace, KeyspaceStats,
    events::{Class, Events},
    fields::Objects,
    slot,
    table::Verdict,
};

/// Keys, or empty places, that one slice looks at.
const SLICE_KEYS: usize = 1_000;
/// Time from one slice to the next while many keys are stale, at the least effort.
const BUSY_INTERVAL_US: i64 = 1_000;
/// By how much each further step of effort shortens it.
const BUSY_STEP_US: i64 = 80;
/// Time from one slice to the next otherwise, at the least effort.
const CALM_INTERVAL_US: i64 = 100_000;
/// By how much each further step of effort shortens it.
const CALM_STEP_US: i64 = 8_000;
/// Per cent of keys that may be stale without haste, at the least effort; a step less for each more.
const STALE_TOLERATED_PERCENT: usize = 10;
/// `active-expire-effort` goes to this.
const EFFORT_MAX: u32 = 10;
/// Keys of a table for which it has about one place that a pass must look at.
const KEYS_PER_PLACE: usize = 8;

/// Where the pass stands.
#[derive(Debug, Default)]
pub struct ExpireCycle {
    database: usize,
    cursor: u64,
    /// When the next slice is due.
    due_us: i64,
}

impl ExpireCycle {
    /// Does a slice of work if one is due at the keyspace's time. `effort` is 1 to 10.
    pub fn slice(&mut self, keyspace: &mut Keyspace, effort: u32) {
        let now_us = keyspace.clock().now_us();
        if now_us < self.due_us {
            return;
        }
        let step = effort.clamp(1, EFFORT_MAX) - 1;
        let (visited, expired) = self.work(keyspace);
        let tolerated_percent = STALE_TOLERATED_PERCENT - step as usize;
        let is_stale = expired * 100 > visited * tolerated_percent;
        let interval_us = if is_stale {
            BUSY_INTERVAL_US - BUSY_STEP_US * i64::from(step)
        } else {
            CALM_INTERVAL_US - CALM_STEP_US * i64::from(step)
        };
        self.due_us = now_us + interval_us;
    }

    /// When the next slice is due, in microseconds since the Unix epoch.
    pub fn due_us(&self) -> i64 {
        self.due_us
    }

    /// Looks at up to [`SLICE_KEYS`] keys, in as many databases as that takes, each at most once;
    /// answers how many had a deadline and how many were removed.
    fn work(&mut self, keyspace: &mut Keyspace) -> (usize, usize) {
        let (mut visited, mut expired, mut spent) = (0, 0, 0);
        for _ in 0..keyspace.database_count() {
            if keyspace.volatile_len(self.database) > 0 {
                let budget = SLICE_KEYS.saturating_sub(spent).max(1);
                let places = keyspace.len(self.database) / KEYS_PER_PLACE;
                let slice = keyspace.expire_slice(self.database, self.cursor, budget);
                visited += slice.visited;
                expired += slice.expired;
                spent += slice.visited + places;
                self.cursor = slice.cursor;
                if self.cursor != 0 {
                    break;
                }
            }
            self.cursor = 0;
            self.database = (self.database + 1) % keyspace.database_count();
            if spent >= SLICE_KEYS {
                break;
            }
        }
        (visited, expired)
    }
}

impl Keyspace {
    /// Holds expiry up, or lets it go on: as long as it is held up, keys whose deadline has passed are
    /// hidden from all commands and not removed, so nothing changes by itself. CLIENT PAUSE promises
    /// that, for those who compare or hand over the data meanwhile.
    #[inline]
    pub fn hold_expiry(&mut self, is_held: bool) {
        self.moment.holds_expiry = is_held;
    }

    /// Whether expiry is held up.
    #[inline]
    pub fn holds_expiry(&self) -> bool {
        self.moment.holds_expiry
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
                journal.record_expired(database, &[b"DEL", entry.key()]);
                note_expired(stats, events, database, entry.key());
                Verdict::Remove
            },
            |removed| slot::discard(removed, bytes, garbage),
        );
        ExpireSlice { cursor, visited, expired }
    }
}

/// What one call of [`Keyspace::expire_slice`] did.
struct ExpireSlice {
    /// Where to go on, 0 at the end of the database.
    cursor: u64,
    /// How many keys with a deadline were looked at.
    visited: usize,
    /// How many of them were removed.
    expired: usize,
}

/// Notes that a key of `database` was removed as its deadline had passed.
#[cold]
pub(super) fn note_expired(
    stats: &mut KeyspaceStats,
    events: &mut Events,
    database: usize,
    key: &[u8],
) {
    stats.expired += 1;
    events.report(Class::EXPIRED, "expired", database, key);
}
