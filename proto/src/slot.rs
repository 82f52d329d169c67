//! Key hash slots: CRC16 of the key, or of its tag between the first `{` and the next `}`, modulo
//! 16384, as the cluster specification fixes it.
//!
//! The CRC is CRC-16/XMODEM (polynomial 0x1021, from zero, not reflected). Every request pays for it,
//! so eight bytes are folded at a time through eight tables (4 KiB, made by the compiler): the tables
//! are looked up independently of each other, where a byte at a time would wait for each look-up.

use memchr::memchr;

/// Number of slots.
pub const SLOT_COUNT: u16 = 16384;

const POLYNOMIAL: u16 = 0x1021;

/// `TABLES[n][byte]` is the CRC of `byte` followed by `n` zero bytes.
static TABLES: [[u16; 256]; 8] = tables();

/// The slot of a key.
#[inline]
#[must_use]
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hashed_part(key)) % SLOT_COUNT
}

/// The part of a key that decides its slot: the tag when there is one that is not empty.
#[inline]
#[must_use]
pub fn hashed_part(key: &[u8]) -> &[u8] {
    match memchr(b'{', key) {
        None => key,
        Some(open) => tag_behind(key, open).unwrap_or(key),
    }
}

fn tag_behind(key: &[u8], open: usize) -> Option<&[u8]> {
    let behind = &key[open + 1..];
    let len = memchr(b'}', behind)?;
    (len > 0).then(|| &behind[..len])
}

/// CRC-16/XMODEM of some bytes.
#[inline]
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let crc = blocks.iter().fold(0, |crc, block| fold_block(crc, *block));
    rest.iter().fold(crc, |crc, byte| crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)])
}

#[inline]
fn fold_block(crc: u16, block: [u8; 8]) -> u16 {
    let [high, low] = crc.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = block.map(usize::from);
    TABLES[7][a ^ usize::from(high)]
        ^ TABLES[6][b ^ usize::from(low)]
        ^ TABLES[5][c]
        ^ TABLES[4][d]
        ^ TABLES[3][e]
        ^ TABLES[2][f]
        ^ TABLES[1][g]
        ^ TABLES[0][h]
}

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut table = 0;
        while table < 8 {
            crc = shift_byte(crc);
            tables[table][byte] = crc;
            table += 1;
        }
        byte += 1;
    }
    tables
}

/// The remainder after a zero byte more.
const fn shift_byte(mut crc: u16) -> u16 {
    let mut bit = 0;
    while bit < 8 {
        crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ POLYNOMIAL };
        bit += 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as the polynomial says.
    fn naive_crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| shift_byte(crc ^ u16::from(*byte) << 8))
    }

    #[test]
    fn the_check_value_of_the_specification_holds() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn slots_are_those_that_clusters_use() {
        for (key, slot) in [(&b"foo"[..], 12182), (b"bar", 5061), (b"hello", 866), (b"", 0)] {
            assert_eq!(key_slot(key), slot);
        }
    }

    #[test]
    fn only_the_first_tag_counts_and_only_if_not_empty() {
        for (key, part) in [
            (&b"{user1000}.following"[..], &b"user1000"[..]),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"foo{bar", b"foo{bar"),
            (b"foo}bar{x}", b"x"),
            (b"}{", b"}{"),
        ] {
            assert_eq!(hashed_part(key), part);
        }
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"{user1000}.followers"));
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_definition(bytes: Vec<u8>) {
            prop_assert_eq!(crc16(&bytes), naive_crc16(&bytes));
        }
    }
}
