//! The form of a record: one effect as bytes.
//!
//! ```text
//! bytes   field
//! 4       CRC32C of everything behind it (Castagnoli's polynomial), little endian
//! 4       length of everything behind this field, little endian
//! 8       sequence: the number of the record in its log, one more than the one before
//! 8       stamp: the epoch in which it happened
//! 1 to 5  database
//! 1 to 5  number of arguments, at least 1; the first is the command's name
//! …       every argument: its length in 1 to 5 bytes, and its bytes
//! ```
//!
//! Numbers of 1 to 5 bytes are in LEB128: seven bits a byte, the lowest first, the top bit set on all
//! but the last.
//!
//! Why by hand and not an archive: a record is written once for every command, so it must cost a
//! copy of its arguments and a checksum; and its arguments must be usable where they lie.
//!
//! Invariants of reading, whatever the bytes are: no panic, no allocation beyond the bytes given, no
//! argument that does not lie within its record.
#![forbid(unsafe_code)]

use tessera_proto::{Args, Span};

/// Records are put into blocks that go to the disk as they are.
pub use crate::sys::disk::{BLOCK_BYTES, BlockBuffer as RecordBuffer};

/// Bytes in front of a record's body: the checksum and the length.
pub const PREFIX_BYTES: usize = 8;
/// Bytes of the checksum alone.
const CHECKSUM_BYTES: usize = 4;
/// Bytes of the numbers of fixed width behind them.
const NUMBERS_BYTES: usize = 16;
/// The least length of a record's body: the numbers, a database, a count and one empty argument.
const BODY_BYTES_MIN: usize = NUMBERS_BYTES + 3;
/// The least length of a record.
pub const RECORD_BYTES_MIN: u64 = (PREFIX_BYTES + BODY_BYTES_MIN) as u64;
/// The most bytes of a number in LEB128 that is below 2^32.
const NUMBER_BYTES_MAX: usize = 5;

/// What a record says besides its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Its number in its log.
    pub sequence: u64,
    /// The epoch in which it happened.
    pub stamp: u64,
    /// The database that it concerns.
    pub database: u32,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end within the record.
    #[error("the record is cut short")]
    Short,
    /// They are not those that were written.
    #[error("the record's checksum is wrong")]
    Checksum,
    /// They are whole and no record: whoever wrote them did not know the form.
    #[error("the record is malformed")]
    Malformed,
}

/// A record where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it says of itself.
    pub head: RecordHead,
    body: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning of `bytes`; answers it and its length. `spans` is scratch
    /// space.
    ///
    /// # Errors
    ///
    /// See [`RecordError`].
    pub fn read(bytes: &'a [u8], spans: &'a mut Vec<Span>) -> Result<(Self, usize), RecordError> {
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(RecordError::Short)?;
        let (checksum, len) = split_prefix(*prefix);
        let body = rest.get(..len).ok_or(RecordError::Short)?;
        // The length is vouched for too.
        let summed = &bytes[CHECKSUM_BYTES..PREFIX_BYTES + len];
        if len < BODY_BYTES_MIN || checksum != crc32c::crc32c(summed) {
            return Err(RecordError::Checksum);
        }
        let head = read_body(body, spans)?;
        Ok((Self { head, body, spans }, PREFIX_BYTES + len))
    }

    /// The command and its arguments.
    pub fn args(&self) -> Args<'a> {
        Args::new(self.body, self.spans)
    }
}

/// Appends a record with `count` arguments to `out`.
///
/// # Panics
///
/// When the record would be 4 GiB long, which the limits of requests exclude.
pub fn encode<'a>(
    out: &mut RecordBuffer,
    head: RecordHead,
    count: usize,
    arguments: impl Iterator<Item = &'a [u8]>,
) {
    let start = begin(out, head, count);
    for argument in arguments {
        out.extend_from_slice(Number::new(argument.len()).as_bytes());
        out.extend_from_slice(argument);
    }
    finish(out, start);
}

/// A record whose arguments come one after the other.
#[derive(Debug)]
pub struct Draft {
    active: bool,
    count: usize,
    /// The arguments as they will stand in the record.
    arguments: Vec<u8>,
}

impl Draft {
    pub(super) fn new(active: bool, buffer: Vec<u8>) -> Self {
        Self { active, count: 0, arguments: buffer }
    }

    /// Whether it will be recorded: arguments that cost something need be made only then.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Adds an argument.
    #[inline]
    pub fn push(&mut self, argument: &[u8]) {
        if self.active {
            self.count += 1;
            self.arguments.extend_from_slice(Number::new(argument.len()).as_bytes());
            self.arguments.extend_from_slice(argument);
        }
    }

    pub(super) fn encode(&self, out: &mut RecordBuffer, head: RecordHead) {
        let start = begin(out, head, self.count);
        out.extend_from_slice(&self.arguments);
        finish(out, start);
    }

    /// Its memory, emptied; what is more than usual is given back.
    pub(super) fn into_buffer(mut self) -> Vec<u8> {
        const KEPT_BYTES_MAX: usize = 64 << 10;
        self.arguments.clear();
        if self.arguments.capacity() > KEPT_BYTES_MAX {
            self.arguments = Vec::new();
        }
        self.arguments
    }
}

