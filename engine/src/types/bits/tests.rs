//! Words and vectors against single bits.

use proptest::{collection::vec, prelude::*};

use super::*;

/// The bits one by one.
fn bits(bytes: &[u8]) -> Vec<bool> {
    (0..bytes.len() as u64 * BYTE).map(|at| get(bytes, at)).collect()
}

/// Bitmaps with long runs, as they are in practice.
fn bitmap() -> impl Strategy<Value = Vec<u8>> {
    let run = (prop_oneof![Just(0), Just(0xFF), any::<u8>()], 0..90_usize);
    vec(run, 0..8).prop_map(|runs| {
        runs.into_iter().flat_map(|(byte, len)| std::iter::repeat_n(byte, len)).collect()
    })
}

/// What a combination does to the bits at one place.
fn combine_bits(combination: Combination, column: &[bool]) -> bool {
    let ones = column.iter().filter(|&&bit| bit).count();
    let (first, any) = (column[0], column[1..].contains(&true));
    match combination {
        Combination::And => ones == column.len(),
        Combination::Or => ones > 0,
        Combination::Xor => ones % 2 == 1,
        Combination::Not => !first,
        Combination::Diff => first && !any,
        Combination::Diff1 => !first && any,
        Combination::AndOr => first && any,
        Combination::One => ones == 1,
    }
}

/// Whether an integer is one of the type.
fn fits(field: FieldType, value: i128) -> bool {
    if field.signed {
        (-(1_i128 << (field.bits - 1))..1_i128 << (field.bits - 1)).contains(&value)
    } else {
        (0..1_i128 << field.bits).contains(&value)
    }
}

fn field_type() -> impl Strategy<Value = FieldType> {
    (any::<bool>(), 1..=64_i64)
        .prop_filter_map("u64", |(signed, bits)| FieldType::new(signed, bits))
}

proptest! {
    #[test]
    fn counting_and_searching_match_the_bits(
        bytes in bitmap(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        bit: bool,
    ) {
        let all = bits(&bytes);
        let ones = |bits: &[bool]| bits.iter().filter(|&&bit| bit).count() as u64;
        prop_assert_eq!(count(&bytes), ones(&all));
        let (a, b) = (from.index(all.len() + 1), to.index(all.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        let range = start as u64..end as u64;
        prop_assert_eq!(count_within(&bytes, range.clone()), ones(&all[start..end]));
        let first = all[start..end].iter().position(|&other| other == bit);
        prop_assert_eq!(find(&bytes, range, bit), first.map(|at| (start + at) as u64));
    }

    #[test]
    fn combining_matches_the_bits(sources in vec(bitmap(), 1..5)) {
        let len = sources.iter().map(Vec::len).max().unwrap_or(0);
        for combination in [
            Combination::And, Combination::Or, Combination::Xor, Combination::Not,
            Combination::Diff, Combination::Diff1, Combination::AndOr, Combination::One,
        ] {
            let sources = if combination == Combination::Not { &sources[..1] } else { &sources };
            let result = combination.of(sources);
            let len = if combination == Combination::Not { sources[0].len() } else { len };
            prop_assert_eq!(result.len(), len);
            for at in 0..len as u64 * BYTE {
                let column: Vec<bool> = sources.iter().map(|source| get(source, at)).collect();
                prop_assert_eq!(get(&result, at), combine_bits(combination, &column));
            }
        }
    }

    #[test]
    fn a_field_changes_its_own_bits_alone(
        field in field_type(),
        mut bytes in vec(any::<u8>(), 10..30),
        at in 0..80_u64,
        value: i64,
    ) {
        let offset = at.min(bytes.len() as u64 * BYTE - field.bits());
        let before = bits(&bytes);
        let value = field.truncate(value);
        field.set(&mut bytes, offset, value);
        prop_assert_eq!(field.get(&bytes, offset), value);
        let written = (0..field.bits()).map(|bit| value >> (field.bits() - 1 - bit) & 1 == 1);
        let mut expected = before;
        expected.splice(offset as usize..(offset + field.bits()) as usize, written);
        prop_assert_eq!(bits(&bytes), expected);
    }

    #[test]
    fn sums_are_exact_or_go_by_the_overflow(field in field_type(), value: i64, increment: i64) {
        let value = field.truncate(value);
        let exact = i128::from(value) + i128::from(increment);
        if fits(field, exact) {
            for overflow in [Overflow::Wrap, Overflow::Saturate, Overflow::Fail] {
                prop_assert_eq!(field.sum(value, increment, overflow).map(i128::from), Some(exact));
            }
        } else {
            prop_assert_eq!(field.sum(value, increment, Overflow::Fail), None);
            let wrapped = field.sum(value, increment, Overflow::Wrap).map(i128::from);
            prop_assert!(wrapped.is_some_and(|sum| fits(field, sum)));
            prop_assert_eq!(wrapped.map(|sum| (sum - exact) % (1_i128 << field.bits)), Some(0));
            let nearest = field.sum(value, increment, Overflow::Saturate).map(i128::from);
            let beyond = nearest.map(|limit| limit + (exact - limit).signum());
            prop_assert!(nearest.is_some_and(|limit| fits(field, limit)));
            prop_assert!(beyond.is_some_and(|beyond| !fits(field, beyond)));
        }
    }
}

#[test]
fn bits_beyond_the_end_are_zeros() {
    assert!(!get(b"", 0));
    assert!(!get(b"\xff", 8));
    assert!(!get(b"\xff", u64::MAX));
    let field = FieldType::new(true, 8).expect("a type");
    assert_eq!(field.get(b"\xff", 4), -16);
    assert_eq!(field.get(b"\xff", u64::MAX), 0);
    assert_eq!(find(b"\xff", 0..8, false), None);
}

#[test]
fn a_long_bitmap_is_counted_whole() {
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let naive: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
    assert_eq!(count(&bytes), naive);
}

#[test]
fn types_have_1_to_64_bits() {
    assert!(FieldType::new(true, 64).is_some() && FieldType::new(false, 63).is_some());
    assert!(FieldType::new(false, 64).is_none() && FieldType::new(true, 65).is_none());
    assert!(FieldType::new(true, 0).is_none() && FieldType::new(true, -1).is_none());
}
