//! Requests copied out of their connection's input, to be run by another thread.
//!
//! What: the bytes of the arguments of many requests in one vector, their spans in another. Large
//! arguments stand apart as [`Bytes`]: by reference when they have an owner, else in an allocation of
//! their own, so that a command that stores one keeps it without a further copy.
//!
//! Why one vector: a message takes two or three allocations whatever the number of requests, none
//! when the batch is used again, and the arguments of one request lie together in the cache. When
//! all arguments of a request are small, what lies between the first and the last is copied with
//! them, headers too: one copy of a few bytes more is cheaper than one for each argument.
//!
//! Invariants:
//! - `ends` never decreases; its last element is at most the number of spans, and is that number
//!   whenever no request is being composed;
//! - `input` stays shorter than 2 GiB: what does not fit is held as a part.

use bytes::Bytes;

use crate::args::{Args, SHARE_MIN_BYTES, Span};
use crate::limits::REQUEST_BYTES_MAX;

/// Most bytes of arguments whose memory a cleared batch keeps. Batches are few, as many as messages
/// may be under way, so this can be generous.
pub const KEPT_MAX_BYTES: usize = 256 * 1024;
/// Most spans and requests whose memory a cleared batch keeps.
const KEPT_MAX_SPANS: usize = 4096;
/// Most bytes between the arguments of a request, for each argument, that are copied with them.
const GAP_MAX_BYTES: usize = 16;

/// Requests with arguments of their own.
#[derive(Debug, Clone, Default)]
pub struct RequestBatch {
    input: Vec<u8>,
    spans: Vec<Span>,
    /// For each request, the number of spans up to its end.
    ends: Vec<u32>,
    /// Arguments that are not in `input`.
    parts: Vec<Bytes>,
    part_bytes: usize,
}

