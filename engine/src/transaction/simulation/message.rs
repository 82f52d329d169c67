//! What workers of the simulation tell each other.

use super::{check::Effect, connection::Action};

/// Messages that take one place together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) from: usize,
    pub(super) place: u64,
    pub(super) messages: Vec<Message>,
    /// Whether a credit was spent for it.
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
    /// A worker asks for the shard.
    Borrow {
        host: usize,
    },
    /// The shard, for its host.
    Lent {
        owner: usize,
        values: Vec<u32>,
    },
    /// The shard, back at its owner.
    Return {
        values: Vec<u32>,
    },
}

/// A command on one shard, or the part of one that goes to it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) from: usize,
    pub(super) origin: Origin,
    pub(super) asked: Vec<Asked>,
}

/// Does what is asked of keys; reads see what was there before.
pub(super) fn execute(
    asked: &[Asked],
    mut value: impl FnMut(usize) -> u32,
    mut write: impl FnMut(usize, u32),
) -> Vec<Found> {
    let found = asked.iter().map(|&(part, key, action)| match action {
        Action::Read => (part, Effect::Read(value(key))),
        Action::Write(new) => (part, Effect::Write(new)),
    });
    let found = found.collect();
    for &(_, key, action) in asked {
        if let Action::Write(new) = action {
            write(key, new);
        }
    }
    found
}
