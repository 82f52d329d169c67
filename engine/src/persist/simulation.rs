//! Shards, rounds, epochs, logs, a disk and crashes, in one thread from one seed.
//!
//! What is real: shards, journals, epochs, log writers, the forms on disk, scanning and recovery.
//! What is played: mailboxes, rounds and clients, whose steps are drawn at random, and the disk (see
//! `sys::disk::simulated`).
//!
//! Clients write keys that nobody has written before, on any shard, sometimes several on several
//! shards in one unit, and look for keys that others have written. After the crash the shards that
//! come back are compared with what the clients know:
//!
//! - what a client has written before, or has seen before it wrote, is there if the later write is;
//! - of a unit there is all or nothing;
//! - with `always`, what a client was told, be it that it has written or that it has seen, is there;
//! - recovery never fails, but for damage to what was durable.
#![forbid(unsafe_code)]

mod clients;
mod world;

use std::panic::{RefUnwindSafe, catch_unwind};

use world::{Faulty, Outcome, World};

use super::log::SyncPolicy;
use crate::sys::{disk::simulated::Faults, random::Random};

/// Seeds of each test, unless `TESSERA_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 1_000;
/// Steps that a worker takes at most in one life. The lives of a seed have lengths of their own: short
/// ones crash in the midst of beginnings, long ones fill segments.
const STEPS_MAX: u64 = 600;

