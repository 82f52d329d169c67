//! The worker's part: tells clients which of the keys that they have cached are stale.
#![forbid(unsafe_code)]

use tessera_engine::notice::{Client, Stale};
use tessera_proto::{Protocol, ReplyWriter};

use crate::{
    net::ConnectionId,
    pubsub::News,
    replies::NO_SHARD,
    session::{Session, Standing},
    worker::Worker,
};

/// The channel on which a client in RESP2 hears of another one's keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Keys that are stale; nothing stands for all.
type Keys = Option<Vec<Vec<u8>>>;

impl Worker {
    /// Tells the clients that may have cached some keys that these have changed, as `shard` says.
    pub(crate) fn tell_stale(&mut self, shard: u32, stale: &Stale) {
        for &number in &stale.to {
            let id = ConnectionId::from_number(number);
            let Some(connection) = self.network.connection(id) else { continue };
            let Session { client, tracking: Some(tracking), .. } = &connection.session else {
                continue;
            };
            if tracking.broadcast != stale.broadcast {
                continue;
            }
            let keys: Vec<Vec<u8>> =
                tracking.heard(*client, &stale.keys).map(<[u8]>::to_vec).collect();
            if !keys.is_empty() {
                self.tell_tracking(id, shard, Some(keys));
            }
        }
    }

    /// Tells all clients that track keys that any key may have changed.
    pub(crate) fn tell_all_stale(&mut self, shard: u32) {
        let connections = self.network.connections();
        let tracking = connections.filter(|(_, connection)| connection.session.tracking.is_some());
        let ids: Vec<ConnectionId> = tracking.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.tell_tracking(id, shard, None));
    }

    /// Tells a client that tracks keys, on its own connection or on the one it has named.
    fn tell_tracking(&mut self, id: ConnectionId, shard: u32, keys: Keys) {
        let Some(connection) = self.network.connection(id) else { return };
        let Session { client, tracking: Some(tracking), .. } = &connection.session else { return };
        let Some(named) = tracking.redirect else {
            return self.tell_connection(id, shard, keys.as_deref(), false);
        };
        let from = *client;
        match self.shared.clients.find(named) {
            Some(other) => {
                self.tell(other.worker, News::Redirected { from, to: other.connection, keys });
            }
            None => self.tell_broken(from.connection),
        }
    }

    /// Tells a client what another one, `from`, has asked to be told here; or that one, if the client
    /// is gone.
    pub(crate) fn tell_redirected(&mut self, from: Client, number: u64, keys: Keys) {
        let id = ConnectionId::from_number(number);
        let is_here = self.network.connection(id).is_some_and(|connection| {
            !connection.is_closing() && connection.session.standing != Standing::Finished
        });
        if is_here {
            self.tell_connection(id, NO_SHARD, keys.as_deref(), true);
        } else {
            self.tell(from.worker, News::RedirectionBroken { to: from.connection });
        }
    }

    /// Tells a client that the one which it has named to be told is gone.
    pub(crate) fn tell_broken(&mut self, number: u64) {
        let id = ConnectionId::from_number(number);
        let Some(connection) = self.network.connection(id) else { return };
        let Some(tracking) = &mut connection.session.tracking else { return };
        let Some(named) = tracking.redirect else { return };
        tracking.is_broken = true;
        if connection.session.protocol == Protocol::Resp3 {
            self.push(id, NO_SHARD, |out, protocol| {
                let mut reply = ReplyWriter::new(out, protocol);
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(named as i64);
            });
        }
    }

    /// Writes an invalidation. RESP2 has no form for it but a message, which needs a connection that
    /// listens to such.
    fn tell_connection(
        &mut self,
        id: ConnectionId,
        shard: u32,
        keys: Option<&[Vec<u8>]>,
        is_redirected: bool,
    ) {
        let Some(connection) = self.network.connection(id) else { return };
        let session = &connection.session;
        let is_message = session.protocol == Protocol::Resp2;
        if is_message && !(is_redirected && session.has_subscriptions()) {
            return;
        }
        self.push(id, shard, |out, protocol| {
            let mut reply = ReplyWriter::new(out, protocol);
            if is_message {
                reply.array(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
            } else {
                reply.push(2);
                reply.bulk(b"invalidate");
            }
            match keys {
                Some(keys) => {
                    reply.array(keys.len());
                    keys.iter().for_each(|key| reply.bulk(key));
                }
                None => reply.null(),
            }
        });
    }
}
