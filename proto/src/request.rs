//! The request parser: bytes of one connection become arguments, without being moved.
//!
//! Input is a RESP array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or, when it begins with
//! any byte but `*`, an inline command: a line as one types it.
//!
//! Why one loop and no separate slow parser: a request that is there in whole runs through
//! `short_header` alone, which reads one-, two- and up to nine-digit lengths with few branches. All
//! that is unusual (a line cut by the end of the input, a number in odd form, an error) leaves that
//! way for a cold function, so speed and completeness meet at one point only.
//!
//! As lax as Redis: the two bytes behind an argument and the byte behind a carriage return are
//! skipped unread. In two points more regular than Redis, whose answer depends on how the bytes
//! happened to arrive: a line longer than `inline_max` is refused even if it arrives at once, and a
//! zero byte within a line is a byte like any other.
//!
//! Invariants:
//! - between calls, everything before `position` is parsed and everything before `scanned` is known
//!   to hold no end of line; no byte is searched twice;
//! - the result depends on the bytes only, never on how they were split over calls.

use bytes::Bytes;

use crate::args::{Args, Span};
use crate::error::ProtocolError;
use crate::inline;
use crate::limits::{Limits, UNAUTHENTICATED_MULTIBULK_MAX};
use crate::number::parse_i64;

/// Most spans whose memory is kept from one request to the next (8 bytes each).
const SPANS_KEPT_MAX: usize = 1024;

/// What a call of [`RequestParser::parse`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The request is not whole. At least `missing` bytes more are needed (1 or more); for a long
    /// argument that is all the rest of it, so that room can be made at once.
    NeedMore {
        /// Bytes to be read before another call can get any further.
        missing: usize,
    },
    /// A request ends after `consumed` bytes. It may have no arguments (an empty line, `*0`): then
    /// there is nothing to execute and nothing to answer.
    Request {
        /// Bytes to be dropped from the input once the request is executed.
        consumed: usize,
    },
}

/// What the bytes at `position` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A new request.
    Start,
    /// The line with the number of arguments.
    Count,
    /// The line with the length of an argument.
    Length,
    /// An argument of so many bytes.
    Bulk(usize),
    /// A line to be split.
    Inline,
}

/// The parser of one connection.
#[derive(Debug)]
pub struct RequestParser {
    /// The arguments so far.
    spans: Vec<Span>,
    /// Arguments of a line with quotes, which differ from the bytes received.
    unquoted: Vec<u8>,
    /// Whether the spans refer to `unquoted` instead of the input.
    is_unquoted: bool,
    stage: Stage,
    /// First byte that is not parsed.
    position: usize,
    /// First byte not searched for the end of the line at `position`.
    scanned: usize,
    /// Arguments of the request still to come.
    remaining: usize,
}

