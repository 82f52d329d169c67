//! Publish/subscribe, keyspace notifications, invalidations: how what a shard has to tell reaches
//! clients.
//!
//! # One order
//!
//! A channel belongs to the shard that owns the slot of its name. PUBLISH is a command of that shard
//! like one on a key: it has its place in its connection's order, and the shard brings all messages of
//! the channel into one order. SUBSCRIBE and UNSUBSCRIBE take effect there too, so the shard knows the
//! exact receivers of each message ([`tessera_engine::notice`]). Patterns, and the channels of
//! keyspace notifications, are registered at all shards, since messages for them may come from each;
//! such a message goes to its receivers from the shard where it arises, in the order of that shard's
//! effects.
//!
//! Messages for the clients of another worker travel as [`News`], in the same mailbox as the replies
//! of the shard, and they never change places with these: what a worker has for another one while it
//! executes a parcel of it goes home in that parcel, between the replies of what came before and of
//! what came behind (`parcel`); everything else waits in a queue for each worker ([`queue`]) that is
//! emptied before the next parcel goes there. So when a message arrives at a connection, all replies
//! of its shard to what was executed before have arrived, and no others. It is put behind the former
//! and before the latter ([`crate::replies`]). From this follows, for every connection:
//!
//! - no message of a channel stands before the confirmation of its subscription, and none behind the
//!   confirmation that it has ended;
//! - a key's invalidation stands behind the reply that brought the key;
//! - a client that has seen a message, and then reads, sees what its publisher had done before: the
//!   publisher's commands had their places before the PUBLISH, and the reader's gets one after.
//!   This holds for commands too that the subscriber has pipelined before it saw the message: one
//!   whose reply stands behind the message has a place behind the one of PUBLISH, by the same rule.
//!
//! # Fan-out
//!
//! A message crosses to another core once a worker, with the list of its receivers there, which is
//! shared and changed only by copying. It is encoded once and copied into each output; large ones are
//! shared by reference ([`message`]).
//!
//! # Bounds
//!
//! A client that does not read is disconnected at `client-output-buffer-limit pubsub`. A worker that
//! does not take its news gets at most [`queue::WAITING_BYTES_MAX`] of them kept; beyond that the
//! receivers of what is lost are disconnected, and lost invalidations become one of all keys.
#![forbid(unsafe_code)]

pub mod deliver;
mod leave;
pub mod message;
pub mod queue;
pub mod subscriptions;

pub(crate) use leave::Farewell;

use bytes::Bytes;
use tessera_engine::{
    notice::{Client, Notice, audience::Kind},
    shard::Answer,
    transaction::ShardMap,
};

/// What one worker tells another one's clients.
#[derive(Clone, Debug)]
pub enum News {
    /// What the shard of this number has to tell.
    Of(u32, Notice),
    /// Keys that a client of this worker is told of in place of the one that tracks them; nothing
    /// stands for all.
    Redirected {
        /// The client that tracks them.
        from: Client,
        /// The connection that is told.
        to: u64,
        /// The keys.
        keys: Option<Vec<Vec<u8>>>,
    },
    /// The client that was to be told of keys in place of this one is gone.
    RedirectionBroken {
        /// The connection that tracks keys.
        to: u64,
    },
    /// A line for the clients that monitor.
    Command(Bytes),
    /// What has become of a client's command that waits for data.
    Answer(Answer),
    /// Something was lost; see there.
    Lost(queue::Lost),
}

impl News {
    /// Memory that it takes, in bytes, about.
    pub fn bytes(&self) -> usize {
        let data = match self {
            Self::Of(_, Notice::Message(message)) => {
                message.channel.len()
                    + message.payload.len()
                    + message.pattern.as_ref().map_or(0, |pattern| pattern.len())
            }
            Self::Of(_, Notice::Stale(stale)) => {
                stale.keys.iter().map(|(key, _)| size_of_val(key) + key.len()).sum::<usize>()
                    + size_of_val(stale.to.as_slice())
            }
            Self::Of(_, Notice::AllStale) | Self::RedirectionBroken { .. } => 0,
            Self::Redirected { keys, .. } => {
                keys.iter().flatten().map(|key| size_of_val(key) + key.len()).sum()
            }
            Self::Command(line) => line.len(),
            Self::Answer(answer) => answer.reply.len(),
            Self::Lost(lost) => lost.receivers.len() * size_of::<u64>(),
        };
        size_of::<Self>() + data
    }
}

/// The shards at which a subscription is registered.
pub fn homes(map: ShardMap, kind: Kind, name: &[u8]) -> std::ops::Range<u32> {
    if kind == Kind::Pattern || tells_of_keys(name) {
        return 0..map.shards() as u32;
    }
    let owner = map.owner(name);
    owner..owner + 1
}

/// Whether keyspace notifications come on this channel.
fn tells_of_keys(channel: &[u8]) -> bool {
    channel.starts_with(b"__keyspace@") || channel.starts_with(b"__keyevent@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_home_and_what_comes_from_all_shards_has_all() {
        let map = ShardMap::new(4);
        for channel in [&b"news"[..], b"", b"__keyspace", b"{a}b"] {
            let owner = map.owner(channel);
            assert_eq!(homes(map, Kind::Channel, channel), owner..owner + 1);
            assert_eq!(homes(map, Kind::Sharded, channel), owner..owner + 1);
            assert_eq!(homes(map, Kind::Pattern, channel), 0..4);
        }
        for channel in [&b"__keyspace@0__:k"[..], b"__keyevent@3__:set"] {
            assert_eq!(homes(map, Kind::Channel, channel), 0..4);
        }
    }
}
