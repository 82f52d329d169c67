//! The commands: what each is, and what it does to a shard.
//!
//! A new command is one row and one function in its family's file, and one entry in the family's text
//! under `docs/` (arguments, cost and history for COMMAND DOCS; a test asks for it). The row says
//! everything that others need to know of it; [`table`] joins the families. A function gets a
//! [`Context`] and the arguments, writes its reply, and returns an [`Effect`] or a [`CommandError`]; the
//! shard does the chores that every write shares. What it must do itself:
//!
//! - tell of the keys that it has changed, by [`Context::notify`]: all who listen hang on that;
//! - say what to record in the journal, by [`Context::record`], where repeating its arguments would not
//!   have the same effect (see [`crate::journal`]).
//!
//! Commands that concern sessions, the configuration or all workers have their rows here and their code
//! in the server (`server/src/session_commands`).
//!
//! ```text
//! table, names, keys    the rows; finding one by name; where its keys stand
//! docs                  what COMMAND DOCS says besides the row
//! call, settings        what reaches a shard: a command with who sent it; what the configuration says
//! context, effect, error    what a function gets, answers, or fails with
//! collection, members   what the families of collections share: reaching them, walking and drawing
//! walk, work            long replies, written or computed while they are sent
//! waiting, multipop     what commands that wait for data, and those that pop from several keys, share
//! string … server       the families
//! ```
#![forbid(unsafe_code)]

pub mod bitmap;
mod call;
mod collection;
pub mod connection;
pub mod context;
pub mod docs;
pub mod effect;
pub mod error;
pub mod generic;
pub mod geo;
pub mod hash;
mod help;
pub mod hyperloglog;
pub mod keys;
pub mod list;
mod members;
mod multipop;
mod names;
pub mod pubsub;
pub mod scripting;
pub mod server;
pub mod set;
pub mod settings;
pub mod sort;
pub mod stream;
pub mod string;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod transactions;
pub mod waiting;
mod walk;
mod work;
pub mod zset;

pub use call::{Call, Caller};
pub use context::Context;
pub use effect::Effect;
pub use error::CommandError;
pub use keys::{Access, KeySpec, Place};
pub use settings::{MemorySettings, Settings};
pub use table::{Arity, Command, CommandTable, Flags, Group, Run, Way, table};

/// What family files need for their rows.
pub mod prelude {
    pub use tessera_proto::{Args, ReplyWriter};

    pub use super::{
        Access, CommandError, Context, Effect, KeySpec,
        table::{
            Arity::{AtLeast, Exactly},
            flag::*,
        },
    };
    pub use crate::{commands, keyspace::events::Class};
}
