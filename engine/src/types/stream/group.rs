//! A consumer group: how far it has read, its consumers, and what they have not acknowledged.
//!
//! What was delivered and not acknowledged is *pending*. The group holds every pending id with its
//! consumer, time and number of deliveries in one tree; each consumer holds its own ids in another,
//! so that its history is read in order and counted at once.
//!
//! Consumers have numbers, by which pending entries name them: a number is shorter than a name and
//! stays when names come and go.
//!
//! Invariants:
//! - an id is pending in the group if and only if it is in the tree of exactly one consumer, the one
//!   that its pending entry names;
//! - `names` and `consumers` are inverse to each other;
//! - `consumer_bytes` is the sum over the consumers' memory.
//!
//! All parts are captured in O(1); a write after a capture copies paths and chunks.
#![forbid(unsafe_code)]

use triomphe::Arc;

use super::{StreamId, entries::Entries, shared_map::SharedMap};
use crate::types::{
    Garbage,
    encoding::{
        Element,
        order::{ById, id_of},
        page::{NewRecord, Record},
        tree::Tree,
    },
};

/// From this part of a group's pending entries on, those of a consumer that goes are left behind with
/// their tree.
const REBUILD_PART: usize = 8;
/// Trees of at most so many bytes are freed at once.
const FREED_AT_ONCE_BYTES: usize = 4096;
/// Bytes of a pending entry's consumer and time; the number of deliveries stands behind them.
const PENDING_HEAD_BYTES: usize = 12;

/// A consumer's number in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerId(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whom it was delivered to.
    pub consumer: ConsumerId,
    /// When it was delivered last, Unix time in milliseconds.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// One of a group's readers.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it last tried to do something, Unix time in milliseconds; 0 if that is not known.
    pub seen_ms: i64,
    /// When it last got something, Unix time in milliseconds.
    pub active_ms: Option<i64>,
    pending: Tree<ById>,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    /// The id of the last entry that was delivered.
    pub last_id: StreamId,
    /// How many of the entries ever added were delivered, where that is known.
    pub entries_read: Option<u64>,
    pending: Tree<ById>,
    consumers: SharedMap<ConsumerId, Consumer>,
    names: SharedMap<Arc<[u8]>, ConsumerId>,
    next_number: u32,
    consumer_bytes: usize,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of entries that it has not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The ids from `start` on that it has not acknowledged.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.seek_id(start.to_number()).forward().map(|record| stream_id(&record))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.pending.memory_bytes()
    }
}

