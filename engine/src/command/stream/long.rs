//! Ranges of a stream that are answered while the reply is sent: first the entries are counted, a block at
//! a time, since an array begins with its length; then they are written, some blocks at a time.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc};

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, buffer::Source};

use super::reply_entry;
use crate::{
    command::work::{Computed, Work, written},
    keyspace::deferred_free::DeferredFree,
    types::{
        Either, StreamId,
        stream::{Block, Entries, Entry},
    },
};

/// About how much of a reply is written at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// A position is the number of the block to go on with, and above it how many entries were written.
const BLOCK_BITS: u32 = 32;

/// Which entries of a stream are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) start: StreamId,
    pub(super) end: StreamId,
    /// From the end to the start.
    pub(super) back: bool,
    /// At most so many.
    pub(super) count: usize,
}

impl Extent {
    fn has(&self, id: StreamId) -> bool {
        self.start <= id && id <= self.end
    }
}

/// Captured entries, and which of them are answered.
#[derive(Debug)]
struct Captured {
    entries: Entries,
    extent: Extent,
    deferred_free: Arc<DeferredFree>,
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.deferred_free.leave(mem::take(&mut self.entries).into_garbage());
    }
}

/// Counts the entries of a range.
#[derive(Debug)]
pub(super) struct RangeWork {
    captured: Option<Captured>,
    /// The next block to look at, and what was counted in those before.
    next: usize,
    len: usize,
}

impl RangeWork {
    /// Of `entries`, which are captured; they are left to `deferred_free` in the end.
    pub(super) fn new(entries: Entries, extent: Extent, deferred_free: &Arc<DeferredFree>) -> Self {
        let next = entries.block_index(extent.start);
        let captured = Captured { entries, extent, deferred_free: deferred_free.clone() };
        Self { captured: Some(captured), next, len: 0 }
    }

    /// Looks at up to `blocks` more blocks; whether that were all.
    fn count(&mut self, blocks: usize) -> bool {
        let Some(Captured { entries, extent, .. }) = &self.captured else { return true };
        for block in entries.blocks_from(self.next).take(blocks) {
            if block.first() > extent.end {
                return true;
            }
            self.next += 1;
            self.len += live_within(block, extent);
        }
        self.next >= entries.block_count()
    }
}

/// How many entries of a block belong to a range.
fn live_within(block: Block<'_>, extent: &Extent) -> usize {
    if extent.has(block.first()) && extent.has(block.last()) {
        return block.live();
    }
    block.entries().filter(|entry| !entry.deleted && extent.has(entry.id)).count()
}

impl Work for RangeWork {
    fn go_on(&mut self, lookups: usize, protocol: Protocol) -> Option<Computed> {
        if !self.count(lookups) {
            return None;
        }
        let captured = self.captured.take()?;
        let len = self.len.min(captured.extent.count);
        let first = match captured.extent.back {
            false => captured.entries.block_index(captured.extent.start),
            true => captured.entries.block_index(captured.extent.end) + 1,
        };
        let head = written(protocol, |reply| reply.array(len));
        let rest = RangeWalk { captured, first, len, protocol };
        Some(Computed { head, rest: (len > 0).then(|| Arc::new(rest) as Arc<dyn Source>) })
    }
}

/// Writes the entries of a range.
#[derive(Debug)]
struct RangeWalk {
    captured: Captured,
    /// The block that comes first; going back, the one behind it.
    first: usize,
    /// How many entries there are.
    len: usize,
    protocol: Protocol,
}

impl RangeWalk {
    /// Writes entries of blocks, of which the first is number `position`; answers where to go on.
    fn write_blocks<'a>(
        &self,
        blocks: impl Iterator<Item = Block<'a>>,
        position: u64,
        out: &mut ReplyBuffer,
    ) -> Option<u64> {
        let (start, mut count) = (out.len(), (position >> BLOCK_BITS) as usize);
        let mut reply = ReplyWriter::new(out, self.protocol);
        let Extent { back, .. } = self.captured.extent;
        for (number, block) in (position & ((1 << BLOCK_BITS) - 1)..).zip(blocks) {
            if reply.buffer().len() - start >= PIECE_BYTES {
                return Some((count as u64) << BLOCK_BITS | number);
            }
            let entries = match back {
                false => Either::Left(block.entries()),
                true => Either::Right(block.entries_back()),
            };
            let answered = |entry: &Entry<'_>| !entry.deleted && self.captured.extent.has(entry.id);
            for entry in entries.filter(answered) {
                reply_entry(&mut reply, &entry);
                count += 1;
                if count == self.len {
                    return None;
                }
            }
        }
        None
    }
}

impl Source for RangeWalk {
    fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
        let skip = (position & ((1 << BLOCK_BITS) - 1)) as usize;
        let Captured { entries, extent, .. } = &self.captured;
        match extent.back {
            false => self.write_blocks(entries.blocks_from(self.first + skip), position, out),
            true => {
                let end = self.first.saturating_sub(skip);
                self.write_blocks(entries.blocks_back_from(end), position, out)
            }
        }
    }
}
