//! Eviction: which key goes when memory is short.
//!
//! As in Redis nothing is kept in order of use; that would cost every read a write. Instead a few
//! keys of each database are sampled, and the best of them stand in a small [`Pool`] over the
//! samples of many evictions, so that what goes is among the worst of some dozens of keys and not of
//! five. What a key in the pool is worth is looked up again before it goes: one that was used since
//! stays.
//!
//! | policy | goes first | among |
//! |---|---|---|
//! | `*-lru` | longest unused | `allkeys-`: all keys; `volatile-`: those with a deadline |
//! | `*-lfu` | least frequently used, as far as the counter tells | as above |
//! | `*-random` | any, the databases in turn | as above |
//! | `volatile-ttl` | nearest deadline | those with a deadline |
//!
//! Invariants:
//! - a key that is evicted goes the way of every removal: a capture under way preserves it, the
//!   journal records a DEL, and who watches, caches or is notified hears of it;
//! - one call evicts at most as many keys as it is told, each in a bounded number of steps; large
//!   values are freed in slices afterwards (`garbage`);
//! - a volatile policy never evicts a key without a deadline.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    EntryRef, Keyspace, Moment,
    events::Class,
    table::Among,
    usage::{Policy, idle_seconds},
};
use crate::{sys::clock::Clock, value::Object};

/// Keys that the pool remembers, as in Redis.
const POOL_MAX: usize = 16;
/// How often the pool is filled again when all that it held has gone or was used since.
const FILLINGS_MAX: usize = 4;
/// Draws of random keys, for the policies that want them, before the others have their turn.
const DRAWS_MAX: usize = 4;

/// What makes a key the next to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It has been unused for longest.
    Recency,
    /// It is used least frequently.
    Frequency,
    /// Its deadline is nearest.
    Deadline,
    /// Chance.
    Random,
}

/// `maxmemory-policy`, but for `noeviction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Which keys may go at all.
    pub among: Among,
    /// Which of them go first.
    pub order: Order,
    /// `maxmemory-samples`: keys of each database that are looked at for an eviction.
    pub samples: usize,
}

/// A key that may go.
#[derive(Debug)]
struct Candidate {
    /// The greater, the sooner it goes.
    score: u64,
    database: u32,
    key: SmallVec<[u8; 40]>,
}

/// The best candidates of the last samples.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// In ascending order of their scores, at most [`POOL_MAX`], each key once.
    candidates: Vec<Candidate>,
}

impl Pool {
    /// Forgets all: scores of another policy say nothing.
    pub(crate) fn clear(&mut self) {
        self.candidates.clear();
    }

    /// Takes a key up if it is better than the worst one, or if there is room.
    fn offer(&mut self, score: u64, database: u32, key: &[u8]) {
        let is_full = self.candidates.len() >= POOL_MAX;
        if is_full && self.candidates.first().is_some_and(|worst| score <= worst.score) {
            return;
        }
        let is_same = |it: &Candidate| it.database == database && it.key.as_slice() == key;
        if let Some(known) = self.candidates.iter().position(is_same) {
            self.candidates.remove(known);
        } else if is_full {
            self.candidates.remove(0);
        }
        let at = self.candidates.partition_point(|it| it.score < score);
        let key = SmallVec::from_slice(key);
        self.candidates.insert(at, Candidate { score, database, key });
    }
}

/// What came of a call to evict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// Keys that went.
    pub(crate) keys: usize,
    /// Bytes that this has freed, or will when the garbage is freed.
    pub(crate) bytes: usize,
}

impl Keyspace {
    /// Evicts keys until at least `bytes` are freed or `keys_max` keys have gone, or until there are
    /// no more that may go, or none that a few samples have found.
    pub(crate) fn evict(
        &mut self,
        eviction: Eviction,
        pool: &mut Pool,
        (bytes, keys_max): (usize, usize),
    ) -> Evicted {
        let mut evicted = Evicted::default();
        while evicted.bytes < bytes && evicted.keys < keys_max {
            let found = match eviction.order {
                Order::Random => self.random_candidate(eviction.among),
                _ => self.best_candidate(eviction, pool),
            };
            let Some((database, key)) = found else { break };
            let before = self.database_bytes(database);
            self.evict_key(database, &key);
            evicted.keys += 1;
            evicted.bytes += before.saturating_sub(self.database_bytes(database));
        }
        evicted
    }

