//! Replies that are written while they are sent.
//!
//! A reply of a million elements, written at once, would keep its shard from everything else for tens
//! of milliseconds, and lie in memory whole until a slow client has taken it. So a command that answers
//! the content of a large collection leaves a [`Source`] in the buffer: something that holds what the
//! collection was when the command executed and writes a piece of it at a time. Pieces are written
//! when all that stands before them has been sent.
//!
//! A source may have to find out first what it writes: then its first pieces are empty, and it is asked
//! again after others have had their turn.
//!
//! Invariant: all that a source writes is the same whenever it is asked, so it may be copied with the
//! reply that it stands in.

use std::{fmt::Debug, sync::Arc};

use super::{Body, Chunk, ReplyBuffer};

/// A part of a reply that is written piece by piece.
pub trait Source: Debug + Send + Sync {
    /// Appends the piece at `position`, some tens of kilobytes, to `out`; answers the position of the
    /// next one, if there is one. The first is at 0. A piece that is not the last may be empty: then the
    /// source has worked on what it will write, for half a millisecond at most.
    fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64>;
}

/// What a source has still to write.
#[derive(Clone, Debug)]
pub(super) struct Later {
    source: Arc<dyn Source>,
    position: u64,
}

impl ReplyBuffer {
    /// Appends what `source` will write.
    pub fn later(&mut self, source: Arc<dyn Source>) {
        let body = Body::Later(Later { source, position: 0 });
        self.large.push(Chunk { at: self.small.len(), body });
        self.check();
    }

    /// Whether a part is yet to be written.
    #[inline]
    #[must_use]
    pub fn has_later(&self) -> bool {
        self.large.iter().any(|chunk| matches!(chunk.body, Body::Later(_)))
    }

    /// Takes out what stands before the first part that is yet to be written, and the next piece of
    /// that. All that is there, if there is no such part. Nothing, if that piece is empty and nothing stands
    /// before it.
    #[must_use]
    pub fn take_written(&mut self) -> Self {
        let first = self.large.iter().enumerate().find_map(|(index, chunk)| match &chunk.body {
            Body::Later(later) => Some((index, chunk.at, later.clone())),
            Body::Bytes(_) => None,
        });
        let Some((index, at, Later { source, position })) = first else {
            return std::mem::take(self);
        };
        let mut written = Self::new();
        written.append_range(self, super::Mark::default()..super::Mark { small: at, large: index });
        let next = source.write(position, &mut written);
        self.small.drain(..at);
        self.large_bytes -=
            self.large.drain(..index).map(|chunk| chunk.written().len()).sum::<usize>();
        self.large.iter_mut().for_each(|chunk| chunk.at -= at);
        match next {
            Some(position) => self.large[0].body = Body::Later(Later { source, position }),
            None => _ = self.large.remove(0),
        }
        self.check();
        written
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::buffer::SPLICE_MIN_BYTES;

    /// Writes so many pieces, each its number.
    #[derive(Debug)]
    struct Numbers(u64);

    impl Source for Numbers {
        fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
            out.extend(format!("{position},").as_bytes());
            (position + 1 < self.0).then_some(position + 1)
        }
    }

    fn mixed() -> ReplyBuffer {
        let mut buffer = ReplyBuffer::new();
        buffer.extend(b"a");
        buffer.splice(Bytes::from(vec![b'x'; SPLICE_MIN_BYTES]));
        buffer.later(Arc::new(Numbers(3)));
        buffer.extend(b"b");
        buffer.later(Arc::new(Numbers(1)));
        buffer.splice(Bytes::from(vec![b'y'; SPLICE_MIN_BYTES]));
        buffer
    }

    fn expected() -> Vec<u8> {
        let long = |byte| vec![byte; SPLICE_MIN_BYTES];
        [b"a".to_vec(), long(b'x'), b"0,1,2,b0,".to_vec(), long(b'y')].concat()
    }

    #[test]
    fn pieces_are_written_one_at_a_time_in_their_places() {
        let mut buffer = mixed();
        assert_eq!(buffer.to_vec(), expected());
        let (mut bytes, mut lens) = (Vec::new(), Vec::new());
        while !buffer.is_empty() {
            let written = buffer.take_written();
            assert!(!written.has_later() && !written.is_empty());
            lens.push(written.len());
            bytes.extend(written.to_vec());
        }
        assert_eq!(bytes, expected());
        let long = SPLICE_MIN_BYTES;
        assert_eq!(lens, [1 + long + 2, 2, 2, 1 + 2, long]);
    }

    #[test]
    fn parts_to_be_written_go_where_the_reply_goes() {
        let buffer = mixed();
        let mut whole = ReplyBuffer::new();
        whole.extend(b"+");
        whole.append(&buffer);
        assert_eq!(whole.to_vec(), [b"+".to_vec(), expected()].concat());
        let mut tail = ReplyBuffer::new();
        tail.append_tail(&buffer, 1 + SPLICE_MIN_BYTES);
        assert_eq!(tail.to_vec(), &expected()[1 + SPLICE_MIN_BYTES..]);
        let mark = whole.mark();
        whole.later(Arc::new(Numbers(2)));
        whole.truncate(mark);
        assert_eq!(whole.to_vec(), [b"+".to_vec(), expected()].concat());
        whole.clear();
        assert!(whole.is_empty() && !whole.has_later());
    }

    #[test]
    fn a_buffer_of_nothing_but_what_comes_later_is_not_empty() {
        let mut buffer = ReplyBuffer::new();
        buffer.later(Arc::new(Numbers(1)));
        assert!(!buffer.is_empty() && buffer.chunks().next().is_none());
        assert_eq!(buffer.take_written().to_vec(), b"0,");
        assert!(buffer.is_empty());
    }
}
