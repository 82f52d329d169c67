//! The keyspace with a simulated clock: deadlines, flushing, accounting.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};

use super::{Deadline, Keyspace, NewBody, expire::ExpireCycle};
use crate::{
    types::{Hash, List, Set, Thresholds, Zset, list::End},
    value::Object,
};

const START_US: i64 = 1_700_000_000_000_000;

fn keyspace() -> Keyspace {
    let mut keyspace = Keyspace::new(5, 4);
    keyspace.advance_clock_us(START_US);
    keyspace
}

fn set(keyspace: &mut Keyspace, key: u32, deadline: Deadline) {
    keyspace.slot(&key.to_le_bytes()).put(NewBody::Int(7), deadline);
}

/// Lets the cycle run for `ms` milliseconds of simulated time, called each of them.
fn run_cycle(keyspace: &mut Keyspace, cycle: &mut ExpireCycle, from_us: i64, ms: i64) {
    for step in 1..=ms {
        keyspace.advance_clock_us(from_us + step * 1_000);
        cycle.slice(keyspace, 1);
    }
}

#[test]
fn unread_keys_are_removed_in_the_background() {
    let mut keyspace = keyspace();
    let mut cycle = ExpireCycle::default();
    let soon = START_US / 1_000 + 500;
    for database in 0..4 {
        keyspace.select(database, false);
        (0..5_000).for_each(|key| set(&mut keyspace, key, Deadline::At(soon)));
        (5_000..6_000).for_each(|key| set(&mut keyspace, key, Deadline::Never));
    }
    run_cycle(&mut keyspace, &mut cycle, START_US, 499);
    assert_eq!((keyspace.len(0), keyspace.stats.expired), (6_000, 0));
    run_cycle(&mut keyspace, &mut cycle, START_US + 499_000, 500);
    for database in 0..4 {
        assert_eq!((keyspace.len(database), keyspace.volatile_len(database)), (1_000, 0));
    }
    assert_eq!(keyspace.stats.expired, 20_000);
    keyspace.check();
}

#[test]
fn one_call_does_a_bounded_amount_of_work() {
    let mut keyspace = keyspace();
    let mut cycle = ExpireCycle::default();
    let soon = START_US / 1_000 + 1;
    (0..20_000).for_each(|key| set(&mut keyspace, key, Deadline::At(soon)));
    keyspace.advance_clock_us(START_US + 1_000);
    cycle.slice(&mut keyspace, 1);
    let removed = 20_000 - keyspace.len(0);
    assert!((500..2_000).contains(&removed), "{removed}");
    cycle.slice(&mut keyspace, 1);
    assert_eq!(20_000 - keyspace.len(0), removed, "no second slice before it is due");
    assert_eq!(cycle.due_us(), START_US + 2_000);
}

#[test]
fn haste_ends_with_the_stale_keys() {
    let mut keyspace = keyspace();
    let mut cycle = ExpireCycle::default();
    let late = START_US / 1_000 + 1_000_000;
    (0..2_000).for_each(|key| set(&mut keyspace, key, Deadline::At(late)));
    cycle.slice(&mut keyspace, 1);
    assert_eq!(cycle.due_us(), START_US + 100_000);
    keyspace.flush(0);
    keyspace.advance_clock_us(START_US + 100_000);
    cycle.slice(&mut keyspace, 10);
    assert_eq!(cycle.due_us(), START_US + 100_000 + 28_000);
}

#[test]
fn flushed_memory_is_freed_in_slices() {
    let mut keyspace = keyspace();
    let empty = keyspace.used_bytes();
    (0..50_000).for_each(|key| set(&mut keyspace, key, Deadline::Never));
    let full = keyspace.used_bytes();
    assert!(full > empty + 50_000 * 24);
    assert_eq!(keyspace.flush(0), 50_000);
    assert_eq!((keyspace.len(0), keyspace.used_bytes()), (0, empty));
    let mut slices = 1;
    while keyspace.free_slice() {
        slices += 1;
    }
    assert!(slices > 1, "{slices}");
    assert!(!keyspace.free_slice());
}

