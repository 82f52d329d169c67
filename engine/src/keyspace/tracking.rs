//! Keys that clients keep in caches of their own (CLIENT TRACKING).
//!
//! In the default mode the shard remembers which client has read which key, and tells it once when
//! the key changes. In broadcasting mode it remembers prefixes instead, and tells of every change
//! of a key that begins with one. As in Redis, a key is a name, whatever its database.
//!
//! Invariants:
//! - a client that has read a key is told of its next change, or that everything may have changed:
//!   never nothing. It may be told more often than needed;
//! - at most `keys_max` keys are remembered; to make room, clients are told that a key has changed
//!   which has not;
//! - at most [`PENDING_MAX`] changed keys wait; beyond that everything may have changed.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::notice::{ChangedKey, Client, Notice, Stale, hasher};

/// The most changed keys that wait to be told.
pub const PENDING_MAX: usize = 1 << 16;

/// What a remembered key takes besides its name and its readers: its places in both tables, and the
/// counts of what they share.
const KEY_BYTES: usize =
    size_of::<Remembered>() + size_of::<(Arc<[u8]>, u32)>() + 2 * size_of::<usize>();

/// A key that was read, and by whom.
#[derive(Debug)]
struct Remembered {
    key: Arc<[u8]>,
    readers: SmallVec<[Client; 1]>,
}

/// What the clients of one shard have cached.
#[derive(Debug)]
pub struct Tracking {
    /// Clients that track keys, whatever their mode.
    clients: BTreeSet<Client>,
    /// The place of each key in `remembered`.
    places: HashMap<Arc<[u8]>, u32, RandomState>,
    remembered: Vec<Remembered>,
    /// How many readers all keys have together.
    items: usize,
    /// Bytes of all keys.
    key_bytes: usize,
    prefixes: BTreeMap<Box<[u8]>, Vec<Client>>,
    /// Clients in broadcasting mode. What they have read before they chose it no longer counts.
    broadcasting: BTreeSet<Client>,
    /// No prefix has been longer.
    prefix_bytes_max: usize,
    /// Keys that have changed and who had read them.
    stale: Vec<(ChangedKey, SmallVec<[Client; 1]>)>,
    /// Keys that have changed and begin with a prefix.
    broadcast: Vec<ChangedKey>,
    /// Everything may have changed.
    all_stale: bool,
    /// Another shard tells of FLUSHALL and FLUSHDB, which concern all shards.
    leaves_flushes: bool,
    /// Moves the choice of keys that make room.
    evictions: usize,
}

