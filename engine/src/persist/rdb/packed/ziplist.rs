//! Redis's ziplist, which versions before 7.0 wrote where listpacks stand now.
//!
//! `u32` bytes in all, `u32` offset of the last entry, `u16` entries (65535: too many to say), the
//! entries, `0xFF`. An entry is the length of the one before it (a byte, or 254 and four bytes), a
//! head, and its bytes. By the head's first byte:
//!
//! | bits       | meaning                                                 |
//! |------------|---------------------------------------------------------|
//! | `00xxxxxx` | a string of that length                                 |
//! | `01xxxxxx` | with the next byte the length of a string               |
//! | `10000000` | a string whose length is the next four bytes, big-endian|
//! | `11000000` | an integer in two bytes, little-endian                  |
//! | `11010000` | in four                                                 |
//! | `11100000` | in eight                                                |
//! | `11110000` | in three                                                |
//! | `11111110` | in one                                                  |
//! | `1111xxxx` | one more than an integer, `xxxx` being from 1 to 13     |
#![forbid(unsafe_code)]

use super::{RdbError, Walk, int_le};
use crate::types::Element;

const HEADER_BYTES: usize = 10;
const END: u8 = 0xFF;
/// The first byte of a length of five bytes.
const LONG: u8 = 254;
const UNCOUNTED: u16 = u16::MAX;

const MALFORMED: RdbError = RdbError::Corrupt("a ziplist is malformed");

/// Reads a ziplist.
#[derive(Debug)]
pub(in super::super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of the entry before.
    before: Option<usize>,
    /// Offset of the last entry, as announced.
    tail: usize,
    left: Option<u16>,
}

impl<'a> Reader<'a> {
    /// Reads the ziplist that `bytes` are from end to end.
    pub(in super::super) fn new(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(MALFORMED)?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                as usize
        };
        let count = u16::from_le_bytes([header[8], header[9]]);
        if word(0) != bytes.len() {
            return Err(MALFORMED);
        }
        let left = (count != UNCOUNTED).then_some(count);
        Ok(Self { bytes, at: HEADER_BYTES, before: None, tail: word(4), left })
    }
}

impl<'a> Walk<'a> for Reader<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>, RdbError> {
        let rest = self.bytes.get(self.at..).ok_or(MALFORMED)?;
        if let [END] = rest {
            let is_tail = self.before.unwrap_or(HEADER_BYTES) == self.tail;
            let is_all = self.left.is_none_or(|left| left == 0);
            return if is_tail && is_all { Ok(None) } else { Err(MALFORMED) };
        }
        let (before_len, prefix) = previous_length(rest).ok_or(MALFORMED)?;
        let (element, len) = entry(&rest[prefix..]).ok_or(MALFORMED)?;
        if before_len != self.at - self.before.unwrap_or(self.at) {
            return Err(MALFORMED);
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(MALFORMED)?;
        }
        self.before = Some(self.at);
        self.at += prefix + len;
        Ok(Some(element))
    }
}

/// The length of the entry before, and the bytes that it takes.
fn previous_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.first()? {
        LONG => {
            let len = bytes.get(1..5)?.first_chunk().map(|len| u32::from_le_bytes(*len))?;
            Some((len as usize, 5))
        }
        END => None,
        len => Some((usize::from(len), 1)),
    }
}

/// The entry that `bytes` begin with, and its length.
fn entry(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let low = usize::from(first & 0x3F);
    let int = |len: usize| Some((Element::Int(int_le(rest.get(..len)?)), 1 + len));
    match first {
        0..0x40 => text(bytes, 1, low),
        0x40..0x80 => text(bytes, 2, low << 8 | usize::from(*rest.first()?)),
        0x80 => {
            let len = rest.first_chunk().map(|len| u32::from_be_bytes(*len))?;
            text(bytes, 5, len as usize)
        }
        0xC0 => int(2),
        0xD0 => int(4),
        0xE0 => int(8),
        0xF0 => int(3),
        0xFE => int(1),
        0xF1..=0xFD => Some((Element::Int(i64::from(first & 0xF) - 1), 1)),
        _ => None,
    }
}

/// A string of `len` bytes behind a head.
fn text(bytes: &[u8], head: usize, len: usize) -> Option<(Element<'_>, usize)> {
    let end = head.checked_add(len)?;
    Some((Element::Bytes(bytes.get(head..end)?), end))
}

/// A ziplist of these entries' heads and bytes.
#[cfg(test)]
pub(in super::super) fn build(entries: &[Vec<u8>]) -> Vec<u8> {
    let (mut bytes, mut before, mut tail) = (vec![0; HEADER_BYTES], 0_usize, HEADER_BYTES);
    for entry in entries {
        tail = bytes.len();
        if before < usize::from(LONG) {
            bytes.push(before as u8);
        } else {
            bytes.push(LONG);
            bytes.extend_from_slice(&(before as u32).to_le_bytes());
        }
        bytes.extend_from_slice(entry);
        before = bytes.len() - tail;
    }
    bytes.push(END);
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    bytes[4..8].copy_from_slice(&(tail as u32).to_le_bytes());
    bytes[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(element) = reader.next()? {
            all.push(element.to_vec());
        }
        Ok(all)
    }

    #[test]
    fn every_form_of_entry_is_read() {
        let long = [&[0x80, 0, 0, 0x40, 0][..], &[b'y'; 0x4000]].concat();
        let entries = vec![
            b"\x03abc".to_vec(),
            [&[0x41, 0x2C][..], &[b'x'; 300]].concat(),
            long,
            vec![0xC0, 0xFE, 0xFF],
            vec![0xD0, 1, 0, 0, 0x80],
            vec![0xE0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            vec![0xF0, 0xFF, 0xFF, 0x7F],
            vec![0xFE, 0x80],
            vec![0xF1],
            vec![0xFD],
        ];
        let texts = read(&build(&entries)).expect("it is well-formed");
        assert_eq!((&texts[0][..], texts[1].len(), texts[2].len()), (&b"abc"[..], 300, 0x4000));
        let ints: Vec<&[u8]> = texts[3..].iter().map(Vec::as_slice).collect();
        let expected: [&[u8]; 7] =
            [b"-2", b"-2147483647", b"-9223372036854775808", b"8388607", b"-128", b"0", b"12"];
        assert_eq!(ints, expected);
        assert_eq!(read(&build(&[])), Ok(vec![]));
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        let good = build(&[b"\x03abc".to_vec(), vec![0xF1], b"\x01z".to_vec()]);
        assert!(read(&good).is_ok());
        // Size, tail, count, a previous length, a head, the end.
        for (at, byte) in [(0, 3), (4, 0), (8, 2), (8, 4), (15, 9), (16, 0xFF), (16, 0x90), (20, 0)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read(&bad).is_err(), "byte {at} changed");
        }
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err());
        }
    }
}
