//! Who waits for which key of a shard, in the order in which they came.
//!
//! Those who want different things of a key stand in different lines: a list serves nobody who wants
//! members of a sorted set, and an entry that one reader of a group has got leaves nothing for the
//! others of that group. So a change costs as much as the number of those whom it serves, however
//! many wait.
//!
//! Invariants:
//! - a key is awaited in the keyspace's eyes exactly as often as it has entries here;
//! - no line is empty, and no key is without one;
//! - whoever leaves a line by [`Queues::next`] has given its word: nobody else answers it.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;

use super::Waiter;
use crate::{
    command::{
        stream::wait::{self, News},
        waiting::{Want, want},
    },
    keyspace::{Keyspace, awaited::DatabaseKey},
    notice::hasher,
    types::StreamId,
    value::{ValueType, value_type},
};

/// Entries that are looked at for waiters that are over, when another one comes: more than one, so
/// that the dead are never many more than the living.
const SWEPT_A_WAITER: usize = 2;

/// The queues of one shard.
pub struct Queues {
    queues: HashMap<Arc<DatabaseKey>, Queue, RandomState>,
    /// All entries, those to be looked at next first; some of them are gone from their lines.
    sweep: VecDeque<Entry>,
    /// Numbers the entries.
    added: u64,
    /// A planted fault: each entry comes before those that are there.
    #[cfg(test)]
    pub(crate) last_first: bool,
}

/// Those who wait for one key.
#[derive(Default)]
struct Queue {
    elements: Line,
    members: Line,
    readers: Line,
    groups: BTreeMap<Arc<[u8]>, Line>,
}

/// Those who want the same: in the order in which they came; readers of a stream by the id behind
/// which they read, so that those who have to be served stand together.
#[derive(Default)]
struct Line(BTreeMap<Place, Waiter>);

/// An id for readers of a stream, the same for all others; and the number of the entry.
type Place = (StreamId, u64);

/// In which of a key's lines somebody stands.
#[derive(Clone)]
enum Kind {
    Elements,
    Members,
    Readers,
    Group(Arc<[u8]>),
}

/// Where somebody stands.
struct Entry {
    key: Arc<DatabaseKey>,
    kind: Kind,
    place: Place,
}

impl Queues {
    /// Nobody waits. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            queues: HashMap::with_hasher(hasher(seed)),
            sweep: VecDeque::new(),
            added: 0,
            #[cfg(test)]
            last_first: false,
        }
    }

    /// Lets `waiter` wait for `key`, behind those who do so already.
    pub fn add(&mut self, keyspace: &mut Keyspace, key: &[u8], waiter: &Waiter) {
        self.sweep(keyspace, SWEPT_A_WAITER);
        let Some(call) = waiter.call() else { return };
        let (kind, id) = match want(call.command, &call.args, key) {
            Want::Elements => (Kind::Elements, StreamId::MIN),
            Want::Members => (Kind::Members, StreamId::MIN),
            Want::Entries(behind) => (Kind::Readers, behind),
            Want::Unread(group) => (Kind::Group(group.into()), StreamId::MIN),
        };
        self.added += 1;
        let place = (id, self.number());
        let key: Arc<DatabaseKey> = Arc::new((call.database, key.into()));
        let queue = self.queues.entry(Arc::clone(&key)).or_default();
        queue.line_or_new(&kind).0.insert(place, waiter.clone());
        keyspace.events.await_key(key.0, &key.1);
        self.sweep.push_back(Entry { key, kind, place });
    }

    /// Keys whose removal somebody waits for: the groups of a stream go with it, which those who read
    /// by a group are told.
    pub fn awaited_to_go(&self) -> usize {
        let waits = |queue: &&Queue| queue.groups.values().any(|line| !line.0.is_empty());
        self.queues.values().filter(waits).count()
    }

    /// The number of the entry that was added last.
    fn number(&self) -> u64 {
        #[cfg(test)]
        if self.last_first {
            return u64::MAX - self.added;
        }
        self.added
    }

    /// Takes out the next one whom the key's present value serves, and takes its word; nothing if there
    /// is none, or if its turn has come and `may_serve` says no.
    pub fn next(
        &mut self,
        keyspace: &mut Keyspace,
        key: &DatabaseKey,
        may_serve: impl Fn(&Waiter) -> bool,
    ) -> Option<Waiter> {
        let queue = self.queues.get_mut(key)?;
        keyspace.select(key.0 as usize, true);
        let before = queue.len();
        let next = queue.next(keyspace, &key.1, may_serve);
        let gone = before - queue.len();
        if queue.len() == 0 {
            self.queues.remove(key);
        }
        (0..gone).for_each(|_| keyspace.events.await_no_more(key.0, &key.1));
        next
    }

    /// Drops waiters that are over, looking at `count` entries.
    pub fn sweep(&mut self, keyspace: &mut Keyspace, count: usize) {
        for _ in 0..count.min(self.sweep.len()) {
            let Some(entry) = self.sweep.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(&entry.key) else { continue };
            let Some(line) = queue.line(&entry.kind) else { continue };
            match line.0.get(&entry.place) {
                Some(waiter) if !waiter.is_over() => self.sweep.push_back(entry),
                Some(_) => {
                    line.0.remove(&entry.place);
                    queue.groups.retain(|_, line| !line.0.is_empty());
                    if queue.len() == 0 {
                        self.queues.remove(&entry.key);
                    }
                    keyspace.events.await_no_more(entry.key.0, &entry.key.1);
                }
                None => {}
            }
        }
    }
}

