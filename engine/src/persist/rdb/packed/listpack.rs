//! Redis's listpack.
//!
//! `u32` bytes in all, `u16` entries (65535: too many to say), the entries, `0xFF`. An entry is a
//! head, its bytes, and the length of both once more for walking back, in groups of seven bits, the
//! first byte alone without the top bit. By the head's first byte:
//!
//! | bits       | meaning                                           |
//! |------------|---------------------------------------------------|
//! | `0xxxxxxx` | an integer from 0 to 127                          |
//! | `10xxxxxx` | a string of that length                           |
//! | `110xxxxx` | with the next byte an integer of 13 bits          |
//! | `1110xxxx` | with the next byte the length of a string         |
//! | `11110000` | a string whose length is the next four bytes      |
//! | `11110001` | an integer in two bytes; then three, four, eight  |
#![forbid(unsafe_code)]

use super::{RdbError, Walk, int_le};
use crate::types::Element;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xFF;
/// The count that says nothing.
const UNCOUNTED: u16 = u16::MAX;

const MALFORMED: RdbError = RdbError::Corrupt("a listpack is malformed");

/// Writes a listpack.
#[derive(Debug)]
pub(in super::super) struct Builder {
    bytes: Vec<u8>,
    count: usize,
}

impl Builder {
    /// An empty listpack.
    pub(in super::super) fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], count: 0 }
    }

    /// Appends an element; an integer as such, also one in digits.
    pub(in super::super) fn push(&mut self, element: &Element<'_>) {
        let start = self.bytes.len();
        match element {
            Element::Int(int) => self.put_integer(*int),
            Element::Bytes(text) => self.put_text(text),
            Element::Shared(text) => self.put_text(text),
        }
        let len = self.bytes.len() - start;
        let (back, back_len) = back_length(len);
        self.bytes.extend_from_slice(&back[..back_len]);
        self.count += 1;
    }

    /// Whether nothing was appended.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The listpack's bytes.
    pub(in super::super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let count = u16::try_from(self.count).unwrap_or(UNCOUNTED);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }

    fn put_text(&mut self, text: &[u8]) {
        if let Element::Int(int) = Element::compact(text) {
            return self.put_integer(int);
        }
        match text.len() {
            len @ 0..0x40 => self.bytes.push(0x80 | len as u8),
            len @ 0x40..0x1000 => {
                self.bytes.extend_from_slice(&[0xE0 | (len >> 8) as u8, len as u8]);
            }
            len => {
                self.bytes.push(0xF0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
    }

    fn put_integer(&mut self, int: i64) {
        let (head, len) = match int {
            0..=127 => return self.bytes.push(int as u8),
            -4096..=4095 => {
                let bits = int as u16 & 0x1FFF;
                return self.bytes.extend_from_slice(&[0xC0 | (bits >> 8) as u8, bits as u8]);
            }
            -0x8000..=0x7FFF => (0xF1, 2),
            -0x80_0000..=0x7F_FFFF => (0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
            _ => (0xF4, 8),
        };
        self.bytes.push(head);
        self.bytes.extend_from_slice(&int.to_le_bytes()[..len]);
    }
}

/// An entry's length in the form that stands behind it.
fn back_length(len: usize) -> ([u8; 5], usize) {
    let groups = match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    };
    let mut back = [0; 5];
    for (nth, byte) in back[..groups].iter_mut().enumerate() {
        let group = (len >> (7 * (groups - 1 - nth))) as u8 & 0x7F;
        *byte = if nth == 0 { group } else { group | 0x80 };
    }
    (back, groups)
}

/// Reads a listpack.
#[derive(Debug)]
pub(in super::super) struct Reader<'a> {
    rest: &'a [u8],
    /// Entries announced and not yet seen; nothing if none were.
    left: Option<u16>,
}

impl<'a> Reader<'a> {
    /// Reads the listpack that `bytes` are from end to end.
    pub(in super::super) fn new(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(MALFORMED)?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let count = u16::from_le_bytes([header[4], header[5]]);
        if total as usize != bytes.len() {
            return Err(MALFORMED);
        }
        Ok(Self { rest, left: (count != UNCOUNTED).then_some(count) })
    }
}

impl<'a> Walk<'a> for Reader<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>, RdbError> {
        match self.rest {
            [END] if self.left.is_none_or(|left| left == 0) => return Ok(None),
            [] | [END] => return Err(MALFORMED),
            _ => {}
        }
        let (element, len) = entry(self.rest).ok_or(MALFORMED)?;
        let (back, back_len) = back_length(len);
        let behind = self.rest.get(len..).and_then(|rest| rest.strip_prefix(&back[..back_len]));
        self.rest = behind.ok_or(MALFORMED)?;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(MALFORMED)?;
        }
        Ok(Some(element))
    }
}

