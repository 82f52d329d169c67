//! The index of a file that several shards wrote: whose keys stand where.
//!
//! Shards write one file at the same time, each its own pieces. When as many shards, or others, load it
//! again, each needs the pieces with keys of its own, and would otherwise have to go through all of the
//! file to find them. So the last field for information in front of the end mark says what the file is
//! made of; servers that do not know the field pass over it. A shard reads its *portion* (see
//! [`Portion`](super::Portion)): all parts that may hold keys of its slots.
//!
//! ```text
//! bytes   field
//! …       head of the field: its opcode, its name, the length of what follows
//! 20 n    the parts in their order, which together are all of the file up to here:
//!         2, 2    the first and the last slot of which keys may stand in the part
//!         8, 8    its length in bytes, its checksum
//! 8       where in the file the field begins
//! 4       CRC32C of the field up to here
//! 8       magic
//! ```
//! All numbers are little-endian. Nine bytes follow, the end mark and the checksum of the whole file,
//! so that the index is found from the end.
//!
//! Every part has a checksum, so those who read a portion know of it what the checksum of the whole
//! file says to those who read all.
//!
//! Invariant: an index is believed only if it describes the file to the byte: whatever has changed a
//! file without knowing of its index has in all likelihood moved it, and then the file is read whole,
//! as if there were none.
#![forbid(unsafe_code)]

use std::{io, ops::RangeInclusive};

use super::{Input, opcode, output::put_raw, writer::END};

/// The name of the field.
const NAME: &[u8] = b"tessera-index";
const MAGIC: [u8; 8] = *b"parts\x00\x00\x01";
const PART_BYTES: usize = 20;
/// Bytes behind the parts, and behind the field.
const FOOT_BYTES: usize = 20;
const TRAILER_BYTES: usize = 9;
/// The last slot that a key can have.
pub(super) const SLOT_MAX: u16 = 16_383;

/// A stretch of a file that begins and ends between two entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The slots of its keys.
    pub slots: RangeInclusive<u16>,
    /// Its length in bytes.
    pub len: u64,
    /// Its checksum.
    pub sum: u64,
}

impl Part {
    /// A part that is for all: it may hold keys of any slot, or none.
    pub fn for_all(len: u64, sum: u64) -> Self {
        Self { slots: 0..=SLOT_MAX, len, sum }
    }
}

/// What a file is made of in front of its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    parts: Vec<Part>,
}

impl Index {
    /// An index of these parts, which follow each other from the beginning of the file on.
    pub fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// The parts in their order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of all parts: where the index stands.
    pub fn start(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Appends the field. Behind it come the end mark and the file's checksum.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut value = Vec::with_capacity(self.parts.len() * PART_BYTES + FOOT_BYTES);
        for Part { slots, len, sum } in &self.parts {
            value.extend_from_slice(&slots.start().to_le_bytes());
            value.extend_from_slice(&slots.end().to_le_bytes());
            value.extend_from_slice(&len.to_le_bytes());
            value.extend_from_slice(&sum.to_le_bytes());
        }
        value.extend_from_slice(&self.start().to_le_bytes());
        // What the checksum and the magic are put over.
        value.extend_from_slice(&[0; FOOT_BYTES - 8]);
        let start = out.len();
        out.push(opcode::AUX);
        put_raw(out, NAME);
        put_raw(out, &value);
        let summed = out.len() - (FOOT_BYTES - 8);
        let sum = crc32c::crc32c(&out[start..summed]);
        out[summed..summed + 4].copy_from_slice(&sum.to_le_bytes());
        out[summed + 4..].copy_from_slice(&MAGIC);
    }

