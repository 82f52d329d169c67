//! The elements of an aggregate reply, found in the bytes that were written for it.
//!
//! Why: a command that several shards answer in parts (MGET) is put together from the elements of
//! the parts' arrays, in the order of its keys. They are found by their headers alone; no byte of a
//! value is looked at.
//!
//! What is walked here was written by [`ReplyWriter`](crate::ReplyWriter), so there is nothing to be
//! said against it; of bytes that are not a reply the iterator makes ranges that stay within the
//! buffer.

use std::ops::Range;

use super::{Mark, ReplyBuffer};
use crate::number::parse_i64;

impl ReplyBuffer {
    /// The elements of the aggregate that this buffer begins with, each as the place of its bytes.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let small = self.small.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        Elements { buffer: self, at: Mark { small, large: 0 } }
    }

    /// The place behind the one value, aggregates with all they hold, that begins at `at`.
    fn value_end(&self, mut at: Mark) -> Mark {
        let mut left: i64 = 1;
        while left > 0 && at.small < self.small.len() {
            left -= 1;
            let line = self.small[at.small..].split(|&byte| byte == b'\r').next();
            let line = line.unwrap_or_default();
            let kind = self.small[at.small];
            at.small = (at.small + line.len() + 2).min(self.small.len());
            let length = line.get(1..).and_then(parse_i64).unwrap_or(0).max(0);
            match kind {
                b'$' | b'!' | b'=' if line.get(1) != Some(&b'-') => self.pass(&mut at, length),
                b'*' | b'~' | b'>' => left += length,
                b'%' => left += 2 * length,
                // An attribute is followed by the value that it belongs to.
                b'|' => left += 2 * length + 1,
                _ => {}
            }
        }
        at
    }

    /// Passes a blob of `length` bytes, spliced in or not, and the line's end behind it.
    fn pass(&self, at: &mut Mark, length: i64) {
        match self.large.get(at.large) {
            Some(chunk) if chunk.at == at.small => at.large += 1,
            _ => at.small += usize::try_from(length).unwrap_or(0),
        }
        at.small = (at.small + 2).min(self.small.len());
    }
}

/// The elements of an aggregate; made by [`ReplyBuffer::elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    buffer: &'a ReplyBuffer,
    at: Mark,
}

impl Iterator for Elements<'_> {
    type Item = Range<Mark>;

    fn next(&mut self) -> Option<Range<Mark>> {
        if self.at.small == self.buffer.small.len() {
            return None;
        }
        let start = self.at;
        self.at = self.buffer.value_end(start);
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Protocol, ReplyWriter, buffer::SPLICE_MIN_BYTES};

    fn elements(buffer: &ReplyBuffer) -> Vec<Vec<u8>> {
        let copy = |range| {
            let mut out = ReplyBuffer::new();
            out.append_range(buffer, range);
            out.to_vec()
        };
        buffer.elements().map(copy).collect()
    }

    #[test]
    fn elements_of_every_kind_are_told_apart() {
        let kinds: [&[u8]; 11] = [
            b"$3\r\nabc\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"_\r\n",
            b":-5\r\n",
            b"+OK\r\n",
            b"*2\r\n$4\r\n$1\r\n\r\n*0\r\n",
            b"%1\r\n+a\r\n:1\r\n",
            b"|1\r\n+a\r\n:1\r\n,1.5\r\n",
            b"*-1\r\n",
            b"=7\r\ntxt:a\r\n\r\n",
        ];
        let mut buffer = ReplyBuffer::new();
        ReplyWriter::new(&mut buffer, Protocol::Resp3).array(kinds.len());
        kinds.iter().for_each(|kind| buffer.extend(kind));
        assert_eq!(elements(&buffer), kinds.map(<[u8]>::to_vec));
    }

    #[test]
    fn values_that_are_spliced_in_belong_to_their_element() {
        let large = vec![b'$'; SPLICE_MIN_BYTES];
        let mut buffer = ReplyBuffer::new();
        let mut reply = ReplyWriter::new(&mut buffer, Protocol::Resp2);
        reply.array(3);
        reply.bulk(b"a");
        reply.raw(format!("${}\r\n", large.len()).as_bytes());
        buffer.splice(Bytes::from(large.clone()));
        buffer.extend(b"\r\n$1\r\nb\r\n");
        let found = elements(&buffer);
        assert_eq!(found.len(), 3);
        assert_eq!((&found[0][..], &found[2][..]), (&b"$1\r\na\r\n"[..], &b"$1\r\nb\r\n"[..]));
        assert_eq!(found[1].len(), large.len() + b"$16384\r\n\r\n".len());
    }

    #[test]
    fn what_is_cut_off_ends_the_elements_and_nothing_else() {
        let whole = b"*3\r\n$3\r\nabc\r\n*2\r\n:1\r\n:2\r\n$2\r\nxy\r\n";
        for length in 0..whole.len() {
            let mut buffer = ReplyBuffer::new();
            buffer.extend(&whole[..length]);
            let bytes: usize = elements(&buffer).iter().map(Vec::len).sum();
            assert!(bytes <= length);
        }
    }
}
