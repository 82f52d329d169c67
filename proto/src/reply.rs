//! The reply writer: every type of RESP2 and RESP3.
//!
//! What: commands say what a reply is (a map, a double, nothing), the writer says it in the protocol
//! that the client speaks. What RESP2 lacks falls back as in Redis: maps, sets and pushes become
//! arrays, doubles, big numbers and verbatim texts bulk strings, booleans integers.
//!
//! Why lengths are reserved and then inserted ([`Deferred`]): a command that filters as it goes knows
//! the length of its array at the end only. Small lengths overwrite the reserved bytes; larger ones
//! move the contents by the few digits they lack, once.

use std::fmt;

use bytes::Bytes;

use crate::buffer::{Mark, ReplyBuffer, SPLICE_MIN_BYTES, Source};
use crate::float::F64Text;
use crate::number::write_i64;

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Version 2, which every connection begins with.
    #[default]
    Resp2,
    /// Version 3, asked for by HELLO 3.
    Resp3,
}

impl Protocol {
    /// The number that HELLO and CLIENT INFO show.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }

    /// The protocol of that number.
    #[must_use]
    pub fn from_version(version: i64) -> Option<Self> {
        match version {
            2 => Some(Self::Resp2),
            3 => Some(Self::Resp3),
            _ => None,
        }
    }
}

/// What stands in the place of a length that is not known yet.
const RESERVED: &[u8] = b"*0\r\n";

/// An aggregate whose length is given at the end; see [`ReplyWriter::deferred`].
#[derive(Debug)]
#[must_use = "an aggregate without a length breaks the protocol"]
pub struct Deferred(Mark);

/// Writes replies for one client into a buffer.
#[derive(Debug)]
pub struct ReplyWriter<'a> {
    buffer: &'a mut ReplyBuffer,
    protocol: Protocol,
}

impl<'a> ReplyWriter<'a> {
    /// A writer that appends to `buffer`.
    #[inline]
    #[must_use]
    pub fn new(buffer: &'a mut ReplyBuffer, protocol: Protocol) -> Self {
        Self { buffer, protocol }
    }

    /// The protocol spoken, for the few commands whose replies differ beyond the types.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The buffer written to.
    #[inline]
    #[must_use]
    pub fn buffer(&self) -> &ReplyBuffer {
        self.buffer
    }

    /// The buffer written to, for taking back or moving what was written.
    #[inline]
    pub fn buffer_mut(&mut self) -> &mut ReplyBuffer {
        self.buffer
    }

    /// Bytes that are a reply, or a part of one, already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// A part of a reply that is written while it is sent.
    pub fn later(&mut self, source: std::sync::Arc<dyn Source>) {
        self.buffer.later(source);
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A status: one line that is not an error.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.raw(b"+");
        self.line(text.as_bytes());
    }

    /// An error. `text` begins with its code, as in `ERR no such key`.
    #[cold]
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// An error that quotes what a client has sent, which need not be UTF-8.
    #[cold]
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.raw(b"-");
        self.line(text);
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// A length or count, which cannot exceed an integer's range.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        let out = self.buffer.small_mut();
        // Room for all at once, so that no part below finds the vector too short.
        out.reserve(value.len() + HEADER_MAX_BYTES);
        push_header(out, b'$', value.len());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    /// A string that goes out by reference if it is long (see
    /// [`SPLICE_MIN_BYTES`]).
    #[inline]
    pub fn bulk_owned(&mut self, value: Bytes) {
        if value.len() < SPLICE_MIN_BYTES {
            return self.bulk(&value);
        }
        self.length(b'$', value.len());
        self.buffer.splice(value);
        self.raw(b"\r\n");
    }

