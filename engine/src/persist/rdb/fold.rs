//! Folding: long stretches of bytes made short without a change of their checksum, by carry-less
//! multiplication (PCLMULQDQ), ten times as fast as tables.
//!
//! A checksum is the remainder of the bytes, read as a polynomial over GF(2), by the checksum's own
//! polynomial. The remainder stays if a part of them is multiplied by a power of x that is its distance
//! to a later part, taken itself as a remainder, and added there. So four blocks of 16 bytes move along,
//! each added to the one 64 bytes further on; in the end they are added together, and one block is left
//! (V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction",
//! Intel, 2009).
//!
//! Polynomials are reflected: the highest bit is the coefficient of 1. The product of two such words as
//! the processor makes it is one bit too low, as if multiplied by x; the powers below make up for it.
#![allow(unsafe_code)]

/// Bytes of a block, and of the blocks that move along.
const BLOCK_BYTES: usize = 16;
const STRIDE_BYTES: usize = 4 * BLOCK_BYTES;
/// Shorter stretches are not worth it.
#[cfg(target_arch = "x86_64")]
const FOLDED_BYTES_MIN: usize = 2 * STRIDE_BYTES;

/// A block, and bytes behind it, that together have the checksum of `bytes` as it goes on from `sum`;
/// nothing if there are too few bytes or the processor cannot.
pub(super) fn fold(sum: u64, bytes: &[u8]) -> Option<([u8; BLOCK_BYTES], &[u8])> {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= FOLDED_BYTES_MIN && is_x86_feature_detected!("pclmulqdq") {
        let (strides, rest) = bytes.as_chunks::<STRIDE_BYTES>();
        // SAFETY: the processor has the instructions.
        return Some((unsafe { x86::fold(sum, strides) }, rest));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (sum, bytes);
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64,
        _mm_xor_si128,
    };

    use super::{BLOCK_BYTES, STRIDE_BYTES};

    const POLYNOMIAL: u64 = 0x95AC_9329_AC4B_C9B5;

    /// The remainder of x to the power `exponent`.
    const fn power(exponent: u32) -> u64 {
        let (mut power, mut done) = (1 << 63, 0);
        while done < exponent {
            power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            done += 1;
        }
        power
    }

    /// What the halves of a block are multiplied by to move it along by `bits`: the first half stands
    /// for coefficients that are 64 higher.
    const fn distance(bits: u32) -> [u64; 2] {
        [power(bits + 64 - 1), power(bits - 1)]
    }

    const ONE_BLOCK: [u64; 2] = distance(8 * BLOCK_BYTES as u32);
    const FOUR_BLOCKS: [u64; 2] = distance(8 * STRIDE_BYTES as u32);

    #[inline]
    #[target_feature(enable = "pclmulqdq,sse2")]
    fn load(block: &[u8; BLOCK_BYTES]) -> __m128i {
        let bits = u128::from_le_bytes(*block);
        _mm_set_epi64x((bits >> 64) as i64, bits as i64)
    }

    /// Moves `block` along and adds it to `to`.
    #[inline]
    #[target_feature(enable = "pclmulqdq,sse2")]
    fn advance(block: __m128i, by: __m128i, to: __m128i) -> __m128i {
        let first = _mm_clmulepi64_si128::<0x00>(block, by);
        let second = _mm_clmulepi64_si128::<0x11>(block, by);
        _mm_xor_si128(to, _mm_xor_si128(first, second))
    }

    /// One block with the checksum of all `strides`, of which there is one at least.
    #[target_feature(enable = "pclmulqdq,sse2")]
    pub(super) fn fold(sum: u64, strides: &[[u8; STRIDE_BYTES]]) -> [u8; BLOCK_BYTES] {
        let blocks = |stride: &[u8; STRIDE_BYTES]| {
            let (blocks, _) = stride.as_chunks::<BLOCK_BYTES>();
            [load(&blocks[0]), load(&blocks[1]), load(&blocks[2]), load(&blocks[3])]
        };
        let far = _mm_set_epi64x(FOUR_BLOCKS[1] as i64, FOUR_BLOCKS[0] as i64);
        let near = _mm_set_epi64x(ONE_BLOCK[1] as i64, ONE_BLOCK[0] as i64);
        let Some((first, others)) = strides.split_first() else { return [0; BLOCK_BYTES] };
        let mut moving = blocks(first);
        moving[0] = _mm_xor_si128(moving[0], _mm_set_epi64x(0, sum as i64));
        for stride in others {
            let next = blocks(stride);
            for (block, next) in moving.iter_mut().zip(next) {
                *block = advance(*block, far, next);
            }
        }
        let [a, b, c, d] = moving;
        let folded = advance(advance(advance(a, near, b), near, c), near, d);
        let low = _mm_cvtsi128_si64(folded) as u64;
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(folded, folded)) as u64;
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }
}
