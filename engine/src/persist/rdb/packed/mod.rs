//! The packed blobs that values and parts of values come in, read and checked entry by entry.
//!
//! Each reader walks over borrowed bytes and gives [`Element`]s. It fails on the first byte that
//! does not hold, so a whole walk is the deep check that Redis calls `sanitize-dump-payload`.
#![forbid(unsafe_code)]

pub(super) mod intset;
pub(super) mod listpack;
pub(super) mod ziplist;
pub(super) mod zipmap;

use super::RdbError;
use crate::types::Element;

/// The elements of a packed blob, or what is wrong with it.
pub(super) trait Walk<'a> {
    /// The next element; nothing at the end, when all has been checked.
    fn next(&mut self) -> Result<Option<Element<'a>>, RdbError>;

    /// The next two elements.
    fn next_pair(&mut self) -> Result<Option<(Element<'a>, Element<'a>)>, RdbError> {
        let Some(first) = self.next()? else { return Ok(None) };
        match self.next()? {
            Some(second) => Ok(Some((first, second))),
            None => Err(RdbError::Corrupt("an odd number of entries")),
        }
    }
}

/// The integer whose little-endian bytes, sign-extended, `bytes` are.
fn int_le(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|&last| last >= 0x80);
    let mut word = if negative { [0xFF; 8] } else { [0; 8] };
    word[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(word)
}