/// The entry that `bytes` begin with, and its length without the one behind it.
fn entry(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let second = || rest.first().map(|&second| usize::from(second));
    let low = usize::from(first);
    Some(match first {
        0..0x80 => (Element::Int(i64::from(first)), 1),
        0x80..0xC0 => text(bytes, 1, low & 0x3F)?,
        0xC0..0xE0 => {
            let bits = ((low & 0x1F) << 8 | second()?) as i64;
            (Element::Int(if bits < 0x1000 { bits } else { bits - 0x2000 }), 2)
        }
        0xE0..0xF0 => text(bytes, 2, (low & 0xF) << 8 | second()?)?,
        0xF0 => {
            let len = rest.first_chunk().map(|len| u32::from_le_bytes(*len))?;
            text(bytes, 5, len as usize)?
        }
        0xF1..=0xF4 => {
            let len = [2, 3, 4, 8][low - 0xF1];
            (Element::Int(int_le(rest.get(..len)?)), 1 + len)
        }
        _ => return None,
    })
}

/// A string of `len` bytes behind a head.
fn text(bytes: &[u8], head: usize, len: usize) -> Option<(Element<'_>, usize)> {
    let end = head.checked_add(len)?;
    Some((Element::Bytes(bytes.get(head..end)?), end))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(element) = reader.next()? {
            all.push(element.to_vec());
        }
        Ok(all)
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|int| int.to_string().into_bytes()),
            (-5_000..5_000_i64).prop_map(|int| int.to_string().into_bytes()),
            (0..63_u32).prop_map(|shift| (-1_i64 << shift).to_string().into_bytes()),
            vec(any::<u8>(), 0..100),
            vec(any::<u8>(), 4_000..4_200),
        ]
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_back(texts in vec(text(), 0..40), at in any::<usize>(), bit in 0..8_u32) {
            let mut builder = Builder::new();
            texts.iter().for_each(|text| builder.push(&Element::Bytes(text)));
            let mut bytes = builder.finish();
            prop_assert_eq!(read(&bytes), Ok(texts));
            let at = at % bytes.len();
            bytes[at] ^= 1_u8 << bit;
            // It may be another listpack now; it must not be read beyond its end.
            let _ = read(&bytes);
            prop_assert!(read(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        let mut builder = Builder::new();
        for text in ["hello", "12", "-1", "1000000"] {
            builder.push(&Element::Bytes(text.as_bytes()));
        }
        let bytes = builder.finish();
        let expected = [
            &[24, 0, 0, 0, 4, 0, 0x85][..],
            b"hello",
            &[6, 12, 1, 0xDF, 0xFF, 2, 0xF2, 0x40, 0x42, 0x0F, 4, 0xFF],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn counts_and_back_lengths_must_be_right() {
        let mut builder = Builder::new();
        builder.push(&Element::Bytes(&[b'x'; 200]));
        let good = builder.finish();
        assert_eq!(read(&good), Ok(vec![vec![b'x'; 200]]));
        for (at, byte) in
            [(0, 0), (4, 0), (4, 2), (6, 0xF5), (good.len() - 2, 0), (good.len() - 1, 0)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read(&bad).is_err(), "byte {at} changed");
        }
    }
}
