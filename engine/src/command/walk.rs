//! Replies with the content of a large collection, written while they are sent.
//!
//! To write a million members takes tens of milliseconds, in which a shard would do nothing else. So
//! SMEMBERS, HGETALL, HKEYS, HVALS, LRANGE and the ZRANGE family capture a large collection, which is to
//! hold its root, and leave a [`Walk`] in the reply: it writes what the collection held when the
//! command executed, a piece at a time, when the connection has room for it. Later commands, of the same
//! connection too, see and change the collection meanwhile; they copy the nodes that they change.
//!
//! Scripts get their replies whole.
#![forbid(unsafe_code)]

use std::{ops::Range, sync::Arc};

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, buffer::Source};

use super::{collection::reply_element, zset::range::reply_member};
use crate::{
    keyspace::deferred_free::DeferredFree,
    types::{Element, Garbage, Hash, List, Set, Zset},
};

/// From so many elements on a reply is written in pieces: to write as many at once takes some 0.1 ms.
pub(super) const LONG_LEN: usize = 4_096;
/// About how much of a reply is written at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// What an element costs besides its bytes, as bytes.
const ELEMENT_BYTES: usize = 32;

/// Whether a reply of `len` elements is written in pieces.
#[inline]
pub(super) fn is_long(len: usize, is_script: bool) -> bool {
    len >= LONG_LEN && !is_script
}

/// What of a hash is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Fields and values.
    Both,
    Fields,
    Values,
}

/// Content that is walked over.
#[derive(Debug)]
pub(super) enum Content {
    /// The members of a set.
    Set(Set),
    /// The fields or values of a hash that have not expired at that time.
    Hash(Hash, Part, i64),
    /// The elements of a list.
    List(List),
    /// The members of a sorted set.
    Zset {
        zset: Zset,
        with_scores: bool,
        /// From the highest rank of the range down.
        reverse: bool,
    },
    /// Nothing: the shard frees it.
    Gone,
}

/// A captured collection on its way out.
#[derive(Debug)]
pub(super) struct Walk {
    content: Content,
    /// Which of its elements, by index or rank.
    range: Range<usize>,
    protocol: Protocol,
    deferred_free: Arc<DeferredFree>,
}

impl Walk {
    /// A walk over the elements of `range`, of which there is at least one. In the end `deferred_free`
    /// takes what was captured.
    pub(super) fn over(
        content: Content,
        range: Range<usize>,
        protocol: Protocol,
        deferred_free: &Arc<DeferredFree>,
    ) -> Arc<dyn Source> {
        Arc::new(Self { content, range, protocol, deferred_free: deferred_free.clone() })
    }
}

impl Source for Walk {
    fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
        let skip = position as usize;
        let from = self.range.start + skip;
        let left = self.range.len() - skip;
        let piece = Piece::new(ReplyWriter::new(out, self.protocol), position);
        match &self.content {
            Content::Set(set) => piece.write(set.iter_from(from).take(left), reply_element),
            Content::List(list) => piece.write(list.iter_from(from).take(left), reply_element),
            Content::Hash(hash, part, now_ms) => {
                let fields = hash.iter_timed(from).take(left).map(|(field, value, deadline)| {
                    deadline.is_none_or(|at| at > *now_ms).then_some((field, value))
                });
                piece.write_some(fields, |reply, field| reply_field(reply, field, *part))
            }
            Content::Zset { zset, with_scores, reverse } => {
                let each = |reply: &mut ReplyWriter<'_>, (member, score)| {
                    reply_member(reply, member, with_scores.then_some(score));
                };
                match reverse {
                    false => piece.write(zset.iter_from(from).take(left), each),
                    true => {
                        let end = self.range.end - skip;
                        piece.write(zset.iter_back_from(end).take(left), each)
                    }
                }
            }
            Content::Gone => None,
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        let garbage = match std::mem::replace(&mut self.content, Content::Gone) {
            Content::Set(set) => set.into_garbage(),
            Content::Hash(hash, ..) => hash.into_garbage(),
            Content::List(list) => list.into_garbage(),
            Content::Zset { zset, .. } => zset.into_garbage(),
            Content::Gone => Garbage::default(),
        };
        self.deferred_free.leave(garbage);
    }
}

/// Answers a field, its value, or both.
#[inline]
pub(super) fn reply_field(
    reply: &mut ReplyWriter<'_>,
    (field, value): (Element<'_>, Element<'_>),
    part: Part,
) {
    if part != Part::Values {
        reply_element(reply, field);
    }
    if part != Part::Fields {
        reply_element(reply, value);
    }
}

/// One piece of a reply, as it is written.
struct Piece<'a> {
    reply: ReplyWriter<'a>,
    position: u64,
}

