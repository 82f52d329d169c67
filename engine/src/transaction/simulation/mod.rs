//! A deterministic simulation of workers, mailboxes and clients, judged for the one order.
//!
//! Rounds, cuts and loans are played step by step over plain numbers (`rounds`, `atomic`); clients that
//! wait over the engine's own shards, queues and couplings (`waiters`).
//!
//! One seed decides the workload, who moves at each step, and who is held up where. A failing seed
//! is printed; `TESSERA_SEED=<seed>` runs that one alone. `TESSERA_SEEDS=<count>` says how many
//! seeds each workload runs, and `TESSERA_FIRST_SEED=<seed>` from which one on.

mod atomic;
mod check;
mod connection;
mod guests;
mod loans;
mod mailbox;
mod message;
mod random;
mod rounds;
mod waiters;
mod worker;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// Seeds that each workload runs unless the environment says otherwise.
const SEEDS: u64 = 400;

/// How many seeds a planted fault may take to be found.
const SEEDS_TO_FIND_A_FAULT: u64 = 150_000;

/// Runs the workload with many seeds; it returns what is wrong, if anything is.
fn with_seeds(workload: impl Fn(u64) -> Result<(), String>) {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("TESSERA_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("TESSERA_FIRST_SEED").unwrap_or(0);
            first..first + number("TESSERA_SEEDS").unwrap_or(SEEDS)
        }
    };
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| workload(seed))) {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => panic!("TESSERA_SEED={seed}: {wrong}"),
            Err(panic) => {
                eprintln!("TESSERA_SEED={seed} panicked");
                resume_unwind(panic);
            }
        }
    }
}

/// Asserts that a workload with a planted fault goes wrong with one of many seeds.
fn finds_fault<T>(workload: impl Fn(u64) -> Result<T, String>) {
    let found = (0..SEEDS_TO_FIND_A_FAULT).find(|&seed| workload(seed).is_err());
    assert!(found.is_some(), "the checker does not object to the planted fault");
    eprintln!("found after {} seeds", found.map_or(0, |seed| seed + 1));
}