impl Default for RequestParser {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestParser {
    /// A parser that expects the first byte of a request. It takes no memory before it is used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            spans: Vec::new(),
            unquoted: Vec::new(),
            is_unquoted: false,
            stage: Stage::Start,
            position: 0,
            scanned: 0,
            remaining: 0,
        }
    }

    /// Looks for one request at the beginning of `input`.
    ///
    /// After [`Step::NeedMore`], the next call must be given the same bytes with more behind them;
    /// after [`Step::Request`], the input without the bytes consumed. Until then, [`args`] gives the
    /// arguments.
    ///
    /// # Errors
    /// The input is not a request; the connection cannot be used any more.
    ///
    /// [`args`]: Self::args
    #[inline]
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        // What lies behind the longest request allowed is none of this request's. So a request that
        // is too long looks like one that is not whole, and only that rare case is examined.
        let input = &input[..input.len().min(limits.request_max())];
        if self.stage == Stage::Start {
            if input.is_empty() {
                return Ok(Step::NeedMore { missing: 1 });
            }
            self.begin();
            if let Some((count, start)) = short_header(input, 0, b'*')
                && count.wrapping_sub(1) < limits.multibulk_max_now() as usize
            {
                self.position = start;
                self.remaining = count;
                return self.parse_bulks(input, limits);
            }
        }
        self.resume(input, limits)
    }

    /// The arguments of the request just found. `input` is what was given to the call that found it.
    #[inline]
    #[must_use]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args::new(if self.is_unquoted { &self.unquoted } else { input }, &self.spans)
    }

    /// The arguments of the request just found, in `owner` that was the input; large ones can be
    /// kept without a copy.
    #[inline]
    #[must_use]
    pub fn args_with_owner<'a>(&'a self, owner: &'a Bytes) -> Args<'a> {
        if self.is_unquoted {
            Args::new(&self.unquoted, &self.spans)
        } else {
            Args::with_owner(owner, &self.spans)
        }
    }

    /// Whether the arguments of the request just found lie in the input, so that their spans can be
    /// kept apart from the parser: always, but for a line with quotes.
    #[inline]
    #[must_use]
    pub fn borrows_input(&self) -> bool {
        !self.is_unquoted
    }

    /// Where the arguments of the request just found are, in what [`args`](Self::args) refers to:
    /// the input, unless the request is a line with quotes. Empty when there is nothing to execute.
    #[inline]
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether a request has been begun and not ended.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.stage != Stage::Start
    }

    #[inline]
    fn begin(&mut self) {
        self.spans.clear();
        self.is_unquoted = false;
        self.position = 0;
        self.scanned = 0;
        if self.spans.capacity() > SPANS_KEPT_MAX {
            self.spans.shrink_to(SPANS_KEPT_MAX);
        }
    }

    /// Goes on where the last call stopped, or begins a request of unusual form.
    #[cold]
    fn resume(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        if self.stage == Stage::Start {
            let is_array = input.first() == Some(&b'*');
            self.stage = if is_array { Stage::Count } else { Stage::Inline };
        }
        match self.stage {
            Stage::Inline => return self.parse_inline(input, limits),
            Stage::Count => match self.parse_count(input, limits)? {
                Some(0) => return Ok(self.finish(self.position)),
                Some(count) => self.remaining = count,
                None => return self.need_more(input, 1, limits),
            },
            Stage::Bulk(len) => {
                let end = self.position + len + 2;
                if end > input.len() {
                    return self.need_more(input, end - input.len(), limits);
                }
                self.spans.push(Span::new(self.position, len));
                self.position = end;
                self.remaining -= 1;
            }
            Stage::Start | Stage::Length => {}
        }
        self.parse_bulks(input, limits)
    }

    /// Parses `remaining` arguments from `position` on.
    #[inline]
    fn parse_bulks(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let bulk_max = limits.bulk_max_now();
        let mut position = self.position;
        for remaining in (1..=self.remaining).rev() {
            let (len, start) = match short_header(input, position, b'$') {
                Some((len, start)) if len as u64 <= bulk_max => (len, start),
                _ => {
                    (self.position, self.remaining) = (position, remaining);
                    self.stage = Stage::Length;
                    match self.parse_length(input, limits)? {
                        Some(header) => header,
                        None => return self.need_more(input, 1, limits),
                    }
                }
            };
            let end = start + len + 2;
            if end > input.len() {
                (self.position, self.remaining) = (start, remaining);
                self.stage = Stage::Bulk(len);
                return self.need_more(input, end - input.len(), limits);
            }
            self.spans.push(Span::new(start, len));
            position = end;
        }
        Ok(self.finish(position))
    }

    #[inline]
    fn finish(&mut self, consumed: usize) -> Step {
        self.stage = Stage::Start;
        Step::Request { consumed }
    }

    /// Asks for `missing` bytes more, unless the request is too long with them.
    #[cold]
    fn need_more(
        &self,
        input: &[u8],
        missing: usize,
        limits: &Limits,
    ) -> Result<Step, ProtocolError> {
        if input.len() + missing > limits.request_max() {
            return Err(ProtocolError::RequestTooBig);
        }
        Ok(Step::NeedMore { missing })
    }

    /// Parses the line with the number of arguments; 0 when there is nothing to execute.
    #[cold]
    fn parse_count(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let too_long = ProtocolError::MultibulkCountTooBig;
        let Some(end) = self.find_line_end(input, limits, too_long)? else { return Ok(None) };
        let count = parse_i64(&input[self.position + 1..end])
            .filter(|count| *count <= i64::from(limits.multibulk_max))
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        if !limits.authenticated && count > i64::from(UNAUTHENTICATED_MULTIBULK_MAX) {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.position = end + 2;
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    /// Parses the line with the length of an argument: the length and where the argument begins.
    #[cold]
    fn parse_length(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, usize)>, ProtocolError> {
        let too_long = ProtocolError::BulkCountTooBig;
        let Some(end) = self.find_line_end(input, limits, too_long)? else { return Ok(None) };
        if input[self.position] != b'$' {
            return Err(ProtocolError::ExpectedDollar(input[self.position]));
        }
        let digits = input.get(self.position + 1..end).unwrap_or_default();
        let len = parse_i64(digits)
            .and_then(|len| u64::try_from(len).ok())
            .filter(|len| *len <= limits.bulk_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > limits.bulk_max_now() {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        // A longer argument than the longest request cannot come to an end.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > limits.request_max() {
            return Err(ProtocolError::RequestTooBig);
        }
        Ok(Some((len, end + 2)))
    }

    /// Finds the carriage return that ends the line at `position`, if it and the byte behind it are
    /// there. A line that is longer than `inline_max` is the error `too_long`.
    fn find_line_end(
        &mut self,
        input: &[u8],
        limits: &Limits,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let found = self.search(b'\r', input, limits, too_long)?;
        Ok(found.filter(|end| end + 1 < input.len()))
    }

    /// Finds the first `needle` at or behind `position`, looking only at bytes not looked at before.
    fn search(
        &mut self,
        needle: u8,
        input: &[u8],
        limits: &Limits,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        // The last place where the needle may stand.
        let last = self.position.saturating_add(limits.inline_max);
        let from = self.scanned.max(self.position);
        let until = input.len().min(last.saturating_add(1));
        let window = input.get(from..until).unwrap_or_default();
        if let Some(offset) = memchr::memchr(needle, window) {
            self.scanned = from + offset;
            return Ok(Some(from + offset));
        }
        if input.len() > last {
            return Err(too_long);
        }
        self.scanned = input.len();
        Ok(None)
    }

    /// Parses an inline request.
    fn parse_inline(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let found = self.search(b'\n', input, limits, ProtocolError::InlineTooBig)?;
        let Some(end) = found else { return self.need_more(input, 1, limits) };
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.is_unquoted = inline::split(line, &mut self.spans, &mut self.unquoted)?;
        Ok(self.finish(end + 1))
    }
}

/// Reads a line of `marker`, one to nine digits in the form that Redis accepts, and a carriage
/// return, at `position`; gives the number and where the next line begins. `None` says that the
/// line is something else, or not whole.
#[inline(always)]
fn short_header(input: &[u8], position: usize, marker: u8) -> Option<(usize, usize)> {
    match *input.get(position..)? {
        [first, a, b'\r', _, ..] if first == marker && a.is_ascii_digit() => {
            Some((digit(a), position + 4))
        }
        [first, a, b, b'\r', _, ..]
            if first == marker && matches!(a, b'1'..=b'9') && b.is_ascii_digit() =>
        {
            Some((digit(a) * 10 + digit(b), position + 5))
        }
        [first, ref line @ ..] if first == marker => {
            let (number, len) = longer_number(line)?;
            Some((number, position + len + 3))
        }
        _ => None,
    }
}

/// Reads three to nine digits and a carriage return: the number and how many digits it has.
#[inline]
fn longer_number(line: &[u8]) -> Option<(usize, usize)> {
    if !matches!(line.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut number = 0;
    for (len, byte) in line[..line.len().saturating_sub(1)].iter().take(10).enumerate() {
        if byte.is_ascii_digit() && len < 9 {
            number = number * 10 + digit(*byte);
        } else {
            return (*byte == b'\r').then_some((number, len));
        }
    }
    None
}

#[inline(always)]
fn digit(byte: u8) -> usize {
    usize::from(byte - b'0')
}

#[cfg(test)]
mod tests;