    /// Whether any key may go.
    pub(crate) fn has_evictable(&self, among: Among) -> bool {
        (0..self.database_count()).any(|database| self.evictable(database, among) > 0)
    }

    /// How many keys of `database` may go.
    fn evictable(&self, database: usize, among: Among) -> usize {
        match among {
            Among::All => self.len(database),
            Among::Volatile => self.volatile_len(database),
        }
    }

    /// Removes a key to make room. One whose deadline has passed has expired instead.
    fn evict_key(&mut self, database: usize, key: &[u8]) {
        if self.slot_of(database, key).remove() {
            self.journal.record_gone(database, key);
            self.stats.evicted += 1;
            self.events.report(Class::EVICTED, "evicted", database, key);
        }
    }

    /// The key that is to go next, by samples and what is left of earlier ones.
    fn best_candidate(
        &mut self,
        eviction: Eviction,
        pool: &mut Pool,
    ) -> Option<(usize, SmallVec<[u8; 40]>)> {
        for _ in 0..FILLINGS_MAX {
            self.fill(eviction, pool);
            while let Some(Candidate { score, database, key }) = pool.candidates.pop() {
                let now = self.score_now(eviction, database as usize, &key);
                if now.is_some_and(|now| now >= score) {
                    return Some((database as usize, key));
                }
            }
        }
        None
    }

    /// Samples every database that has keys which may go.
    fn fill(&mut self, eviction: Eviction, pool: &mut Pool) {
        let Eviction { among, order, samples } = eviction;
        let scorer = Scorer { order, policy: self.moment.policy, clock: self.moment.clock };
        let Self { databases, random, .. } = self;
        for (number, database) in (0..).zip(databases) {
            let draw = || random.next_u64();
            database.table.sample(samples, among, draw, |entry| {
                pool.offer(scorer.score(entry), number, entry.key());
            });
        }
    }

    /// What a key is worth now, if it is there and may go.
    fn score_now(&self, eviction: Eviction, database: usize, key: &[u8]) -> Option<u64> {
        let table = &self.databases[database].table;
        let entry = table.get(table.hash(key), key)?;
        if eviction.among == Among::Volatile {
            entry.deadline()?;
        }
        let Moment { policy, clock, .. } = self.moment;
        Some(Scorer { order: eviction.order, policy, clock }.score(entry))
    }

    /// Any key that may go, of the databases in turn.
    fn random_candidate(&mut self, among: Among) -> Option<(usize, SmallVec<[u8; 40]>)> {
        let Self { databases, random, next_victim, .. } = self;
        let mut draw = || random.next_u64();
        for _ in 0..databases.len().max(DRAWS_MAX) {
            *next_victim = (*next_victim + 1) % databases.len();
            let table = &databases[*next_victim].table;
            let mut found = None;
            match among {
                Among::All => found = table.random(&mut draw),
                Among::Volatile => table.sample(1, among, &mut draw, |it| found = Some(it)),
            }
            if let Some(entry) = found {
                return Some((*next_victim, SmallVec::from_slice(entry.key())));
            }
        }
        None
    }
}

/// What decides who goes first, fixed while keys are compared.
#[derive(Clone, Copy)]
struct Scorer {
    order: Order,
    policy: Policy,
    clock: Clock,
}

impl Scorer {
    /// The greater, the sooner the key goes.
    fn score(self, entry: EntryRef<'_, Object>) -> u64 {
        match self.order {
            Order::Recency => idle_seconds(entry.lru(), self.clock).into(),
            Order::Frequency => (u8::MAX - self.policy.frequency(entry.lru(), self.clock)).into(),
            // What has no deadline goes last; it is not asked for.
            Order::Deadline => {
                let deadline = entry.deadline().unwrap_or(i64::MAX);
                u64::MAX - u64::try_from(deadline).unwrap_or(0)
            }
            Order::Random => 0,
        }
    }
}

#[cfg(test)]
mod tests;