    /// The index of a file of `len` bytes, if it has one. `read_at` reads from an offset on what there
    /// is, up to the length of the buffer, and answers how much.
    ///
    /// # Errors
    ///
    /// What `read_at` says.
    pub fn find(
        len: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<Self>> {
        let mut tail = [0; FOOT_BYTES + TRAILER_BYTES];
        let Some(tail_at) = len.checked_sub(tail.len() as u64) else { return Ok(None) };
        fill(tail_at, &mut tail, &mut read_at)?;
        let (start, rest) = split_u64(&tail);
        if rest[4..12] != MAGIC || rest[12] != END || start >= tail_at {
            return Ok(None);
        }
        // No more than the file has; nothing else is known yet.
        let Ok(field_len) = usize::try_from(tail_at + FOOT_BYTES as u64 - start) else {
            return Ok(None);
        };
        let mut field = vec![0; field_len];
        fill(start, &mut field, &mut read_at)?;
        Ok(Self::read(&field).filter(|index| index.start() == start))
    }

    /// Reads the field, which is all of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (summed, sum) = bytes.split_at_checked(bytes.len().checked_sub(FOOT_BYTES - 8)?)?;
        if sum[..4] != crc32c::crc32c(summed).to_le_bytes() {
            return None;
        }
        let mut input = Input::whole(bytes);
        if input.byte().ok()? != opcode::AUX {
            return None;
        }
        let is_named = input.text().ok()?.with_bytes(|name| name == NAME);
        let len = usize::try_from(input.length().ok()?).ok()?;
        let value = input.rest();
        if !is_named || value.len() != len {
            return None;
        }
        let parts = value.get(..len.checked_sub(FOOT_BYTES)?)?;
        let (parts, rest) = parts.as_chunks::<PART_BYTES>();
        let parts: Option<Vec<Part>> = parts.iter().map(read_part).collect();
        let parts = parts.filter(|_| rest.is_empty())?;
        let sum = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.len));
        sum.map(|_| Self { parts })
    }
}

fn read_part(bytes: &[u8; PART_BYTES]) -> Option<Part> {
    let [a, b, c, d, numbers @ ..] = bytes;
    let (first, last) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
    let (len, rest) = split_u64(numbers);
    let (sum, _) = split_u64(rest);
    (first <= last && last <= SLOT_MAX).then_some(Part { slots: first..=last, len, sum })
}

/// The number that the bytes begin with, which are long enough, and the rest.
fn split_u64(bytes: &[u8]) -> (u64, &[u8]) {
    match bytes.split_first_chunk() {
        Some((number, rest)) => (u64::from_le_bytes(*number), rest),
        None => (0, bytes),
    }
}

/// Reads until the buffer is full.
fn fill(
    mut at: u64,
    mut buffer: &mut [u8],
    read_at: &mut impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(at, buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                at += read as u64;
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::crc64, *};

    fn find(file: &[u8]) -> Option<Index> {
        let read_at = |at: u64, buffer: &mut [u8]| {
            let rest = &file[at as usize..];
            // Less than there is, as files may.
            let len = rest.len().min(buffer.len()).min(7);
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        };
        Index::find(file.len() as u64, read_at).expect("memory can be read")
    }

    /// A file of parts of these lengths, and its index.
    fn file(lens: &[u8]) -> (Vec<u8>, Index) {
        let (mut bytes, mut parts) = (Vec::new(), Vec::new());
        for (number, &len) in (0..).zip(lens) {
            let part = vec![number as u8; usize::from(len)];
            let (len, sum) = (u64::from(len), crc64(&part));
            parts.push(Part { slots: number..=number + 5, len, sum });
            bytes.extend_from_slice(&part);
        }
        let index = Index::new(parts);
        index.put(&mut bytes);
        bytes.push(END);
        bytes.extend_from_slice(&[9; 8]);
        (bytes, index)
    }

    proptest! {
        #[test]
        fn an_index_is_found_from_the_end(lens in vec(any::<u8>(), 1..40)) {
            let (bytes, index) = file(&lens);
            prop_assert_eq!(find(&bytes), Some(index));
        }

        #[test]
        fn a_file_that_was_changed_has_no_index_or_the_same(
            lens in vec(any::<u8>(), 1..9),
            at in any::<prop::sample::Index>(),
            change in prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                Just(vec![]),
                vec(any::<u8>(), 2..30),
            ],
        ) {
            let (mut bytes, index) = file(&lens);
            let at = at.index(bytes.len());
            bytes.splice(at..=at, change);
            prop_assert!(find(&bytes).is_none_or(|found| found == index));
        }

        #[test]
        fn no_bytes_are_more_than_an_index_or_none(
            mut bytes in vec(any::<u8>(), 0..300), start in 0_u64..400,
        ) {
            bytes.extend_from_slice(&start.to_le_bytes());
            let sum = crc32c::crc32c(bytes.get(start as usize..).unwrap_or_default());
            bytes.extend_from_slice(&sum.to_le_bytes());
            bytes.extend_from_slice(&MAGIC);
            bytes.push(END);
            bytes.extend_from_slice(&[0; 8]);
            prop_assert_eq!(find(&bytes), None);
        }
    }
}
