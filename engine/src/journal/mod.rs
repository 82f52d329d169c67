//! The journal of a shard: what its commands have done, in order, as records that repeat it.
//!
//! What: while the journal is on, every change of the keyspace leaves one or more *records* in its
//! buffer (see [`record`]). Whoever drives the shard takes the buffer away and writes it to the log;
//! recovery hands the records to another shard, which comes to hold the same.
//!
//! A record is a command in a form whose outcome depends on nothing but the keys of the shard: on no
//! clock, no random number, no condition that may be judged differently later. By default that is the
//! command as the client sent it. A command for which this is not so says what to record instead,
//! through [`Context::record`](crate::command::Context::record): SPOP becomes SREM, EXPIRE becomes
//! PEXPIREAT, INCRBYFLOAT becomes SET.
//!
//! # Invariants
//!
//! - records stand in the order in which the changes happened: a key that a command finds past its
//!   deadline is recorded as deleted before what the command did;
//! - replaying never reads a clock: the replaying shard's time stands still at 0, so no key expires
//!   in it, and every key that has expired here has been deleted by a record of its own;
//! - records speak of keys of their own shard alone. FLUSHALL in one shard's journal empties that
//!   shard;
//! - a command records only what it has done: once it has recorded, it does not fail any more;
//! - while the journal is off, nothing is built and nothing allocated.
#![forbid(unsafe_code)]

pub mod record;
#[cfg(test)]
mod tests;

use std::mem;

use record::{Draft, RecordHead, encode};

/// The records that wait to be written.
#[derive(Debug, Default)]
pub struct Journal {
    /// Whether changes are recorded.
    on: bool,
    /// Whether the running command has said itself what it did.
    told: bool,
    /// The stamp of what is recorded now.
    stamp: u64,
    /// The number of the last record.
    sequence: u64,
    buffer: Vec<u8>,
    /// Memory for the next draft.
    spare: Vec<u8>,
}

impl Journal {
    /// Records from now on; the next record has the number `sequence + 1`.
    pub fn start(&mut self, sequence: u64) {
        *self = Self { on: true, sequence, ..Self::default() };
    }

    /// Records nothing from now on, and drops what waits.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Whether changes are recorded: records are built only then.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Records nothing until [`resume`](Self::resume): what is done meanwhile is recorded by whoever
    /// does it, in another way. Answers whether the journal was on, which is what `resume` wants.
    #[must_use]
    pub fn suspend(&mut self) -> bool {
        mem::take(&mut self.on)
    }

    /// Ends a [`suspend`](Self::suspend).
    pub fn resume(&mut self, was_on: bool) {
        self.on = was_on;
        self.told = false;
    }

    /// Gives `stamp` to what is recorded from now on: the number of the epoch (see
    /// `persist::epoch`). It never falls.
    #[inline]
    pub fn set_stamp(&mut self, stamp: u64) {
        debug_assert!(stamp >= self.stamp);
        self.stamp = stamp;
    }

    /// The number of the last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of records that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether no record waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes away the records that wait; `empty` is the buffer for the next ones.
    ///
    /// # Panics
    ///
    /// When `empty` is not.
    pub fn take(&mut self, empty: Vec<u8>) -> Vec<u8> {
        assert!(empty.is_empty(), "a buffer with records in it would lose its place");
        mem::replace(&mut self.buffer, empty)
    }

    /// Records one effect in `database`: a command and its arguments.
    pub fn record(&mut self, database: usize, arguments: &[&[u8]]) {
        if self.on {
            self.told = true;
            self.append(database, arguments.len(), arguments.iter().copied());
        }
    }

    /// Records that `key` is gone without a command having asked for it: it has expired, or was
    /// evicted.
    pub fn record_gone(&mut self, database: usize, key: &[u8]) {
        if self.on {
            self.append(database, 2, [b"DEL", key].into_iter());
        }
    }

    /// A record that is put together argument by argument, the command's name first. While the
    /// journal is off it stays empty.
    pub fn draft(&mut self, name: &'static str) -> Draft {
        let mut draft = Draft::new(self.on, mem::take(&mut self.spare));
        draft.push(name.as_bytes());
        draft
    }

    /// Records a draft in `database`.
    pub fn record_draft(&mut self, database: usize, draft: Draft) {
        if self.on {
            self.told = true;
            self.sequence += 1;
            let head = self.head(database);
            draft.encode(&mut self.buffer, head);
        }
        self.spare = draft.into_buffer();
    }

    /// Ends a command that has changed something: if it has not said itself what to record, that is
    /// the command as it was sent.
    pub(crate) fn conclude<'a>(
        &mut self,
        database: usize,
        count: usize,
        arguments: impl Iterator<Item = &'a [u8]>,
    ) {
        if !mem::take(&mut self.told) {
            self.append(database, count, arguments);
        }
    }

    /// Whether a command has recorded something since the last one was concluded.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    fn append<'a>(
        &mut self,
        database: usize,
        count: usize,
        arguments: impl Iterator<Item = &'a [u8]>,
    ) {
        self.sequence += 1;
        let head = self.head(database);
        encode(&mut self.buffer, head, count, arguments);
    }

    fn head(&self, database: usize) -> RecordHead {
        RecordHead { sequence: self.sequence, stamp: self.stamp, database: database as u32 }
    }
}
