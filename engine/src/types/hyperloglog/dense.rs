//! Registers of six bits each, packed from the least significant bit of the first byte on.
//!
//! The functions take the bytes behind the header, [`BYTES`] of them.
#![forbid(unsafe_code)]

use super::{Observation, REGISTERS};

const REGISTER_BITS: usize = 6;
const REGISTER_MASK: u16 = (1 << REGISTER_BITS) - 1;
/// Bytes of the registers.
pub const BYTES: usize = REGISTERS * REGISTER_BITS / 8;

/// The rank in register `index`.
pub fn get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = place(index);
    (pair(registers, byte) >> shift & REGISTER_MASK) as u8
}

/// Sets register `index` to `rank`, of which six bits count.
pub fn set(registers: &mut [u8], index: usize, rank: u8) {
    let (byte, shift) = place(index);
    let rank = u16::from(rank) & REGISTER_MASK;
    let changed = pair(registers, byte) & !(REGISTER_MASK << shift) | rank << shift;
    let [low, high] = changed.to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
}

/// Whether an observation would lift its register.
pub fn would_raise(registers: &[u8], seen: Observation) -> bool {
    get(registers, seen.index) < seen.rank
}

/// Lifts a register; whether it was lower.
pub fn raise(registers: &mut [u8], seen: Observation) -> bool {
    let raises = would_raise(registers, seen);
    if raises {
        set(registers, seen.index, seen.rank);
    }
    raises
}

/// All ranks in order: four registers are three bytes.
pub fn iter(registers: &[u8]) -> impl Iterator<Item = u8> {
    registers.chunks_exact(3).flat_map(|bytes| {
        [
            bytes[0] & 63,
            (bytes[0] >> 6 | bytes[1] << 2) & 63,
            (bytes[1] >> 4 | bytes[2] << 4) & 63,
            bytes[2] >> 2,
        ]
    })
}

/// The byte in which a register begins, and at which bit.
fn place(index: usize) -> (usize, usize) {
    (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8)
}

/// A byte and the next one. The last register lies in the last byte alone.
fn pair(registers: &[u8], byte: usize) -> u16 {
    u16::from_le_bytes([registers[byte], registers.get(byte + 1).copied().unwrap_or(0)])
}
