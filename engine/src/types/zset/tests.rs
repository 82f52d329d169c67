//! Sorted sets against a naive model: a vector sorted by score and member.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

type Model = Vec<(Vec<u8>, f64)>;

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => (0..400_u32).prop_map(|number| format!("m:{number}").into_bytes()),
        5 => (-50..50_i32).prop_map(|number| number.to_string().into_bytes()),
        1 => (0..3_u8).prop_map(|byte| vec![byte; 600]),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-3..4_i32).prop_map(f64::from),
        2 => -1e6..1e6_f64,
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(9.3e18)],
    ]
}

fn sort(model: &mut Model) {
    model.sort_by(|a, b| a.1.partial_cmp(&b.1).expect("no NaN").then_with(|| a.0.cmp(&b.0)));
}

fn set_model(model: &mut Model, member: &[u8], score: f64) -> Change {
    let change = match model.iter_mut().find(|(name, _)| name == member) {
        Some((_, old)) if *old == score => Change::Unchanged,
        Some((_, old)) => {
            *old = score;
            Change::Moved
        }
        None => {
            model.push((member.to_vec(), score));
            Change::Added
        }
    };
    sort(model);
    change
}

fn contents<'a>(pairs: impl Iterator<Item = (Element<'a>, f64)>) -> Model {
    pairs.map(|(member, score)| (member.to_vec(), score)).collect()
}

proptest! {
    #[test]
    fn a_zset_matches_a_sorted_vector(
        ops in vec((0..12_u8, member(), score(), any::<prop::sample::Index>()), 1..500)
    ) {
        let thresholds = Thresholds::default();
        let (mut zset, mut model) = (Zset::new(), Model::new());
        let mut captured = None;
        for (kind, member, score, index) in ops {
            match kind {
                0 | 1 => {
                    let at = model.iter().position(|(name, _)| *name == member);
                    prop_assert_eq!(zset.rank(&member).map(|(rank, _)| rank), at);
                    prop_assert_eq!(zset.remove(&member), at.map(|at| model.remove(at).1));
                }
                2 if !model.is_empty() => {
                    let at = index.index(model.len());
                    let popped = zset.pop_at(at, |member, score| (member.to_vec(), score));
                    prop_assert_eq!(popped, Some(model.remove(at)));
                }
                3 => {
                    let from = index.index(model.len() + 1);
                    let to = (from + 3).min(model.len());
                    drop(zset.remove_range(from, to));
                    model.drain(from..to);
                }
                4 => captured = Some((zset.clone(), model.clone())),
                _ => {
                    prop_assert_eq!(zset.set(&member, score, &thresholds), set_model(&mut model, &member, score));
                    prop_assert_eq!(zset.score(&member), Some(score));
                }
            }
            prop_assert_eq!(zset.len(), model.len());
            let below = model.iter().filter(|(_, other)| *other < score).count();
            prop_assert_eq!(zset.count_below(|other, _| other < score), below);
        }
        prop_assert_eq!(contents(zset.iter_from(0)), model.clone());
        let mut back = contents(zset.iter_back_from(model.len()));
        back.reverse();
        prop_assert_eq!(&back, &model);
        for (rank, (member, score)) in model.iter().enumerate() {
            prop_assert_eq!(zset.rank(member), Some((rank, *score)));
            prop_assert_eq!(zset.at(rank).map(|(m, s)| (m.to_vec(), s)), Some((member.clone(), *score)));
        }
        if let Some((zset, model)) = captured {
            prop_assert_eq!(contents(zset.iter_from(0)), model);
        }
    }
}

#[test]
fn a_scan_sees_members_whose_scores_change() {
    let thresholds = Thresholds::default();
    let mut zset = Zset::new();
    for number in 0..1000 {
        zset.set(format!("m{number}").as_bytes(), f64::from(number), &thresholds);
    }
    let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), 0, 0);
    loop {
        cursor = zset.scan(cursor, 10, |member, _| {
            seen.insert(member.to_vec());
        });
        for number in 0..1000 {
            zset.set(
                format!("m{number}").as_bytes(),
                f64::from((number * 7 + calls) % 1000),
                &thresholds,
            );
        }
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
}

#[test]
fn the_name_changes_for_good() {
    let thresholds = Thresholds::default();
    let mut zset = Zset::new();
    for number in 0..128 {
        zset.set(format!("member {number}").as_bytes(), 0.5, &thresholds);
    }
    assert_eq!(zset.encoding_name(), "listpack");
    zset.set(b"one more", 1.0, &thresholds);
    assert_eq!(zset.encoding_name(), "skiplist");
    zset.remove(b"one more");
    assert_eq!(zset.encoding_name(), "skiplist");
    let mut zset = Zset::new();
    zset.expect(1, 65, &thresholds);
    assert_eq!(zset.encoding_name(), "skiplist");
}

#[test]
fn twenty_members_of_twelve_bytes_stay_small() {
    let thresholds = Thresholds::default();
    let mut zset = Zset::new();
    for number in 0..20 {
        zset.set(format!("member:{number:05}").as_bytes(), f64::from(number * 1000), &thresholds);
    }
    assert!(zset.memory_bytes() <= 2 + 20 * (13 + 3), "{}", zset.memory_bytes());
}
