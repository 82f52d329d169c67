//! What workers of the simulation tell each other.

use super::{check::Effect, connection::Action};
use crate::transaction::{
    ids::{Tag, TransactionId},
    locks::Scope,
};

/// Messages that take one place together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) from: usize,
    pub(super) place: u64,
    pub(super) messages: Vec<Message>,
    /// Whether there are requests among them, for which a credit was spent.
    pub(super) spent_credit: bool,
}

/// A part of a command: its number there, its key, and what is asked or was found.
pub(super) type Asked = (usize, usize, Action);
pub(super) type Found = (usize, Effect);

/// Which command of which connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) connection: usize,
    pub(super) command: usize,
}

#[derive(Debug)]
pub(super) enum Message {
    Request(Request),
    Reply {
        origin: Origin,
        found: Vec<Found>,
    },
    /// Stands behind the replies to a batch of requests.
    Credit,
    Schedule {
        id: TransactionId,
        scope: Scope,
    },
    Scheduled {
        id: TransactionId,
        accepts: bool,
    },
    Hop(Hop),
    HopDone {
        id: TransactionId,
        found: Vec<Found>,
    },
    /// The shard forgets the number, as it was refused elsewhere or has concluded.
    Forget {
        id: TransactionId,
    },
}

/// A plain command, or the part of one that goes to one shard.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) from: usize,
    pub(super) origin: Origin,
    pub(super) tag: Tag,
    pub(super) asked: Vec<Asked>,
}

/// A shard's work in one hop of a transaction.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) from: usize,
    pub(super) id: TransactionId,
    pub(super) asked: Vec<Asked>,
    pub(super) concludes: bool,
}
