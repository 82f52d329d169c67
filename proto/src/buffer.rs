//! The bytes of replies on their way out.
//!
//! What: one growing vector for all that is small, and a list of large values that are spliced in by
//! reference at given places, so that a value of 512 MB goes out without having been copied.
//!
//! Why not a list of blocks: nearly all replies are small, and for them the buffer is nothing but an
//! append to a vector and one slice to send.
//!
//! Invariants:
//! - the places in `large` never decrease and never pass the end of `small`;
//! - `large_bytes` is the sum of the lengths in `large`; no chunk is empty.
//!
//! In `large` stand, too, replies that are written only while they are sent (see [`Source`]). What is
//! not written yet has no length: it counts for nothing in any of the lengths told here.

mod elements;
mod later;

use std::ops::Range;

use bytes::Bytes;

pub use elements::Elements;
use later::Later;
pub use later::Source;

/// Shortest value in bytes that is spliced in by reference. For shorter ones a copy costs less than
/// the reference count, the list entry and one more element of the vectored write.
pub const SPLICE_MIN_BYTES: usize = 16 * 1024;
/// Most bytes of memory that a cleared buffer keeps for its next replies.
pub const KEPT_MAX_BYTES: usize = 64 * 1024;
/// Most list entries that a cleared buffer keeps.
const KEPT_MAX_CHUNKS: usize = 64;

/// What stands before the byte `at` of the small ones.
#[derive(Debug, Clone)]
struct Chunk {
    at: usize,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// A value.
    Bytes(Bytes),
    /// What is written later.
    Later(Later),
}

impl Chunk {
    fn bytes(at: usize, bytes: Bytes) -> Self {
        Self { at, body: Body::Bytes(bytes) }
    }

    /// The bytes that are there.
    fn written(&self) -> &[u8] {
        match &self.body {
            Body::Bytes(bytes) => bytes,
            Body::Later(_) => &[],
        }
    }
}

/// A place in a [`ReplyBuffer`]: everything before it. It stays valid as long as nothing before it
/// is truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    small: usize,
    large: usize,
}

/// Replies in order, as bytes.
#[derive(Debug, Clone, Default)]
pub struct ReplyBuffer {
    small: Vec<u8>,
    large: Vec<Chunk>,
    large_bytes: usize,
}

