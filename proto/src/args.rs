//! The arguments of one request, wherever their bytes are.
//!
//! What: [`Args`] is a view, cheap to copy: a slice of bytes, and a [`Span`] into it for each
//! argument. An argument may instead be held as [`Bytes`], when it was too large to be copied with
//! the others (see [`RequestBatch`](crate::RequestBatch)).
//!
//! Why the top bit of `Span::start` tells the two apart: such a start lies behind the end of any
//! request, so the bounds check that slicing needs anyway is the only test on the common way.
//!
//! Invariants:
//! - bytes that spans refer to are shorter than 2 GiB ([`REQUEST_BYTES_MAX`]);
//! - a span with the top bit set is the index of a part, and its `len` is the part's length.
//!
//! [`REQUEST_BYTES_MAX`]: crate::limits::REQUEST_BYTES_MAX

use std::fmt;
use std::ops::Index;

use bytes::Bytes;

/// Shortest argument in bytes that is handed on by reference, not copied, where there is a choice.
/// Below it, copying costs less than the reference count and the pinned buffer.
pub const SHARE_MIN_BYTES: usize = 16 * 1024;

/// Marks a `start` that is the index of a part instead of an offset.
const PART: u32 = 1 << 31;

/// Where one argument is: `len` bytes from `start`, counted from the request's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte; with the top bit set, the index of a part held apart.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// A span of `len` bytes at `start`. Both are within a request, so below 2 GiB.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "requests are shorter than 2 GiB")]
    pub(crate) fn new(start: usize, len: usize) -> Self {
        debug_assert!(start + len < PART as usize);
        Self { start: start as u32, len: len as u32 }
    }

    /// The span of a part that is held apart.
    #[expect(clippy::cast_possible_truncation, reason = "a batch holds fewer parts than spans")]
    pub(crate) fn part(index: usize, len: usize) -> Self {
        debug_assert!(index < PART as usize && u32::try_from(len).is_ok());
        Self { start: index as u32 | PART, len: len as u32 }
    }

    /// The index of the part, when the argument is held apart.
    #[inline]
    pub(crate) fn part_index(self) -> Option<usize> {
        (self.start & PART != 0).then_some((self.start ^ PART) as usize)
    }

    /// The range of bytes; nonsense behind every request's end for a part.
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// What else than the bytes themselves stands behind the arguments.
#[derive(Clone, Copy)]
enum Backing<'a> {
    /// Nothing: every byte is borrowed.
    Borrowed,
    /// The owner of the bytes, of which slices can be held without a copy.
    Owner(&'a Bytes),
    /// The arguments that are not among the bytes.
    Parts(&'a [Bytes]),
}

/// The arguments of one request; number 0 is the command's name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    input: &'a [u8],
    spans: &'a [Span],
    backing: Backing<'a>,
}

impl<'a> Args<'a> {
    /// Arguments that lie in `input` at `spans`.
    #[inline]
    #[must_use]
    pub fn new(input: &'a [u8], spans: &'a [Span]) -> Self {
        Self { input, spans, backing: Backing::Borrowed }
    }

    /// Arguments that lie in `owner` at `spans`; large ones can be kept without a copy.
    #[inline]
    #[must_use]
    pub fn with_owner(owner: &'a Bytes, spans: &'a [Span]) -> Self {
        Self { input: owner, spans, backing: Backing::Owner(owner) }
    }

    /// Arguments that lie in `input`, or for spans that say so in `parts`.
    #[inline]
    pub(crate) fn with_parts(input: &'a [u8], spans: &'a [Span], parts: &'a [Bytes]) -> Self {
        Self { input, spans, backing: Backing::Parts(parts) }
    }

    /// Number of arguments, the command's name included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is nothing to execute.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`, unless there are fewer.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| self.resolve(*span))
    }

    /// The arguments in order.
    #[inline]
    pub fn iter(&self) -> Iter<'a> {
        Iter { args: *self }
    }

    /// The arguments from number `first` on; none when there are fewer.
    #[inline]
    #[must_use]
    pub fn tail(&self, first: usize) -> Self {
        Self { spans: self.spans.get(first..).unwrap_or_default(), ..*self }
    }

    /// Appends where argument `index` lies to `spans`, for a view of some of these arguments (see
    /// [`Args::with_spans`]). Panics when there are fewer arguments.
    #[inline]
    pub fn select(&self, index: usize, spans: &mut Vec<Span>) {
        spans.push(self.spans[index]);
    }

    /// The arguments that lie at `spans`, which were selected from these.
    #[inline]
    #[must_use]
    pub fn with_spans<'b>(&self, spans: &'b [Span]) -> Args<'b>
    where
        'a: 'b,
    {
        Args { spans, ..*self }
    }

    /// Sum of the lengths of all arguments in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.spans.iter().map(|span| span.len as usize).sum()
    }

    /// Argument `index` to keep: without a copy when it is large and its owner is known, else as a
    /// copy. An argument that is less than half of its owner is copied too, lest a value pin more
    /// memory than twice its own. Panics when there are fewer arguments, as indexing does.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Bytes {
        let span = self.spans[index];
        match (self.backing, span.part_index()) {
            (Backing::Parts(parts), Some(part)) => parts[part].clone(),
            (Backing::Owner(owner), None) if is_worth_sharing(span, owner) => {
                owner.slice(span.range())
            }
            _ => Bytes::copy_from_slice(self.resolve(span)),
        }
    }

    /// The spans, for code that copies the arguments elsewhere.
    pub(crate) fn spans(&self) -> &'a [Span] {
        self.spans
    }

    /// The bytes that most spans refer to.
    pub(crate) fn input(&self) -> &'a [u8] {
        self.input
    }

    #[inline]
    fn resolve(&self, span: Span) -> &'a [u8] {
        match self.input.get(span.range()) {
            Some(argument) => argument,
            None => self.resolve_part(span),
        }
    }

    #[cold]
    fn resolve_part(&self, span: Span) -> &'a [u8] {
        match (self.backing, span.part_index()) {
            (Backing::Parts(parts), Some(index)) => &parts[index],
            _ => panic!("{span:?} lies outside of its request of {} bytes", self.input.len()),
        }
    }
}