impl Group {
    /// A group without consumers.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self {
            last_id,
            entries_read,
            pending: Tree::new(),
            consumers: SharedMap::default(),
            names: SharedMap::default(),
            next_number: 0,
            consumer_bytes: 0,
        }
    }

    /// Bytes of memory behind the group.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.pending.memory_bytes() + self.consumer_bytes
    }

    /// Number of consumers.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// The number of the consumer called `name`.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.names.get(name).copied()
    }

    /// The consumer of that number, if it still is there.
    pub fn consumer(&self, number: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(&number)
    }

    /// The consumers in the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.names.iter().filter_map(|(_, number)| self.consumer(*number))
    }

    /// Adds a consumer, seen at `now_ms`, unless its name is taken: its number, and whether it is
    /// new.
    pub fn consumer_or_new(&mut self, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
        if let Some(number) = self.find_consumer(name) {
            return (number, false);
        }
        let mut number = ConsumerId(self.next_number);
        while self.consumers.get(&number).is_some() {
            number = ConsumerId(number.0.wrapping_add(1));
        }
        self.next_number = number.0.wrapping_add(1);
        let name: Arc<[u8]> = Arc::from(name);
        let consumer =
            Consumer { name: name.clone(), seen_ms: now_ms, active_ms: None, pending: Tree::new() };
        self.consumer_bytes += consumer.memory_bytes();
        self.names.insert(name, number);
        self.consumers.insert(number, consumer);
        (number, true)
    }

    /// Removes a consumer with what it has pending; how much that was, if the consumer was there.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<(usize, Garbage)> {
        let number = self.names.remove(name)?;
        let consumer = self.consumers.remove(&number)?;
        self.consumer_bytes -= consumer.memory_bytes();
        let mut freed = garbage(self.drop_pending_of(number, &consumer.pending));
        let removed = consumer.pending_len();
        freed.extend(garbage(consumer.pending));
        Some((removed, freed))
    }

    /// Takes what is pending for one consumer, whose ids are `ids`, from the group. Of a large part the
    /// rest is built anew, in one walk instead of a search for each id. What is then left of the old
    /// tree is returned.
    fn drop_pending_of(&mut self, number: ConsumerId, ids: &Tree<ById>) -> Tree<ById> {
        if ids.len() < self.pending.len() / REBUILD_PART {
            ids.iter().for_each(|record| remove_id(&mut self.pending, stream_id(&record)));
            return Tree::new();
        }
        let old = std::mem::take(&mut self.pending);
        if ids.len() < old.len() {
            let others = old.iter().filter(|record| pending_of(record).consumer != number);
            others.for_each(|Record { head, body }| {
                self.pending.push_back(&NewRecord { tag: 0, head, body });
            });
        }
        old
    }

    /// Notes that a consumer tried to do something at `now_ms`.
    pub fn saw(&mut self, number: ConsumerId, now_ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            consumer.seen_ms = now_ms;
        }
    }

    /// Notes that a consumer got something at `now_ms`.
    pub fn got(&mut self, number: ConsumerId, now_ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            consumer.active_ms = Some(now_ms);
        }
    }

    /// Sets both times of a consumer, for loading.
    pub fn set_times(&mut self, number: ConsumerId, seen_ms: i64, active_ms: Option<i64>) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            (consumer.seen_ms, consumer.active_ms) = (seen_ms, active_ms);
        }
    }

    /// Number of entries that were delivered and not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What is pending of the entry `id`.
    pub fn pending(&self, id: StreamId) -> Option<Pending> {
        let (cursor, found) = self.pending.find_id(id.to_number());
        cursor.record().filter(|_| found).map(|record| pending_of(&record))
    }

    /// What is pending from `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, Pending)> {
        let records = self.pending.seek_id(start.to_number()).forward();
        records.map(|record| (stream_id(&record), pending_of(&record)))
    }

    /// The greatest pending id.
    pub fn last_pending(&self) -> Option<StreamId> {
        self.pending.seek_end().backward().next().map(|record| stream_id(&record))
    }

    /// Makes `id` pending, whoever had it before.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        let (cursor, found) = self.pending.find_id(id.to_number());
        let before = cursor.record().filter(|_| found).map(|record| pending_of(&record).consumer);
        let path = cursor.path();
        drop(cursor);
        let mut body = [0; PENDING_HEAD_BYTES + 10];
        let len = encode(&pending, &mut body);
        let head = id.to_number().to_le_bytes();
        let record = NewRecord { tag: 0, head: &head, body: Element::Bytes(&body[..len]) };
        match before {
            Some(_) => self.pending.replace(&path, &record),
            None => self.pending.insert(&path, &record),
        }
        if before == Some(pending.consumer) {
            return;
        }
        if let Some(before) = before {
            self.change_pending_of(before, |pending| remove_id(pending, id));
        }
        self.change_pending_of(pending.consumer, |pending| insert_id(pending, id));
    }

    /// Takes `id` from what is pending; whether it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let (cursor, found) = self.pending.find_id(id.to_number());
        let Some(owner) = cursor.record().filter(|_| found).map(|record| pending_of(&record))
        else {
            return false;
        };
        let path = cursor.path();
        drop(cursor);
        self.pending.remove(&path);
        self.change_pending_of(owner.consumer, |pending| remove_id(pending, id));
        true
    }

    /// Notes that the entry `id`, which lies behind [`Self::last_id`], is delivered.
    pub fn advance(&mut self, entries: &Entries, id: StreamId) {
        let counted = self.entries_read.filter(|_| !entries.has_gap_from(id));
        self.entries_read = match counted {
            Some(read) => Some(read + 1),
            None if entries.added > 0 => entries.count_up_to(id),
            None => self.entries_read,
        };
        self.last_id = id;
    }

    /// How many entries are yet to be delivered, where that is known.
    pub fn lag(&self, entries: &Entries) -> Option<i64> {
        if entries.added == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !entries.has_gap_from(self.last_id) => Some(read),
            _ => entries.count_up_to(self.last_id),
        };
        read.map(|read| entries.added.wrapping_sub(read) as i64)
    }

    /// The memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        let mut all = garbage(self.pending);
        for (_, consumer) in self.consumers.into_owned() {
            all.extend(garbage(consumer.pending));
        }
        all
    }

    fn change_pending_of(&mut self, number: ConsumerId, change: impl FnOnce(&mut Tree<ById>)) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let before = consumer.pending.memory_bytes();
        change(&mut consumer.pending);
        self.consumer_bytes = self.consumer_bytes - before + consumer.pending.memory_bytes();
    }

    /// Checks the invariants, at the cost of reading everything. For tests.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub fn check(&self) {
        assert_eq!(self.names.len(), self.consumers.len());
        let mut bytes = 0;
        let mut pending = 0;
        for (name, number) in self.names.iter() {
            let consumer = self.consumer(*number).expect("a name has its consumer");
            assert_eq!(consumer.name(), &name[..]);
            bytes += consumer.memory_bytes();
            pending += consumer.pending_len();
            for id in consumer.pending_from(StreamId::MIN) {
                assert_eq!(self.pending(id).map(|pending| pending.consumer), Some(*number));
            }
        }
        assert_eq!(bytes, self.consumer_bytes, "memory is miscounted");
        assert_eq!(pending, self.pending_len(), "an entry is pending for nobody");
    }
}

