//! Commands that change the libraries of functions.
//!
//! A library belongs to no shard, and yet a change of libraries has its place in the one order: who
//! calls a function before it was loaded must not find it, whatever was done with a function must not
//! come back from a log without the function, and a snapshot holds the libraries of its own instant.
//! So these commands are executed while all shards are lent (see `loan`): everybody else stands still.
//! What they did is recorded in the journal of the first shard, where recovery finds all changes in
//! their order, and that shard's worker captures the libraries at its place in the cut of a snapshot.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::Command,
    persist::{rdb::writer::put_function, state::record_all},
    transaction::Gathered,
};
use tessera_proto::{Args, ReplyBuffer};

use crate::{
    net::ConnectionId,
    server::Shared,
    session_commands::{After, Code},
    worker::Worker,
};

/// The shard whose log says how the libraries have changed.
pub(crate) const RECORDING_SHARD: u32 = 0;

impl Worker {
    /// Executes a command that changes libraries, over all shards, for a connection of this worker.
    pub(crate) fn execute_on_libraries(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        args: &Args<'_>,
        answer: &mut ReplyBuffer,
        gathered: &mut Gathered,
    ) -> After {
        let Some(code @ Code::Libraries(_)) = self.codes.get(command) else {
            return After::GoOn;
        };
        let before = self.shared.scripts.libraries().0;
        let called = self.call_queued(id, command, code, args, answer);
        if self.shared.scripts.libraries().0 != before {
            record(gathered, args.iter());
        }
        called.map_or(After::GoOn, |called| called.after)
    }
}

/// Records a FUNCTION command.
fn record<'a>(gathered: &mut Gathered, args: impl Iterator<Item = &'a [u8]>) {
    if let Some(shard) = gathered.get_mut(RECORDING_SHARD) {
        let args: Vec<&[u8]> = args.collect();
        shard.keyspace.journal.record_aside(0, &args);
    }
}

/// Records that all shards, which are here, hold what they hold now, and that there are these
/// libraries and no others: what a command has done that no record describes (DEBUG RELOAD).
pub(crate) fn record_everything(gathered: &mut Gathered, shared: &Shared) {
    gathered.iter_mut().for_each(|(_, shard)| record_all(&mut shard.keyspace));
    record(gathered, [&b"FUNCTION"[..], b"FLUSH"].into_iter());
    for library in shared.scripts.libraries().1.iter() {
        record(gathered, [&b"FUNCTION"[..], b"LOAD", &library.code].into_iter());
    }
}

/// The libraries as they stand in an RDB file.
pub(crate) fn in_rdb_form(shared: &Shared) -> Vec<u8> {
    let mut bytes = Vec::new();
    for library in shared.scripts.libraries().1.iter() {
        put_function(&mut bytes, &library.code);
    }
    bytes
}
