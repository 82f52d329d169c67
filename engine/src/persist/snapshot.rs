//! A snapshot of one shard: its captured keys as pieces of a file in Redis's format, in small steps.
//!
//! Whoever drives it begins a capture of the keyspace (see `keyspace::capture`), calls
//! [`Snapshot::step`] when there is time, and puts the pieces into the file. What was preserved goes
//! first, as it takes memory; then the walk goes on. A value that is too large for one step is held
//! by its root and written over many.
//!
//! Several shards write one file at the same time. A piece says where it may stand: most stand on
//! their own, with keys whole and their database named, so that pieces of different shards may be
//! mixed. Only a value larger than a piece needs several in a row. Its length must be known before the first,
//! so it is encoded twice, first to be measured. A shard that has the file for itself needs none of that.
//!
//! # Invariants
//!
//! - the pieces of a snapshot hold every captured key once;
//! - besides what the keyspace preserves, a snapshot holds one piece and the root of one value;
//! - a step's work is bounded: by what it was allowed, and one small value or packed blob more.
#![forbid(unsafe_code)]

pub mod checksum;
#[cfg(test)]
mod tests;

use std::{mem, ops::ControlFlow};

use super::rdb::{
    Crc64, Options, Progress,
    writer::{EntryHead, Usage, Writer},
};
use crate::{
    keyspace::{
        CapturedKey, Keyspace, Preserved,
        usage::{Policy, idle_seconds},
    },
    sys::clock::Clock,
};

/// From this length on a piece is handed out.
pub const PIECE_BYTES: usize = 256 << 10;
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
    /// Its bytes, at least one.
    pub bytes: Vec<u8>,
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
    piece: Vec<u8>,
    /// How much of the piece is summed up, and the sum.
    summed: usize,
    sum: Crc64,
    large: Option<Large>,
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
            piece: Vec::with_capacity(PIECE_BYTES + VALUE_WORK),
            summed: 0,
            sum: Crc64::new(),
            large: None,
            keys: 0,
            policy: keyspace.usage_policy(),
            cut: keyspace.clock(),
        }
    }

    /// Keys written.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Does about `work` bytes of work. `keyspace` is the one whose capture this writes.
    pub fn step(&mut self, keyspace: &mut Keyspace, work: usize) -> Step {
        if let Some(large) = self.large.take() {
            return self.step_large(large, work);
        }
        if let Some(preserved) = keyspace.next_preserved() {
            if let Some(way) = self.put(&preserved.view()) {
                self.large = Some(Large { key: preserved, way });
            }
            return self.piece_if_full();
        }
        let mut left = work;
        let walked = keyspace.walk_capture(|key| {
            let before = self.piece.len();
            if let Some(way) = self.put(&key) {
                self.large = Some(Large { key: Preserved::copy_of(&key), way });
            }
            left = left.saturating_sub(self.piece.len() - before + KEY_WORK);
            let is_over = left == 0 || self.large.is_some() || self.piece.len() >= PIECE_BYTES;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if walked.is_break() || self.large.is_some() {
            self.piece_if_full()
        } else if self.piece.is_empty() {
            Step::Done
        } else {
            Step::Piece(self.hand_out(Place::Anywhere))
        }
    }

    /// Writes a key and at least the beginning of its value into the piece. Answers how the value is
    /// gone on with, if that was not all.
    fn put(&mut self, key: &CapturedKey<'_>) -> Option<Way> {
        let key_at = self.piece.len();
        let value_at = self.put_head(key);
        match self.writer.step(&key.body, &mut self.piece, VALUE_WORK) {
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
        self.writer.begin(&head, &key.body, &mut self.piece);
        self.piece.len()
    }

    /// Goes on with a large value.
    fn step_large(&mut self, mut large: Large, work: usize) -> Step {
        let view = large.key.view();
        let progress = self.writer.step(&view.body, &mut self.piece, work);
        let is_done = progress == Progress::Done;
        let is_full = self.piece.len() >= PIECE_BYTES;
        let step = match &mut large.way {
            Way::Piece { key_at, value_at } => {
                if is_done || !is_full || self.options.is_alone {
                    self.piece_if_full()
                } else {
                    let (key_at, bytes) = (*key_at, (self.piece.len() - *value_at) as u64);
                    large.way = Way::Measure { bytes };
                    self.cut_back(key_at)
                }
            }
            Way::Measure { bytes } => {
                *bytes += self.piece.len() as u64;
                self.piece.clear();
                if is_done {
                    let total = *bytes + self.put_head(&view) as u64;
                    large.way = Way::Run { total: Some(total) };
                    self.large = Some(large);
                    return Step::More;
                }
                Step::More
            }
            Way::Run { total } if is_full || (is_done && !self.piece.is_empty()) => {
                let place = total.take().map_or(Place::Next, |total| Place::Run { total });
                Step::Piece(self.hand_out(place))
            }
            Way::Run { .. } => Step::More,
        };
        if is_done {
            self.keys += 1;
        } else {
            self.large = Some(large);
        }
        step
    }

    /// Takes back what the piece has from `at` on; what is before that is handed out.
    fn cut_back(&mut self, at: usize) -> Step {
        self.piece.truncate(at);
        if self.summed > at {
            (self.summed, self.sum) = (0, Crc64::new());
        }
        self.writer.begin_chunk();
        if at == 0 { Step::More } else { Step::Piece(self.hand_out(Place::Anywhere)) }
    }

    /// Hands the piece out if it is long enough.
    fn piece_if_full(&mut self) -> Step {
        if self.piece.len() >= PIECE_BYTES {
            return Step::Piece(self.hand_out(Place::Anywhere));
        }
        self.sum_up();
        Step::More
    }

    fn hand_out(&mut self, place: Place) -> Piece {
        self.sum_up();
        let sum = mem::take(&mut self.sum).value();
        self.summed = 0;
        if !self.options.is_alone {
            self.writer.begin_chunk();
        }
        let next = Vec::with_capacity(PIECE_BYTES + VALUE_WORK);
        Piece { bytes: mem::replace(&mut self.piece, next), sum, place }
    }

    /// Sums up what was added to the piece, so that a whole piece is not to be summed in one step.
    fn sum_up(&mut self) {
        if self.options.checksum {
            self.sum.update(&self.piece[self.summed..]);
        }
        self.summed = self.piece.len();
    }
}