fn is_worth_sharing(span: Span, owner: &Bytes) -> bool {
    let len = span.len as usize;
    len >= SHARE_MIN_BYTES && len >= owner.len() / 2
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.resolve(self.spans[index])
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Args<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|argument| argument.escape_ascii().to_string()))
            .finish()
    }
}

/// The arguments of one request in order; made by [`Args::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    args: Args<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.args.spans.split_first()?;
        self.args.spans = rest;
        Some(self.args.resolve(*first))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.args.len(), Some(self.args.len()))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let (last, rest) = self.args.spans.split_last()?;
        self.args.spans = rest;
        Some(self.args.resolve(*last))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(usize, usize)]) -> Vec<Span> {
        list.iter().map(|&(start, len)| Span::new(start, len)).collect()
    }

    #[test]
    fn arguments_are_found_by_index_iterator_and_tail() {
        let spans = spans(&[(0, 3), (4, 1), (6, 0)]);
        let args = Args::new(b"SET k ", &spans);
        assert_eq!((args.len(), args.is_empty(), args.total_bytes()), (3, false, 4));
        assert_eq!(&args[0], b"SET");
        assert_eq!(args.get(2), Some(&b""[..]));
        assert_eq!(args.get(3), None);
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"SET"[..], b"k", b""]);
        assert_eq!(args.iter().rev().len(), 3);
        assert_eq!(args.tail(1).iter().next_back(), Some(&b""[..]));
        assert_eq!(&args.tail(1)[0], b"k");
        assert!(args.tail(3).is_empty() && args.tail(9).is_empty());
        assert_eq!(format!("{args:?}"), r#"["SET", "k", ""]"#);
    }

    #[test]
    fn only_large_arguments_of_an_owner_are_kept_without_a_copy() {
        let owner = Bytes::from(vec![b'x'; 2 * SHARE_MIN_BYTES]);
        let spans = spans(&[(0, 10), (10, SHARE_MIN_BYTES), (0, SHARE_MIN_BYTES - 1)]);
        let owned = Args::with_owner(&owner, &spans);
        assert_eq!(owned.bytes(1).as_ptr(), owner[10..].as_ptr());
        assert_ne!(owned.bytes(0).as_ptr(), owner.as_ptr());
        assert_ne!(owned.bytes(2).as_ptr(), owner.as_ptr());
        let borrowed = Args::new(&owner, &spans);
        assert_ne!(borrowed.bytes(1).as_ptr(), owner[10..].as_ptr());
        assert_eq!(borrowed.bytes(1), owned.bytes(1));
    }

    #[test]
    fn a_value_does_not_pin_a_much_larger_owner() {
        let owner = Bytes::from(vec![b'x'; 3 * SHARE_MIN_BYTES]);
        let spans = spans(&[(0, SHARE_MIN_BYTES)]);
        let args = Args::with_owner(&owner, &spans);
        assert_ne!(args.bytes(0).as_ptr(), owner.as_ptr());
        assert_eq!(args.bytes(0), owner[..SHARE_MIN_BYTES]);
    }

    #[test]
    fn parts_stand_among_the_others() {
        let parts = [Bytes::from_static(b"large")];
        let spans = [Span::new(0, 3), Span::part(0, 5), Span::new(3, 1)];
        let args = Args::with_parts(b"SETk", &spans, &parts);
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"SET"[..], b"large", b"k"]);
        assert_eq!(args.bytes(1).as_ptr(), parts[0].as_ptr());
    }

    #[test]
    #[should_panic(expected = "outside of its request")]
    fn a_span_of_another_request_is_a_programming_error() {
        let spans = spans(&[(0, 4)]);
        let _ = Args::new(b"abc", &spans).get(0);
    }
}
