//! Taking lengths, numbers and strings out of RDB bytes.
//!
//! A length begins with two bits that say how it goes on: `00` six bits, `01` fourteen bits, `10`
//! four or eight bytes, big-endian. `11` is no length: the other six bits say how a string is
//! encoded that follows, as an integer of 1, 2 or 4 bytes or compressed.
#![forbid(unsafe_code)]

use super::{RdbError, lzf};
use crate::{
    keyspace::NewBody,
    types::Element,
    value::{Object, Value, new_string},
};

/// Why something could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At least so many more bytes are needed.
    NeedMore(usize),
    /// The bytes are wrong.
    Broken(RdbError),
}

impl From<RdbError> for Stop {
    fn from(error: RdbError) -> Self {
        Self::Broken(error)
    }
}

/// A length, or how a string that follows is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Plain(u64),
    Encoded(u8),
}

const ENCODED_INT8: u8 = 0;
const ENCODED_INT16: u8 = 1;
const ENCODED_INT32: u8 = 2;
const ENCODED_LZF: u8 = 3;

/// A string as it stood in the bytes.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    /// In its decimal digits.
    Int(i64),
    /// As it is.
    Plain(&'a [u8]),
    /// It was compressed.
    Unpacked(Vec<u8>),
}

impl Text<'_> {
    /// The string as an element.
    pub(super) fn element(&self) -> Element<'_> {
        match self {
            Self::Int(int) => Element::Int(*int),
            Self::Plain(bytes) => Element::Bytes(bytes),
            Self::Unpacked(bytes) => Element::Bytes(bytes),
        }
    }

    /// The value of a key that holds the string.
    pub(super) fn into_string(self) -> Value {
        match self {
            Self::Int(int) => Value::Int(int),
            Self::Plain(bytes) => Value::string(bytes),
            Self::Unpacked(bytes) => Value::owned_string(bytes.into()),
        }
    }

    /// Calls `put` with what to put into the entry of a key that holds the string: without a copy of
    /// what is short.
    pub(super) fn with_string<R>(self, put: impl FnOnce(NewBody<'_, Object>) -> R) -> R {
        match self {
            Self::Plain(bytes) => put(new_string(bytes)),
            text => text.into_string().put_with(put),
        }
    }

    /// Calls `f` with the string's bytes.
    pub(super) fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.element().with_bytes(f)
    }
}

/// The bytes that are there, and how many may come after them.
///
/// What was taken counts once it is [committed](Self::commit): when a later piece of the same token
/// is missing, everything since is taken again with more bytes.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    committed: usize,
    beyond: u64,
}

