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
//! - without keys that have a deadline, no work is done.
#![forbid(unsafe_code)]

use super::Keyspace;

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
