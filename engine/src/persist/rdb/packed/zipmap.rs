//! Redis's zipmap, in which versions before 2.6 wrote small hashes.
//!
//! A byte with the number of pairs (254: too many to say), then of each pair the length of its
//! field (a byte, or 254 and four bytes, little-endian), the field, the length of its value, a byte
//! with the number of unused bytes, the value and those; `0xFF`.
#![forbid(unsafe_code)]

use super::{RdbError, Walk};
use crate::types::Element;

const END: u8 = 0xFF;
const LONG: u8 = 254;

const MALFORMED: RdbError = RdbError::Corrupt("a zipmap is malformed");

/// Reads a zipmap: fields and values in turn.
#[derive(Debug)]
pub(in super::super) struct Reader<'a> {
    rest: &'a [u8],
    /// Pairs announced and not yet begun.
    left: Option<u8>,
    is_value_next: bool,
}

impl<'a> Reader<'a> {
    /// Reads the zipmap that `bytes` are from end to end.
    pub(in super::super) fn new(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let (&count, rest) = bytes.split_first().ok_or(MALFORMED)?;
        Ok(Self { rest, left: (count < LONG).then_some(count), is_value_next: false })
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let (&first, mut rest) = self.rest.split_first()?;
        let mut len = usize::from(first);
        if first == LONG {
            let (long, behind) = rest.split_first_chunk()?;
            (len, rest) = (u32::from_le_bytes(*long) as usize, behind);
        }
        let mut unused = 0;
        if self.is_value_next {
            let (&count, behind) = rest.split_first()?;
            (unused, rest) = (usize::from(count), behind);
        }
        let (text, rest) = rest.split_at_checked(len)?;
        self.rest = rest.get(unused..)?;
        self.is_value_next = !self.is_value_next;
        Some(text)
    }
}

impl<'a> Walk<'a> for Reader<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>, RdbError> {
        if !self.is_value_next {
            match self.rest {
                [END] if self.left.is_none_or(|left| left == 0) => return Ok(None),
                [END, ..] => return Err(MALFORMED),
                _ => {}
            }
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(1).ok_or(MALFORMED)?;
            }
        } else if self.rest.first() == Some(&END) {
            return Err(MALFORMED);
        }
        self.text().map(|text| Some(Element::Bytes(text))).ok_or(MALFORMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some((field, value)) = reader.next_pair()? {
            all.extend([field.to_vec(), value.to_vec()]);
        }
        Ok(all)
    }

    #[test]
    fn pairs_with_unused_bytes_and_long_values_are_read() {
        let long = [&[254, 44, 1, 0, 0, 0][..], &[b'v'; 300]].concat();
        let bytes = [&b"\x02\x01f\x02\x01vw-\x03abc"[..], &long, &[END]].concat();
        let texts = read(&bytes).expect("it is well-formed");
        assert_eq!(&texts[..3], [&b"f"[..], b"vw", b"abc"]);
        assert_eq!(texts[3].len(), 300);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err());
        }
        let mut bad = bytes.clone();
        bad[0] = 3;
        assert!(read(&bad).is_err());
        assert!(read(b"\x00\xFF\xFF").is_err());
    }
}