impl<'a> Input<'a> {
    /// All bytes that there are.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self::part(bytes, 0)
    }

    /// The next bytes, after which at most `beyond` more can come.
    pub fn part(bytes: &'a [u8], beyond: u64) -> Self {
        Self { bytes, at: 0, committed: 0, beyond }
    }

    /// What was taken so far need not come again.
    pub fn commit(&mut self) {
        self.committed = self.at;
    }

    /// How many bytes need not come again.
    pub fn committed(&self) -> usize {
        self.committed
    }

    /// The bytes that were not taken yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Takes and commits the next `len` bytes, which are there: [`rest`](Self::rest) has shown them.
    pub(super) fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.bytes.len() - self.at);
        self.at += len;
        self.commit();
    }

    /// Whether all bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        if let Some(taken) = rest.get(..len) {
            self.at += len;
            return Ok(taken);
        }
        let missing = len - rest.len();
        if missing as u64 > self.beyond {
            return Err(RdbError::Truncated.into());
        }
        Err(Stop::NeedMore(missing))
    }

    /// Takes and commits up to `len` bytes without looking at them; how many there were.
    pub(super) fn skip(&mut self, len: u64) -> Result<u64, Stop> {
        let there = (self.bytes.len() - self.at) as u64;
        if len.saturating_sub(there) > self.beyond {
            return Err(RdbError::Truncated.into());
        }
        let skipped = len.min(there);
        self.at += skipped as usize;
        self.commit();
        Ok(skipped)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Stop> {
        let mut array = [0; LEN];
        array.copy_from_slice(self.take(LEN)?);
        Ok(array)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes as a little-endian integer.
    pub(super) fn i32_le(&mut self) -> Result<i32, Stop> {
        self.array().map(i32::from_le_bytes)
    }

    /// Eight bytes as a little-endian integer.
    pub(super) fn i64_le(&mut self) -> Result<i64, Stop> {
        self.array().map(i64::from_le_bytes)
    }

    /// Eight bytes as a double.
    pub(super) fn f64_le(&mut self) -> Result<f64, Stop> {
        self.array().map(f64::from_le_bytes)
    }

    /// A double as versions before 8 wrote it: a byte of length with text, or one of three marks.
    pub(super) fn f64_text(&mut self) -> Result<f64, Stop> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Ok(f64::NAN),
            len => tessera_proto::float::parse_f64(self.take(usize::from(len))?)
                .ok_or(Stop::Broken(RdbError::Corrupt("a score is no number"))),
        }
    }

    fn any_length(&mut self) -> Result<Length, Stop> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3F);
        Ok(match first >> 6 {
            0 => Length::Plain(low),
            1 => Length::Plain(low << 8 | u64::from(self.byte()?)),
            3 => Length::Encoded(first & 0x3F),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(RdbError::Corrupt("a length of unknown form").into()),
            },
        })
    }

    /// A length or another unsigned number.
    pub(super) fn length(&mut self) -> Result<u64, Stop> {
        match self.any_length()? {
            Length::Plain(number) => Ok(number),
            Length::Encoded(_) => {
                Err(RdbError::Corrupt("an encoded string where a length should be").into())
            }
        }
    }

    /// A length of something that must lie in memory.
    fn size(&mut self) -> Result<usize, Stop> {
        let size = self.length()?;
        usize::try_from(size).map_err(|_| RdbError::Truncated.into())
    }

    /// A string.
    pub(super) fn text(&mut self) -> Result<Text<'a>, Stop> {
        match self.any_length()? {
            Length::Plain(len) => {
                let len = usize::try_from(len).map_err(|_| RdbError::Truncated)?;
                self.take(len).map(Text::Plain)
            }
            Length::Encoded(ENCODED_INT8) => {
                self.array::<1>().map(|bytes| Text::Int(i64::from(i8::from_le_bytes(bytes))))
            }
            Length::Encoded(ENCODED_INT16) => {
                self.array().map(|bytes| Text::Int(i64::from(i16::from_le_bytes(bytes))))
            }
            Length::Encoded(ENCODED_INT32) => {
                self.array().map(|bytes| Text::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            Length::Encoded(ENCODED_LZF) => {
                let (packed, len) = (self.size()?, self.size()?);
                let packed = self.take(packed)?;
                lzf::decompress(packed, len)
                    .map(Text::Unpacked)
                    .ok_or(Stop::Broken(RdbError::Corrupt("a compressed string is malformed")))
            }
            Length::Encoded(_) => Err(RdbError::Corrupt("a string of unknown encoding").into()),
        }
    }

    /// Takes what stands before a string's bytes; how many those are. To pass a string by.
    pub(super) fn text_head(&mut self) -> Result<u64, Stop> {
        match self.any_length()? {
            Length::Plain(len) => Ok(len),
            Length::Encoded(ENCODED_INT8) => Ok(1),
            Length::Encoded(ENCODED_INT16) => Ok(2),
            Length::Encoded(ENCODED_INT32) => Ok(4),
            Length::Encoded(ENCODED_LZF) => {
                let packed = self.length()?;
                self.length()?;
                Ok(packed)
            }
            Length::Encoded(_) => Err(RdbError::Corrupt("a string of unknown encoding").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::output, *};

    #[test]
    fn lengths_and_strings_come_back() {
        for len in [0, 63, 64, 16_383, 16_384, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut bytes = Vec::new();
            output::put_length(&mut bytes, len);
            assert_eq!(Input::whole(&bytes).length(), Ok(len));
            assert_eq!(Input::part(&bytes[..0], 9).length(), Err(Stop::NeedMore(1)));
        }
        for text in ["", "0", "-1", "127", "128", "-32769", "2147483647", "2147483648", "abc"] {
            let mut bytes = Vec::new();
            output::put_plain(&mut bytes, text.as_bytes());
            let mut input = Input::whole(&bytes);
            let back = input.text().expect("it is whole").with_bytes(<[u8]>::to_vec);
            assert_eq!((back, input.is_empty()), (text.as_bytes().to_vec(), true));
        }
    }

    #[test]
    fn what_cannot_come_is_not_waited_for() {
        let mut bytes = Vec::new();
        output::put_length(&mut bytes, 1 << 40);
        let take = |beyond| Input::part(&bytes, beyond).text().map(|_| ());
        assert_eq!(take(1 << 30), Err(Stop::Broken(RdbError::Truncated)));
        assert_eq!(take(1 << 40), Err(Stop::NeedMore(1 << 40)));
        assert_eq!(Input::whole(&[]).byte(), Err(Stop::Broken(RdbError::Truncated)));
    }
}
