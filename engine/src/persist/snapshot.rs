//! A snapshot of one shard: its captured keys as pieces of a file in Redis's format, in small steps.
//!
//! Whoever drives it begins a capture of the keyspace (see `keyspace::capture`), calls
//! [`Snapshot::step`] when there is time, and puts the pieces into the file. What was preserved goes
//! first, as it takes memory; then the walk goes on. A value that is too large for one step is held
//! by its root and written over many.
//!
//! Pieces are whole blocks in memory that is aligned to blocks, so that they can go to the disk past
//! the page cache, without a copy. A shard that has the file for itself cuts its pieces wherever they
//! are full, as they follow each other. Several shards write one file at the same time, so theirs
//! must stand on their own: their keys are whole, their database is named, and what is left of the
//! last block is filled with a field that readers pass over ([`put_filler`]). Only a value larger
//! than a piece needs several in a row. Its length must be known before the first, so it is encoded
//! twice, first to be measured.
//!
//! # Invariants
//!
//! - the pieces of a snapshot hold every captured key once, and are whole blocks long;
//! - besides what the keyspace preserves, a snapshot holds one piece, the root of one value, and
//!   empty buffers that were given back to it;
//! - a step's work is bounded: by what it was allowed, and one small value or packed blob more. What
//!   was large is freed by the keyspace, in slices.
#![forbid(unsafe_code)]

pub mod checksum;
#[cfg(test)]
mod tests;

use std::{mem, ops::ControlFlow};

use super::rdb::{
    Crc64, Options, Progress,
    writer::{EntryHead, Usage, Writer, filler_len, put_filler},
};
use crate::{
    journal::record::{BLOCK_BYTES, RecordBuffer},
    keyspace::{
        CapturedKey, Keyspace, Preserved,
        usage::{Policy, idle_seconds},
    },
    sys::clock::Clock,
};

/// From this length on a piece is handed out. Whole blocks.
pub const PIECE_BYTES: usize = 256 << 10;
/// Memory of a piece: a key that does not fit is still written whole.
const PIECE_CAPACITY: usize = PIECE_BYTES + (96 << 10);
/// Most empty buffers that are kept.
const SPARE_MAX: usize = 16;
/// Work after which a value is left to later steps, in bytes: some tens of microseconds.
const VALUE_WORK: usize = 16 << 10;
/// Work that a key costs besides its bytes, in bytes that could be copied meanwhile.
const KEY_WORK: usize = 128;

/// How a snapshot is written.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// How values are.
    pub values: Options,
    /// `rdbchecksum`: whether pieces are summed up.
    pub checksum: bool,
    /// What is said of the keys' use.
    pub usage: UsageKept,
    /// Whether this shard has the file for itself, so that its pieces follow each other.
    pub is_alone: bool,
}

/// What a snapshot says of the use of keys, which follows from the eviction policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageKept {
    /// Nothing.
    Nothing,
    /// How long each has been idle.
    Idle,
    /// How often each is used.
    Frequency,
}

impl UsageKept {
    /// What is said of a key whose usage bits are `bits` at the time of `clock`.
    pub fn of(self, bits: u32, policy: Policy, clock: Clock) -> Option<Usage> {
        match self {
            Self::Nothing => None,
            Self::Idle => Some(Usage::IdleSeconds(u64::from(idle_seconds(bits, clock)))),
            Self::Frequency => Some(Usage::Frequency(policy.frequency(bits, clock))),
        }
    }
}

/// A part of the file.
#[derive(Debug)]
pub struct Piece {
    /// Its bytes: whole blocks, at least one.
    pub bytes: RecordBuffer,
    /// Their checksum, if they are summed up.
    pub sum: u64,
    /// Where it stands.
    pub place: Place,
}

/// Where a piece stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind this shard's last piece; those of other shards may stand in between.
    Anywhere,
    /// The same, with all that follow up to `total` bytes directly behind it.
    Run {
        /// Bytes of all of them.
        total: u64,
    },
    /// Directly behind the one before.
    Next,
}

/// What a step has come to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// A piece is ready, and there is more to do.
    Piece(Piece),
    /// Every key has been handed out.
    Done,
}

