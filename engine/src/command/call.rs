//! One command on its way: what it is called with, and who sent it.
#![forbid(unsafe_code)]

use tessera_proto::{Args, Protocol};

use super::Command;
use crate::notice::Client;

/// One command as it reaches a shard.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Its row; the arity has been checked.
    pub command: &'static Command,
    /// Its arguments, the name included.
    pub args: Args<'a>,
    /// The connection's database, below [`Settings::databases`](super::Settings::databases).
    pub database: u32,
    /// The reply's version.
    pub protocol: Protocol,
    /// CLIENT NO-TOUCH: reading does not count as use.
    pub no_touch: bool,
    /// Who sent it.
    pub caller: Caller,
}

/// Who sent a command, and whether it keeps what it reads in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The client.
    pub client: Client,
    /// The client is to be told of the next change of the keys that this command reads (CLIENT
    /// TRACKING).
    pub caches: bool,
    /// A command that finds nothing may wait for data.
    pub may_wait: bool,
    /// A script sends it.
    pub is_script: bool,
}