impl<'a> Piece<'a> {
    fn new(reply: ReplyWriter<'a>, position: u64) -> Self {
        Self { reply, position }
    }

    fn write<T>(
        self,
        elements: impl Iterator<Item = T>,
        each: impl FnMut(&mut ReplyWriter<'_>, T),
    ) -> Option<u64> {
        self.write_some(elements.map(Some), each)
    }

    /// Writes elements until the piece is full; answers the position of the next one, if there is
    /// one. What is none is passed by. A piece ends only before an element that is one, so none is empty.
    fn write_some<T>(
        mut self,
        elements: impl Iterator<Item = Option<T>>,
        mut each: impl FnMut(&mut ReplyWriter<'_>, T),
    ) -> Option<u64> {
        let mut left = PIECE_BYTES;
        let start = self.reply.buffer().len();
        let mut written = 0;
        for (position, element) in (self.position..).zip(elements) {
            let Some(element) = element else { continue };
            if left == 0 {
                return Some(position);
            }
            each(&mut self.reply, element);
            let len = self.reply.buffer().len() - start;
            left = left.saturating_sub(len - written + ELEMENT_BYTES);
            written = len;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Thresholds, list::End};

    /// All pieces of a walk, one behind the other, and the greatest of them.
    fn pieces(source: &Arc<dyn Source>) -> (Vec<u8>, usize) {
        let (mut bytes, mut longest, mut position) = (Vec::new(), 0, Some(0));
        while let Some(at) = position {
            let mut out = ReplyBuffer::new();
            position = source.write(at, &mut out);
            assert!(!out.is_empty(), "no piece is empty");
            longest = longest.max(out.len());
            bytes.extend(out.to_vec());
        }
        (bytes, longest)
    }

    fn plain(write: impl FnOnce(&mut ReplyWriter<'_>)) -> Vec<u8> {
        let mut out = ReplyBuffer::new();
        write(&mut ReplyWriter::new(&mut out, Protocol::Resp3));
        out.to_vec()
    }

    #[test]
    fn the_pieces_are_the_reply_and_none_is_long() {
        let thresholds = Thresholds::default();
        let (mut zset, mut list) = (Zset::new(), List::new());
        for number in 0..20_000_u32 {
            let text = format!("element:{number}");
            zset.set(text.as_bytes(), f64::from(number % 777) / 8.0, &thresholds);
            list.push(End::Back, text.as_bytes(), &thresholds);
        }
        let deferred_free = Arc::new(DeferredFree::default());
        for reverse in [false, true] {
            let range = 1_000..19_000;
            let content = Content::Zset { zset: zset.clone(), with_scores: true, reverse };
            let walk = Walk::over(content, range.clone(), Protocol::Resp3, &deferred_free);
            let (bytes, longest) = pieces(&walk);
            let expected = plain(|reply| {
                let mut ranked: Vec<_> = zset.iter_from(range.start).take(range.len()).collect();
                if reverse {
                    ranked.reverse();
                }
                ranked.into_iter().for_each(|(member, score)| {
                    reply_member(reply, member, Some(score));
                });
            });
            assert!(bytes == expected && longest < 2 * PIECE_BYTES, "{longest}");
        }
        let walk =
            Walk::over(Content::List(list.clone()), 5..15_000, Protocol::Resp3, &deferred_free);
        let expected = plain(|reply| {
            list.iter_from(5).take(14_995).for_each(|element| reply_element(reply, element));
        });
        assert!(pieces(&walk).0 == expected);
    }

    #[test]
    fn fields_that_had_expired_are_left_out_and_later_changes_are_not_seen() {
        let thresholds = Thresholds::default();
        let mut hash = Hash::new();
        for number in 0..30_000_i64 {
            let field = number.to_string().into_bytes();
            hash.set(&field, b"v", &thresholds);
            hash.set_deadline(&field, Some(if number % 3 == 0 { 50 } else { 5_000 }), &thresholds);
        }
        let deferred_free = Arc::new(DeferredFree::default());
        let walk = Walk::over(
            Content::Hash(hash.clone(), Part::Both, 100),
            0..hash.len(),
            Protocol::Resp2,
            &deferred_free,
        );
        let expected = plain(|reply| {
            hash.iter_live(100).for_each(|field| reply_field(reply, field, Part::Both));
        });
        (0..30_000).for_each(|number: i64| _ = hash.remove(number.to_string().as_bytes()));
        assert!(pieces(&walk).0 == expected);
        assert!(!deferred_free.has_some());
        drop(walk);
        assert!(deferred_free.has_some(), "nobody else holds what was captured");
    }
}
