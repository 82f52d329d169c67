//! Watched keys: clients whose transaction is to fail if a key changes before it (WATCH).
//!
//! A client's [`Watcher`] is a mark that shards set when one of its keys changes. A shard remembers
//! by key which watchers to mark, and hears of changes through the one signal for them (`events`).
//!
//! Why the shard holds only weak references: a client that watches no more drops its watcher and need
//! not tell the shards. What they still remember of it is dead, and is swept away a little with each
//! key that is watched and each tick.
//!
//! Invariants:
//! - a watcher that is alive is marked by every change of a key behind its registration, until the
//!   first one: after that there is nothing more to mark, so the key's registrations are dropped;
//! - `places` and `entries` name each other: the entry of a key stands where its place says.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ahash::RandomState;

use crate::notice::hasher;

/// Entries that are looked at for dead watchers when another key is watched.
const SWEPT_A_WATCH: usize = 2;

/// Whether a key that one client watches has changed. Clones are the same mark.
#[derive(Clone, Debug, Default)]
pub struct Watcher(Arc<AtomicBool>);

impl Watcher {
    /// Whether one of the keys has changed.
    pub fn is_dirty(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Those who watch one key.
pub type Watchers = Vec<Weak<AtomicBool>>;

#[derive(Debug)]
struct Watched {
    database: usize,
    key: Arc<[u8]>,
    watchers: Watchers,
}

/// The watched keys of one shard.
#[derive(Debug)]
pub struct WatchTable {
    entries: Vec<Watched>,
    /// The index of each key in `entries`, by database.
    places: Vec<HashMap<Arc<[u8]>, usize, RandomState>>,
    hasher: RandomState,
    /// Where the sweep goes on.
    swept: usize,
}

impl WatchTable {
    /// Nobody watches anything. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let (entries, places) = (Vec::new(), Vec::new());
        Self { entries, places, hasher: hasher(seed), swept: 0 }
    }

    /// Whether no key is watched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys are watched, or were until their watchers died.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Marks `watcher` when `key` of `database` changes.
    pub fn watch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        self.sweep(SWEPT_A_WATCH);
        self.put(database, key, vec![Arc::downgrade(&watcher.0)]);
    }