fn garbage(tree: Tree<ById>) -> Garbage {
    match tree.memory_bytes() {
        ..=FREED_AT_ONCE_BYTES => Garbage::default(),
        _ => Garbage::of_pending(tree.into_garbage()),
    }
}

fn insert_id(tree: &mut Tree<ById>, id: StreamId) {
    let (cursor, found) = tree.find_id(id.to_number());
    debug_assert!(!found, "an entry is pending for one consumer");
    let path = cursor.path();
    drop(cursor);
    let head = id.to_number().to_le_bytes();
    tree.insert(&path, &NewRecord { tag: 0, head: &head, body: Element::Bytes(&[]) });
}

fn remove_id(tree: &mut Tree<ById>, id: StreamId) {
    let (cursor, found) = tree.find_id(id.to_number());
    debug_assert!(found, "group and consumer know the same");
    let path = cursor.path();
    drop(cursor);
    if found {
        tree.remove(&path);
    }
}

#[inline]
fn stream_id(record: &Record<'_>) -> StreamId {
    StreamId::from_number(id_of(record))
}

/// Writes a pending entry to `out`; its length. The number of deliveries, which mostly is small,
/// takes as many bytes as it needs.
fn encode(pending: &Pending, out: &mut [u8]) -> usize {
    out[..4].copy_from_slice(&pending.consumer.0.to_le_bytes());
    out[4..PENDING_HEAD_BYTES].copy_from_slice(&pending.delivered_ms.to_le_bytes());
    let count = pending.deliveries.to_le_bytes();
    let len = 8 - pending.deliveries.leading_zeros() as usize / 8;
    out[PENDING_HEAD_BYTES..PENDING_HEAD_BYTES + len].copy_from_slice(&count[..len]);
    PENDING_HEAD_BYTES + len
}

/// The pending entry of a record.
fn pending_of(record: &Record<'_>) -> Pending {
    let Element::Bytes(body) = record.body else { unreachable!("pending entries are bytes") };
    let (mut consumer, mut delivered, mut deliveries) = ([0; 4], [0; 8], [0; 8]);
    consumer.copy_from_slice(&body[..4]);
    delivered.copy_from_slice(&body[4..PENDING_HEAD_BYTES]);
    let count = &body[PENDING_HEAD_BYTES..];
    deliveries[..count.len()].copy_from_slice(count);
    Pending {
        consumer: ConsumerId(u32::from_le_bytes(consumer)),
        delivered_ms: i64::from_le_bytes(delivered),
        deliveries: u64::from_le_bytes(deliveries),
    }
}