/// The snapshot of one shard.
pub struct Snapshot {
    options: SnapshotOptions,
    writer: Writer,
    /// The piece so far, and its checksum.
    piece: RecordBuffer,
    sum: Crc64,
    /// What follows it: written in this step, short, and so still in the processor's cache when it
    /// is summed up and moved into the piece.
    fresh: Vec<u8>,
    large: Option<Large>,
    spare: Vec<RecordBuffer>,
    keys: u64,
    policy: Policy,
    cut: Clock,
}

/// A value that is written over several steps.
struct Large {
    key: Preserved,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// Into the piece: its key begins at `key_at`, and the value itself at `value_at`.
    Piece { key_at: usize, value_at: usize },
    /// Nowhere: so many bytes were counted.
    Measure { bytes: u64 },
    /// Into pieces of their own. `total` bytes, while the first is not handed out.
    Run { total: Option<u64> },
}

impl Snapshot {
    /// A snapshot of `keyspace`, whose capture has just begun.
    pub fn new(keyspace: &Keyspace, options: SnapshotOptions) -> Self {
        Self {
            writer: Writer::new(options.values),
            options,
            piece: RecordBuffer::with_capacity(PIECE_CAPACITY),
            sum: Crc64::new(),
            fresh: Vec::new(),
            large: None,
            spare: Vec::new(),
            keys: 0,
            policy: keyspace.usage_policy(),
            cut: keyspace.clock(),
        }
    }

