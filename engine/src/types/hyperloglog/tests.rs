//! Both encodings against registers that stand one by one.

use proptest::{collection::vec, prelude::*};

use super::*;

const SPARSE_MAX: usize = 3000;

fn registers(sketch: &[u8]) -> Registers {
    let mut registers = [0; REGISTERS];
    merge(&mut registers, sketch).expect("a sketch");
    registers
}

fn observation() -> impl Strategy<Value = Observation> {
    // Few registers, so that runs meet, and all of them.
    let index = prop_oneof![0..24_usize, 0..REGISTERS, REGISTERS - 3..REGISTERS];
    let rank = prop_oneof![20 => 1..4_u8, 4 => 1..=32_u8, 1 => 33..=51_u8];
    (index, rank).prop_map(|(index, rank)| Observation { index, rank })
}

proptest! {
    #[test]
    fn both_encodings_match_plain_registers(
        seen in vec(observation(), 1..1_500),
        bytes_max in prop_oneof![Just(0), Just(100), Just(SPARSE_MAX), Just(20_000)],
    ) {
        let mut sketch = new();
        let mut dense = to_dense(&sketch).expect("a sketch");
        let mut model = [0; REGISTERS];
        for seen in seen {
            let raises = seen.rank > model[seen.index];
            model[seen.index] = model[seen.index].max(seen.rank);
            prop_assert_eq!(observe(&mut sketch, seen, bytes_max), Ok(raises));
            prop_assert_eq!(observe(&mut dense, seen, bytes_max), Ok(raises));
            if Encoding::of(&sketch) == Some(Encoding::Sparse) {
                prop_assert!(sketch.len() <= bytes_max.max(HEADER_BYTES + 2));
            }
        }
        prop_assert!(registers(&sketch) == model);
        prop_assert!(registers(&dense) == model);
        prop_assert_eq!(&to_dense(&sketch), &Ok(dense.clone()));
        prop_assert_eq!(estimate(&sketch), estimate(&dense));
        prop_assert_eq!(estimate(&dense), Ok(estimate_registers(&model)));
    }

    #[test]
    fn runs_are_as_few_as_their_lengths_allow_where_they_changed(
        seen in vec((0..12_usize, 1..3_u8), 1..60)
    ) {
        let mut sketch = new();
        for (index, rank) in seen {
            observe(&mut sketch, Observation { index, rank }, SPARSE_MAX).expect("a sketch");
        }
        let covered: usize = sparse::runs(&sketch).map(|run| run.len).sum();
        prop_assert_eq!(covered, REGISTERS);
    }

    #[test]
    fn any_bytes_give_an_error_at_most(
        head in prop_oneof![Just(1_u8), Just(0), any::<u8>()],
        runs in vec(any::<u8>(), 0..300),
        seen in observation(),
    ) {
        let mut sketch = new();
        sketch[4] = head;
        sketch.truncate(HEADER_BYTES);
        sketch.extend_from_slice(&runs);
        let covered = sparse::runs(&sketch).map(|run| run.len).sum::<usize>() == REGISTERS;
        let is_sparse = Encoding::of(&sketch) == Some(Encoding::Sparse);
        prop_assert_eq!(estimate(&sketch).is_ok(), is_sparse && covered);
        prop_assert_eq!(to_dense(&sketch).is_ok(), is_sparse && covered);
        let before = sketch.clone();
        if observe(&mut sketch, seen, SPARSE_MAX).is_err() {
            prop_assert_eq!(sketch, before);
        }
    }
}

#[test]
fn estimates_are_close_at_every_size() {
    let mut sketch = new();
    let mut next = 1;
    for number in 1..=200_000_u64 {
        observe(&mut sketch, Observation::of(&number.to_le_bytes()), SPARSE_MAX).expect("a sketch");
        if number == next {
            let estimate = estimate(&sketch).expect("a sketch");
            let allowed = (number as f64 * 6.0 * 1.04 / (REGISTERS as f64).sqrt()).ceil() as u64;
            assert!(estimate.abs_diff(number) <= allowed, "{estimate} for {number}");
            next *= 3;
        }
    }
    assert_eq!(Encoding::of(&sketch), Some(Encoding::Dense));
}

#[test]
fn extreme_registers_are_estimated() {
    assert_eq!(estimate(&new()), Ok(0));
    let mut dense = to_dense(&new()).expect("a sketch");
    dense[HEADER_BYTES..].fill(0xFF);
    assert_eq!(estimate(&dense), Ok(1 << 63));
}

#[test]
fn the_cached_estimate_goes_out_of_date() {
    let mut sketch = new();
    assert_eq!(cached(&sketch), Some(0));
    set_cached(&mut sketch, 1234);
    assert_eq!(cached(&sketch), Some(1234));
    invalidate(&mut sketch);
    assert_eq!(cached(&sketch), None);
}

#[test]
fn elements_fall_where_redis_has_them() {
    // As `PFDEBUG DECODE` of redis-server 7.0 shows sketches of one element.
    for (element, index, rank) in [
        (&b""[..], 5_938, 2),
        (b"a", 12_711, 2),
        (b"hello", 9_216, 1),
        (b"exactly8", 75, 4),
        (b"a longer text than one word", 6_387, 2),
    ] {
        assert_eq!(Observation::of(element), Observation { index, rank });
    }
}
