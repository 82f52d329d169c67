//! The entries of a stream: blocks in a tree by their first id, and the block that grows.
//!
//! Entries are only ever added behind all others. The block that takes them, the *tail*, stands
//! outside the tree, so that adding one is a few stores; when it is full it is sealed: copied to an
//! allocation of its exact size and put into the tree. Sealed blocks change by deletion only, which
//! makes a new block of the old one.
//!
//! Invariants:
//! - every block has a live entry; the tail is empty or its ids lie behind those of all blocks;
//! - no id is greater than `last_id`; `first_id` is that of the first live entry, or 0-0 if none is;
//! - `len` is the sum of the blocks' live entries;
//! - blocks and tail are reference-counted: cloning captures everything in O(1), and a later write
//!   copies the one block that it changes, and its path in the tree.
#![forbid(unsafe_code)]

use bytes::Bytes;
use triomphe::Arc;

use super::{
    StreamId,
    block::{self, Block, BlockLimits, Entry, Pairs},
};
use crate::types::{
    Garbage,
    encoding::{
        Element,
        order::ById,
        page::{INLINE_BYTES_MAX, NewRecord, Record},
        tree::{Cursor, Path, Tree},
    },
};

/// A tail whose memory is kept for the next block when it is sealed; a longer one is given away.
const TAIL_BYTES_KEPT: usize = 8 << 10;

/// The entries of a stream, with what is known of those that were there.
#[derive(Clone, Debug)]
pub struct Entries {
    pub(super) blocks: Tree<ById>,
    pub(super) tail: Arc<Vec<u8>>,
    pub(super) len: u64,
    pub(super) first_id: StreamId,
    /// The greatest id that was ever given out, or that XSETID has set.
    pub last_id: StreamId,
    /// The greatest id that XDEL has deleted; 0-0 if it deleted none.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub added: u64,
}

/// Where a block is.
enum Place<'a> {
    Tail,
    Sealed(Cursor<'a, ById>),
}

impl Default for Entries {
    fn default() -> Self {
        Self::new()
    }
}

impl Entries {
    /// No entries.
    pub fn new() -> Self {
        Self {
            blocks: Tree::new(),
            tail: Arc::new(Vec::new()),
            len: 0,
            first_id: StreamId::MIN,
            last_id: StreamId::MIN,
            max_deleted_id: StreamId::MIN,
            added: 0,
        }
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no entry. The stream may still have groups, and knows its last id.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The id of the first entry; 0-0 if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// Bytes of memory behind the entries.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.blocks.memory_bytes() + self.tail.capacity()
    }

    /// Number of blocks.
    pub fn block_count(&self) -> usize {
        self.blocks.len() + usize::from(!self.tail.is_empty())
    }

