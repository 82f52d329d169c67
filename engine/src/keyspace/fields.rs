//! Fields of hashes that expire: which keys have some, when the first of each is due, and their
//! removal.
//!
//! A field that has expired is invisible to every command at once: those on single fields remove
//! what they touch first ([`Keyspace::expire_touched`]), those on whole hashes leave it out. A hash
//! all of whose fields have expired goes as a whole with whoever reaches its key. The rest is removed in
//! slices when it is due, the earliest first, without looking at anything that is not:
//! [`FieldDeadlines`] knows the next key, and the hash its next field.
//!
//! Invariants:
//! - a database's [`FieldDeadlines`] holds exactly the keys whose hash has a field with a deadline,
//!   each with the earliest one: every change of a body goes through `slot`, which keeps it so;
//! - a field that is removed is recorded as HDEL, or its key as DEL, so replay never reads a clock;
//! - without such keys a command pays one comparison, and nothing is allocated.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use triomphe::Arc;

use super::{
    Body, Keyspace, KeyspaceStats,
    events::{Class, Events},
};
use crate::{types::Hash, value::Object};

/// Fields that one slice removes at most; each takes two searches in trees of the hash.
const SLICE_FIELDS: usize = 100;

/// The objects of one database, beside the table that holds them.
#[derive(Default)]
pub(super) struct Objects {
    /// Memory of the objects, which the table does not count.
    pub(super) bytes: usize,
    /// The keys that hold hashes with deadlines of fields.
    pub(super) due: FieldDeadlines,
}

impl Objects {
    /// How many fields the hash has that a key holds, if all of them have expired at `now_ms`.
    #[inline]
    pub(super) fn expired_fields(&self, body: &Body<'_, Object>, now_ms: i64) -> Option<usize> {
        match body {
            Body::Object(object) if !self.due.is_empty() => {
                hash_of(object).filter(|hash| hash.has_expired(now_ms)).map(Hash::len)
            }
            _ => None,
        }
    }
}

/// The keys of one database whose hashes have fields with deadlines, by the earliest.
#[derive(Default)]
pub(super) struct FieldDeadlines {
    by_key: BTreeMap<Arc<[u8]>, i64>,
    by_time: BTreeSet<(i64, Arc<[u8]>)>,
}

impl FieldDeadlines {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many keys there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Notes that the first field of `key` is due at `deadline`, or that none is.
    pub(super) fn note(&mut self, key: &[u8], deadline: Option<i64>) {
        let Some(deadline) = deadline else { return self.forget(key) };
        if let Some((known, at)) = self.by_key.get_key_value(key) {
            if *at == deadline {
                return;
            }
            let known = known.clone();
            self.by_time.remove(&(*at, known.clone()));
            self.by_key.insert(known.clone(), deadline);
            self.by_time.insert((deadline, known));
            return;
        }
        let key: Arc<[u8]> = Arc::from(key);
        self.by_key.insert(key.clone(), deadline);
        self.by_time.insert((deadline, key));
    }

    /// Notes that `key` is gone or holds something else.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some((known, deadline)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(deadline, known));
        }
    }

    /// When the next field is due.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// A key that has a field due at `now_ms`.
    fn next_key(&self, now_ms: i64) -> Option<Arc<[u8]>> {
        let (deadline, key) = self.by_time.first()?;
        (*deadline <= now_ms).then(|| key.clone())
    }

    /// The keys with their earliest deadlines. For tests.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        assert_eq!(self.by_key.len(), self.by_time.len(), "both orders hold the same keys");
        self.by_time.iter().map(|(deadline, key)| (&**key, *deadline))
    }
}

/// The hash that an object is.
pub(super) fn hash_of(object: &Object) -> Option<&Hash> {
    match object {
        Object::Hash(hash) => Some(hash),
        _ => None,
    }
}