/// Values of many members, one of each type that has nodes.
fn huge_values(members: u32) -> Vec<Object> {
    let thresholds = Thresholds::default();
    let (mut list, mut hash, mut zset) = (List::new(), Hash::new(), Zset::new());
    let mut dated = Hash::new();
    let mut set = Set::new(b"", 0, &thresholds);
    for number in 0..members {
        let member = format!("member:{number:080}").into_bytes();
        list.push(End::Back, &member, &thresholds);
        hash.set(&member, b"value", &thresholds);
        dated.set(&member, b"value", &thresholds);
        dated.set_deadline(&member, Some(1_900_000_000_000), &thresholds);
        zset.set(&member, f64::from(number), &thresholds);
        set.add(&member, &thresholds);
    }
    vec![
        Object::List(list),
        Object::Hash(hash),
        Object::Hash(dated),
        Object::Zset(zset),
        Object::Set(set),
    ]
}

#[test]
fn to_remove_a_huge_value_takes_one_step_and_its_memory_goes_in_slices() {
    const MEMBERS: u32 = 30_000;
    for object in huge_values(MEMBERS) {
        let mut keyspace = keyspace();
        let bytes = object.memory_bytes();
        keyspace.slot(b"huge").put(NewBody::Object(Box::new(object)), Deadline::Never);
        assert!(keyspace.remove(b"huge") && keyspace.has_garbage());
        let mut slices = 1;
        while keyspace.free_slice() {
            slices += 1;
        }
        // A slice frees 500 nodes of at most 4 KiB.
        assert!(slices > bytes / (500 * 4096), "{slices} slices for {bytes} bytes");
        assert!(slices > 1);
    }
}

#[test]
fn what_a_capture_for_a_reply_held_last_is_freed_in_slices_too() {
    let mut keyspace = keyspace();
    for object in huge_values(30_000) {
        let captured = object.clone();
        keyspace.slot(b"huge").put(NewBody::Object(Box::new(object)), Deadline::Never);
        assert!(keyspace.remove(b"huge"));
        while keyspace.free_slice() {}
        keyspace.deferred_free().leave(captured.into_garbage());
        assert!(keyspace.has_garbage());
        let mut slices = 1;
        while keyspace.free_slice() {
            slices += 1;
        }
        assert!(slices > 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn deadlines_match_a_plain_map(
        steps in vec((0..64_u32, 0..6_u8, 0..50_i64), 1..300),
    ) {
        let (mut keyspace, mut cycle) = (keyspace(), ExpireCycle::default());
        let mut model: HashMap<u32, Option<i64>> = HashMap::new();
        let mut now_us = START_US;
        for (key, action, ms) in steps {
            let now_ms = now_us / 1_000;
            let at = now_ms + ms;
            match action {
                0 => {
                    set(&mut keyspace, key, Deadline::At(at));
                    model.insert(key, Some(at));
                }
                1 => {
                    set(&mut keyspace, key, Deadline::Keep);
                    model.entry(key).or_insert(None);
                }
                2 => {
                    let removed = keyspace.remove(&key.to_le_bytes());
                    prop_assert_eq!(removed, model.remove(&key).is_some());
                }
                3 => {
                    let mut bytes = [0; 4];
                    bytes.copy_from_slice(&key.to_le_bytes());
                    keyspace.slot(&bytes).set_deadline(Some(at));
                    model.entry(key).and_modify(|deadline| *deadline = Some(at));
                }
                4 => keyspace.hold_expiry(!keyspace.holds_expiry()),
                _ => {
                    now_us += ms * 1_000;
                    keyspace.advance_clock_us(now_us);
                    if !keyspace.holds_expiry() {
                        cycle.slice(&mut keyspace, 5);
                    }
                }
            }
            let now_ms = now_us / 1_000;
            model.retain(|_, deadline| deadline.is_none_or(|deadline| deadline > now_ms));
            let found = keyspace.peek(&key.to_le_bytes()).map(|entry| entry.deadline());
            prop_assert_eq!(found, model.get(&key).copied());
        }
        let mut seen = 0;
        keyspace.for_each(|_| seen += 1);
        prop_assert_eq!(seen, model.len());
        keyspace.check();
    }
}
