//! Finds a command's row by the name that a client sent, in any case.
//!
//! Every request passes here, so a name of up to 16 bytes, which is nearly every one, becomes two
//! words without a loop or a call, is brought to lower case as such, and is looked up by open
//! addressing. Longer names go through a hash map.
//!
//! Invariant: two names are equal as folded names if and only if they are equal but for case.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::table::Command;

/// The rows by name.
pub(super) struct NameIndex {
    slots: Vec<NameSlot>,
    long: HashMap<Vec<u8>, u16>,
}

#[derive(Clone, Copy)]
struct NameSlot {
    name: FoldedName,
    row: u16,
}

/// A name of 1 to 16 bytes in lower case. Its first and its last bytes overlap if it is short; with
/// the length they say the whole name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FoldedName {
    first: u64,
    last: u64,
    len: usize,
}

/// A few times the number of commands, so that most are found in the first slot they may be in.
const NAME_SLOTS: usize = 1_024;
/// No command's name is longer, in bytes.
const LONG_NAME_BYTES_MAX: usize = 64;
const NO_ROW: u16 = u16::MAX;

impl NameIndex {
    /// The index of the top-level rows.
    pub(super) fn build(commands: &[Command]) -> Self {
        let vacant = NameSlot { name: FoldedName { first: 0, last: 0, len: 0 }, row: NO_ROW };
        let mut index = Self { slots: vec![vacant; NAME_SLOTS], long: HashMap::new() };
        for (row, command) in commands.iter().enumerate() {
            let name = command.name.as_bytes();
            match FoldedName::of(name) {
                Some(name) => {
                    let mut at = name.slot();
                    while index.slots[at].row != NO_ROW {
                        at = (at + 1) % NAME_SLOTS;
                    }
                    index.slots[at] = NameSlot { name, row: row as u16 };
                }
                None => {
                    index.long.insert(name.to_vec(), row as u16);
                }
            }
        }
        index
    }

    /// The row called `name`, in any case.
    #[inline]
    pub(super) fn find<'t>(&self, name: &[u8], commands: &'t [Command]) -> Option<&'t Command> {
        let Some(name) = FoldedName::of(name) else {
            // No copy of what a client made up to be huge.
            if name.len() > LONG_NAME_BYTES_MAX {
                return None;
            }
            let row = self.long.get(&name.to_ascii_lowercase())?;
            return Some(&commands[usize::from(*row)]);
        };
        let mut at = name.slot();
        loop {
            let known = self.slots[at];
            if known.row == NO_ROW {
                return None;
            }
            if known.name == name {
                return Some(&commands[usize::from(known.row)]);
            }
            at = (at + 1) % NAME_SLOTS;
        }
    }
}

impl FoldedName {
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        let len = name.len();
        let (first, last) = match len {
            9..=16 => (
                u64::from_le_bytes(*name.first_chunk()?),
                lower_case(u64::from_le_bytes(*name.last_chunk()?)),
            ),
            8 => (u64::from_le_bytes(*name.first_chunk()?), 0),
            4..=7 => {
                let first = u32::from_le_bytes(*name.first_chunk()?);
                let last = u32::from_le_bytes(*name.last_chunk()?);
                (u64::from(first) | u64::from(last) << 32, 0)
            }
            1..=3 => {
                let bytes = [name[0], name[len / 2], name[len - 1], 0];
                (u64::from(u32::from_le_bytes(bytes)), 0)
            }
            _ => return None,
        };
        Some(Self { first: lower_case(first), last, len })
    }

    #[inline]
    fn slot(self) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(23) ^ self.len as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 48) as usize % NAME_SLOTS
    }
}

/// The eight bytes of `word` with A to Z made a to z.
#[inline]
fn lower_case(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOP_BITS: u64 = ONES << 7;
    let low_bits = word & !TOP_BITS;
    // In each byte the top bit tells: at least `A`, more than `Z`.
    let at_least_a = low_bits + ONES * u64::from(0x80 - b'A');
    let above_z = low_bits + ONES * u64::from(0x7F - b'Z');
    let is_upper = (at_least_a ^ above_z) & !word & TOP_BITS;
    word | is_upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_cased_as_bytes_are() {
        for byte in 0..=u8::MAX {
            let bytes = [byte, b'A', byte, b'Z', 0x80, byte, b'@', byte];
            let lower = lower_case(u64::from_le_bytes(bytes)).to_le_bytes();
            assert_eq!(lower, *bytes.to_ascii_lowercase());
        }
    }
}
