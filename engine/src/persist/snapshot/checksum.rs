//! The checksum of a file from those of its pieces.
//!
//! The checksum of RDB is the remainder of a polynomial over GF(2), without offsets: that of two
//! pieces in a row is `first · x^(8 · length of second) + second`. So pieces that several workers
//! wrote at the same time need not be read again to be summed up.
#![forbid(unsafe_code)]

/// The polynomial of RDB's checksum, reflected: the highest bit is the coefficient of 1.
const POLYNOMIAL: u64 = 0x95AC_9329_AC4B_C9B5;
const ONE: u64 = 1 << 63;
/// x to the eighth: what one more byte shifts by.
const BYTE: u64 = ONE >> 8;

/// Joins the checksums of pieces, quickly where many have the same length.
#[derive(Clone, Copy, Debug)]
pub struct Joiner {
    len: u64,
    /// What the first checksum is multiplied by if the second piece is `len` bytes long.
    power: u64,
}

impl Joiner {
    /// A joiner that has seen no length yet.
    pub fn new() -> Self {
        Self { len: 0, power: ONE }
    }

    /// The checksum of two pieces in a row, from theirs and the second one's length in bytes.
    pub fn join(&mut self, first: u64, second: u64, second_len: u64) -> u64 {
        if second_len != self.len {
            (self.len, self.power) = (second_len, power_of_byte(second_len));
        }
        multiply(first, self.power) ^ second
    }
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new()
    }
}

/// The same for one pair.
pub fn join(first: u64, second: u64, second_len: u64) -> u64 {
    Joiner::new().join(first, second, second_len)
}

/// `BYTE` to the power `exponent`.
fn power_of_byte(exponent: u64) -> u64 {
    let (mut power, mut square, mut left) = (ONE, BYTE, exponent);
    while left > 0 {
        if left & 1 == 1 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        left >>= 1;
    }
    power
}

/// The product of two polynomials.
fn multiply(one: u64, other: u64) -> u64 {
    let (mut product, mut shifted) = (0, other);
    for bit in (0..64).rev() {
        if one >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted = shifted >> 1 ^ if shifted & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::super::rdb::crc64, Joiner, join};

    proptest! {
        #[test]
        fn pieces_sum_up_to_the_whole(pieces in vec(vec(any::<u8>(), 0..300), 0..8)) {
            // Every piece twice, so that some follow upon others of their length.
            let pieces: Vec<_> = pieces.into_iter().flat_map(|it| [it.clone(), it]).collect();
            let whole = crc64(&pieces.concat());
            let (mut joiner, mut one_by_one) = (Joiner::new(), 0);
            let sum = pieces.iter().fold(0, |sum, piece| {
                one_by_one = join(one_by_one, crc64(piece), piece.len() as u64);
                joiner.join(sum, crc64(piece), piece.len() as u64)
            });
            prop_assert_eq!((sum, one_by_one), (whole, whole));
        }
    }
}
