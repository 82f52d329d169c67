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

use std::{collections::VecDeque, mem};

use record::{Draft, RecordBuffer, RecordHead, encode};

/// Empty buffers that are kept for the next records.
const FREE_BUFFERS_MAX: usize = 4;
/// The largest buffer that is kept, in bytes.
const FREE_BYTES_MAX: usize = 4 << 20;

/// The records of one epoch.
#[derive(Debug)]
pub struct Chunk {
    /// The epoch: the stamp of all of them.
    pub epoch: u64,
    /// The number of the first one.
    pub first_sequence: u64,
    /// The number of the last one.
    pub last_sequence: u64,
    /// Room for a header, and the records behind it.
    pub bytes: RecordBuffer,
}

/// Records of one epoch that wait somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// The number of the first one.
    pub first_sequence: u64,
    /// The number of the last one.
    pub last_sequence: u64,
    /// The records, one behind the other; what follows them means nothing.
    pub records: &'a [u8],
}

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
    /// The number of the last record of earlier epochs than `stamp`.
    sequence_before: u64,
    /// Records that say no more than that a deadline has passed.
    expiries: u64,
    /// Bytes that are left free in front of each epoch's records.
    room: usize,
    /// The records of the epoch `stamp` that have not been sealed, behind the room.
    buffer: RecordBuffer,
    /// The number of the first record in the buffer.
    first: u64,
    /// The records that only wait to be taken.
    sealed: VecDeque<Chunk>,
    /// The sum of their bytes.
    sealed_bytes: usize,
    /// Memory for the next epochs.
    free: Vec<RecordBuffer>,
    /// Memory for the next draft.
    spare: Vec<u8>,
}

impl Journal {
    /// Records from now on. The next record has the number `sequence + 1` and the stamp `stamp`;
    /// `room` bytes stay free in front of each epoch's records.
    pub fn start(&mut self, sequence: u64, stamp: u64, room: usize) {
        let sequence_before = sequence;
        *self = Self { on: true, sequence, sequence_before, stamp, room, ..Self::default() };
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
    /// `persist::epoch`). Stamps never fall: a lower one changes nothing.
    #[inline]
    pub fn set_stamp(&mut self, stamp: u64) {
        if stamp > self.stamp {
            self.seal();
            self.stamp = stamp;
            self.sequence_before = self.sequence;
        }
    }

    /// The stamp of what is recorded now.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The number of the last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The number of the last record of epochs up to `epoch`, which is the present one or the one
    /// before.
    pub fn sequence_until(&self, epoch: u64) -> u64 {
        if self.stamp <= epoch { self.sequence } else { self.sequence_before }
    }

    /// Bytes of records that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() + self.sealed_bytes
    }

    /// Whether no record waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.sealed.is_empty()
    }

    /// Takes away the records of the first epoch that waits, if that is `epoch` or an earlier one.
    /// Nothing more may be recorded in that epoch: it is closed.
    pub fn take_until(&mut self, epoch: u64) -> Option<Chunk> {
        if self.stamp <= epoch {
            self.seal();
        }
        if self.sealed.front()?.epoch > epoch {
            return None;
        }
        let chunk = self.sealed.pop_front()?;
        self.sealed_bytes -= chunk.bytes.len();
        Some(chunk)
    }

    /// Gives back the memory of records that have been written.
    pub fn recycle(&mut self, mut buffer: RecordBuffer) {
        if self.free.len() < FREE_BUFFERS_MAX && buffer.capacity() <= FREE_BYTES_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Ends the records of the present epoch, if there are any.
    fn seal(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = mem::replace(&mut self.buffer, self.free.pop().unwrap_or_default());
        self.sealed_bytes += bytes.len();
        self.sealed.push_back(Chunk {
            epoch: self.stamp,
            first_sequence: self.first,
            last_sequence: self.sequence,
            bytes,
        });
    }

    /// Records one effect in `database`: a command and its arguments.
    pub fn record(&mut self, database: usize, arguments: &[&[u8]]) {
        if self.on {
            self.told = true;
            self.append(database, arguments.len(), arguments.iter().copied());
        }
    }

    /// Records an effect that no command has had: a key is set back to what it was.
    pub fn record_aside(&mut self, database: usize, arguments: &[&[u8]]) {
        if self.on {
            self.append(database, arguments.len(), arguments.iter().copied());
        }
    }

    /// Records that a deadline has passed: what `arguments` delete has expired.
    pub fn record_expired(&mut self, database: usize, arguments: &[&[u8]]) {
        if self.on {
            self.expiries += 1;
            self.append(database, arguments.len(), arguments.iter().copied());
        }
    }

    /// Records that `key` is gone without a command having asked for it.
    pub fn record_gone(&mut self, database: usize, key: &[u8]) {
        if self.on {
            self.append(database, 2, [b"DEL", key].into_iter());
        }
    }

    /// Records what a key has become without a command of this shard having said so.
    pub(crate) fn record_state(&mut self, database: usize, arguments: &[&[u8]]) {
        if self.on {
            self.append(database, arguments.len(), arguments.iter().copied());
        }
    }

    /// How often something was recorded that time alone does not tell.
    pub fn changes(&self) -> u64 {
        self.sequence - self.expiries
    }

    /// Whether every record behind the number `sequence` still waits here.
    pub fn continues(&self, sequence: u64) -> bool {
        let first = self.waiting().next().map(|waiting| waiting.first_sequence);
        sequence >= first.map_or(self.sequence, |first| first - 1)
    }

    /// The records that wait, epoch by epoch.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting<'_>> {
        let sealed = self.sealed.iter().map(|chunk| Waiting {
            first_sequence: chunk.first_sequence,
            last_sequence: chunk.last_sequence,
            records: &chunk.bytes[self.room..],
        });
        let open = (!self.buffer.is_empty()).then(|| Waiting {
            first_sequence: self.first,
            last_sequence: self.sequence,
            records: &self.buffer[self.room..],
        });
        sealed.chain(open)
    }

    /// The last epoch of which records wait.
    pub fn fresh_epoch(&self) -> Option<u64> {
        if self.buffer.is_empty() {
            self.sealed.back().map(|chunk| chunk.epoch)
        } else {
            Some(self.stamp)
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
            let head = self.begin(database);
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
        let head = self.begin(database);
        encode(&mut self.buffer, head, count, arguments);
    }

    /// Numbers a new record, and makes the room in front of an epoch's first.
    #[inline]
    fn begin(&mut self, database: usize) -> RecordHead {
        if self.buffer.is_empty() {
            self.buffer.resize(self.room, 0);
            self.first = self.sequence + 1;
        }
        self.sequence += 1;
        RecordHead { sequence: self.sequence, stamp: self.stamp, database: database as u32 }
    }
}