impl Tracking {
    /// Nobody caches anything. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            clients: BTreeSet::new(),
            places: HashMap::with_hasher(hasher(seed)),
            remembered: Vec::new(),
            items: 0,
            key_bytes: 0,
            prefixes: BTreeMap::new(),
            broadcasting: BTreeSet::new(),
            prefix_bytes_max: 0,
            stale: Vec::new(),
            broadcast: Vec::new(),
            all_stale: false,
            leaves_flushes: false,
            evictions: 0,
        }
    }

    /// Leaves it to another shard to tell of FLUSHALL and FLUSHDB, so that clients are told once.
    pub fn leave_flushes(&mut self) {
        self.leaves_flushes = true;
    }

    /// Takes up a client that tracks keys; in broadcasting mode, those that begin with `prefixes`.
    /// What it had asked for before is kept.
    pub fn register<'p>(&mut self, client: Client, prefixes: impl Iterator<Item = &'p [u8]>) {
        self.clients.insert(client);
        for prefix in prefixes {
            self.broadcasting.insert(client);
            self.prefix_bytes_max = self.prefix_bytes_max.max(prefix.len());
            let clients = self.prefixes.entry(prefix.into()).or_default();
            if !clients.contains(&client) {
                clients.push(client);
            }
        }
    }

    /// Forgets a client. Keys that it has read are forgotten when they change.
    pub fn unregister(&mut self, client: Client) {
        if self.clients.remove(&client) && self.broadcasting.remove(&client) {
            self.prefixes.retain(|_, clients| {
                clients.retain(|other| *other != client);
                !clients.is_empty()
            });
        }
        if self.clients.is_empty() {
            self.places.clear();
            self.remembered.clear();
            (self.items, self.key_bytes) = (0, 0);
        }
    }

    /// Whether any client tracks keys.
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Remembers that `client` has read `key`; at most `keys_max` keys are remembered.
    pub fn read(&mut self, key: &[u8], client: Client, keys_max: usize) {
        if let Some(&place) = self.places.get(key) {
            let readers = &mut self.remembered[place as usize].readers;
            if !readers.contains(&client) {
                readers.push(client);
                self.items += 1;
            }
            return;
        }
        let key: Arc<[u8]> = key.into();
        self.key_bytes += key.len();
        self.places.insert(Arc::clone(&key), self.remembered.len() as u32);
        self.remembered.push(Remembered { key, readers: SmallVec::from_buf([client]) });
        self.items += 1;
        self.shrink(keys_max);
    }

    /// Forgets keys until at most `keys_max` are left, and tells their readers.
    pub fn shrink(&mut self, keys_max: usize) {
        while self.remembered.len() > keys_max {
            self.evictions = self.evictions.wrapping_add(1);
            // Any key but the newest: multiples of an odd number go about everywhere.
            let place =
                self.evictions.wrapping_mul(0x9e37_79b1) % (self.remembered.len() - 1).max(1);
            let Remembered { key, readers } = self.forget(place);
            self.note((Box::from(&*key), None), readers);
        }
    }

    /// `key` has changed, by `cause` if that was a client.
    pub(super) fn changed(&mut self, key: &[u8], cause: Option<Client>) {
        if let Some(&place) = self.places.get(key) {
            let Remembered { readers, .. } = self.forget(place as usize);
            self.note((key.into(), cause), readers);
        }
        if !self.prefixes.is_empty() && self.prefixes_of(key).next().is_some() {
            if self.broadcast.len() == PENDING_MAX {
                return self.give_up();
            }
            self.broadcast.push((key.into(), cause));
        }
    }

    /// All keys of a database are gone.
    pub(super) fn flushed(&mut self) {
        let is_left_to_others = self.leaves_flushes && !self.all_stale;
        self.give_up();
        self.all_stale = !is_left_to_others;
    }

    /// Everything may have changed.
    fn give_up(&mut self) {
        self.places.clear();
        self.remembered.clear();
        (self.items, self.key_bytes) = (0, 0);
        self.stale.clear();
        self.broadcast.clear();
        self.all_stale = true;
    }

    fn note(&mut self, changed: ChangedKey, mut readers: SmallVec<[Client; 1]>) {
        if !self.broadcasting.is_empty() {
            readers.retain(|reader| !self.broadcasting.contains(reader));
        }
        if readers.is_empty() {
            return;
        }
        if self.stale.len() == PENDING_MAX {
            return self.give_up();
        }
        self.stale.push((changed, readers));
    }

    fn forget(&mut self, place: usize) -> Remembered {
        let forgotten = self.remembered.swap_remove(place);
        self.places.remove(&forgotten.key);
        if let Some(moved) = self.remembered.get(place) {
            self.places.insert(Arc::clone(&moved.key), place as u32);
        }
        self.items -= forgotten.readers.len();
        self.key_bytes -= forgotten.key.len();
        forgotten
    }

    /// The registered prefixes with which `key` begins.
    fn prefixes_of<'a, 'k>(
        &'a self,
        key: &'k [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Vec<Client>)> + use<'a, 'k> {
        (0..=key.len().min(self.prefix_bytes_max)).filter_map(|len| {
            let (prefix, clients) = self.prefixes.get_key_value(&key[..len])?;
            Some((&**prefix, clients))
        })
    }

    /// Whether nothing waits to be told.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.stale.is_empty() && self.broadcast.is_empty() && !self.all_stale
    }

    /// Makes notices of what has changed, and calls `tell` with each and the worker that gets it.
    pub fn settle(&mut self, mut tell: impl FnMut(u32, Notice)) {
        if std::mem::take(&mut self.all_stale) {
            let workers: BTreeSet<u32> = self.clients.iter().map(|client| client.worker).collect();
            workers.into_iter().for_each(|worker| tell(worker, Notice::AllStale));
        }
        for (changed, readers) in std::mem::take(&mut self.stale) {
            tell_all(Arc::new(vec![changed]), false, &readers, &mut tell);
        }
        let broadcast = std::mem::take(&mut self.broadcast);
        if broadcast.is_empty() {
            return;
        }
        for (clients, keys) in self.by_prefix(&broadcast).into_values() {
            tell_all(Arc::new(keys), true, clients, &mut tell);
        }
    }

    /// The clients of each prefix with the changed keys that begin with it, each key once.
    fn by_prefix(
        &self,
        changed: &[ChangedKey],
    ) -> BTreeMap<&[u8], (&Vec<Client>, Vec<ChangedKey>)> {
        let mut by_prefix: BTreeMap<&[u8], (&Vec<Client>, Vec<ChangedKey>)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for each in changed.iter().filter(|each| seen.insert(*each)) {
            for (prefix, clients) in self.prefixes_of(&each.0) {
                by_prefix.entry(prefix).or_insert((clients, Vec::new())).1.push(each.clone());
            }
        }
        by_prefix
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.remembered.len()
    }

    /// How many readers these keys have together.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Bytes of memory that the remembered keys take, about.
    pub fn memory_bytes(&self) -> usize {
        self.remembered.len() * KEY_BYTES + self.items * size_of::<Client>() + self.key_bytes
    }

    /// How many prefixes are registered.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Checks what must always hold.
    #[cfg(test)]
    fn check(&self) {
        assert_eq!(self.places.len(), self.remembered.len());
        let items: usize = self.remembered.iter().map(|each| each.readers.len()).sum();
        assert_eq!(items, self.items);
        let key_bytes: usize = self.remembered.iter().map(|each| each.key.len()).sum();
        assert_eq!(key_bytes, self.key_bytes);
        for (place, each) in self.remembered.iter().enumerate() {
            assert_eq!(self.places[&each.key] as usize, place);
        }
    }
}

