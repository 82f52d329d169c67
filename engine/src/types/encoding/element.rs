//! One element of a collection as it is read: bytes, or a number stored as such.
//!
//! Strings that are the canonical decimal form of an `i64` are stored as integers where an encoding
//! can, and nobody can tell: formatting the integer gives back the same bytes.
#![forbid(unsafe_code)]

use bytes::Bytes;

use super::page::INLINE_BYTES_MAX;

/// An element borrowed from a collection.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// Stands for its canonical decimal form.
    Int(i64),
    /// Bytes inside the collection.
    Bytes(&'a [u8]),
    /// A large string with an allocation of its own, which a reply can share.
    Shared(&'a Bytes),
}

impl<'a> Element<'a> {
    /// `bytes` in the most compact form: an integer if they are its canonical decimal form.
    #[inline]
    pub fn compact(bytes: &'a [u8]) -> Self {
        match canonical_i64(bytes) {
            Some(int) => Self::Int(int),
            None => Self::Bytes(bytes),
        }
    }

    /// Length in bytes of the text that the element stands for.
    pub fn len(&self) -> usize {
        match self {
            Self::Int(int) => itoa::Buffer::new().format(*int).len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with the element's text.
    #[inline]
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Int(int) => f(itoa::Buffer::new().format(*int).as_bytes()),
            Self::Bytes(bytes) => f(bytes),
            Self::Shared(bytes) => f(bytes),
        }
    }

    /// The element's text as a vector of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    /// Whether the element's text is `text`.
    #[inline]
    pub fn is(&self, text: &[u8]) -> bool {
        match self {
            Self::Int(int) => canonical_i64(text) == Some(*int),
            Self::Bytes(bytes) => *bytes == text,
            Self::Shared(bytes) => ***bytes == *text,
        }
    }

    /// Length in bytes of the element in Redis's listpack format, its back length included:
    /// thresholds are counted in it, so that encodings change at the same size.
    pub fn redis_listpack_len(&self) -> usize {
        let (head, body) = match self {
            Self::Int(0..=127) => (1, 0),
            Self::Int(-4096..=4095) => (2, 0),
            Self::Int(int) if i16::try_from(*int).is_ok() => (1, 2),
            Self::Int(-8_388_608..=8_388_607) => (1, 3),
            Self::Int(int) if i32::try_from(*int).is_ok() => (1, 4),
            Self::Int(_) => (1, 8),
            Self::Bytes(_) | Self::Shared(_) => match self.len() {
                len @ 0..64 => (1, len),
                len @ 64..4096 => (2, len),
                len => (5, len),
            },
        };
        let len: usize = head + body;
        let back = match len {
            0..128 => 1,
            128..16_384 => 2,
            16_384..2_097_152 => 3,
            2_097_152..268_435_456 => 4,
            _ => 5,
        };
        len + back
    }
}

/// The integer whose canonical decimal form `bytes` is: no sign but a leading `-`, no leading
/// zeros, within range.
#[inline]
pub fn canonical_i64(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'-' | b'0'..=b'9', ..] => tessera_proto::parse_i64(bytes),
        _ => None,
    }
}

/// Calls `f` with `text` as a tree stores it: long texts in a shared allocation of their own.
#[inline]
pub fn with_body<R>(text: &[u8], f: impl FnOnce(Element<'_>) -> R) -> R {
    if text.len() > INLINE_BYTES_MAX {
        f(Element::Shared(&Bytes::copy_from_slice(text)))
    } else {
        f(Element::Bytes(text))
    }
}

/// Bytes that an integer takes when its redundant sign bytes are left out: 1 to 8.
#[inline]
pub(super) fn int_len(int: i64) -> usize {
    let significant = 65 - (int ^ (int >> 63)).leading_zeros() as usize;
    significant.div_ceil(8)
}

/// The integer whose low bytes, little-endian, are `bytes` (1 to 8 of them).
#[inline]
pub(super) fn int_from_bytes(bytes: &[u8]) -> i64 {
    let mut word = [0_u8; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let shift = 64 - 8 * bytes.len() as u32;
    (i64::from_le_bytes(word) << shift) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_decimals_become_integers() {
        for text in ["0", "-1", "127", "9223372036854775807", "-9223372036854775808"] {
            let element = Element::compact(text.as_bytes());
            assert!(matches!(element, Element::Int(_)), "{text}");
            assert_eq!(element.to_vec(), text.as_bytes());
        }
        for text in ["", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "1e3"] {
            assert!(matches!(Element::compact(text.as_bytes()), Element::Bytes(_)), "{text}");
        }
    }

    #[test]
    fn integers_survive_in_their_significant_bytes() {
        for int in [0, 1, -1, 127, 128, -128, -129, 32_767, 32_768, i64::MAX, i64::MIN, 1 << 40] {
            let len = int_len(int);
            assert_eq!(int_from_bytes(&int.to_le_bytes()[..len]), int, "{int} in {len} bytes");
        }
        assert_eq!((int_len(127), int_len(128), int_len(-128), int_len(i64::MIN)), (1, 2, 1, 8));
    }

    #[test]
    fn redis_sizes_follow_its_format() {
        let len = |text: &str| Element::compact(text.as_bytes()).redis_listpack_len();
        assert_eq!((len("5"), len("128"), len("-5000"), len("abc")), (2, 3, 4, 5));
        assert_eq!(len(&"x".repeat(64)), 64 + 2 + 1);
    }
}
