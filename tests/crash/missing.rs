//! A server that leaves out one of its syncs is objected to: each of them is needed, and its absence
//! is noticed.
//!
//! One sync has no test here: that of the directory in which what was moved in from redis-server gets
//! its new name (`aside-directory`). The same directory is synced again, when the log's own directory
//! is made in it, before anything is acknowledged.

use super::world::{Beside, End, Life, Promise, World};
use crate::harness::ServerKind;

/// How often a fault gets its chance: the dice may be kind for a while.
const TRIES: u64 = 60;

/// Whether something is objected to in these lives, or in the start after them.
fn objects(promise: Promise, seed: u64, lives: &[Life]) -> bool {
    let mut world = World::new(promise, seed);
    let outcome = lives.iter().try_for_each(|life| world.live(life));
    let outcome = outcome.and_then(|()| world.conclude(lives[0].shards));
    if let Err(objection) = &outcome {
        eprintln!("seed {seed}: {objection}");
    }
    outcome.is_err()
}

/// Asserts that the fault is noticed before long.
#[track_caller]
fn assert_noticed(promise: Promise, life: Life) {
    assert_noticed_in(promise, &[life]);
}

/// The same for several lives.
#[track_caller]
fn assert_noticed_in(promise: Promise, lives: &[Life]) {
    if !ServerKind::under_test().is_tessera() {
        return;
    }
    assert!((0..TRIES).any(|seed| objects(promise, seed, lives)), "nobody has noticed: {lives:?}");
    // The same without the fault is in order.
    let sound: Vec<_> = lives.iter().map(|life| Life { fault: "", ..life.clone() }).collect();
    assert!(!(0..3).any(|seed| objects(promise, seed, &sound)), "objected to: {sound:?}");
}

fn life(fault: &'static str, end: End) -> Life {
    Life { shards: 2, beside: Beside::Nothing, settles: false, fault, end, is_cut: true }
}

#[test]
fn of_groups_under_always() {
    assert_noticed(Promise::Always, life("skip-sync:group", End::Kill { steps: 20 }));
}

#[test]
fn of_groups_under_everysec() {
    let settled = Life { settles: true, ..life("skip-sync:group", End::Kill { steps: 45 }) };
    assert_noticed(Promise::EverySecond, settled);
}

#[test]
fn of_a_segment() {
    assert_noticed(Promise::Always, life("skip-sync:segment", End::Kill { steps: 20 }));
}

#[test]
fn of_a_segments_name() {
    assert_noticed(Promise::Always, life("skip-sync:segment-directory", End::Kill { steps: 20 }));
}

#[test]
fn of_the_logs_directory() {
    assert_noticed(Promise::Always, life("skip-sync:log-directory", End::Kill { steps: 20 }));
}

/// A server is killed, the next one finds in the system's cache what the first had not synced, and then
/// the power fails.
#[test]
fn of_what_is_recovered() {
    let killed = Life { is_cut: false, ..life("", End::Kill { steps: 20 }) };
    let lives = [killed, life("skip-sync:tail", End::Kill { steps: 0 })];
    assert_noticed_in(Promise::EverySecond, &lives);
}

#[test]
fn of_the_manifest() {
    assert_noticed(Promise::Always, life("skip-sync:manifest", End::Kill { steps: 20 }));
}

/// After the second rewrite the first base is gone, which the manifest before still names.
#[test]
fn of_the_manifests_name() {
    let rewritten = Life {
        beside: Beside::Rewrites,
        ..life("skip-sync:manifest-directory", End::KillAfter { rewrites: 2 })
    };
    assert_noticed(Promise::Always, rewritten);
}

#[test]
fn of_a_base() {
    let rewritten =
        Life { beside: Beside::Rewrites, ..life("skip-sync:base", End::KillAfter { rewrites: 1 }) };
    assert_noticed(Promise::Always, rewritten);
}

/// The manifest may have its new name when the base that it tells of has not: between its renaming and
/// the next sync of the directory. The first manifest is that of the start.
#[test]
fn of_a_bases_name() {
    let rewritten = Life {
        beside: Beside::Rewrites,
        ..life("skip-sync:base-directory", End::AtSync("manifest-directory:2".into()))
    };
    assert_noticed(Promise::Always, rewritten);
}

#[test]
fn of_a_dump() {
    let saved =
        Life { beside: Beside::Saves, ..life("skip-sync:dump", End::KillAfter { rewrites: 1 }) };
    assert_noticed(Promise::Saved, saved);
}

#[test]
fn of_a_dumps_name() {
    let saved = Life {
        beside: Beside::Saves,
        ..life("skip-sync:dump-directory", End::KillAfter { rewrites: 3 })
    };
    assert_noticed(Promise::Saved, saved);
}
