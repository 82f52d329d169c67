//! Hashes against naive models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..300_u32).prop_map(|number| format!("field:{number}").into_bytes()),
        2 => (0..20_u32).prop_map(|number| number.to_string().into_bytes()),
        1 => (0..3_u8).prop_map(|byte| vec![byte; 500]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 300..700)]
}

proptest! {
    #[test]
    fn a_hash_matches_a_map(
        ops in vec((0..4_u8, field(), value()), 1..600),
        entries in prop_oneof![Just(16_usize), Just(512)],
    ) {
        let thresholds = Thresholds { hash_max_listpack_entries: entries, ..Thresholds::default() };
        let (mut hash, mut model) = (Hash::new(), BTreeMap::new());
        for (kind, field, value) in ops {
            if kind == 0 {
                prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
            } else {
                let is_new = hash.set(&field, &value, &thresholds);
                prop_assert_eq!(is_new, model.insert(field.clone(), value.clone()).is_none());
                prop_assert_eq!(hash.get(&field).map(|value| value.to_vec()), Some(value));
            }
            prop_assert_eq!(hash.len(), model.len());
        }
        let all: BTreeMap<_, _> =
            hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(&all, &model);
        let indexed: BTreeMap<_, _> = (0..hash.len())
            .filter_map(|index| hash.at(index))
            .map(|(field, value)| (field.to_vec(), value.to_vec()))
            .collect();
        prop_assert_eq!(&indexed, &model);
        prop_assert!(hash.at(hash.len()).is_none());
    }
}

#[test]
fn a_scan_sees_what_stays_while_others_come_and_go() {
    let thresholds = Thresholds::default();
    let mut hash = Hash::new();
    for number in 0..2000 {
        hash.set(format!("stays:{number}").as_bytes(), b"1", &thresholds);
    }
    let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), 0, 0);
    loop {
        cursor = hash.scan(cursor, 10, 0, |field, _| {
            seen.insert(field.to_vec());
        });
        for number in 0..20 {
            let name = format!("passes:{calls}:{number}");
            hash.set(name.as_bytes(), b"1", &thresholds);
            if calls % 2 == 0 {
                hash.remove(name.as_bytes());
            }
        }
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(calls > 100);
    let stayed = seen.iter().filter(|field| field.starts_with(b"stays")).count();
    assert_eq!(stayed, 2000);
}

#[test]
fn the_name_changes_for_good() {
    let thresholds = Thresholds::default();
    let mut hash = Hash::new();
    hash.set(b"f", &[b'v'; 64], &thresholds);
    assert_eq!(hash.encoding_name(), "listpack");
    hash.set(b"f", &[b'v'; 65], &thresholds);
    assert_eq!(hash.encoding_name(), "hashtable");
    hash.set(b"f", b"v", &thresholds);
    assert_eq!(hash.encoding_name(), "hashtable");
    let mut hash = Hash::new();
    for number in 0..513 {
        assert_eq!(hash.encoding_name(), "listpack");
        hash.set(format!("{number}").as_bytes(), b"some value", &thresholds);
    }
    assert_eq!(hash.encoding_name(), "hashtable");
}

fn contents(hash: &Hash) -> Vec<(Vec<u8>, Vec<u8>)> {
    hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

#[test]
fn long_values_stay_packed_and_in_order_where_the_threshold_is_raised() {
    let thresholds = Thresholds { hash_max_listpack_value: 1 << 30, ..Thresholds::default() };
    let mut hash = Hash::new();
    let mut expected = Vec::new();
    for (number, length) in [3, 8191, 1, 65_535, 31].into_iter().enumerate() {
        let pair = (format!("field:{number}").into_bytes(), vec![b'x'; length]);
        hash.set(&pair.0, &pair.1, &thresholds);
        expected.push(pair);
    }
    assert!(matches!(hash.repr, Repr::Small(_)));
    assert_eq!(hash.packed(), None, "it is too large for an entry");
    assert_eq!(contents(&hash), expected);
    hash.set(b"one more", &[b'x'; 60_000], &thresholds);
    assert!(matches!(hash.repr, Repr::Large(_)));
    assert_eq!((hash.len(), hash.encoding_name()), (6, "listpack"));
    let mut hash = Hash::new();
    for number in 0..=RAISED_FIELDS_MAX {
        assert!(matches!(hash.repr, Repr::Small(_)));
        hash.set(format!("field:{number}").as_bytes(), b"value", &thresholds);
    }
    assert!(matches!(hash.repr, Repr::Large(_)));
}

#[test]
fn a_small_hash_with_deadlines_is_one_listpack_in_the_order_of_setting() {
    let thresholds = Thresholds::default();
    let mut hash = Hash::new();
    for field in ["c", "a", "b"] {
        hash.set(field.as_bytes(), b"value", &thresholds);
    }
    hash.set_deadline(b"a", Some(1_900_000_000_000), &thresholds);
    hash.set(b"c", b"other", &thresholds);
    let fields: Vec<_> = hash.iter().map(|(field, _)| field.to_vec()).collect();
    assert_eq!(fields, [b"c", b"a", b"b"]);
    assert_eq!(hash.encoding_name(), "listpackex");
    assert!(hash.memory_bytes() < 100, "{} bytes", hash.memory_bytes());
}
