//! Removing a stream's oldest entries.
//!
//! Blocks that go as a whole are cut off the tree and freed later, in slices. How many they are is
//! counted from the end at which fewer blocks stand, so that trimming a stream of millions of entries
//! to a few, or by a few, reads only few. An exact bound then flags entries of the one block that
//! goes in part.
#![forbid(unsafe_code)]

use triomphe::Arc;

use super::{
    StreamId,
    block::{self, Block},
    entries::{Entries, block_of},
};
use crate::types::Garbage;

/// What is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// At most so many entries, the newest (MAXLEN).
    Len(u64),
    /// The entries from this id on (MINID).
    Id(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What is to be left.
    pub to: TrimTo,
    /// Whether only whole blocks go (`~`).
    pub whole_blocks: bool,
    /// Most entries to remove, of which a block that exceeds it is not begun; 0 is no limit.
    pub limit: u64,
}

impl Entries {
    /// Removes the oldest entries as `trim` says; how many, and what is to be freed.
    pub fn trim(&mut self, trim: &Trim) -> (u64, Garbage) {
        let before = self.len;
        let (blocks, removed) = match trim.limit {
            0 => self.whole_blocks(trim.to),
            limit => self.whole_blocks_within(trim.to, limit),
        };
        self.len -= removed;
        let all_sealed = blocks == self.blocks.len();
        let nodes = self.blocks.remove_range(0, blocks);
        let garbage = if nodes.is_empty() { Garbage::default() } else { Garbage::of_blocks(nodes) };
        if all_sealed && self.tail_goes(trim, removed) {
            self.len -= self.tail_block().map_or(0, |tail| tail.live() as u64);
            self.clear_tail();
        } else if !trim.whole_blocks {
            self.trim_first_block(trim.to);
        }
        let removed = before - self.len;
        if removed > 0 {
            self.find_first();
        }
        (removed, garbage)
    }

    /// How many sealed blocks go as a whole, and how many entries with them.
    fn whole_blocks(&self, to: TrimTo) -> (usize, u64) {
        let count = match to {
            TrimTo::Len(len) if len >= self.len => 0,
            TrimTo::Len(0) => self.blocks.len(),
            TrimTo::Len(len) if len < self.len / 2 => self.blocks_but_last(len),
            TrimTo::Len(len) => self.blocks_of_first(self.len - len),
            TrimTo::Id(id) => self.blocks_before(id),
        };
        (count, self.live_in_first(count))
    }

    /// How many blocks stand before those, from the back, that hold at least `len` entries.
    fn blocks_but_last(&self, len: u64) -> usize {
        let mut kept = self.tail_block().map_or(0, |tail| tail.live() as u64);
        let mut count = self.blocks.len();
        for record in self.blocks.seek_end().backward() {
            if kept >= len {
                break;
            }
            kept += block_of(&record).live() as u64;
            count -= 1;
        }
        count
    }

    /// How many blocks from the front hold together at most `len` entries.
    fn blocks_of_first(&self, len: u64) -> usize {
        let mut held = 0;
        let mut fit = |block: Block<'_>| {
            held += block.live() as u64;
            held <= len
        };
        self.blocks.iter().take_while(|record| fit(block_of(record))).count()
    }

    /// How many blocks hold only ids before `id`.
    fn blocks_before(&self, id: StreamId) -> usize {
        let mut cursor = self.blocks.seek_id(id.to_number());
        let count = cursor.index();
        // The last of those that begin before `id` may end behind it.
        let reaches = cursor.step_back()
            && cursor.record().is_some_and(|record| block_of(&record).last() >= id);
        count - usize::from(reaches)
    }

    /// Number of entries in the first `count` blocks, counted from the nearer end.
    fn live_in_first(&self, count: usize) -> u64 {
        let live = |record| block_of(&record).live() as u64;
        if count <= self.blocks.len() / 2 {
            return self.blocks.iter().take(count).map(live).sum();
        }
        let kept = self.blocks.len() - count;
        let behind: u64 = self.blocks.seek_end().backward().take(kept).map(live).sum();
        self.len - behind - self.tail_block().map_or(0, |tail| tail.live() as u64)
    }

    /// The same as [`Self::whole_blocks`], from the front and with a limit.
    fn whole_blocks_within(&self, to: TrimTo, limit: u64) -> (usize, u64) {
        let (mut count, mut removed) = (0, 0);
        for record in self.blocks.iter() {
            if !self.goes(block_of(&record), to, removed, limit) {
                break;
            }
            removed += block_of(&record).live() as u64;
            count += 1;
        }
        (count, removed)
    }

    /// Whether `block`, before which `removed` entries go that are counted still, goes too.
    fn goes(&self, block: Block<'_>, to: TrimTo, removed: u64, limit: u64) -> bool {
        let (len, live) = (self.len - removed, block.live() as u64);
        let within = limit == 0 || removed + live <= limit;
        within
            && match to {
                TrimTo::Len(max) => len > max && len - live >= max,
                TrimTo::Id(id) => block.last() < id,
            }
    }

    /// Whether the tail goes too, when `removed` entries before it are gone and no block is left.
    fn tail_goes(&self, trim: &Trim, removed: u64) -> bool {
        let limit = match trim.limit {
            0 => 0,
            limit if limit > removed => limit - removed,
            _ => return false,
        };
        self.tail_block().is_some_and(|tail| self.goes(tail, trim.to, 0, limit))
    }

    /// Deletes entries of the first block, which does not go as a whole.
    fn trim_first_block(&mut self, to: TrimTo) {
        let excess = match to {
            TrimTo::Len(len) => self.len.saturating_sub(len),
            TrimTo::Id(_) => u64::MAX,
        };
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        let goes = |id| excess > 0 && !matches!(to, TrimTo::Id(min) if id >= min);
        // Nothing is copied for nothing.
        if !first.is_some_and(goes) {
            return;
        }
        let mut left = excess;
        let chosen = |id| {
            let chosen = left > 0 && goes(id);
            left = left.saturating_sub(1);
            chosen
        };
        let deleted = if self.blocks.is_empty() {
            let tail: &mut Vec<u8> = Arc::make_mut(&mut self.tail);
            let deleted = block::delete_while(tail, chosen);
            if Block::new(tail).live() == 0 {
                tail.clear();
            }
            deleted
        } else {
            let path = self.blocks.seek_start().path();
            self.change_sealed(&path, |bytes| block::delete_while(bytes, chosen))
        };
        self.len -= deleted as u64;
    }
}
