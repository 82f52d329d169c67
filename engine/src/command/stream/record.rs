//! What is recorded of changes to consumer groups.
//!
//! What a group delivers depends on time and on what others have read, so what came of it is
//! recorded instead, in the words that Redis uses for its log and its replicas: each pending entry
//! as an XCLAIM that sets owner, time and count whatever they were, the group's place as XGROUP
//! SETID, a new consumer as XGROUP CREATECONSUMER.
//!
//! A shard that replays does not know the time: its clock stands at 0. XCLAIM then takes the
//! recorded time as it is.
#![forbid(unsafe_code)]

use crate::{
    command::Context,
    types::{
        StreamId,
        stream::{Group, Pending},
    },
};

/// A group by the names that lead to it.
#[derive(Clone, Copy)]
pub(super) struct GroupName<'a> {
    pub(super) key: &'a [u8],
    pub(super) group: &'a [u8],
}

/// What happened to a group, gathered while it is borrowed.
#[derive(Default)]
pub(super) struct GroupChanges {
    /// Whether anybody wants to know the rest.
    recorded: bool,
    /// Whether the consumer is new.
    pub(super) created: bool,
    /// Entries that are pending now, or no longer because they do not exist.
    pending: Vec<PendingChange>,
    /// The group's place, if it has moved.
    position: Option<(StreamId, Option<u64>)>,
    /// How many entries were delivered, claimed or dropped.
    pub(super) count: u64,
}

struct PendingChange {
    id: StreamId,
    consumer: Box<[u8]>,
    delivered_ms: i64,
    deliveries: u64,
    last_id: StreamId,
}

impl GroupChanges {
    /// Nothing yet.
    pub(super) fn new(cx: &Context<'_>) -> Self {
        Self { recorded: cx.records(), ..Self::default() }
    }

    /// Notes that `id` is pending as `pending` says, unless the entry does not exist.
    pub(super) fn pending(&mut self, group: &Group, id: StreamId, pending: Pending) {
        self.count += 1;
        if !self.recorded {
            return;
        }
        let name = group.consumer(pending.consumer).map_or(&b""[..], |consumer| consumer.name());
        self.pending.push(PendingChange {
            id,
            consumer: name.into(),
            delivered_ms: pending.delivered_ms,
            deliveries: pending.deliveries,
            last_id: group.last_id,
        });
    }

    /// Notes that the group has moved on.
    pub(super) fn moved(&mut self, group: &Group) {
        self.position = Some((group.last_id, group.entries_read));
    }

    /// Records all of it; how many changes that makes.
    pub(super) fn record(&self, cx: &mut Context<'_>, name: GroupName<'_>, consumer: &[u8]) -> u64 {
        let changes = self.count
            + u64::from(self.created)
            + u64::from(self.position.is_some() && self.count == 0);
        if !self.recorded {
            return changes;
        }
        let GroupName { key, group } = name;
        if self.created {
            cx.record(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
        }
        for change in &self.pending {
            let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
            cx.record(&[
                b"XCLAIM",
                key,
                group,
                &change.consumer,
                b"0",
                change.id.text().as_bytes(),
                b"TIME",
                time.format(change.delivered_ms).as_bytes(),
                b"RETRYCOUNT",
                count.format(change.deliveries).as_bytes(),
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                change.last_id.text().as_bytes(),
            ]);
        }
        if let Some((last_id, entries_read)) = self.position {
            let mut digits = itoa::Buffer::new();
            let read = entries_read.map_or("-1", |read| digits.format(read));
            let id = last_id.text();
            cx.record(&[
                b"XGROUP",
                b"SETID",
                key,
                group,
                id.as_bytes(),
                b"ENTRIESREAD",
                read.as_bytes(),
            ]);
        }
        changes
    }
}
