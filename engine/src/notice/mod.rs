//! What a shard has to tell clients besides replies: published messages, keyspace notifications, and
//! keys that they had better not use from their caches any more.
//!
//! The shard decides who hears of something, at the instant at which it happens, and leaves a
//! [`Notice`] for each worker whose clients hear of it; the server brings the notices to the workers
//! and these to the sockets. So PUBLISH knows the exact number of its receivers, and works wherever
//! a command does: in EXEC and in scripts too, whose notices wait in the shard until the unit ends.
//!
//! Here is what a notice is, and who listens to what; `keyspace::notices` makes them.
//!
//! Invariants:
//! - notices leave a shard in the order of what they tell of;
//! - who receives a message is fixed when it is published: a message is shared by all receivers, and
//!   so is the list of them;
//! - a notice names clients by worker and connection, never a session: a client that is gone is
//!   found out at its worker.
#![forbid(unsafe_code)]

pub mod audience;

use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;

use audience::Kind;

/// A client as shards know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    /// The worker that serves its connection.
    pub worker: u32,
    /// The connection at its worker; the worker knows what the number means.
    pub connection: u64,
}

/// Connections of one worker.
pub type Connections = Arc<Vec<u64>>;

/// A message on a channel, for the clients of one worker.
#[derive(Clone, Debug)]
pub struct Message {
    /// What the receivers have subscribed to.
    pub kind: Kind,
    /// The pattern that matched, if they have subscribed to one.
    pub pattern: Option<Bytes>,
    /// The channel.
    pub channel: Bytes,
    /// The text.
    pub payload: Bytes,
    /// Who gets it.
    pub to: Connections,
}

/// A key that has changed, with the client that changed it, if it was one.
pub type ChangedKey = (Box<[u8]>, Option<Client>);

/// Keys that have changed, for clients of one worker that may have cached them.
#[derive(Clone, Debug)]
pub struct Stale {
    /// The keys.
    pub keys: Arc<Vec<ChangedKey>>,
    /// They are told because of a prefix, not because they have read the keys: what a client has asked
    /// for since may be the other of the two.
    pub broadcast: bool,
    /// Who is told.
    pub to: Vec<u64>,
}

/// Something to tell clients.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A message on a channel.
    Message(Message),
    /// Some keys are not to be used from caches any more.
    Stale(Stale),
    /// No key is: for every client of the worker that tracks keys.
    AllStale,
}

/// A hash function that clients who choose names cannot foresee, if they do not know `seed`.
pub(crate) fn hasher(seed: u64) -> RandomState {
    let [a, b, c] = [1, 2, 3].map(|step: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step);
    RandomState::with_seeds(seed, a, b, c)
}
