//! The segments of a log while it is written: the one that is written to, the next one, which is
//! made before it is needed, and those that are left.
//!
//! Invariants:
//! - the numbers of segments have no gap: one that could not be made is asked for again;
//! - a segment is closed once, when nothing of it is under way and no sync of it is owed.
#![forbid(unsafe_code)]

use std::io;

use super::{Failure, LogWriter, RETRY_US, State};
use crate::{
    journal::record::BLOCK_BYTES,
    persist::segment::{SegmentHeader, segment_block},
    sys::disk::LogDisk,
};

/// Bytes that are set aside for the first segment of a log.
pub(super) const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The same for a log that has grown: every segment is twice as large as the one before, up to this.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The segment that is written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    /// Where the next group goes.
    pub(super) offset: u64,
    pub(super) capacity: u64,
}

/// The next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    None,
    Asked { number: u32, capacity: u64 },
    Ready { number: u32, capacity: u64 },
}

impl LogWriter {
    /// The segment for a group of `len` bytes, if there is one with room; else one is asked for.
    pub(super) fn segment_for(&mut self, len: u64, disk: &mut impl LogDisk) -> Option<Segment> {
        if let Some(segment) = self.segment {
            // A group that is longer than any segment makes its own grow.
            let is_empty = segment.offset == BLOCK_BYTES as u64;
            if is_empty || segment.offset + len <= segment.capacity {
                return Some(segment);
            }
        }
        match self.next {
            Next::Ready { number, capacity } => {
                self.closing.extend(self.segment.map(|old| old.number));
                self.next = Next::None;
                self.segment = Some(Segment { number, offset: BLOCK_BYTES as u64, capacity });
            }
            Next::None => {
                self.ask_larger(disk);
                return None;
            }
            Next::Asked { .. } => return None,
        }
        self.segment
    }

    /// Asks for the next segment before it is needed: when half of the present one is full.
    pub(super) fn ask_in_advance(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        if let Some(Segment { offset, capacity, .. }) = self.segment
            && self.next == Next::None
            && offset > capacity / 2
            && now_us >= self.ask_us
        {
            self.ask_larger(disk);
        }
    }

    fn ask_larger(&mut self, disk: &mut impl LogDisk) {
        let capacity = self.segment.map_or(SEGMENT_BYTES_MIN, |segment| segment.capacity);
        self.ask_segment((capacity * 2).min(SEGMENT_BYTES_MAX), disk);
    }

    pub(super) fn ask_segment(&mut self, capacity: u64, disk: &mut impl LogDisk) {
        let number = self.next_number;
        let block = segment_block(&SegmentHeader {
            run: self.identity.run,
            shard: self.identity.shard,
            shards: self.identity.shards,
            number,
            first_sequence: self.durable + 1,
        });
        self.next_number = number + 1;
        self.next = Next::Asked { number, capacity };
        disk.make(number, block, capacity);
    }

    /// Takes in that a segment was made, or could not be.
    pub(super) fn made(
        &mut self,
        number: u32,
        result: io::Result<()>,
        disk: &mut impl LogDisk,
        now_us: i64,
    ) {
        let Next::Asked { number: asked, capacity } = self.next else { return };
        if asked != number {
            return disk.close(number);
        }
        match result {
            Ok(()) => {
                self.next = Next::Ready { number, capacity };
                if let Some(failure) = &mut self.failure {
                    failure.retry_us = now_us;
                }
            }
            Err(error) => {
                self.next = Next::None;
                self.next_number = number;
                self.ask_us = now_us + RETRY_US;
                // If there is room left it is not needed yet.
                let is_needed = self.kept.iter().any(|kept| kept.state == State::Waiting);
                if is_needed || self.segment.is_none() {
                    // What was written is as good as before.
                    let retry_us = now_us + RETRY_US;
                    let (is_of_data, is_on_trial) = (false, false);
                    self.failure.get_or_insert(Failure {
                        error,
                        retry_us,
                        is_of_data,
                        is_on_trial,
                    });
                }
            }
        }
    }

    /// Closes the segments that were left and of which nothing is under way or owed any more.
    pub(super) fn close_quiet(&mut self, disk: &mut impl LogDisk) {
        let Self { closing, kept, syncing, unsynced, .. } = self;
        closing.retain(|&segment| {
            let is_used =
                kept.iter().any(|kept| kept.segment == segment && kept.state != State::Waiting)
                    || syncing.is_some_and(|(syncing, _)| syncing == segment)
                    || unsynced.iter().any(|left| left.segment == segment);
            if !is_used {
                disk.close(segment);
            }
            is_used
        });
    }
}
