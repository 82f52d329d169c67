//! The checksum of RDB: CRC-64 with Jones's polynomial, reflected, from zero to no final change.
//!
//! Long stretches are folded by carry-less multiplication where the processor has it (see `fold`);
//! the rest goes through tables.
#![forbid(unsafe_code)]

use std::fmt;

use crc::{CRC_64_REDIS, Crc, Table};

use super::fold;

/// Sixteen bytes a step by tables: about 2 GB/s.
type Tables = Table<16>;

static CRC: Crc<u64, Tables> = Crc::<u64, Tables>::new(&CRC_64_REDIS);

/// A checksum of bytes that come one piece after the other.
#[derive(Clone, Copy, Default)]
pub struct Crc64(u64);

impl Crc64 {
    /// The checksum of nothing.
    pub fn new() -> Self {
        Self(0)
    }

    /// Goes on with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let rest = match fold::fold(self.0, bytes) {
            Some((folded, rest)) => {
                self.0 = tables(0, &folded);
                rest
            }
            None => bytes,
        };
        self.0 = tables(self.0, rest);
    }

    /// The checksum of all that was given.
    pub fn value(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc64({:016x})", self.value())
    }
}

/// Goes on from the checksum `sum` with `bytes`, by tables.
fn tables(sum: u64, bytes: &[u8]) -> u64 {
    // The crate takes the value from before its reflection.
    let mut digest = CRC.digest_with_initial(sum.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The checksum of `bytes`.
pub fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(bytes);
    crc.value()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Bit by bit, as the definition says.
    fn naive(bytes: &[u8]) -> u64 {
        const REFLECTED_POLYNOMIAL: u64 = 0x95AC_9329_AC4B_C9B5;
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { REFLECTED_POLYNOMIAL } else { 0 }
            })
        })
    }

    #[test]
    fn the_check_value_of_the_polynomial_comes_out() {
        assert_eq!(crc64(b"123456789"), 0xE9C6_D914_C4B8_D9CA);
    }

    #[test]
    fn stretches_of_every_length_are_summed_as_the_definition_says() {
        let bytes: Vec<u8> = (0..400_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc64(&bytes[..len]), naive(&bytes[..len]), "{len}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_as_the_whole(pieces in vec(vec(any::<u8>(), 0..700), 0..6)) {
            let mut crc = Crc64::new();
            pieces.iter().for_each(|piece| crc.update(piece));
            prop_assert_eq!(crc.value(), naive(&pieces.concat()));
        }
    }
}
