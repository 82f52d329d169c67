//! Walks over the keys of a database: SCAN, KEYS, RANDOMKEY. What has expired is left out.
#![forbid(unsafe_code)]

use super::{EntryRef, Keyspace};
use crate::{sys::random::Random, value::Object};

/// The most keys past their deadline that [`Keyspace::random_key`] removes before it is content with
/// one of them, as others may have many more.
const RANDOM_KEY_DRAWS_MAX: usize = 100;

impl Keyspace {
    /// A key of the selected database, each about equally likely; none past its deadline, unless it
    /// seems that all are.
    pub fn random_key(&mut self, random: &mut Random) -> Option<Vec<u8>> {
        let mut last = None;
        for _ in 0..RANDOM_KEY_DRAWS_MAX {
            let table = &self.databases[self.selected].table;
            let key = table.random(|| random.next_u64())?.key().to_vec();
            if self.contains(&key) {
                return Some(key);
            }
            last = Some(key);
        }
        last
    }

    /// Visits about `count` keys of the selected database from `cursor` on that have not expired, and
    /// answers where to go on, 0 at the end. A key that is there throughout is visited at least once.
    pub fn scan<'t>(
        &'t self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(EntryRef<'t, Object>),
    ) -> u64 {
        self.databases[self.selected].table.scan(cursor, count, |entry| {
            if !self.has_expired(self.selected, &entry) {
                visit(entry);
            }
        })
    }

    /// Visits every key of the selected database that has not expired. Takes its time.
    pub fn for_each(&self, mut visit: impl FnMut(EntryRef<'_, Object>)) {
        let entries = self.databases[self.selected].table.iter();
        entries.filter(|entry| !self.has_expired(self.selected, entry)).for_each(&mut visit);
    }

    /// Whether an entry of `database` has expired, itself or with all of its fields.
    pub(super) fn has_expired(&self, database: usize, entry: &EntryRef<'_, Object>) -> bool {
        self.moment.has_passed(entry.deadline())
            || self.databases[database]
                .objects
                .expired_fields(&entry.body(), self.moment.now_ms)
                .is_some()
    }
}