impl ReplyBuffer {
    /// An empty buffer, without memory of its own yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { small: Vec::new(), large: Vec::new(), large_bytes: 0 }
    }

    /// Number of bytes that are there, those of spliced values included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    /// Whether there is nothing to send.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Memory that this buffer holds for itself in bytes; spliced values are not counted, as they
    /// belong to others too.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.small.capacity() + self.large.capacity() * size_of::<Chunk>()
    }

    /// Appends bytes by copying them.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
    }

    /// Appends a value: by reference when it has [`SPLICE_MIN_BYTES`] or more, else as a copy.
    #[inline]
    pub fn splice(&mut self, value: Bytes) {
        if value.len() < SPLICE_MIN_BYTES {
            self.extend(&value);
        } else {
            self.large_bytes += value.len();
            self.large.push(Chunk::bytes(self.small.len(), value));
        }
        self.check();
    }

    /// The place behind the last byte.
    #[inline]
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { small: self.small.len(), large: self.large.len() }
    }

    /// Drops everything behind `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        for chunk in self.large.drain(mark.large.min(self.large.len())..) {
            self.large_bytes -= chunk.written().len();
        }
        self.small.truncate(mark.small);
        self.check();
    }

    /// Appends a part of another buffer: its small bytes as a copy, spliced values by reference.
    #[inline]
    pub fn append_range(&mut self, other: &Self, range: Range<Mark>) {
        let base = self.small.len();
        self.small.extend_from_slice(&other.small[range.start.small..range.end.small]);
        if range.start.large != range.end.large {
            self.append_chunks(&other.large[range.start.large..range.end.large], |at| {
                base + (at - range.start.small)
            });
        }
    }

    /// Appends the whole of another buffer, as [`append_range`](Self::append_range) does.
    #[inline]
    pub fn append(&mut self, other: &Self) {
        self.append_range(other, Mark::default()..other.mark());
    }

    /// Appends another buffer without its first `skip` bytes.
    pub fn append_tail(&mut self, other: &Self, skip: usize) {
        let mut skip = skip;
        let mut taken = 0;
        for chunk in &other.large {
            self.append_unskipped(&other.small[taken..chunk.at], &mut skip);
            taken = chunk.at;
            match &chunk.body {
                Body::Bytes(bytes) => {
                    let skipped = skip.min(bytes.len());
                    skip -= skipped;
                    self.splice(bytes.slice(skipped..));
                }
                Body::Later(_) => {
                    let body = chunk.body.clone();
                    self.large.push(Chunk { at: self.small.len(), body });
                }
            }
        }
        self.append_unskipped(&other.small[taken..], &mut skip);
    }

    fn append_unskipped(&mut self, bytes: &[u8], skip: &mut usize) {
        let skipped = (*skip).min(bytes.len());
        *skip -= skipped;
        self.extend(&bytes[skipped..]);
    }

    #[cold]
    fn append_chunks(&mut self, chunks: &[Chunk], place: impl Fn(usize) -> usize) {
        for chunk in chunks {
            self.large_bytes += chunk.written().len();
            self.large.push(Chunk { at: place(chunk.at), body: chunk.body.clone() });
        }
        self.check();
    }

    /// Drops everything. Memory beyond [`KEPT_MAX_BYTES`] is given back, so that one large reply
    /// does not stay paid for on every idle connection.
    #[inline]
    pub fn clear(&mut self) {
        self.clear_keeping(KEPT_MAX_BYTES);
    }

    /// Drops everything and keeps at most `kept_max` bytes of memory: none at all for a connection
    /// that has fallen idle, more than usual for one of the few buffers that all connections use.
    #[inline]
    pub fn clear_keeping(&mut self, kept_max: usize) {
        self.small.clear();
        if self.small.capacity() > kept_max {
            // Shrinking would copy what the vector held before.
            self.small = Vec::with_capacity(kept_max);
        }
        if self.large.capacity() > 0 {
            self.large.clear();
            self.large.shrink_to(KEPT_MAX_CHUNKS.min(kept_max));
            self.large_bytes = 0;
        }
    }

    /// All bytes as one slice, when no value is spliced in.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.large.is_empty().then_some(&self.small)
    }

    /// The bytes that are there in order, as non-empty slices for a vectored write.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'_> {
        self.chunks_from(0)
    }

    /// The bytes in order without the first `skip`, as after a write that took only so many.
    #[must_use]
    pub fn chunks_from(&self, skip: usize) -> Chunks<'_> {
        Chunks { small: &self.small, taken: 0, large: &self.large, is_large_next: false, skip }
    }

    /// The bytes in order in one piece, with all that is written later. It copies everything: for tests
    /// and for small replies.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut rest = self.clone();
        let mut bytes = Vec::with_capacity(self.len());
        while rest.has_later() {
            rest.take_written().chunks().for_each(|slice| bytes.extend_from_slice(slice));
        }
        rest.chunks().for_each(|slice| bytes.extend_from_slice(slice));
        bytes
    }

    /// The small bytes, to append to.
    #[inline]
    pub(crate) fn small_mut(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Replaces the `old_len` small bytes at `mark` by `new`. Marks behind them lose their meaning.
    pub(crate) fn replace(&mut self, mark: Mark, old_len: usize, new: &[u8]) {
        let old = mark.small..mark.small + old_len;
        if old_len == new.len() {
            self.small[old].copy_from_slice(new);
        } else {
            self.small.splice(old, new.iter().copied());
            for chunk in &mut self.large[mark.large..] {
                chunk.at = chunk.at + new.len() - old_len;
            }
        }
        self.check();
    }

    #[inline]
    fn check(&self) {
        debug_assert!(self.large.is_sorted_by_key(|chunk| chunk.at));
        debug_assert!(self.large.last().is_none_or(|chunk| chunk.at <= self.small.len()));
        debug_assert_eq!(
            self.large_bytes,
            self.large.iter().map(|chunk| chunk.written().len()).sum::<usize>()
        );
    }
}

/// The slices of a [`ReplyBuffer`]; made by [`ReplyBuffer::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    /// Small bytes that are not given out, of which the first is number `taken`.
    small: &'a [u8],
    taken: usize,
    large: &'a [Chunk],
    /// Whether the small bytes before the next spliced value are given out.
    is_large_next: bool,
    /// Bytes still to be left out.
    skip: usize,
}