#[inline]
fn begin(out: &mut RecordBuffer, head: RecordHead, count: usize) -> usize {
    let start = out.len();
    let mut fixed = [0; PREFIX_BYTES + NUMBERS_BYTES];
    fixed[PREFIX_BYTES..PREFIX_BYTES + 8].copy_from_slice(&head.sequence.to_le_bytes());
    fixed[PREFIX_BYTES + 8..].copy_from_slice(&head.stamp.to_le_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(Number::new(head.database as usize).as_bytes());
    out.extend_from_slice(Number::new(count).as_bytes());
    start
}

/// Puts the length and the checksum in front of the record that begins at `start`.
#[inline]
fn finish(out: &mut [u8], start: usize) {
    let record = &mut out[start..];
    let len = u32::try_from(record.len() - PREFIX_BYTES).expect("a record is shorter than 4 GiB");
    record[4..PREFIX_BYTES].copy_from_slice(&len.to_le_bytes());
    let checksum = crc32c::crc32c(&record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn split_prefix(prefix: [u8; PREFIX_BYTES]) -> (u32, usize) {
    let [c0, c1, c2, c3, l0, l1, l2, l3] = prefix;
    (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([l0, l1, l2, l3]) as usize)
}

/// Reads what a checksum has vouched for, and trusts it no further.
fn read_body(body: &[u8], spans: &mut Vec<Span>) -> Result<RecordHead, RecordError> {
    let mut reader = Reader { bytes: body, at: 0 };
    let sequence = reader.fixed()?;
    let stamp = reader.fixed()?;
    let database = reader.number()? as u32;
    let count = reader.number()?;
    spans.clear();
    for _ in 0..count {
        let len = reader.number()?;
        let start = reader.at;
        reader.skip(len)?;
        spans.push(Span { start: start as u32, len: len as u32 });
    }
    if count == 0 || reader.at != body.len() {
        return Err(RecordError::Malformed);
    }
    Ok(RecordHead { sequence, stamp, database })
}

/// The length of the record that `bytes` begin with, its database and its second argument, as they
/// stand there: nothing is vouched for. Nothing if the record is not whole. For those who want to have
/// something ready when they come to it.
pub fn peek(bytes: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (_, len) = split_prefix(*bytes.first_chunk()?);
    let end = PREFIX_BYTES.checked_add(len)?;
    let mut reader = Reader { bytes: bytes.get(PREFIX_BYTES..end)?, at: NUMBERS_BYTES };
    let (database, count) = (reader.number().ok()?, reader.number().ok()?);
    let name_len = reader.number().ok()?;
    reader.skip(name_len).ok()?;
    if count < 2 {
        return Some((end, database, &[]));
    }
    let key_len = reader.number().ok()?;
    let key = reader.bytes.get(reader.at..reader.at.checked_add(key_len)?)?;
    Some((end, database, key))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fixed(&mut self) -> Result<u64, RecordError> {
        let bytes = self.bytes[self.at..].first_chunk().ok_or(RecordError::Malformed)?;
        self.at += bytes.len();
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A number below 2^32.
    fn number(&mut self) -> Result<usize, RecordError> {
        let mut number = 0_u64;
        for at in 0..NUMBER_BYTES_MAX {
            let byte = *self.bytes.get(self.at).ok_or(RecordError::Malformed)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let number = u32::try_from(number).map_err(|_| RecordError::Malformed)?;
                return Ok(number as usize);
            }
        }
        Err(RecordError::Malformed)
    }

    fn skip(&mut self, len: usize) -> Result<(), RecordError> {
        if len > self.bytes.len() - self.at {
            return Err(RecordError::Malformed);
        }
        self.at += len;
        Ok(())
    }
}

/// A number in LEB128.
struct Number {
    bytes: [u8; NUMBER_BYTES_MAX],
    len: usize,
}

impl Number {
    #[inline]
    fn new(number: usize) -> Self {
        // What is longer does not fit into a record, which `finish` finds.
        let mut rest = u32::try_from(number).unwrap_or(u32::MAX);
        let mut bytes = [0; NUMBER_BYTES_MAX];
        let mut len = 0;
        while rest >= 0x80 {
            bytes[len] = rest as u8 | 0x80;
            rest >>= 7;
            len += 1;
        }
        bytes[len] = rest as u8;
        Self { bytes, len: len + 1 }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What must hold for any bytes at all: reading ends with a record or an error, every argument lies
/// within the record, and what was read can be written again to the same bytes or shorter ones. For
/// fuzz targets and tests.
///
/// # Panics
///
/// When it does not hold.
pub fn check_reading(bytes: &[u8]) {
    let (mut spans, mut again) = (Vec::new(), RecordBuffer::new());
    let mut rest = bytes;
    while let Ok((record, len)) = Record::read(rest, &mut spans) {
        let args = record.args();
        again.clear();
        encode(&mut again, record.head, args.len(), args.iter());
        assert!(again.len() <= len, "a record grew when it was written again");
        let mut spans = Vec::new();
        let (same, _) = Record::read(&again, &mut spans).expect("what was written can be read");
        assert!(same.head == record.head && same.args().iter().eq(args.iter()));
        rest = &rest[len..];
    }
}
