//! What may be told while a log cannot be written: the gate of `always`, and what passes it.
//!
//! With `appendfsync always` output waits until the last epoch that holds data is durable: until then
//! a power cut could take back what it tells. When the disk is full that would be all output, for as
//! long as nobody makes room, and neither would a client learn that its write is refused nor an
//! operator why. So of each connection it is known up to where its output need not wait.
//!
//! # The rule
//!
//! Output leaves when the epoch for which it waits is durable and all output before it, of the same
//! connection, has left. It waits for no epoch if it is known to tell nothing that may be lost:
//!
//! - refusals that were decided before anything was executed: `MISCONF`, wrong arguments, `EXECABORT`;
//! - replies of commands that work on the session, the configuration or the server: PING, AUTH, HELLO,
//!   CLIENT, CONFIG, INFO (`session_commands` has the lists). The figures that INFO shows of the
//!   keyspace are as of some moment and promised to nobody;
//! - while a log cannot be written, what a command has read of keys of which every change is durable
//!   (`tessera_engine::persist::doubt`).
//!
//! All else waits: what was executed when the disk failed is neither undone nor acknowledged, it
//! is written again when there is room, and acknowledged then. So whoever waits for such a write, or
//! stands behind it in a pipeline, goes on waiting; everybody else is served. Messages, invalidations,
//! scripts and transactions wait too: nothing says on which keys they depend.
//!
//! # Invariants
//!
//! - what is not known waits: output is gated unless somebody has said otherwise;
//! - what was looked at is as old as the turn: a shard that has recorded anything since, here or in the
//!   hands of another worker, is judged by what it has recorded (`Doubt::spares`);
//! - nothing is looked at, and no command pays more than a comparison, as long as all logs can be
//!   written.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::Command,
    journal::Journal,
    persist::{doubt::Doubt, log::SyncPolicy},
};
use tessera_proto::Args;

use crate::{
    faults::{self, Rule},
    worker::Worker,
};

impl Worker {
    /// Looks, at the beginning of a turn, what of the own shard may be lost.
    #[inline]
    pub(crate) fn look_for_doubt(&mut self) {
        if self.shared.aof.is_failing() || self.doubt().is_some() {
            self.look_again();
        }
    }

    #[cold]
    fn look_again(&mut self) {
        let (is_failing, durable) = (self.shared.aof.is_failing(), self.shared.aof.durable_epoch());
        let Some(log) = &mut self.log else { return };
        if !is_failing || log.writer.policy() != SyncPolicy::Always {
            log.doubt = None;
        } else if self.shard.is_here() {
            let journal = &self.shard.keyspace.journal;
            let before = log.doubt.take();
            let doubt = Doubt::look(before, journal, &log.writer, durable);
            log.doubt = Some(doubt);
        }
    }

    /// What of the own shard may be lost, while a log cannot be written.
    #[inline]
    pub(crate) fn doubt(&self) -> Option<&Doubt> {
        self.log.as_ref()?.doubt.as_ref()
    }

    /// Whether the reply of a command that has just executed on the own shard tells nothing that may be
    /// lost.
    #[cold]
    pub(crate) fn spares(&self, command: &Command, args: &Args<'_>) -> bool {
        let journal = &self.shard.keyspace.journal;
        self.doubt().is_some_and(|doubt| spares(doubt, command, args, journal))
    }
}

/// Whether the reply of a command that has just executed on the shard of `journal`, of which `doubt`
/// may be lost, tells nothing of that.
pub(crate) fn spares(doubt: &Doubt, command: &Command, args: &Args<'_>, journal: &Journal) -> bool {
    faults::breaks(Rule::HeldReads) || doubt.spares(command, args, journal)
}