impl<'a> Chunks<'a> {
    /// The next slice, which may be empty.
    fn advance(&mut self) -> Option<&'a [u8]> {
        let Some((first, rest)) = self.large.split_first() else {
            return Some(std::mem::take(&mut self.small)).filter(|slice| !slice.is_empty());
        };
        if self.is_large_next {
            self.is_large_next = false;
            self.large = rest;
            return Some(first.written());
        }
        let (before, behind) = self.small.split_at(first.at - self.taken);
        self.is_large_next = true;
        self.taken = first.at;
        self.small = behind;
        Some(before)
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let slice = self.advance()?;
            let skipped = self.skip.min(slice.len());
            self.skip -= skipped;
            if skipped < slice.len() {
                return Some(&slice[skipped..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn large(byte: u8) -> Bytes {
        Bytes::from(vec![byte; SPLICE_MIN_BYTES])
    }

    fn mixed() -> ReplyBuffer {
        let mut buffer = ReplyBuffer::new();
        buffer.extend(b"ab");
        buffer.splice(large(b'x'));
        buffer.splice(large(b'y'));
        buffer.extend(b"c");
        buffer
    }

    #[test]
    fn small_replies_are_one_slice() {
        let mut buffer = ReplyBuffer::new();
        assert!(buffer.is_empty() && buffer.chunks().next().is_none());
        buffer.extend(b"ab");
        buffer.splice(Bytes::from_static(b"cd"));
        assert_eq!(buffer.as_slice(), Some(&b"abcd"[..]));
        assert_eq!(buffer.chunks().collect::<Vec<_>>(), [b"abcd"]);
    }

    #[test]
    fn large_values_are_spliced_without_a_copy() {
        let value = large(b'x');
        let mut buffer = ReplyBuffer::new();
        buffer.splice(value.clone());
        buffer.extend(b"z");
        assert_eq!(buffer.as_slice(), None);
        let chunks: Vec<_> = buffer.chunks().collect();
        assert_eq!(chunks[0].as_ptr(), value.as_ptr());
        assert_eq!(chunks[1], b"z");
        assert_eq!(buffer.len(), SPLICE_MIN_BYTES + 1);
    }

    #[test]
    fn truncating_to_a_mark_drops_what_is_behind_it() {
        let mut buffer = mixed();
        let (mark, len) = (buffer.mark(), buffer.len());
        buffer.extend(b"d");
        buffer.splice(large(b'z'));
        assert_eq!(buffer.len(), len + SPLICE_MIN_BYTES + 1);
        buffer.truncate(mark);
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.to_vec(), mixed().to_vec());
        buffer.truncate(Mark::default());
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_cleared_buffer_gives_large_memory_back() {
        let mut buffer = mixed();
        buffer.extend(&vec![0; 4 * KEPT_MAX_BYTES]);
        buffer.clear();
        assert!(buffer.is_empty() && buffer.memory_bytes() < 2 * KEPT_MAX_BYTES);
        buffer.clear_keeping(0);
        assert_eq!(buffer.memory_bytes(), 0);
    }

    #[test]
    fn replaced_bytes_shift_what_follows() {
        let mut buffer = ReplyBuffer::new();
        buffer.extend(b"-");
        let mark = buffer.mark();
        buffer.extend(b"old");
        buffer.splice(large(b'x'));
        buffer.extend(b"tail");
        let value = large(b'x');
        for (new, old_len) in [(&b"newer"[..], 3), (b"n", 5), (b"m", 1)] {
            buffer.replace(mark, old_len, new);
            assert_eq!(buffer.to_vec(), [b"-", new, &value, b"tail"].concat());
        }
    }

    proptest! {
        #[test]
        fn appending_ranges_and_skipping_match_plain_bytes(
            pieces in vec((any::<u8>(), prop_oneof![0..40_usize, Just(SPLICE_MIN_BYTES)]), 0..8),
            from in 0..9_usize, to in 0..9_usize, skip in 0..3 * SPLICE_MIN_BYTES,
        ) {
            let mut buffer = ReplyBuffer::new();
            let mut marks = vec![(buffer.mark(), 0)];
            for (byte, len) in pieces {
                buffer.splice(Bytes::from(vec![byte; len]));
                marks.push((buffer.mark(), buffer.len()));
            }
            let model = buffer.to_vec();
            prop_assert_eq!(model.len(), buffer.len());
            let last = marks.len() - 1;
            let (from, to) = (from.min(to).min(last), to.max(from).min(last));
            let mut copy = mixed();
            copy.append_range(&buffer, marks[from].0..marks[to].0);
            let mut expected = mixed().to_vec();
            expected.extend_from_slice(&model[marks[from].1..marks[to].1]);
            prop_assert_eq!(copy.to_vec(), expected);
            let rest: Vec<u8> = buffer.chunks_from(skip).flatten().copied().collect();
            prop_assert_eq!(&rest[..], model.get(skip..).unwrap_or_default());
            prop_assert!(buffer.chunks_from(skip).all(|slice| !slice.is_empty()));
            let mut tail = mixed();
            tail.append_tail(&buffer, skip);
            prop_assert_eq!(&tail.to_vec()[mixed().len()..], &rest);
            prop_assert_eq!(tail.len(), mixed().len() + rest.len());
        }
    }
}
