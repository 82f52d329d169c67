//! Keys that blocked clients wait for, and which of them have changed.
//!
//! Who waits, and for what, is known a layer above (`waiting`); here is only what the one signal of
//! changes needs, in the middle of a command: whether anybody waits for a key, and a note that it
//! may be ready now.
//!
//! Invariants:
//! - a key that is awaited and changes is noted, once until it is taken up; notes keep the order of
//!   the first change;
//! - nobody waits for a key whose count is gone.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use ahash::RandomState;

use crate::notice::hasher;

/// A key of a database.
pub type DatabaseKey = (u32, Box<[u8]>);

/// The awaited keys of one shard.
#[derive(Debug)]
pub struct Awaited {
    /// By database, how often each key is awaited, and whether it is noted as ready.
    databases: Vec<HashMap<Box<[u8]>, Waits, RandomState>>,
    hasher: RandomState,
    ready: Vec<DatabaseKey>,
    keys: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    count: usize,
    is_ready: bool,
}

impl Awaited {
    /// Nobody waits. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { databases: Vec::new(), hasher: hasher(seed), ready: Vec::new(), keys: 0 }
    }

    /// Whether no key is awaited.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// How many keys are awaited.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// One client more waits for `key`.
    pub fn add(&mut self, database: u32, key: &[u8]) {
        let at = database as usize;
        if self.databases.len() <= at {
            let empty = || HashMap::with_hasher(self.hasher.clone());
            self.databases.resize_with(at + 1, empty);
        }
        match self.databases[at].get_mut(key) {
            Some(waits) => waits.count += 1,
            None => {
                self.databases[at].insert(key.into(), Waits { count: 1, is_ready: false });
                self.keys += 1;
            }
        }
    }

    /// One client fewer waits for `key`.
    pub fn remove(&mut self, database: u32, key: &[u8]) {
        let Some(keys) = self.databases.get_mut(database as usize) else { return };
        let Some(waits) = keys.get_mut(key) else { return };
        waits.count -= 1;
        if waits.count == 0 {
            keys.remove(key);
            self.keys -= 1;
        }
    }

    /// `key` has changed.
    pub fn changed(&mut self, database: usize, key: &[u8]) {
        let waits = self.databases.get_mut(database).and_then(|keys| keys.get_mut(key));
        if let Some(waits) = waits.filter(|waits| !waits.is_ready) {
            waits.is_ready = true;
            self.ready.push((database as u32, key.into()));
        }
    }

    /// Every key of a database may have changed.
    pub fn all_changed(&mut self, database: usize) {
        let Self { databases, ready, .. } = self;
        let Some(keys) = databases.get_mut(database) else { return };
        let first = ready.len();
        for (key, waits) in keys.iter_mut().filter(|(_, waits)| !waits.is_ready) {
            waits.is_ready = true;
            ready.push((database as u32, key.clone()));
        }
        // Not in the order of hashes, which nobody could foresee.
        ready[first..].sort_unstable();
    }

    /// Whether a key has changed that is awaited.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the keys that have changed, in the order of their first change.
    pub fn take_ready(&mut self) -> Vec<DatabaseKey> {
        let ready = std::mem::take(&mut self.ready);
        for (database, key) in &ready {
            let keys = self.databases.get_mut(*database as usize);
            if let Some(waits) = keys.and_then(|keys| keys.get_mut(key)) {
                waits.is_ready = false;
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(awaited: &mut Awaited) -> Vec<(u32, String)> {
        let name = |key: Box<[u8]>| String::from_utf8(key.to_vec()).expect("text");
        awaited.take_ready().into_iter().map(|(database, key)| (database, name(key))).collect()
    }

    #[test]
    fn only_awaited_keys_are_noted_once_and_in_their_order() {
        let mut awaited = Awaited::new(1);
        awaited.add(0, b"a");
        awaited.add(0, b"a");
        awaited.add(3, b"b");
        for (database, key) in [(3, b"b"), (0, b"x"), (0, b"a"), (3, b"b"), (0, b"b")] {
            awaited.changed(database, key);
        }
        assert_eq!(keys(&mut awaited), [(3, "b".into()), (0, "a".into())]);
        awaited.changed(0, b"a");
        assert_eq!(keys(&mut awaited), [(0, "a".into())]);
        assert!(!awaited.has_ready());
    }

    #[test]
    fn a_key_is_awaited_until_the_last_one_is_gone() {
        let mut awaited = Awaited::new(1);
        awaited.add(0, b"a");
        awaited.add(0, b"a");
        awaited.remove(0, b"a");
        assert_eq!(awaited.len(), 1);
        awaited.remove(0, b"a");
        awaited.remove(0, b"a");
        assert!(awaited.is_empty());
        awaited.changed(0, b"a");
        assert!(!awaited.has_ready());
    }

    #[test]
    fn a_database_that_changes_as_a_whole_notes_all_its_keys() {
        let mut awaited = Awaited::new(1);
        for key in ["c", "a", "b"] {
            awaited.add(1, key.as_bytes());
        }
        awaited.changed(1, b"b");
        awaited.all_changed(1);
        awaited.all_changed(0);
        let expected = ["b", "a", "c"].map(|key| (1, key.to_string()));
        assert_eq!(keys(&mut awaited), expected);
    }
}