/// Notes that a key of a database is gone, as all of its so many fields have expired.
#[cold]
pub(super) fn note_all_expired(
    stats: &mut KeyspaceStats,
    events: &mut Events,
    (database, key): (usize, &[u8]),
    fields: usize,
) {
    stats.expired_fields += fields as u64;
    events.report(Class::HASH, "hexpired", database, key);
    events.report(Class::GENERIC, "del", database, key);
}

impl Keyspace {
    /// Whether a hash of the selected database has a field with a deadline.
    #[inline]
    pub fn has_field_deadlines(&self) -> bool {
        !self.databases[self.selected].objects.due.is_empty()
    }

    /// When the next field of any database is due, in Unix milliseconds.
    pub fn next_field_due_ms(&self) -> Option<i64> {
        self.databases.iter().filter_map(|database| database.objects.due.next_ms()).min()
    }

    /// How many keys of `database` hold hashes with fields that have deadlines.
    pub fn field_volatile_len(&self, database: usize) -> usize {
        self.databases[database].objects.due.len()
    }

    /// Removes those of `fields` that have expired from the hash at `key`, if it is one. A command
    /// calls it before it looks at single fields, which then need no look at their deadlines.
    #[inline]
    pub fn expire_touched<'f>(&mut self, key: &[u8], fields: impl Iterator<Item = &'f [u8]>) {
        if self.has_field_deadlines() {
            self.expire_named(key, fields);
        }
    }

    #[cold]
    fn expire_named<'f>(&mut self, key: &[u8], fields: impl Iterator<Item = &'f [u8]>) {
        let now_ms = self.now_ms();
        let is_due = self.databases[self.selected]
            .objects
            .due
            .by_key
            .get(key)
            .is_some_and(|&earliest| earliest <= now_ms);
        if is_due {
            self.expire_from(self.selected, key, |hash| {
                let expired = fields.filter(|field| hash.remove_expired(field, now_ms));
                expired.map(<[u8]>::to_vec).collect()
            });
        }
    }

    /// Removes fields that are due in any database, up to a slice of them; answers whether more are
    /// due.
    pub(crate) fn expire_fields_slice(&mut self) -> bool {
        let now_ms = self.now_ms();
        let mut left = SLICE_FIELDS;
        for database in 0..self.databases.len() {
            while let Some(key) = self.databases[database].objects.due.next_key(now_ms) {
                if left == 0 {
                    return true;
                }
                let removed = self.expire_from(database, &key, |hash| {
                    let mut expired = Vec::new();
                    while expired.len() < left
                        && let Some(field) = hash.expired_field(now_ms)
                    {
                        hash.remove(&field);
                        expired.push(field);
                    }
                    expired
                });
                left = left.saturating_sub(removed.max(1));
            }
        }
        false
    }

    /// Lets `remove` take fields out of the hash at `key`, and tells that they have expired. The key
    /// goes with its last field. Answers how many fields were removed.
    fn expire_from(
        &mut self,
        database: usize,
        key: &[u8],
        remove: impl FnOnce(&mut Hash) -> Vec<Vec<u8>>,
    ) -> usize {
        let mut slot = self.slot_of(database, key);
        let changed = slot.change_object(|object| match object {
            Object::Hash(hash) => (remove(hash), hash.is_empty()),
            _ => (Vec::new(), false),
        });
        // The key itself has expired meanwhile, and its fields with it.
        let Some((fields, is_empty)) = changed else { return 0 };
        if fields.is_empty() {
            return 0;
        }
        if is_empty {
            slot.remove();
        }
        self.stats.expired_fields += fields.len() as u64;
        if self.journal.is_on() {
            let fields = fields.iter().map(Vec::as_slice);
            let arguments: Vec<&[u8]> = [&b"HDEL"[..], key].into_iter().chain(fields).collect();
            self.journal.record_expired(database, &arguments);
        }
        self.events.report(Class::HASH, "hexpired", database, key);
        if is_empty {
            self.events.report(Class::GENERIC, "del", database, key);
        }
        fields.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keyspace::{Deadline, NewBody},
        types::{Hash, Thresholds},
    };

    fn hash(deadlines: &[i64]) -> Box<Object> {
        let thresholds = Thresholds::default();
        let mut hash = Hash::new();
        for (number, &deadline) in deadlines.iter().enumerate() {
            let field = number.to_string().into_bytes();
            hash.set(&field, b"v", &thresholds);
            hash.set_deadline(&field, Some(deadline), &thresholds);
        }
        hash.set(b"stays", b"v", &thresholds);
        Box::new(Object::Hash(hash))
    }

    #[test]
    fn keys_with_deadlines_of_fields_are_known_wherever_they_go() {
        let mut keyspace = Keyspace::new(1, 2);
        keyspace.slot(b"a").put(NewBody::Object(hash(&[500, 300])), Deadline::Never);
        assert_eq!(keyspace.next_field_due_ms(), Some(300));
        let held = keyspace.take(0, b"a").expect("the key is there");
        assert_eq!(keyspace.next_field_due_ms(), None);
        keyspace.put(1, b"b", held);
        assert_eq!((keyspace.field_volatile_len(0), keyspace.field_volatile_len(1)), (0, 1));
        keyspace.swap(0, 1);
        assert!(keyspace.has_field_deadlines());
        keyspace.check();
        keyspace.slot(b"b").put(NewBody::Object(hash(&[900])), Deadline::Never);
        assert_eq!(keyspace.next_field_due_ms(), Some(900));
        keyspace.check();
        keyspace.slot(b"b").put(NewBody::Int(1), Deadline::Never);
        assert_eq!(keyspace.next_field_due_ms(), None);
        keyspace.slot(b"c").put(NewBody::Object(hash(&[900])), Deadline::At(700));
        keyspace.advance_clock_us(700_000);
        assert!(!keyspace.contains(b"c"));
        assert_eq!(keyspace.next_field_due_ms(), None);
        keyspace.slot(b"d").put(NewBody::Object(hash(&[900])), Deadline::Never);
        keyspace.flush(0);
        assert_eq!(keyspace.next_field_due_ms(), None);
        keyspace.check();
    }

    #[test]
    fn a_hash_all_of_whose_fields_have_expired_is_not_there() {
        let thresholds = Thresholds::default();
        for fields in [3, 300] {
            let mut keyspace = Keyspace::new(1, 1);
            let mut hash = Hash::new();
            for number in 0..fields {
                let field = number.to_string().into_bytes();
                hash.set(&field, b"v", &thresholds);
                hash.set_deadline(&field, Some(100 + number), &thresholds);
            }
            let object = Box::new(Object::Hash(hash));
            keyspace.slot(b"h").put(NewBody::Object(object), Deadline::Never);
            keyspace.advance_clock_us((99 + fields) * 1_000 - 1);
            assert!(keyspace.contains(b"h"), "the last field is there");
            keyspace.advance_clock_us((99 + fields) * 1_000);
            let mut seen = 0;
            keyspace.for_each(|_| seen += 1);
            assert_eq!(seen, 0);
            assert_eq!(keyspace.stats.expired_fields, 0);
            assert!(keyspace.read(b"h").is_none());
            assert_eq!((keyspace.len(0), keyspace.stats.expired_fields), (0, fields as u64));
            assert_eq!(keyspace.next_field_due_ms(), None);
            keyspace.check();
        }
    }

    #[test]
    fn fields_are_removed_in_slices_and_the_earliest_first() {
        let mut keyspace = Keyspace::new(1, 1);
        let deadlines: Vec<i64> = (1..=250).collect();
        keyspace.slot(b"h").put(NewBody::Object(hash(&deadlines)), Deadline::Never);
        keyspace.advance_clock_us(220_000);
        let mut slices = 1;
        while keyspace.expire_fields_slice() {
            slices += 1;
        }
        assert_eq!(slices, 3);
        assert_eq!(keyspace.next_field_due_ms(), Some(221));
        assert_eq!(keyspace.stats.expired_fields, 220);
        keyspace.check();
    }
}