impl Queue {
    fn len(&self) -> usize {
        let lines = [&self.elements, &self.members, &self.readers];
        lines.into_iter().chain(self.groups.values()).map(|line| line.0.len()).sum()
    }

    fn line(&mut self, kind: &Kind) -> Option<&mut Line> {
        match kind {
            Kind::Elements => Some(&mut self.elements),
            Kind::Members => Some(&mut self.members),
            Kind::Readers => Some(&mut self.readers),
            Kind::Group(name) => self.groups.get_mut(name),
        }
    }

    fn line_or_new(&mut self, kind: &Kind) -> &mut Line {
        match kind {
            Kind::Elements => &mut self.elements,
            Kind::Members => &mut self.members,
            Kind::Readers => &mut self.readers,
            Kind::Group(name) => self.groups.entry(Arc::clone(name)).or_default(),
        }
    }

    /// See [`Queues::next`].
    fn next(
        &mut self,
        keyspace: &mut Keyspace,
        key: &[u8],
        may_serve: impl Fn(&Waiter) -> bool,
    ) -> Option<Waiter> {
        let held = keyspace.peek(key).map(|entry| value_type(&entry.body()));
        match held {
            Some(ValueType::List) => return self.elements.next(may_serve),
            Some(ValueType::Zset) => return self.members.next(may_serve),
            Some(ValueType::Stream) => {
                let last_id = wait::last_live_id(keyspace, key).unwrap_or(StreamId::MIN);
                let reader = self.readers.next_before(last_id, &may_serve);
                if reader.is_some() {
                    return reader;
                }
            }
            _ => {}
        }
        self.next_of_groups(keyspace, key, may_serve)
    }

    fn next_of_groups(
        &mut self,
        keyspace: &mut Keyspace,
        key: &[u8],
        may_serve: impl Fn(&Waiter) -> bool,
    ) -> Option<Waiter> {
        let mut next = None;
        self.groups.retain(|name, line| {
            if next.is_none()
                && let Some(news) = wait::news(keyspace, key, name)
            {
                next = line.next(|waiter| news == News::Gone || may_serve(waiter));
            }
            !line.0.is_empty()
        });
        next
    }
}

impl Line {
    /// Takes out the first one whose wait is not over.
    fn next(&mut self, may_serve: impl Fn(&Waiter) -> bool) -> Option<Waiter> {
        self.next_before(StreamId::MAX, may_serve)
    }