impl RequestBatch {
    /// A batch without requests and without memory of its own.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            input: Vec::new(),
            spans: Vec::new(),
            ends: Vec::new(),
            parts: Vec::new(),
            part_bytes: 0,
        }
    }

    /// Number of requests.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no request.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all arguments, those held by reference included, for budgets.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.input.len() + self.part_bytes
    }

    /// Appends a request.
    #[inline]
    pub fn push(&mut self, args: &Args<'_>) {
        if !self.push_compact(args) {
            for index in 0..args.len() {
                self.add(args, index);
            }
        }
        self.end_request();
    }

    /// Appends a request that is made of these arguments.
    pub fn push_slices<'a>(&mut self, arguments: impl IntoIterator<Item = &'a [u8]>) {
        for argument in arguments {
            self.add_slice(argument);
        }
        self.end_request();
    }

    /// Appends argument `index` of `args` to the request being composed: a large one by reference if
    /// its owner allows ([`Args::bytes`]). Panics when there are fewer arguments.
    pub fn add(&mut self, args: &Args<'_>, index: usize) {
        if args[index].len() < SHARE_MIN_BYTES {
            self.add_slice(&args[index]);
        } else {
            self.add_part(args.bytes(index));
        }
    }

    /// Appends a copy of `argument` to the request being composed. A large copy stands alone, so that
    /// whoever executes the request can keep it as it is.
    pub fn add_slice(&mut self, argument: &[u8]) {
        if argument.len() >= SHARE_MIN_BYTES || self.is_full_for(argument.len()) {
            return self.add_part(Bytes::copy_from_slice(argument));
        }
        self.spans.push(Span::new(self.input.len(), argument.len()));
        self.input.extend_from_slice(argument);
    }

    /// Ends the request being composed. Without arguments since the last one, it has none.
    #[inline]
    pub fn end_request(&mut self) {
        debug_assert!(u32::try_from(self.spans.len()).is_ok());
        #[expect(clippy::cast_possible_truncation, reason = "spans in memory are fewer than 2^32")]
        self.ends.push(self.spans.len() as u32);
    }

    /// The arguments of request `index`.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Args<'_>> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(Args::with_parts(&self.input, &self.spans[start..end], &self.parts))
    }

    /// The requests in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Args<'_>> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let spans = &self.spans[start..*end as usize];
            start = *end as usize;
            Args::with_parts(&self.input, spans, &self.parts)
        })
    }

    /// Drops all requests; memory is kept for the next ones, up to a bound.
    pub fn clear(&mut self) {
        self.input.clear();
        self.input.shrink_to(KEPT_MAX_BYTES);
        self.spans.clear();
        self.spans.shrink_to(KEPT_MAX_SPANS);
        self.ends.clear();
        self.ends.shrink_to(KEPT_MAX_SPANS);
        self.parts.clear();
        self.parts.shrink_to(KEPT_MAX_SPANS);
        self.part_bytes = 0;
    }

    /// Whether so many bytes more would be too many for spans.
    #[inline]
    fn is_full_for(&self, len: usize) -> bool {
        self.input.len() + len > REQUEST_BYTES_MAX
    }

    fn add_part(&mut self, part: Bytes) {
        self.spans.push(Span::part(self.parts.len(), part.len()));
        self.part_bytes += part.len();
        self.parts.push(part);
    }

    /// Appends all arguments of a request by one copy, if they are small and lie close together.
    #[inline]
    fn push_compact(&mut self, args: &Args<'_>) -> bool {
        let (Some(first), Some(last)) = (args.spans().first(), args.spans().last()) else {
            return true;
        };
        let (from, to) = (first.range().start, last.range().end);
        let Some(bytes) = args.input().get(from..to) else { return false };
        let is_dense = bytes.len() <= args.total_bytes() + GAP_MAX_BYTES * args.len();
        if bytes.len() >= SHARE_MIN_BYTES || !is_dense {
            return false;
        }
        if self.is_full_for(bytes.len()) {
            return false;
        }
        let inside = |span: &Span| span.range().start >= from && span.range().end <= to;
        if !args.spans().iter().all(inside) {
            return false;
        }
        let base = self.input.len();
        self.input.extend_from_slice(bytes);
        let moved = |span: &Span| Span::new(span.range().start - from + base, span.len as usize);
        self.spans.extend(args.spans().iter().map(moved));
        true
    }
}