    /// Forgets that `watcher` watches `key`.
    pub fn unwatch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        let Some(at) = self.find(database, key) else { return };
        let mark = Arc::as_ptr(&watcher.0);
        let watchers = &mut self.entries[at].watchers;
        watchers.retain(|known| !std::ptr::eq(known.as_ptr(), mark));
        if watchers.is_empty() {
            self.remove(at);
        }
    }

    /// Marks all who watch `key` of `database`.
    pub fn changed(&mut self, database: usize, key: &[u8]) {
        for watcher in self.take(database, key).unwrap_or_default() {
            if let Some(mark) = watcher.upgrade() {
                mark.store(true, Ordering::Release);
            }
        }
    }

    /// Marks all who watch a key of `database` for which `is_changed` holds.
    pub fn changed_where(&mut self, database: usize, is_changed: impl Fn(&[u8]) -> bool) {
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            if entry.database == database && is_changed(&entry.key) {
                let key = entry.key.clone();
                // Another entry takes this one's place.
                self.changed(database, &key);
            } else {
                at += 1;
            }
        }
    }

    /// Takes away who watches a key, for another shard to which the key is moved.
    pub fn take(&mut self, database: usize, key: &[u8]) -> Option<Watchers> {
        let at = self.find(database, key)?;
        Some(self.remove(at).watchers)
    }

    /// Adds those who watch a key.
    pub fn put(&mut self, database: usize, key: &[u8], watchers: Watchers) {
        if let Some(at) = self.find(database, key) {
            return self.entries[at].watchers.extend(watchers);
        }
        let key: Arc<[u8]> = key.into();
        if self.places.len() <= database {
            let empty = || HashMap::with_hasher(self.hasher.clone());
            self.places.resize_with(database + 1, empty);
        }
        self.places[database].insert(Arc::clone(&key), self.entries.len());
        self.entries.push(Watched { database, key, watchers });
    }

    /// Looks at so many entries and drops what is dead in them.
    pub fn sweep(&mut self, count: usize) {
        for _ in 0..count.min(self.entries.len()) {
            if self.swept >= self.entries.len() {
                self.swept = 0;
            }
            let watchers = &mut self.entries[self.swept].watchers;
            watchers.retain(|watcher| watcher.strong_count() > 0);
            if watchers.is_empty() {
                self.remove(self.swept);
            } else {
                self.swept += 1;
            }
            if self.entries.is_empty() {
                return;
            }
        }
    }

    fn find(&self, database: usize, key: &[u8]) -> Option<usize> {
        self.places.get(database)?.get(key).copied()
    }

    /// Removes an entry; the last one takes its place.
    fn remove(&mut self, at: usize) -> Watched {
        let removed = self.entries.swap_remove(at);
        self.places[removed.database].remove(&removed.key);
        if let Some(moved) = self.entries.get(at)
            && let Some(place) = self.places[moved.database].get_mut(&moved.key)
        {
            *place = at;
        }
        removed
    }

    #[cfg(test)]
    fn check(&self) {
        let places: usize = self.places.iter().map(HashMap::len).sum();
        assert_eq!(places, self.entries.len());
        for (at, entry) in self.entries.iter().enumerate() {
            assert_eq!(self.find(entry.database, &entry.key), Some(at));
            assert!(!entry.watchers.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// One step of a random run; clients and keys are small numbers.
    #[derive(Clone, Debug)]
    enum Step {
        Watch { client: usize, database: usize, key: u8 },
        Unwatch { client: usize, database: usize, key: u8 },
        Leave { client: usize },
        Change { database: usize, key: u8 },
        ChangeBelow { database: usize, key: u8 },
        Sweep,
    }

    fn steps() -> impl Strategy<Value = Step> {
        let (client, database, key) = (0..4usize, 0..2usize, 0..6u8);
        let named = (client.clone(), database.clone(), key.clone());
        let of_key = (database, key);
        prop_oneof![
            4 => named.clone().prop_map(|(client, database, key)| Step::Watch { client, database, key }),
            2 => named.prop_map(|(client, database, key)| Step::Unwatch { client, database, key }),
            1 => client.prop_map(|client| Step::Leave { client }),
            2 => of_key.clone().prop_map(|(database, key)| Step::Change { database, key }),
            1 => of_key.prop_map(|(database, key)| Step::ChangeBelow { database, key }),
            1 => Just(Step::Sweep),
        ]
    }

    /// A client of the model: its watcher, what it watches, and whether it should be dirty.
    #[derive(Default)]
    struct Client {
        watcher: Watcher,
        keys: Vec<(usize, u8)>,
        is_dirty: bool,
    }

    fn change(clients: &mut [Client], changed: impl Fn((usize, u8)) -> bool) {
        for client in clients {
            client.is_dirty |= client.keys.iter().any(|&key| changed(key));
        }
    }

    proptest! {
        #[test]
        fn who_watches_a_key_that_changes_is_marked_and_nobody_else(steps in vec(steps(), 1..80)) {
            let mut table = WatchTable::new(7);
            let mut clients: Vec<Client> = (0..4).map(|_| Client::default()).collect();
            for step in steps {
                match step {
                    Step::Watch { client, database, key } => {
                        let client = &mut clients[client];
                        if !client.keys.contains(&(database, key)) {
                            table.watch(database, &[key], &client.watcher);
                            client.keys.push((database, key));
                        }
                    }
                    Step::Unwatch { client, database, key } => {
                        let client = &mut clients[client];
                        table.unwatch(database, &[key], &client.watcher);
                        client.keys.retain(|&watched| watched != (database, key));
                    }
                    Step::Leave { client } => clients[client] = Client::default(),
                    Step::Change { database, key } => {
                        table.changed(database, &[key]);
                        change(&mut clients, |watched| watched == (database, key));
                    }
                    Step::ChangeBelow { database, key } => {
                        table.changed_where(database, |other| other[0] < key);
                        change(&mut clients, |(of, other)| of == database && other < key);
                    }
                    Step::Sweep => table.sweep(3),
                }
                table.check();
                for client in &clients {
                    prop_assert_eq!(client.watcher.is_dirty(), client.is_dirty);
                }
            }
            clients.clear();
            table.sweep(100);
            prop_assert!(table.is_empty());
        }
    }

    #[test]
    fn watchers_move_with_their_key() {
        let (mut from, mut to) = (WatchTable::new(1), WatchTable::new(2));
        let watcher = Watcher::default();
        from.watch(0, b"k", &watcher);
        let moved = from.take(0, b"k").expect("it is watched");
        to.put(0, b"k", moved);
        from.changed(0, b"k");
        assert!(!watcher.is_dirty());
        to.changed(0, b"k");
        assert!(watcher.is_dirty() && to.is_empty());
    }
}