    /// The same for those who read behind an id below `last_id`.
    fn next_before(
        &mut self,
        last_id: StreamId,
        may_serve: impl Fn(&Waiter) -> bool,
    ) -> Option<Waiter> {
        while let Some(first) = self.0.first_entry().filter(|first| first.key().0 < last_id) {
            if !first.get().is_over() && !may_serve(first.get()) {
                return None;
            }
            let waiter = first.remove();
            if waiter.claim() {
                return Some(waiter);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

    use super::*;
    use crate::{
        command::table,
        shard::{Call, Caller, Settings, Shard},
    };

    fn with_call<T>(line: &str, work: impl FnOnce(&Call<'_>) -> T) -> T {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        work(&Call { command, args, database: 0, protocol, no_touch: false, caller })
    }

    fn run(shard: &mut Shard, line: &str) {
        let outcome = with_call(line, |call| shard.execute(call, &mut ReplyBuffer::new()));
        assert!(outcome.is_ok(), "{line}");
    }

    fn waiter(line: &str) -> Waiter {
        with_call(line, |call| Waiter::new(call, 0, false))
    }

    /// Those who are served at `key`, by the number of their line, and how many were looked at.
    fn served(queues: &mut Queues, shard: &mut Shard, waiters: &[Waiter]) -> (Vec<usize>, usize) {
        let (key, looks) = ((0, (*b"k").into()), Cell::new(0));
        let (mut served, at_most) = (Vec::new(), 3);
        while served.len() < at_most
            && let Some(next) = queues.next(&mut shard.keyspace, &key, |_| {
                looks.set(looks.get() + 1);
                true
            })
        {
            served.extend(waiters.iter().position(|waiter| waiter.is(&next)));
        }
        (served, looks.get())
    }

    #[test]
    fn a_change_looks_at_those_whom_it_serves_and_no_others() {
        let mut shard = Shard::new(1, Settings::default());
        let mut queues = Queues::new(1);
        run(&mut shard, "XGROUP CREATE k g 0 MKSTREAM");
        run(&mut shard, "XADD k 5-1 f v");
        run(&mut shard, "XREADGROUP GROUP g c STREAMS k >");
        let lines = [
            "BLPOP k 0",
            "BZPOPMIN k 0",
            "XREAD BLOCK 0 STREAMS k 5-1",
            "XREAD BLOCK 0 STREAMS k 7-1",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS k >",
        ];
        let waiters: Vec<Waiter> = (0..1_000).map(|nth| waiter(lines[nth % 5])).collect();
        waiters.iter().for_each(|waiter| queues.add(&mut shard.keyspace, b"k", waiter));
        assert_eq!(shard.keyspace.events.awaited_keys(), 1);
        assert_eq!(served(&mut queues, &mut shard, &waiters), (vec![], 0), "nothing has come");
        run(&mut shard, "XADD k 6-1 f v");
        assert_eq!(served(&mut queues, &mut shard, &waiters), (vec![2, 7, 12], 3));
        run(&mut shard, "DEL k");
        assert_eq!(served(&mut queues, &mut shard, &waiters), (vec![4, 9, 14], 0), "it is gone");
        run(&mut shard, "RPUSH k v");
        assert_eq!(served(&mut queues, &mut shard, &waiters), (vec![0, 5, 10], 3));
        run(&mut shard, "DEL k");
        run(&mut shard, "ZADD k 1 m");
        assert_eq!(served(&mut queues, &mut shard, &waiters), (vec![1, 6, 11], 3));
    }

    #[test]
    fn those_whose_wait_is_over_are_dropped_wherever_they_stand() {
        let mut shard = Shard::new(1, Settings::default());
        let mut queues = Queues::new(1);
        let waiters: Vec<Waiter> = (0..100).map(|_| waiter("BLPOP k l 0")).collect();
        for waiter in &waiters {
            queues.add(&mut shard.keyspace, b"k", waiter);
            queues.add(&mut shard.keyspace, b"l", waiter);
        }
        assert!(waiters[3..].iter().all(Waiter::claim));
        run(&mut shard, "RPUSH k v");
        assert_eq!(served(&mut queues, &mut shard, &waiters).0, [0, 1, 2]);
        queues.sweep(&mut shard.keyspace, 1_000);
        assert_eq!(shard.keyspace.events.awaited_keys(), 0);
        assert!(queues.queues.is_empty() && queues.sweep.is_empty());
    }
}