    /// A string that is the decimal form of an integer.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value).as_bytes());
    }

    /// A string that is composed, as in `bulk_fmt(format_args!("{a}:{b}"))`.
    pub fn bulk_fmt(&mut self, text: fmt::Arguments<'_>) {
        if let Some(text) = text.as_str() {
            return self.bulk(text.as_bytes());
        }
        self.bulk(text.to_string().as_bytes());
    }

    /// Nothing where a string could have been.
    #[inline]
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Nothing where an array could have been.
    #[inline]
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// An array of the `len` replies that follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// A map of the `len` pairs that follow, each a key and then its value.
    #[inline]
    pub fn map(&mut self, len: usize) {
        let (marker, len) = self.map_header(len);
        self.length(marker, len);
    }

    /// A set of the `len` replies that follow.
    #[inline]
    pub fn set(&mut self, len: usize) {
        self.length(self.or_array(b'~'), len);
    }

    /// A message out of the order of requests, of the `len` replies that follow.
    #[inline]
    pub fn push(&mut self, len: usize) {
        self.length(self.or_array(b'>'), len);
    }

    /// Data about the reply that comes next, as the `len` pairs that follow. RESP2 has nothing of
    /// the kind: if the result is false, nothing was written and the pairs are to be left out.
    #[must_use = "the pairs must be left out when it is false"]
    pub fn attribute(&mut self, len: usize) -> bool {
        if self.protocol == Protocol::Resp3 {
            self.length(b'|', len);
        }
        self.protocol == Protocol::Resp3
    }

    /// A floating-point number.
    pub fn double(&mut self, value: f64) {
        match self.protocol {
            Protocol::Resp2 => self.bulk_double(value),
            Protocol::Resp3 => {
                self.raw(b",");
                self.line(F64Text::new(value).as_bytes());
            }
        }
    }

    /// A string that is the decimal form of a floating-point number.
    pub fn bulk_double(&mut self, value: f64) {
        self.bulk(F64Text::new(value).as_bytes());
    }

    /// True or false; 1 or 0 in RESP2.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.raw(match (self.protocol, value) {
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
        });
    }

    /// An integer of any size, given by its decimal digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => {
                self.raw(b"(");
                self.line(digits.as_bytes());
            }
        }
    }

    /// A text to be shown as it is. `format` has three letters, `txt` or `mkd`; it is cut or filled
    /// with blanks to three.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if self.protocol == Protocol::Resp2 {
            return self.bulk(text);
        }
        let mut letters = format.bytes().chain(std::iter::repeat(b' '));
        let prefix = [(); 3].map(|()| letters.next().unwrap_or(b' '));
        self.length(b'=', text.len() + 4);
        self.raw(&prefix);
        self.raw(b":");
        self.raw(text);
        self.raw(b"\r\n");
    }

    /// Begins an aggregate whose length is not known yet: to be followed by its replies and then by
    /// one of the functions that finish it. They may be nested.
    pub fn deferred(&mut self) -> Deferred {
        let mark = self.buffer.mark();
        self.raw(RESERVED);
        Deferred(mark)
    }

    /// Makes what was begun an array of `len` replies.
    pub fn finish_array(&mut self, begun: Deferred, len: usize) {
        self.finish(&begun, b'*', len);
    }

    /// Makes what was begun a map of `len` pairs.
    pub fn finish_map(&mut self, begun: Deferred, len: usize) {
        let (marker, len) = self.map_header(len);
        self.finish(&begun, marker, len);
    }

    /// Makes what was begun a set of `len` replies.
    pub fn finish_set(&mut self, begun: Deferred, len: usize) {
        self.finish(&begun, self.or_array(b'~'), len);
    }

    /// Makes what was begun a push of `len` replies.
    pub fn finish_push(&mut self, begun: Deferred, len: usize) {
        self.finish(&begun, self.or_array(b'>'), len);
    }

    fn finish(&mut self, begun: &Deferred, marker: u8, len: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(len).as_bytes();
        let mut header = [marker; HEADER_MAX_BYTES];
        let end = 1 + digits.len();
        header[1..end].copy_from_slice(digits);
        header[end..end + 2].copy_from_slice(b"\r\n");
        self.buffer.replace(begun.0, RESERVED.len(), &header[..end + 2]);
    }

    /// How a map of `len` pairs is announced.
    #[inline]
    fn map_header(&self, len: usize) -> (u8, usize) {
        match self.protocol {
            Protocol::Resp2 => (b'*', len * 2),
            Protocol::Resp3 => (b'%', len),
        }
    }

    /// The marker of a RESP3 aggregate, or of an array in RESP2.
    #[inline]
    fn or_array(&self, marker: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => marker,
        }
    }

    #[inline]
    fn length(&mut self, marker: u8, len: usize) {
        push_header(self.buffer.small_mut(), marker, len);
    }

    #[inline]
    fn header(&mut self, marker: u8, value: i64) {
        match usize::try_from(value) {
            Ok(small @ 0..100) => self.length(marker, small),
            _ => {
                let out = self.buffer.small_mut();
                out.reserve(HEADER_MAX_BYTES);
                out.push(marker);
                write_i64(out, value);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Text up to the end of a line. Line ends within it would end the reply early, so they become
    /// blanks, as in Redis.
    fn line(&mut self, text: &[u8]) {
        let out = self.buffer.small_mut();
        out.reserve(text.len() + 2);
        push_sanitized(out, text);
        out.extend_from_slice(b"\r\n");
    }
}

/// Most bytes of a header with its line end, and of the line end behind a bulk string.
const HEADER_MAX_BYTES: usize = 1 + 20 + 2 + 2;

/// Appends `marker`, `len` and a line end.
#[inline]
fn push_header(out: &mut Vec<u8>, marker: u8, len: usize) {
    if len < 10 {
        out.extend_from_slice(&[marker, decimal(len), b'\r', b'\n']);
    } else if len < 100 {
        out.extend_from_slice(&[marker, decimal(len / 10), decimal(len % 10), b'\r', b'\n']);
    } else {
        push_long_header(out, marker, len);
    }
}

fn push_long_header(out: &mut Vec<u8>, marker: u8, len: usize) {
    let mut digits = itoa::Buffer::new();
    out.push(marker);
    out.extend_from_slice(digits.format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The digit of a number below ten.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "callers pass one digit")]
fn decimal(digit: usize) -> u8 {
    b'0' + digit as u8
}

fn push_sanitized(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

#[cfg(test)]
mod tests;