    /// Keys written.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Takes back the buffer of a piece that is in the file, for another one.
    pub fn recycle(&mut self, mut buffer: RecordBuffer) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= 2 * PIECE_CAPACITY {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Does about `work` bytes of work. `keyspace` is the one whose capture this writes.
    pub fn step(&mut self, keyspace: &mut Keyspace, work: usize) -> Step {
        if self.options.is_alone && self.len() >= PIECE_BYTES {
            return self.piece_if_full();
        }
        if let Some(large) = self.large.take() {
            return self.step_large(keyspace, large, work);
        }
        if let Some(preserved) = keyspace.next_preserved() {
            match self.put(&preserved.view()) {
                Some(way) => self.large = Some(Large { key: preserved, way }),
                None => keyspace.free_preserved(preserved),
            }
            return self.piece_if_whole();
        }
        let mut left = work;
        let walked = keyspace.walk_capture(|key| {
            let before = self.len();
            if let Some(way) = self.put(&key) {
                self.large = Some(Large { key: Preserved::copy_of(&key), way });
            }
            left = left.saturating_sub(self.len() - before + KEY_WORK);
            let is_over = left == 0 || self.large.is_some() || self.len() >= PIECE_BYTES;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if walked.is_break() || self.large.is_some() || self.len() >= PIECE_BYTES {
            self.piece_if_whole()
        } else if self.len() == 0 {
            Step::Done
        } else {
            Step::Piece(self.hand_out(Place::Anywhere))
        }
    }

    /// Length of the piece so far, with what is not moved into it yet.
    fn len(&self) -> usize {
        self.piece.len() + self.fresh.len()
    }

    /// Writes a key and at least the beginning of its value into the piece. Answers how the value is
    /// gone on with, if that was not all.
    fn put(&mut self, key: &CapturedKey<'_>) -> Option<Way> {
        let key_at = self.len();
        let value_at = self.put_head(key);
        match self.writer.step(&key.body, &mut self.fresh, VALUE_WORK) {
            Progress::More => Some(Way::Piece { key_at, value_at }),
            Progress::Done => {
                self.keys += 1;
                None
            }
        }
    }

    /// Writes all but the value. Answers where that begins.
    fn put_head(&mut self, key: &CapturedKey<'_>) -> usize {
        let usage = self.options.usage.of(key.usage, self.policy, self.cut);
        let CapturedKey { database, key: name, deadline, .. } = *key;
        let head = EntryHead { database, key: name, deadline, usage };
        self.writer.begin(&head, &key.body, &mut self.fresh);
        self.len()
    }

    /// Goes on with a large value.
    fn step_large(&mut self, keyspace: &mut Keyspace, mut large: Large, work: usize) -> Step {
        let view = large.key.view();
        let is_done = self.writer.step(&view.body, &mut self.fresh, work) == Progress::Done;
        let is_full = self.len() >= PIECE_BYTES;
        let step = match &mut large.way {
            Way::Piece { .. } if is_done || !is_full || self.options.is_alone => {
                self.piece_if_full()
            }
            Way::Piece { key_at, value_at } => {
                let (key_at, bytes) = (*key_at, (self.len() - *value_at) as u64);
                large.way = Way::Measure { bytes };
                self.cut_back(key_at)
            }
            Way::Measure { bytes } => {
                *bytes += self.fresh.len() as u64;
                self.fresh.clear();
                if is_done {
                    let total = *bytes + self.put_head(&view) as u64;
                    large.way = Way::Run { total: Some(total + filler_len(total)) };
                    self.large = Some(large);
                    return Step::More;
                }
                Step::More
            }
            Way::Run { total } if is_full || is_done => {
                let place = total.take().map_or(Place::Next, |total| Place::Run { total });
                Step::Piece(if is_done { self.hand_out(place) } else { self.cut_off(place) })
            }
            Way::Run { .. } => {
                self.settle(PIECE_BYTES);
                Step::More
            }
        };
        if is_done {
            self.keys += 1;
            keyspace.free_preserved(large.key);
        } else {
            self.large = Some(large);
        }
        step
    }

    /// Takes back what was written from `at` on; what is before that is handed out.
    fn cut_back(&mut self, at: usize) -> Step {
        if let Some(kept) = at.checked_sub(self.piece.len()) {
            self.fresh.truncate(kept);
        } else {
            self.fresh.clear();
            self.piece.resize(at, 0);
            self.sum = Crc64::new();
            if self.options.checksum {
                self.sum.update(&self.piece);
            }
        }
        self.writer.begin_chunk();
        if at == 0 { Step::More } else { Step::Piece(self.hand_out(Place::Anywhere)) }
    }

    /// Hands the piece out if it is long enough and no value has only begun in it: that one may yet
    /// be taken back, to be a run (see [`Way::Piece`]).
    fn piece_if_whole(&mut self) -> Step {
        let may_take_back = self.large.is_some() && !self.options.is_alone;
        if may_take_back { Step::More } else { self.piece_if_full() }
    }

    /// Hands the piece out if it is long enough.
    fn piece_if_full(&mut self) -> Step {
        if self.len() < PIECE_BYTES {
            self.settle(PIECE_BYTES);
            Step::More
        } else if self.options.is_alone {
            Step::Piece(self.cut_off(Place::Anywhere))
        } else {
            Step::Piece(self.hand_out(Place::Anywhere))
        }
    }

    /// Hands out a full piece; what does not fit begins the next one.
    fn cut_off(&mut self, place: Place) -> Piece {
        self.settle(PIECE_BYTES);
        self.take_piece(place)
    }

    /// Hands out all that was written, and fills the last block.
    fn hand_out(&mut self, place: Place) -> Piece {
        let filler = filler_len(self.len() as u64);
        put_filler(&mut self.fresh, filler);
        self.settle(usize::MAX);
        self.take_piece(place)
    }

    fn take_piece(&mut self, place: Place) -> Piece {
        debug_assert!(self.piece.len().is_multiple_of(BLOCK_BYTES) && !self.piece.is_empty());
        if !self.options.is_alone {
            self.writer.begin_chunk();
        }
        let sum = mem::take(&mut self.sum).value();
        let new = || RecordBuffer::with_capacity(PIECE_CAPACITY);
        let next = self.spare.pop().unwrap_or_else(new);
        Piece { bytes: mem::replace(&mut self.piece, next), sum, place }
    }

    /// Moves what is fresh into the piece, as long as that has no more than `bytes_max`.
    fn settle(&mut self, bytes_max: usize) {
        let len = self.fresh.len().min(bytes_max.saturating_sub(self.piece.len()));
        let settled = &self.fresh[..len];
        if self.options.checksum {
            self.sum.update(settled);
        }
        self.piece.extend_from_slice(settled);
        self.fresh.drain(..len);
    }
}
