//! Hashes whose fields have deadlines against a naive model: a map.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use crate::types::{Hash, Thresholds};

#[derive(Clone, Debug)]
enum Op {
    Set,
    SetKeeping,
    Remove,
    Date(i64),
    Persist,
    ExpireOne(i64),
    Capture,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Set),
        1 => Just(Op::SetKeeping),
        2 => Just(Op::Remove),
        4 => (1..40_i64).prop_map(Op::Date),
        1 => Just(Op::Persist),
        2 => (0..45_i64).prop_map(Op::ExpireOne),
        1 => Just(Op::Capture),
    ]
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn contents(hash: &Hash) -> Model {
    hash.iter_timed(0)
        .map(|(field, value, deadline)| (field.to_vec(), (value.to_vec(), deadline)))
        .collect()
}

/// The field of the earliest deadline that has passed, the least of those.
fn earliest(model: &Model, now_ms: i64) -> Option<Vec<u8>> {
    let dated = model.iter().filter_map(|(field, (_, deadline))| Some(((*deadline)?, field)));
    dated.min().filter(|(deadline, _)| *deadline <= now_ms).map(|(_, field)| field.clone())
}

proptest! {
    #[test]
    fn a_hash_with_deadlines_matches_a_map(
        ops in vec((op(), 0..60_u32, 0..1000_u32), 1..400),
        // Few fields stay packed, many become trees.
        fields in prop_oneof![Just(8_u32), Just(60)],
    ) {
        let thresholds = Thresholds::default();
        let (mut hash, mut model) = (Hash::new(), Model::new());
        let mut captured = Vec::new();
        for (op, field, value) in ops {
            let field = field % fields;
            let length = if field % 13 == 12 { 500 } else { 3 };
            let field = format!("field:{field:length$}").into_bytes();
            let value = value.to_string().into_bytes();
            let before = model.get(&field).cloned();
            match op {
                Op::Set => {
                    prop_assert_eq!(hash.set(&field, &value, &thresholds), before.is_none());
                    model.insert(field, (value, None));
                }
                Op::SetKeeping => {
                    hash.set_keeping_deadline(&field, &value, &thresholds);
                    model.insert(field, (value, before.and_then(|(_, deadline)| deadline)));
                }
                Op::Remove => {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                }
                Op::Date(at) => {
                    let there = hash.set_deadline(&field, Some(at), &thresholds);
                    prop_assert_eq!(there, before.is_some());
                    model.entry(field).and_modify(|(_, deadline)| *deadline = Some(at));
                }
                Op::Persist => {
                    prop_assert_eq!(hash.set_deadline(&field, None, &thresholds), before.is_some());
                    model.entry(field).and_modify(|(_, deadline)| *deadline = None);
                }
                Op::ExpireOne(now_ms) => {
                    let expired = hash.expired_field(now_ms);
                    prop_assert_eq!(&expired, &earliest(&model, now_ms));
                    if let Some(field) = expired {
                        prop_assert!(hash.remove_expired(&field, now_ms));
                        model.remove(&field);
                    }
                }
                Op::Capture => captured.push((hash.clone(), model.clone())),
            }
            let first = model.values().filter_map(|(_, deadline)| *deadline).min();
            prop_assert_eq!(hash.earliest_deadline(), first);
        }
        prop_assert_eq!(contents(&hash), model.clone());
        for now_ms in [0, 10, 20, 50] {
            let live: BTreeMap<_, _> = hash
                .iter_live(now_ms)
                .map(|(field, value)| (field.to_vec(), value.to_vec()))
                .collect();
            let expected: BTreeMap<_, _> = model
                .iter()
                .filter(|(_, (_, deadline))| deadline.is_none_or(|at| at > now_ms))
                .map(|(field, (value, _))| (field.clone(), value.clone()))
                .collect();
            prop_assert_eq!(hash.live_len(now_ms), expected.len());
            prop_assert_eq!(hash.has_expired(now_ms), expected.is_empty() && !model.is_empty());
            for field in model.keys() {
                let value = hash.get_live(field, now_ms).map(|value| value.to_vec());
                prop_assert_eq!(value.as_ref(), expected.get(field));
            }
            prop_assert_eq!(live, expected);
        }
        for (hash, model) in captured {
            prop_assert_eq!(contents(&hash), model);
        }
    }
}