impl<'a> Extend<Args<'a>> for RequestBatch {
    fn extend<I: IntoIterator<Item = Args<'a>>>(&mut self, requests: I) {
        for args in requests {
            self.push(&args);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::request::{RequestParser, Step};
    use crate::{Limits, fuzz::encode_request};

    fn contents(batch: &RequestBatch) -> Vec<Vec<Vec<u8>>> {
        batch.iter().map(|args| args.iter().map(<[u8]>::to_vec).collect()).collect()
    }

    fn push_parsed(batch: &mut RequestBatch, arguments: &[Vec<u8>]) -> Bytes {
        let input = Bytes::from(encode_request(arguments));
        let mut parser = RequestParser::new();
        let step = parser.parse(&input, &Limits::default());
        assert_eq!(step, Ok(Step::Request { consumed: input.len() }));
        batch.push(&parser.args_with_owner(&input));
        input
    }

    #[test]
    fn small_requests_come_back_as_they_were() {
        let mut batch = RequestBatch::new();
        let requests = [vec![b"GET".to_vec(), b"k".to_vec()], vec![b"PING".to_vec()]];
        for request in &requests {
            push_parsed(&mut batch, request);
        }
        assert_eq!(contents(&batch), requests);
        assert_eq!(batch.get(1).map(|args| args.len()), Some(1));
        assert!(batch.get(2).is_none() && batch.parts.is_empty());
    }

    #[test]
    fn large_arguments_of_an_owner_are_not_copied() {
        let mut batch = RequestBatch::new();
        let value = vec![b'x'; SHARE_MIN_BYTES];
        let owner = push_parsed(&mut batch, &[b"SET".to_vec(), b"k".to_vec(), value.clone()]);
        let args = batch.get(0).unwrap();
        assert!(owner.as_ptr_range().contains(&args[2].as_ptr()));
        assert_eq!((&args[1], &args[2]), (&b"k"[..], &value[..]));
        assert_eq!(batch.len_bytes(), 4 + SHARE_MIN_BYTES);
        let mut again = RequestBatch::new();
        again.push(&args);
        assert_eq!(again.get(0).unwrap()[2].as_ptr(), args[2].as_ptr());
    }

    #[test]
    fn large_arguments_can_be_kept_as_they_arrive() {
        let (value, mut batch) = (vec![b'x'; SHARE_MIN_BYTES], RequestBatch::new());
        let owner = push_parsed(&mut batch, &vec![value.clone(); 3]);
        batch.push_slices([&value[..]]);
        let many = batch.get(0).unwrap();
        assert!(!owner.as_ptr_range().contains(&many[0].as_ptr()), "it would pin the other two");
        for (args, index) in [(many, 0), (many, 2), (batch.get(1).unwrap(), 0)] {
            assert_eq!(args.bytes(index).as_ptr(), args[index].as_ptr());
            assert_eq!(args.bytes(index), value);
        }
    }

    #[test]
    fn requests_can_be_composed_of_chosen_arguments() {
        let mut batch = RequestBatch::new();
        let source = [b"MGET".to_vec(), b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
        let mut whole = RequestBatch::new();
        push_parsed(&mut whole, &source);
        let args = whole.get(0).unwrap();
        for index in [0, 3, 1] {
            batch.add(&args, index);
        }
        batch.add_slice(&[b'y'; SHARE_MIN_BYTES]);
        batch.end_request();
        batch.push_slices([&b"PING"[..]]);
        let long = vec![b'y'; SHARE_MIN_BYTES];
        let composed = [&b"MGET"[..], b"c", b"a", &long].map(<[u8]>::to_vec).to_vec();
        assert_eq!(contents(&batch), [composed, vec![b"PING".to_vec()]]);
    }

    #[test]
    fn scattered_arguments_are_copied_one_by_one() {
        let input = vec![b'x'; 4096];
        let spans = [Span::new(4000, 1), Span::new(0, 1), Span::new(2000, 1)];
        let mut batch = RequestBatch::new();
        batch.push(&Args::new(&input, &spans));
        batch.push(&Args::new(&input, &spans[1..]));
        assert_eq!((batch.len_bytes(), batch.len()), (5, 2));
        assert_eq!(contents(&batch)[0], vec![b"x".to_vec(); 3]);
    }

    #[test]
    fn a_cleared_batch_keeps_bounded_memory() {
        let mut batch = RequestBatch::new();
        let argument = vec![0; SHARE_MIN_BYTES - 1];
        batch.push_slices((0..64).map(|_| &argument[..]));
        batch.push_slices([&vec![0; SHARE_MIN_BYTES][..]]);
        batch.push_slices([]);
        assert!(batch.input.capacity() > 2 * KEPT_MAX_BYTES && batch.parts.len() == 1);
        batch.clear();
        assert!(batch.is_empty() && batch.len_bytes() == 0);
        assert!(batch.input.capacity() < 2 * KEPT_MAX_BYTES);
    }

    proptest! {
        #[test]
        fn any_requests_come_back_as_they_were(
            requests in vec(vec(prop_oneof![
                vec(any::<u8>(), 0..20),
                any::<u8>().prop_map(|byte| vec![byte; SHARE_MIN_BYTES + 1]),
            ], 1..6), 0..6)
        ) {
            let mut batch = RequestBatch::new();
            for request in &requests {
                push_parsed(&mut batch, request);
            }
            prop_assert_eq!(contents(&batch), requests);
        }
    }
}