    /// Adds an entry with `id`, which is greater than [`Self::last_id`].
    pub fn append<'p>(&mut self, id: StreamId, pairs: impl Pairs<'p>, limits: BlockLimits) {
        debug_assert!(id > self.last_id);
        let payload = pairs.clone().map(|(field, value)| field.len() + value.len()).sum();
        if self.tail.is_empty() {
            self.reopen_last(payload, limits);
        } else if limits.are_reached(Block::new(&self.tail), payload) {
            self.seal();
        }
        let tail = Arc::make_mut(&mut self.tail);
        if tail.is_empty() {
            block::begin(tail, id, pairs.clone());
        }
        block::push(tail, id, pairs);
        self.last_id = id;
        self.added += 1;
        self.len += 1;
        if self.len == 1 {
            self.first_id = id;
        }
        // What no entry can follow is sealed at once, lest a write after a capture copy it.
        if self.tail.len() > TAIL_BYTES_KEPT && limits.are_reached(Block::new(&self.tail), 0) {
            self.seal();
        }
    }

    /// Ends the block that grows: the next entry begins another. For loading a stream with the
    /// blocks that it had.
    pub fn end_block(&mut self) {
        if !self.tail.is_empty() {
            self.seal();
        }
    }

    /// Deletes the entry `id`; whether it was there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let path = match self.locate(id) {
            None => return false,
            Some(Place::Tail) => None,
            Some(Place::Sealed(cursor)) => Some(cursor.path()),
        };
        let deleted = match path {
            None => self.delete_from_tail(id),
            Some(path) => self.delete_from_sealed(&path, id),
        };
        if deleted {
            self.len -= 1;
            self.max_deleted_id = self.max_deleted_id.max(id);
            if id == self.first_id || self.len == 0 {
                self.find_first();
            }
        }
        deleted
    }

    /// The live entry `id`.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        match self.locate(id)? {
            Place::Tail => Block::new(&self.tail).find(id),
            Place::Sealed(cursor) => block_at(&cursor)?.find(id),
        }
    }

    /// The id of the last entry; none if there is no entry.
    pub fn last_live_id(&self) -> Option<StreamId> {
        self.range_back(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id)
    }

    /// Whether there is an entry behind `id`.
    pub fn has_after(&self, id: StreamId) -> bool {
        // Nearly always the last id, which is at hand, decides it.
        id < self.last_id && self.last_live_id().is_some_and(|last| last > id)
    }

    /// The blocks in order, for a dump. All others read entries.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        self.blocks_from(0)
    }

    /// The blocks from number `index` on, counted from 0.
    pub fn blocks_from(&self, index: usize) -> impl Iterator<Item = Block<'_>> {
        let tail = self.tail_block().filter(|_| index <= self.blocks.len());
        self.blocks.seek(index).forward().map(|record| block_of(&record)).chain(tail)
    }

    /// The blocks before number `index`, the nearest first.
    pub fn blocks_back_from(&self, index: usize) -> impl Iterator<Item = Block<'_>> {
        let tail = self.tail_block().filter(|_| index > self.blocks.len());
        let sealed = self.blocks.seek(index.min(self.blocks.len())).backward();
        tail.into_iter().chain(sealed.map(|record| block_of(&record)))
    }

    /// The number of the block in which `id` stands if it is anywhere; 0 if it lies before all.
    pub fn block_index(&self, id: StreamId) -> usize {
        match self.locate(id) {
            None => 0,
            Some(Place::Tail) => self.blocks.len(),
            Some(Place::Sealed(cursor)) => cursor.index(),
        }
    }

    /// The entries from `start` to `end`, both counting.
    #[inline]
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let cursor = match self.locate(start) {
            Some(Place::Tail) => self.blocks.seek_end(),
            Some(Place::Sealed(cursor)) => cursor,
            None => self.blocks.seek_start(),
        };
        cursor
            .forward()
            .map(|record| block_of(&record))
            .chain(self.tail_block())
            .flat_map(Block::entries)
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
            .filter(|entry| !entry.deleted)
    }

    /// The entries from `end` back to `start`, both counting.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let (tail, cursor) = match self.locate(end) {
            Some(Place::Tail) => (self.tail_block(), self.blocks.seek_end()),
            Some(Place::Sealed(mut cursor)) => {
                cursor.step();
                (None, cursor)
            }
            None => (None, self.blocks.seek_start()),
        };
        tail.into_iter()
            .chain(cursor.backward().map(|record| block_of(&record)))
            .flat_map(Block::entries_back)
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
            .filter(|entry| !entry.deleted)
    }

    /// The memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        Garbage::of_blocks(self.blocks.into_garbage())
    }

    #[inline]
    pub(super) fn tail_block(&self) -> Option<Block<'_>> {
        (!self.tail.is_empty()).then(|| Block::new(&self.tail))
    }

    /// The block in which `id` stands if it is anywhere; none if it lies before all.
    #[inline]
    fn locate(&self, id: StreamId) -> Option<Place<'_>> {
        if self.tail_block().is_some_and(|tail| tail.first() <= id) {
            return Some(Place::Tail);
        }
        self.blocks.seek_id_back(id.to_number()).map(Place::Sealed)
    }

    /// Moves the tail, which is not empty, into the tree.
    #[cold]
    fn seal(&mut self) {
        let key = Block::new(&self.tail).first();
        let body = match Arc::get_mut(&mut self.tail) {
            Some(tail) if tail.len() > TAIL_BYTES_KEPT => {
                tail.shrink_to_fit();
                Bytes::from(std::mem::take(tail))
            }
            Some(tail) => {
                let copy = Bytes::copy_from_slice(tail);
                tail.clear();
                copy
            }
            None => {
                let copy = Bytes::copy_from_slice(&self.tail);
                self.tail = Arc::new(Vec::new());
                copy
            }
        };
        with_record(key, &body, |record| self.blocks.push_back(record));
    }

    /// Makes the last sealed block the tail again if it takes an entry of `payload` bytes: the tail
    /// behind it was deleted, or it was sealed because only a longer entry did not fit.
    fn reopen_last(&mut self, payload: usize, limits: BlockLimits) {
        let mut cursor = self.blocks.seek_end();
        if !cursor.step_back() {
            return;
        }
        let Some(block) = block_at(&cursor) else { return };
        if limits.are_reached(block, payload) {
            return;
        }
        let (bytes, path) = (block.bytes().to_vec(), cursor.path());
        drop(cursor);
        self.blocks.remove(&path);
        self.tail = Arc::new(bytes);
    }

    fn delete_from_tail(&mut self, id: StreamId) -> bool {
        let block = Block::new(&self.tail);
        if block.find(id).is_none() {
            return false;
        }
        if block.live() == 1 {
            self.clear_tail();
            return true;
        }
        let tail: &mut Vec<u8> = Arc::make_mut(&mut self.tail);
        block::delete(tail, id)
    }

    fn delete_from_sealed(&mut self, path: &Path, id: StreamId) -> bool {
        let block = self.blocks.at(path).map(|record| block_of(&record));
        let found = block.is_some_and(|block| block.find(id).is_some());
        found && self.change_sealed(path, |bytes| block::delete(bytes, id))
    }

    pub(super) fn clear_tail(&mut self) {
        match Arc::get_mut(&mut self.tail) {
            Some(tail) => tail.clear(),
            None => self.tail = Arc::new(Vec::new()),
        }
    }

    /// Lets `change` delete entries of the sealed block at `path`, which goes when none is left.
    pub(super) fn change_sealed<R>(
        &mut self,
        path: &Path,
        change: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let block = self.blocks.at(path).map(|record| block_of(&record));
        let mut bytes = block.map_or_else(Vec::new, |block| block.bytes().to_vec());
        let result = change(&mut bytes);
        let block = Block::new(&bytes);
        if block.live() == 0 {
            self.blocks.remove(path);
        } else {
            let key = block.first();
            with_record(key, &Bytes::from(bytes), |record| self.blocks.replace(path, record));
        }
        result
    }

    /// Finds the first id anew.
    pub(super) fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        self.first_id = first.unwrap_or(StreamId::MIN);
    }

    /// Checks the invariants, at the cost of reading everything. For tests.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub fn check(&self) {
        let mut last = None;
        let mut live = 0;
        for block in self.blocks() {
            assert!(block.live() > 0, "a block without a live entry");
            assert!(last < Some(block.first()), "blocks out of order");
            let ids: Vec<_> = block.entries().map(|entry| entry.id).collect();
            assert!(ids.is_sorted() && ids.last() == Some(&block.last()));
            assert_eq!(ids.len(), block.live() + block.deleted());
            let dead = block.entries().filter(|entry| entry.deleted).count();
            assert_eq!(dead, block.deleted(), "deleted entries are miscounted");
            live += block.live() as u64;
            last = Some(block.last());
        }
        assert_eq!(live, self.len, "entries are miscounted");
        assert!(last <= Some(self.last_id) || last.is_none());
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        assert_eq!(first.unwrap_or_default(), self.first_id);
    }
}

/// The block that a record holds.
#[inline]
pub(super) fn block_of<'a>(record: &Record<'a>) -> Block<'a> {
    match record.body {
        Element::Bytes(bytes) => Block::new(bytes),
        Element::Shared(bytes) => Block::new(bytes),
        Element::Int(_) => unreachable!("blocks are stored as bytes"),
    }
}

/// The block at a place in the tree.
#[inline]
fn block_at<'a>(cursor: &Cursor<'a, ById>) -> Option<Block<'a>> {
    cursor.record().map(|record| block_of(&record))
}

/// Calls `f` with the record that holds a block.
fn with_record(key: StreamId, block: &Bytes, f: impl FnOnce(&NewRecord<'_>)) {
    let head = key.to_number().to_le_bytes();
    let body = match block.len() {
        ..=INLINE_BYTES_MAX => Element::Bytes(block),
        _ => Element::Shared(block),
    };
    f(&NewRecord { tag: 0, head: &head, body });
}