fn seeds() -> u64 {
    std::env::var("TESSERA_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Runs a world through some lives; answers what went wrong, and how much was at stake.
fn live(seed: u64, policy: SyncPolicy, faulty: Faulty, faults: Faults) -> Result<Outcome, String> {
    let mut world = World::new(seed, policy, faulty);
    for length in lengths(seed) {
        world.disk.set_faults(faults);
        world.run(length);
        world.disk.set_faults(Faults { lies: faults.lies, ..Faults::default() });
        world.crash_and_recover()?;
    }
    Ok(world.outcome)
}

/// The lengths of three lives.
fn lengths(seed: u64) -> [usize; 3] {
    let mut random = Random::from_seed(seed.rotate_left(7));
    [0; 3].map(|_| 1 + random.below(STEPS_MAX) as usize)
}

/// The same with a disk that now fails once in a while, now at every other operation, is now full and
/// now as good as new.
fn live_with_errors(seed: u64, policy: SyncPolicy, faulty: Faulty) -> Result<Outcome, String> {
    let mut world = World::new(seed, policy, faulty);
    let mut random = Random::from_seed(seed.rotate_left(21));
    for length in lengths(seed) {
        for _ in 0..4 {
            world.disk.set_faults(match random.below(4) {
                0 => Faults::default(),
                1 => Faults { error_in: 12, ..Faults::default() },
                2 => Faults { error_in: 2, ..Faults::default() },
                _ => Faults { full: true, ..Faults::default() },
            });
            world.run(length / 4);
        }
        world.disk.set_faults(Faults::default());
        world.crash_and_recover()?;
    }
    Ok(world.outcome)
}

fn total(policy: SyncPolicy) -> Outcome {
    total_of(|seed| live(seed, policy, Faulty::Not, Faults::default()))
}

fn total_of(live: impl Fn(u64) -> Result<Outcome, String>) -> Outcome {
    let mut total = Outcome::default();
    for seed in 0..seeds() {
        let outcome = live(seed);
        let outcome = outcome.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        total.add(&outcome);
    }
    total
}

#[test]
fn always_loses_nothing_that_anyone_was_told() {
    let total = total(SyncPolicy::Always);
    assert!(total.told > 20 * seeds() && total.units > seeds(), "little was tried: {total:?}");
    assert!(total.lost > 0, "no crash has ever cut anything off: {total:?}");
}

#[test]
fn everysec_loses_an_end_of_the_one_order() {
    let total = total(SyncPolicy::EverySecond);
    assert!(total.kept > seeds() && total.lost > seeds(), "little was tried: {total:?}");
}

#[test]
fn without_syncs_too_what_comes_back_was_once_true() {
    let total = total(SyncPolicy::Never);
    assert!(total.kept > seeds() && total.lost > seeds(), "little was tried: {total:?}");
}

#[test]
fn errors_of_the_device_lose_nothing_that_anyone_was_told() {
    for policy in [SyncPolicy::Always, SyncPolicy::EverySecond] {
        let total = total_of(|seed| live_with_errors(seed, policy, Faulty::Not));
        assert!(total.failures > seeds() / 2, "little has failed: {total:?}");
        let is_always = policy == SyncPolicy::Always;
        assert_eq!(total.spared > seeds(), is_always, "reads while a log fails: {total:?}");
    }
}

#[test]
fn appendfsync_may_change_at_any_time() {
    let mut total = Outcome::default();
    for seed in 0..seeds() {
        let mut world = World::new(seed, SyncPolicy::EverySecond, Faulty::Not);
        world.change_policy();
        for length in lengths(seed) {
            world.disk.set_faults(Faults { error_in: 25, ..Faults::default() });
            world.run(2 * length);
            world.disk.set_faults(Faults::default());
            world.crash_and_recover().unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        }
        total.add(&world.outcome);
    }
    assert!(total.told > 5 * seeds() && total.lost > seeds(), "little was tried: {total:?}");
}

/// Whether some seed objects to a fault.
fn is_found(policy: SyncPolicy, faulty: Faulty, faults: Faults) -> bool {
    is_found_by(|seed| live(seed, policy, faulty, faults))
}

fn is_found_by(live: impl Fn(u64) -> Result<Outcome, String> + RefUnwindSafe) -> bool {
    // An assertion that fails is an objection too.
    (0..seeds().max(SEEDS)).any(|seed| !matches!(catch_unwind(|| live(seed)), Ok(Ok(_))))
}

#[test]
fn a_missing_sync_is_noticed() {
    let lies = Faults { lies: true, ..Faults::default() };
    assert!(is_found(SyncPolicy::Always, Faulty::Not, lies));
}

#[test]
fn answers_that_do_not_wait_are_noticed() {
    assert!(is_found(SyncPolicy::Always, Faulty::AnswersAtOnce, Faults::default()));
}

#[test]
fn reads_that_leave_early_while_a_log_fails_are_noticed() {
    let early = |seed| live_with_errors(seed, SyncPolicy::Always, Faulty::ReadsLeaveEarly);
    assert!(is_found_by(early));
}

#[test]
fn rounds_that_overlap_with_those_of_the_epoch_before_are_noticed() {
    assert!(is_found(SyncPolicy::EverySecond, Faulty::OverlappingEpochs, Faults::default()));
}

#[test]
fn an_epoch_that_is_closed_too_early_is_noticed() {
    assert!(is_found(SyncPolicy::EverySecond, Faulty::ClosesEarly, Faults::default()));
}

#[test]
fn a_full_disk_stops_the_log_until_there_is_room_again() {
    for seed in 0..20 {
        let mut world = World::new(seed, SyncPolicy::Always, Faulty::Not);
        world.run(200);
        world.disk.set_faults(Faults { full: true, ..Faults::default() });
        world.run(300);
        assert!(world.is_failing(), "seed {seed}: nobody has noticed");
        world.disk.set_faults(Faults::default());
        world.settle();
        assert!(!world.is_failing(), "seed {seed}: the log has not recovered");
        world.crash_and_recover().unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn damage_to_what_was_durable_is_never_taken_for_a_torn_tail() {
    let mut noticed = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, SyncPolicy::Always, Faulty::Not);
        world.run(600);
        world.settle();
        noticed += u32::from(world.damage_and_recover().is_err());
    }
    assert!(noticed > 40, "damage was noticed {noticed} times of 60");
}
