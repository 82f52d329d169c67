//! Who waits for which key of a shard, in the order in which they came.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use super::Waiter;
use crate::{
    keyspace::{Keyspace, awaited::DatabaseKey},
    notice::hasher,
};

/// Entries that are looked at for waiters that are over, when another one comes.
const SWEPT_A_WAITER: usize = 4;

/// The queues of one shard.
pub struct Queues {
    queues: HashMap<DatabaseKey, VecDeque<Waiter>, RandomState>,
    /// Keys whose queues are to be swept, the next one first.
    sweep: VecDeque<DatabaseKey>,
}

impl Queues {
    /// Nobody waits. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { queues: HashMap::with_hasher(hasher(seed)), sweep: VecDeque::new() }
    }

    /// Lets `waiter` wait for `key`, behind those who do so already.
    pub fn add(&mut self, keyspace: &mut Keyspace, database: u32, key: &[u8], waiter: &Waiter) {
        self.sweep(keyspace, SWEPT_A_WAITER);
        let place = (database, key.into());
        let queue = self.queues.entry(place).or_insert_with_key(|place| {
            self.sweep.push_back(place.clone());
            VecDeque::new()
        });
        queue.push_back(waiter.clone());
        keyspace.events.await_key(database, key);
    }

    /// Takes the queue of a key, for serving; [`Queues::put_back`] must follow.
    pub fn take(&mut self, place: &DatabaseKey) -> VecDeque<Waiter> {
        self.queues.get_mut(place).map(std::mem::take).unwrap_or_default()
    }

    /// Puts back those of a taken queue who wait on: `gone` of it do not.
    pub fn put_back(
        &mut self,
        keyspace: &mut Keyspace,
        place: &DatabaseKey,
        mut queue: VecDeque<Waiter>,
        gone: usize,
    ) {
        for _ in 0..gone {
            keyspace.events.await_no_more(place.0, &place.1);
        }
        let Some(known) = self.queues.get_mut(place) else { return };
        // Whoever came meanwhile stands behind.
        queue.append(known);
        *known = queue;
        if known.is_empty() {
            self.queues.remove(place);
        }
    }

    /// Drops what is over from the queues of the next keys, so many entries at least.
    pub fn sweep(&mut self, keyspace: &mut Keyspace, count: usize) {
        let mut seen = 0;
        for _ in 0..self.sweep.len() {
            if seen >= count {
                return;
            }
            let Some(place) = self.sweep.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(&place) else { continue };
            let before = queue.len();
            seen += before.max(1);
            queue.retain(|waiter| !waiter.is_over());
            let gone = before - queue.len();
            if queue.is_empty() {
                self.queues.remove(&place);
            } else {
                self.sweep.push_back(place.clone());
            }
            (0..gone).for_each(|_| keyspace.events.await_no_more(place.0, &place.1));
        }
    }
}
