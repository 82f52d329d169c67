//! The names of scripts: SHA1 digests in hexadecimal.
#![forbid(unsafe_code)]

use sha1::{Digest, Sha1};

/// 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha1Hex([u8; 40]);

impl Sha1Hex {
    /// The name that a client sent, in any case, if it may be one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 40] = text.try_into().ok()?;
        Some(Self(digits.map(|digit| digit.to_ascii_lowercase())))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The name of a script.
pub fn sha1_hex(script: &[u8]) -> Sha1Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(script);
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.iter()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    Sha1Hex(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        assert_eq!(sha1_hex(b"").as_str(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let abc = sha1_hex(b"abc");
        assert_eq!(abc.as_str(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(Sha1Hex::parse(abc.as_str().to_uppercase().as_bytes()), Some(abc));
        assert_eq!(Sha1Hex::parse(b"a999"), None);
    }
}
