//! Connections that are gone: their shards are told, so that nobody is counted who receives nothing.
//!
//! What is told goes as parts of a command that nobody waits for. It needs credits like any other, so
//! it may wait here for a turn in which there are some.
#![forbid(unsafe_code)]

use tessera_engine::{notice::audience::Kind, shard::Caller};
use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

use super::tells_of_keys;
use crate::{
    net::ConnectionId,
    parcel::{Addressee, CallHeader},
    session_commands::pubsub::{farewell, farewell_row},
    worker::Worker,
};

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
            self.departed.extend(told.into_iter().map(|(shard, args)| (client, shard, args)));
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
        let Some(command) = farewell_row() else { return };
        while let Some(&(client, shard, _)) = self.departed.front() {
            let is_own = shard == self.own;
            let may_go = if is_own { self.shard.is_here() } else { self.outboxes.has_room(shard) };
            if !may_go {
                return;
            }
            let Some((.., args)) = self.departed.pop_front() else { return };
            let caller = Caller { client, caches: false };
            let protocol = Protocol::Resp3;
            let header = CallHeader { command, database: 0, protocol, no_touch: false, caller };
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
        self.outboxes.post_all(self.now_us);
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
        let patterns = if self.own == 0 { audience.count(Kind::Pattern) } else { 0 };
        counters.pubsub_patterns.set(patterns as u64);
    }
}
