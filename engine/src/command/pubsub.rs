//! Publishing messages, and the rows of the commands about subscriptions.
//!
//! A message is published by the shard that owns the slot of its channel's name: so all subscribers
//! see the messages of a channel in one order, and a message stands in its connection's order with the
//! commands on keys. Subscriptions belong to connections; their commands are the server's
//! (`server/src/session_commands/pubsub.rs`).
#![forbid(unsafe_code)]

use super::prelude::*;
use crate::notice::audience::Kind;

/// Harmless at any time.
const ANY_TIME: u32 = LOADING | STALE;
/// What a connection does for itself, but a script may not.
const OWN: u32 = PUBSUB | NOSCRIPT | LOADING | STALE;
/// Sends something to others.
const SENDS: u32 = PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE;

commands! { Pubsub;
    /// Listens to all channels that match patterns.
    "psubscribe" "2.0.0", AtLeast(2), OWN, KeySpec::NONE, Session, session;
    /// Publishes a message on a channel.
    "publish" "2.0.0", Exactly(3), SENDS, KeySpec::NONE, Channel, publish;
    /// Commands about channels and who listens to them.
    "pubsub" "2.8.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Lists the channels that somebody listens to.
        "channels" "2.8.0", AtLeast(2), PUBSUB | ANY_TIME, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "6.2.0", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers how many different patterns are listened to.
        "numpat" "2.8.0", Exactly(2), PUBSUB | ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers how many clients listen to each of the channels.
        "numsub" "2.8.0", AtLeast(2), PUBSUB | ANY_TIME, KeySpec::NONE, Session, session;
        /// Lists the channels of slots that somebody listens to.
        "shardchannels" "7.0.0", AtLeast(2), PUBSUB | ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers how many clients listen to each of the channels of slots.
        "shardnumsub" "7.0.0", AtLeast(2), PUBSUB | ANY_TIME, KeySpec::NONE, Session, session;
    ];
    /// Stops listening to patterns, or to all.
    "punsubscribe" "2.0.0", AtLeast(1), OWN, KeySpec::NONE, Session, session;
    /// Publishes a message on a channel of a slot.
    "spublish" "7.0.0", Exactly(3), SENDS, KeySpec::NONE, Channel, spublish;
    /// Listens to channels of slots.
    "ssubscribe" "7.0.0", AtLeast(2), OWN, KeySpec::NONE, Session, session;
    /// Listens to channels.
    "subscribe" "2.0.0", AtLeast(2), OWN, KeySpec::NONE, Session, session;
    /// Stops listening to channels of slots, or to all.
    "sunsubscribe" "7.0.0", AtLeast(1), OWN, KeySpec::NONE, Session, session;
    /// Stops listening to channels, or to all.
    "unsubscribe" "2.0.0", AtLeast(1), OWN, KeySpec::NONE, Session, session;
}

/// PUBLISH channel message: how many clients receive it.
fn publish(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let receivers = cx.publish(Kind::Channel, &args.bytes(1), &args.bytes(2));
    cx.reply.count(receivers);
    Ok(Effect::Unchanged)
}

/// SPUBLISH channel message: how many clients receive it.
fn spublish(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let receivers = cx.publish(Kind::Sharded, &args.bytes(1), &args.bytes(2));
    cx.reply.count(receivers);
    Ok(Effect::Unchanged)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        command::testing::Bench,
        notice::{Client, Notice, audience::Kind},
    };

    #[test]
    fn a_message_is_counted_and_waits_in_the_shard() {
        let mut bench = Bench::new();
        assert_eq!(bench.run("PUBLISH c m"), ":0");
        assert!(!bench.shard.keyspace.has_notices());
        let client = Client { worker: 1, connection: 5 };
        let channel = Bytes::from_static(b"c");
        bench.shard.keyspace.audience_mut().subscribe(Kind::Channel, &channel, client);
        bench.shard.keyspace.audience_mut().subscribe(Kind::Sharded, &channel, client);
        bench.expect(&[("PUBLISH c m", ":1"), ("PUBLISH d m", ":0"), ("SPUBLISH c n", ":1")]);
        let payloads: Vec<_> = bench
            .shard
            .keyspace
            .take_notices()
            .into_iter()
            .map(|(worker, notice)| match notice {
                Notice::Message(message) => (worker, message.kind, message.payload),
                other => panic!("{other:?} is no message"),
            })
            .collect();
        let expected = [(1, Kind::Channel, "m".into()), (1, Kind::Sharded, "n".into())];
        assert_eq!(payloads, expected);
    }
}
