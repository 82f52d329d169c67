//! Redis's intset: `u32` bytes an integer (2, 4 or 8), `u32` integers, the integers ascending; all
//! little-endian.
#![forbid(unsafe_code)]

use super::{RdbError, int_le};

const HEADER_BYTES: usize = 8;
const MALFORMED: RdbError = RdbError::Corrupt("an intset is malformed");

/// The intset of these integers, which ascend, in the narrowest width.
pub(in super::super) fn build(ints: &[i64]) -> Vec<u8> {
    let fits = |width: usize| {
        let half = 1_i64 << (8 * width - 1);
        ints.first().is_none_or(|&least| least >= -half)
            && ints.last().is_none_or(|&most| most < half)
    };
    let width = [2, 4].into_iter().find(|&width| fits(width)).unwrap_or(8);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + width * ints.len());
    bytes.extend_from_slice(&(width as u32).to_le_bytes());
    bytes.extend_from_slice(&(ints.len() as u32).to_le_bytes());
    ints.iter().for_each(|int| bytes.extend_from_slice(&int.to_le_bytes()[..width]));
    bytes
}

/// The integers of the intset that `bytes` are.
pub(in super::super) fn read(
    bytes: &[u8],
) -> Result<impl ExactSizeIterator<Item = i64> + Clone + '_, RdbError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(MALFORMED)?;
    let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if ![2, 4, 8].contains(&width) || count == 0 || count.checked_mul(width) != Some(body.len()) {
        return Err(MALFORMED);
    }
    let ints = body.chunks_exact(width).map(int_le);
    if ints.clone().is_sorted_by(|a, b| a < b) { Ok(ints) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_is_read_back() {
        let sets: [&[i64]; 5] = [
            &[1],
            &[-32_768, 0, 32_767],
            &[0, 32_768],
            &[-2_147_483_649, 5],
            &[i64::MIN, i64::MAX],
        ];
        for (set, width) in sets.into_iter().zip([2, 2, 4, 8, 8]) {
            let bytes = build(set);
            assert_eq!(bytes.len(), HEADER_BYTES + width * set.len());
            let back: Vec<i64> = read(&bytes).expect("it is well-formed").collect();
            assert_eq!(back, set);
        }
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        for set in [&[][..], &[2, 1], &[1, 1]] {
            assert!(read(&build(set)).is_err(), "{set:?}");
        }
        let good = build(&[1, 2, 3]);
        for (at, byte) in [(0, 3), (0, 4), (4, 4), (4, 2), (7, 0xFF)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read(&bad).is_err());
        }
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err());
        }
    }
}
