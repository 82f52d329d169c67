//! Ids of a stream's entries: a time in milliseconds and a number within it.
#![forbid(unsafe_code)]

use std::fmt;

/// Most bytes of an id's text: two numbers of 20 digits and the hyphen between them.
const TEXT_BYTES_MAX: usize = 41;

/// The id of an entry. Ids are ordered by time, then by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in milliseconds, or whatever a client chose.
    pub ms: u64,
    /// Number among the entries of that time.
    pub seq: u64,
}

impl StreamId {
    /// The least id, which no entry has.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The greatest id.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The id right behind this one, unless this is the greatest.
    pub fn next(self) -> Option<Self> {
        self.to_number().checked_add(1).map(Self::from_number)
    }

    /// The id right before this one, unless this is the least.
    pub fn previous(self) -> Option<Self> {
        self.to_number().checked_sub(1).map(Self::from_number)
    }

    /// The id as one number, of the same order.
    #[inline]
    pub fn to_number(self) -> u128 {
        u128::from(self.ms) << 64 | u128::from(self.seq)
    }

    /// The id that [`Self::to_number`] made `number` of.
    #[inline]
    pub fn from_number(number: u128) -> Self {
        Self { ms: (number >> 64) as u64, seq: number as u64 }
    }

    /// The id as clients read it: `ms-seq`.
    #[inline]
    pub fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; TEXT_BYTES_MAX], len: 0 };
        let mut digits = itoa::Buffer::new();
        text.push(digits.format(self.ms).as_bytes());
        text.push(b"-");
        text.push(digits.format(self.seq).as_bytes());
        text
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// An id's text, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    bytes: [u8; TEXT_BYTES_MAX],
    len: usize,
}

impl IdText {
    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline]
    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_carry_over_between_the_parts() {
        let id = |ms, seq| StreamId { ms, seq };
        assert_eq!(id(5, u64::MAX).next(), Some(id(6, 0)));
        assert_eq!(id(6, 0).previous(), Some(id(5, u64::MAX)));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
    }

    #[test]
    fn texts_are_those_of_display() {
        for id in [StreamId::MIN, StreamId { ms: 1_700_000_000_000, seq: 12 }, StreamId::MAX] {
            assert_eq!(id.text().as_bytes(), id.to_string().as_bytes());
            assert_eq!(StreamId::from_number(id.to_number()), id);
        }
    }
}
