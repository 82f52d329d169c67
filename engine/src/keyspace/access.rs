//! The ways to reach a key: each compares its deadline with the shard's time first.
//!
//! A key past its deadline is removed by whoever comes across it, and is absent from then on. While
//! expiry is held up ([`Keyspace::hold_expiry`]) it is absent for those who only look, and stays where
//! it is; a command that would change it still removes it first, as only one that may write comes
//! to that. So do WATCH, which watches that the key is not there, and what removes single fields of
//! hashes.
//!
//! Invariant: reaching a key takes one hash and one look-up, whatever is then done with it; two while
//! expiry is held up.
#![forbid(unsafe_code)]

use super::{
    Database, EntryRef, Held, Keyspace, KeyspaceStats, Slot,
    events::{Class, Events},
    expire::note_expired,
    fields,
    hash::KeyHash,
    slot,
};
use crate::value::Object;

impl Keyspace {
    /// Asks the processor for the first cache line that a command on `key` will touch. When those of
    /// a batch have been asked for, [`prefetch_entry`](Self::prefetch_entry) asks for the second.
    #[inline]
    pub fn prefetch(&self, database: usize, key: &[u8]) -> KeyHash {
        let table = &self.databases[database].table;
        let hash = table.hash(key);
        table.prefetch(hash);
        hash
    }

    /// The same for a key that will be made if it is not there.
    #[inline]
    pub fn prefetch_to_insert(&self, database: usize, key: &[u8]) -> KeyHash {
        let table = &self.databases[database].table;
        let hash = table.hash(key);
        table.prefetch_to_insert(hash);
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
            return self.look(key, !self.no_touch);
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
            if !moment.holds_expiry {
                aside.capture.preserve(&mut entry, true);
                objects.due.forget(key);
                slot::discard(entry.remove(), &mut objects.bytes, &mut aside.garbage);
                journal.record_expired(self.selected, &[b"DEL", key]);
                note_expired(stats, events, self.selected, key);
            }
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
        self.look(key, false)
    }

    /// The entry of `key` for a command that changes nothing: counts a hit or a miss.
    fn look(&mut self, key: &[u8], touch: bool) -> Option<EntryRef<'_, Object>> {
        if self.hides(self.selected, key) {
            self.stats.misses += 1;
            self.events.report(Class::MISS, "keymiss", self.selected, key);
            return None;
        }
        self.slot_counted(key, touch).into_view()
    }

    /// Whether `key` of `database` has expired and is kept all the same.
    #[inline]
    fn hides(&self, database: usize, key: &[u8]) -> bool {
        self.moment.holds_expiry && self.is_stale(database, key)
    }

    #[cold]
    fn is_stale(&self, database: usize, key: &[u8]) -> bool {
        let table = &self.databases[database].table;
        let entry = table.get(table.hash(key), key);
        entry.is_some_and(|entry| self.has_expired(database, &entry))
    }

    /// The entry of `key` without counting or noting anything.
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Option<EntryRef<'_, Object>> {
        if self.hides(self.selected, key) {
            return None;
        }
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
            journal.record_expired(number, &[b"DEL", key]);
            note_expired(stats, events, number, key);
        } else if let Some(fields) = slot.expired_fields(moment.now_ms) {
            slot = slot.vacate(key);
            journal.record_expired(number, &[b"DEL", key]);
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
        if self.hides(database, key) {
            return None;
        }
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
}
