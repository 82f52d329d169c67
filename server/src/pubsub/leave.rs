//! Connections that are gone: their shards are told, so that nobody is counted who receives nothing.
//!
//! What is told goes as parts of a command that nobody waits for. It needs credits like any other, so
//! it may wait here for a turn in which there are some.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::{Command, table},
    notice::{Client, audience::Kind},
    shard::Caller,
    transaction::ShardId,
};
use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

use super::tells_of_keys;
use crate::{
    net::ConnectionId,
    parcel::{Addressee, CallHeader},
    session_commands::{pubsub::farewell, tracking},
    worker::Worker,
};

/// What one shard is told of a connection that is gone.
pub(crate) struct Farewell {
    client: Client,
    shard: ShardId,
    /// The command in whose name it is told.
    command: &'static [&'static str],
    args: Vec<Vec<u8>>,
}

const LISTENED: &[&str] = &["unsubscribe"];
const TRACKED: &[&str] = &["client", "tracking"];

/// The row of a command with these names.
fn row_of(names: &[&str]) -> Option<&'static Command> {
    let row = table().find(names[0].as_bytes())?;
    match names.get(1) {
        Some(name) => row.subcommands.iter().find(|sub| sub.name == *name),
        None => Some(row),
    }
}

impl Worker {
    /// Notes what shards have to be told of a connection that has just been closed.
    #[cold]
    pub(crate) fn take_leave(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        let session = &mut connection.session;
        let client = session.client;
        if let Some(subscriptions) = session.subscriptions.take() {
            let subscribers = &self.metrics.counters.pubsub_clients;
            subscribers.set(subscribers.get().saturating_sub(1));
            let told = farewell(self.map, client, &subscriptions);
            let farewell = |(shard, args)| Farewell { client, shard, command: LISTENED, args };
            self.departed.extend(told.into_iter().map(farewell));
        }
        if session.tracking.take().is_some() {
            let trackers = &self.metrics.counters.tracking_clients;
            trackers.set(trackers.get().saturating_sub(1));
            for shard in 0..self.map.shards() as u32 {
                let args = tracking::unregister(client);
                self.departed.push_back(Farewell { client, shard, command: TRACKED, args });
            }
        }
    }

    /// Tells shards of connections that are gone, as far as there is room.
    #[inline]
    pub(crate) fn unregister_departed(&mut self) {
        if !self.departed.is_empty() {
            self.tell_of_departed();
        }
    }

    #[cold]
    fn tell_of_departed(&mut self) {
        while let Some(farewell) = self.departed.front() {
            let (client, shard) = (farewell.client, farewell.shard);
            let Some(command) = row_of(farewell.command) else { return };
            let is_own = shard == self.own;
            let may_go = if is_own { self.shard.is_here() } else { self.outboxes.has_room(shard) };
            if !may_go {
                return;
            }
            let Some(Farewell { args, .. }) = self.departed.pop_front() else { return };
            let caller = Caller { client, caches: false, may_wait: false, is_script: false };
            let protocol = Protocol::Resp3;
            let header = CallHeader {
                command,
                database: 0,
                protocol,
                no_touch: false,
                caller,
                is_part: false,
            };
            let mut question = RequestBatch::new();
            question.push_slices(args.iter().map(Vec::as_slice));
            let Some(args) = question.get(0) else { return };
            if is_own {
                self.execute_part(None, &header, &args, &mut ReplyBuffer::new());
            } else {
                // The connection is gone, so the answer reaches nobody.
                let connection = ConnectionId::from_number(client.connection);
                self.outboxes.push(
                    shard,
                    Addressee { connection, ticket: 0, part: 0 },
                    header,
                    &args,
                );
            }
        }
        self.shared.cut.enter(self.own);
        self.outboxes.post_all(self.now_us, self.shared.aof.epoch());
        self.shared.cut.leave(self.own);
    }

    /// Publishes how many channels and patterns this shard serves. What all shards know is counted
    /// by one.
    pub(crate) fn publish_audience(&self) {
        let (audience, counters) = (&self.shard.keyspace.notices.audience, &self.metrics.counters);
        let is_own = |name: &[u8]| !tells_of_keys(name) || self.map.owner(name) == self.own;
        let channels = audience.names(Kind::Channel).filter(|name| is_own(name)).count();
        counters.pubsub_channels.set(channels as u64);
        counters.pubsub_sharded.set(audience.count(Kind::Sharded) as u64);
        let tracking = &self.shard.keyspace.events.tracking;
        counters.tracking_keys.set(tracking.keys() as u64);
        counters.tracking_items.set(tracking.items() as u64);
        counters.tracking_prefixes.set(if self.own == 0 { tracking.prefixes() as u64 } else { 0 });
        let patterns = if self.own == 0 { audience.count(Kind::Pattern) } else { 0 };
        counters.pubsub_patterns.set(patterns as u64);
    }
}
