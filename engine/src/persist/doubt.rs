//! What of a shard may be lost, while a log cannot be written.
//!
//! With `appendfsync always` nobody may see what a power cut would take back, so replies wait until
//! everything that was recorded is durable. While a log cannot be written that may take hours, and
//! nearly all keys are as durable as ever. So what is not durable yet is looked at once, and what a
//! command read of other keys may be told.
//!
//! # Invariants
//!
//! - a shard without records of epochs that are not durable comes back, after any crash, as it is;
//! - one with such records comes back the same but for the keys that they name: every record names
//!   all keys that it changes, and one that names none may have changed them all;
//! - so a command may be told if it has recorded nothing, nothing was recorded between the look and
//!   its end, and the keys that it has read are not in doubt. Records of keys that have expired do
//!   not count: whether they come back or not, the deadline has passed for everyone;
//! - what was once in doubt may stay so although it has become durable, and never the other way round.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use tessera_proto::{Args, Span};

use super::{
    log::LogWriter,
    replay::{command_of, is_of_functions},
};
use crate::{
    command::{Command, Run, table::flag},
    journal::{Journal, Waiting, record::Record},
};

/// So many records are looked at in one go, and so many bytes, which takes about half a millisecond: a
/// group of `always` is what gathers during one flush, and mostly far less. Of more, everything is in
/// doubt.
const RECORDS_MAX: u64 = 4_096;
const BYTES_MAX: usize = 2 << 20;

/// The keys of a shard whose last change may be lost.
#[derive(Debug, Default)]
pub struct Doubt {
    /// All of them may.
    everything: bool,
    /// Their names, in whatever database.
    keys: HashSet<Box<[u8]>>,
    /// The number of the last record that was looked at.
    sequence: u64,
    /// What the journal's [`changes`](Journal::changes) were then.
    changes: u64,
}

impl Doubt {
    /// What may be lost of the shard that has `journal` and `writer`, while the epochs up to
    /// `durable_epoch` are durable. `before` is the last answer to the same question, if there is one
    /// of the same failure.
    pub fn look(
        mut before: Option<Self>,
        journal: &Journal,
        writer: &LogWriter,
        durable_epoch: u64,
    ) -> Self {
        if let Some(before) = before.take_if(|before| !before.is_outdated(journal, writer)) {
            return before;
        }
        let is_in_step = |doubt: &Self| !doubt.everything && journal.continues(doubt.sequence);
        let mut doubt = match before.filter(is_in_step) {
            Some(before) if !is_clean(journal, writer) => before,
            _ => Self::of_groups(writer, durable_epoch),
        };
        doubt.add_all(journal.waiting());
        (doubt.sequence, doubt.changes) = (journal.sequence(), journal.changes());
        doubt
    }

    /// What the groups may lose that were taken out of the journal.
    fn of_groups(writer: &LogWriter, durable_epoch: u64) -> Self {
        let mut doubt = Self::default();
        match writer.kept_records() {
            // What is let go of is durable in this log, and its epoch perhaps not in others.
            Some(groups) if writer.let_go_epoch() <= durable_epoch => doubt.add_all(groups),
            _ => doubt.everything = true,
        }
        doubt
    }

    fn add_all<'a>(&mut self, waiting: impl Iterator<Item = Waiting<'a>>) {
        let (mut count, mut bytes) = (0, 0);
        for Waiting { first_sequence, last_sequence, records } in waiting {
            if last_sequence <= self.sequence {
                continue;
            }
            let count_of_epoch = last_sequence + 1 - first_sequence;
            (count, bytes) = (count + count_of_epoch, bytes + records.len());
            self.everything |= count > RECORDS_MAX || bytes > BYTES_MAX;
            if !self.everything {
                self.add(records, count_of_epoch);
            }
        }
    }

    fn add(&mut self, records: &[u8], count: u64) {
        let (mut spans, mut rest) = (Vec::<Span>::new(), records);
        for _ in 0..count {
            let Ok((record, len)) = Record::read(rest, &mut spans) else {
                self.everything = true;
                return;
            };
            self.add_record(&record.args());
            rest = &rest[len..];
        }
    }

    fn add_record(&mut self, args: &Args<'_>) {
        if is_of_functions(args) {
            return;
        }
        let mut positions = Vec::new();
        match command_of(args).map(|command| command.keys.positions(args, &mut positions)) {
            Ok(Ok(())) if !positions.is_empty() => {
                self.keys.extend(positions.iter().map(|&at| Box::from(&args[at])));
            }
            _ => self.everything = true,
        }
    }

    /// Whether another look may see something else.
    fn is_outdated(&self, journal: &Journal, writer: &LogWriter) -> bool {
        let is_settled = !self.keys.is_empty() && is_clean(journal, writer);
        self.everything || self.changes != journal.changes() || is_settled
    }

    /// Whether the reply of a command that has just been executed on the shard of `journal` tells
    /// nothing that may be lost.
    pub fn spares(&self, command: &Command, args: &Args<'_>, journal: &Journal) -> bool {
        if self.everything || self.changes != journal.changes() {
            return false;
        }
        if !matches!(command.run, Run::Shard(_)) || command.flags.has(flag::WRITE) {
            return false;
        }
        if self.keys.is_empty() {
            return true;
        }
        // BY and GET read keys that are named nowhere.
        let mut positions = Vec::new();
        command.full_name != "sort_ro"
            && command.keys.positions(args, &mut positions).is_ok()
            && !positions.is_empty()
            && positions.iter().all(|&at| !self.keys.contains(&args[at]))
    }
}

/// Whether there is no record that is not known to be durable, as far as this log knows.
fn is_clean(journal: &Journal, writer: &LogWriter) -> bool {
    journal.is_empty() && writer.kept_bytes() == 0
}