/// Tells `clients` of `keys`, once for each of their workers.
fn tell_all(
    keys: Arc<Vec<ChangedKey>>,
    broadcast: bool,
    clients: &[Client],
    tell: &mut impl FnMut(u32, Notice),
) {
    let mut by_worker: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for client in clients {
        by_worker.entry(client.worker).or_default().push(client.connection);
    }
    for (worker, to) in by_worker {
        tell(worker, Notice::Stale(Stale { keys: Arc::clone(&keys), broadcast, to }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn client(number: u64) -> Client {
        Client { worker: (number % 2) as u32, connection: number }
    }

    /// Everything told, as (client, key); `None` for all keys.
    fn told(tracking: &mut Tracking) -> Vec<(Client, Option<Vec<u8>>)> {
        let mut told = Vec::new();
        let clients: Vec<Client> = tracking.clients.iter().copied().collect();
        tracking.settle(|worker, notice| match notice {
            Notice::Stale(Stale { keys, to, .. }) => {
                for (key, _) in keys.iter() {
                    let clients = to.iter().map(|&connection| Client { worker, connection });
                    told.extend(clients.map(|client| (client, Some(key.to_vec()))));
                }
            }
            Notice::AllStale => {
                told.extend(clients.iter().filter(|c| c.worker == worker).map(|c| (*c, None)));
            }
            Notice::Message(_) => panic!("a message"),
        });
        told.sort();
        told
    }

    #[test]
    fn a_reader_is_told_once() {
        let mut tracking = Tracking::new(1);
        tracking.register(client(1), std::iter::empty());
        tracking.read(b"k", client(1), usize::MAX);
        tracking.read(b"k", client(1), usize::MAX);
        assert_eq!((tracking.keys(), tracking.items()), (1, 1));
        tracking.changed(b"k", None);
        tracking.changed(b"k", None);
        assert_eq!(told(&mut tracking), [(client(1), Some(b"k".to_vec()))]);
        assert!(tracking.is_quiet() && tracking.keys() == 0);
    }

    #[test]
    fn what_was_read_before_broadcasting_is_told_once() {
        let mut tracking = Tracking::new(1);
        tracking.register(client(1), std::iter::empty());
        tracking.register(client(2), std::iter::empty());
        tracking.read(b"k", client(1), usize::MAX);
        tracking.unregister(client(1));
        tracking.register(client(1), [b"".as_slice()].into_iter());
        tracking.changed(b"k", None);
        assert_eq!(told(&mut tracking), [(client(1), Some(b"k".to_vec()))]);
        tracking.check();
    }

    #[test]
    fn room_is_made_by_telling_readers() {
        let mut tracking = Tracking::new(1);
        tracking.register(client(1), std::iter::empty());
        for key in [b"a", b"b", b"c"] {
            tracking.read(key, client(1), 2);
            tracking.check();
        }
        assert_eq!(tracking.keys(), 2);
        assert_eq!(told(&mut tracking).len(), 1);
        assert!(tracking.places.contains_key(&b"c"[..]), "the newest stays");
        tracking.shrink(1);
        assert_eq!(tracking.keys(), 1);
    }

    #[test]
    fn prefixes_hear_of_every_change_of_their_keys_once_a_batch() {
        let mut tracking = Tracking::new(1);
        tracking.register(client(1), [&b"user:"[..], b"job:"].into_iter());
        tracking.register(client(2), [&b""[..]].into_iter());
        for key in [&b"user:1"[..], b"user:1", b"other", b"user"] {
            tracking.changed(key, Some(client(9)));
        }
        let expected = [
            (client(1), Some(b"user:1".to_vec())),
            (client(2), Some(b"other".to_vec())),
            (client(2), Some(b"user".to_vec())),
            (client(2), Some(b"user:1".to_vec())),
        ];
        let mut told = told(&mut tracking);
        told.sort_by_key(|(client, _)| client.connection);
        assert_eq!(told, expected);
        tracking.unregister(client(2));
        assert_eq!(tracking.prefixes(), 2);
        tracking.changed(b"other", None);
        assert!(tracking.is_quiet());
    }

    #[test]
    fn a_flush_is_told_by_one_shard_and_forgets_everything() {
        for leaves in [false, true] {
            let mut tracking = Tracking::new(1);
            tracking.register(client(1), std::iter::empty());
            tracking.read(b"k", client(1), usize::MAX);
            if leaves {
                tracking.leave_flushes();
            }
            tracking.flushed();
            tracking.flushed();
            let expected = if leaves { vec![] } else { vec![(client(1), None)] };
            assert_eq!(told(&mut tracking), expected);
            assert_eq!((tracking.keys(), tracking.items()), (0, 0));
        }
    }

    #[test]
    fn too_many_changes_become_one_that_concerns_everything() {
        let mut tracking = Tracking::new(1);
        tracking.leave_flushes();
        tracking.register(client(1), [&b""[..]].into_iter());
        for number in 0..=PENDING_MAX {
            tracking.changed(&number.to_le_bytes(), None);
        }
        assert_eq!(told(&mut tracking), [(client(1), None)]);
    }

    proptest! {
        #[test]
        fn nobody_keeps_a_changed_key(
            ops in vec((0..4_u8, 0..6_u8, 0..3_u64), 0..120), keys_max in 0..5_usize,
        ) {
            let mut tracking = Tracking::new(1);
            let mut cached: BTreeSet<(Client, Vec<u8>)> = BTreeSet::new();
            (0..3).for_each(|number| tracking.register(client(number), std::iter::empty()));
            for (op, key, number) in ops {
                let key = vec![b'k', key];
                match op {
                    0 | 1 => {
                        // The cache is told of what made room before it takes up the answer.
                        tracking.read(&key, client(number), keys_max);
                        cached.insert((client(number), key));
                    }
                    2 => {
                        tracking.changed(&key, None);
                        drop_told(&mut tracking, &mut cached);
                        prop_assert!(cached.iter().all(|(_, kept)| *kept != key));
                    }
                    _ => drop_told(&mut tracking, &mut cached),
                }
                tracking.check();
                prop_assert!(tracking.keys() <= keys_max);
            }
            tracking.flushed();
            drop_told(&mut tracking, &mut cached);
            prop_assert!(cached.is_empty());
        }
    }

    fn drop_told(tracking: &mut Tracking, cached: &mut BTreeSet<(Client, Vec<u8>)>) {
        for (client, key) in told(tracking) {
            cached.retain(|(other, kept)| {
                *other != client || key.as_ref().is_some_and(|key| key != kept)
            });
        }
    }
}
