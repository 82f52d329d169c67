//! Crashes of the real server: what comes back after `kill -9` and after a power cut, at random
//! moments and at every sync.
//!
//! Clients note what they have heard; the server notes every change of its files. When it has died,
//! what no sync has covered is torn and dropped as the dice fall (`power`), the server starts again,
//! perhaps with another number of shards, and what it answers is compared with what the clients know
//! (`clients`). So one data directory goes through many lives (`world`).
//!
//! That the comparison objects when it should is shown by servers that leave out one of their syncs:
//! `missing` has a test for each.
//!
//! `TESSERA_TEST_SCALE=N` makes it N times as many lives; about 200 without.

mod clients;
mod missing;
mod moved;
mod power;
mod world;

use std::{
    iter,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use clients::Objection;
use fastrand::Rng;
use world::{Beside, End, Life, Promise, World};

use crate::harness::{ServerKind, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    always_loses_nothing_that_anyone_was_told,
    always_survives_a_crash_at_every_sync,
    everysec_loses_an_end_of_the_one_order,
    a_saved_file_holds_all_that_was_there_before_it,
    a_save_survives_a_crash_at_every_sync,
);

/// Lives in one directory: more of them make recovery deeper, fewer leave more first starts.
const LIVES: usize = 8;

/// Worlds of one test that are lived through at a time: mostly they wait.
const WORLDS: usize = 3;

/// Goes through so many lives, each drawn by `draw` from its number; some in each directory.
fn go_through(
    promise: Promise,
    lives: usize,
    shards: usize,
    draw: impl Fn(&mut Rng, usize) -> Life + Sync,
) {
    if !ServerKind::under_test().is_tessera() {
        return;
    }
    let next = AtomicUsize::new(0);
    let worlds = || {
        let claim = || next.fetch_add(LIVES, Ordering::Relaxed);
        let firsts = iter::repeat_with(claim).take_while(|&first| first < lives);
        firsts.for_each(|first| {
            live_through(promise, first..lives.min(first + LIVES), shards, &draw);
        });
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WORLDS).map(|_| scope.spawn(worlds)).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Goes through some lives in one directory.
fn live_through(
    promise: Promise,
    numbers: Range<usize>,
    shards: usize,
    draw: &impl Fn(&mut Rng, usize) -> Life,
) {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let mut world = World::new(promise, seed);
    let mut lived = Vec::new();
    for number in numbers {
        let life = draw(&mut random, number);
        lived.push(life.clone());
        if let Err(objection) = world.live(&life) {
            fail(world, &lived, &objection);
        }
    }
    if let Err(objection) = world.conclude(shards) {
        fail(world, &lived, &objection);
    }
}

/// Ends the test, with what somebody needs who looks for the reason.
fn fail(world: World, lived: &[Life], objection: &Objection) -> ! {
    let directory = world.keep();
    panic!("{objection}\nin {}, after {lived:#?}", directory.display());
}

/// Mostly `shards`; sometimes another number than in the life before.
fn some_shards(random: &mut Rng, shards: usize) -> usize {
    if random.u8(0..4) == 0 { random.usize(1..=4) } else { shards }
}

/// A life that ends at a random moment.
fn random_life(random: &mut Rng, shards: usize, beside: &[Beside]) -> Life {
    let steps = random.i64(0..60);
    let end = if random.u8(0..8) == 0 { End::Asked { steps } } else { End::Kill { steps } };
    Life {
        shards: some_shards(random, shards),
        beside: *random.choice(beside).expect("some"),
        settles: false,
        fault: "",
        end,
        is_cut: random.u8(0..4) > 0,
    }
}

const ALL: [Beside; 4] = [Beside::Nothing, Beside::Nothing, Beside::Rewrites, Beside::Saves];

fn always_loses_nothing_that_anyone_was_told(shards: usize) {
    go_through(Promise::Always, scaled(16), shards, |random, _| random_life(random, shards, &ALL));
}

/// A life that ends at a sync: the first ones in their order, those behind them at random.
fn life_to_a_sync(random: &mut Rng, shards: usize, number: usize, beside: Beside) -> Life {
    let first = number as u64 + 1;
    let sync = if first <= FIRST_SYNCS { first } else { random.u64(1..100) };
    Life {
        end: End::AtSync(sync.to_string()),
        is_cut: true,
        beside,
        ..random_life(random, shards, &ALL)
    }
}

/// So many syncs are crashed at one after the other. A start has up to 11.
const FIRST_SYNCS: u64 = 20;

fn always_survives_a_crash_at_every_sync(shards: usize) {
    go_through(Promise::Always, scaled(24), shards, |random, number| {
        life_to_a_sync(random, shards, number, ALL[number % ALL.len()])
    });
}

fn everysec_loses_an_end_of_the_one_order(shards: usize) {
    go_through(Promise::EverySecond, scaled(10), shards, |random, number| {
        let steps = random.i64(0..80);
        let end = match random.u8(0..8) {
            0 => End::Asked { steps },
            1 => End::AtSync(random.u64(1..16).to_string()),
            _ => End::Kill { steps },
        };
        Life { settles: number % 3 == 0, end, ..random_life(random, shards, &ALL) }
    });
}

fn a_saved_file_holds_all_that_was_there_before_it(shards: usize) {
    go_through(Promise::Saved, scaled(8), shards, |random, _| {
        let saves = random.usize(0..4);
        let end = End::KillAfter { rewrites: saves };
        Life { end, ..random_life(random, shards, &[Beside::Saves]) }
    });
}

fn a_save_survives_a_crash_at_every_sync(shards: usize) {
    go_through(Promise::Saved, scaled(8), shards, |random, number| {
        life_to_a_sync(random, shards, number, Beside::Saves)
    });
}
