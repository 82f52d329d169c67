//! Clients that wait for lists and streams of several shards, among pushes, pops, moves, transactions,
//! timeouts and disconnects: with the shards, queues, couplings and announcements that the server has.
//!
//! What is promised, and judged by [`model`]: first come first served by key; no element is lost or
//! given twice; nobody waits whose key has something; and one order of everything, in which what a
//! push serves is served in the instant of the push.

mod client;
mod model;
mod worker;
mod world;

use super::{SEEDS, finds_fault, random::Random, with_seeds};
use client::Client;
use model::{Called, History, Op, Outcome};
use world::{Fault, Settings, run};

/// The lists and the streams (see `client`).
const LISTS: [usize; 3] = [0, 2, 4];
const STREAMS: [usize; 2] = [1, 3];

/// A few clients that wait and a few that bring something, in short pipelines.
fn history(seed: u64, fault: Option<Fault>) -> Result<History, String> {
    let mut random = Random::new(seed);
    let settings = Settings { workers: random.between(1, 4), fault };
    let (waiters, bringers) = (random.between(1, 3), random.between(1, 2));
    let mut pushed = 0;
    let clients = (0..waiters + bringers)
        .map(|number| {
            let script: Vec<Op> = (0..random.between(1, 4))
                .map(|_| match number < waiters && !random.one_in(5) {
                    true => wait(&mut random),
                    false => other(&mut random, &mut pushed),
                })
                .collect();
            let pace = if number < waiters { 0 } else { random.below(400) as u64 };
            let worker = random.below(settings.workers);
            Client::new(worker, in_pipelines(script, &mut random), pace)
        })
        .collect();
    run(settings, clients, random)
}

fn in_pipelines(mut script: Vec<Op>, random: &mut Random) -> Vec<Vec<Op>> {
    let mut pipelines = Vec::new();
    while !script.is_empty() {
        let length = random.between(1, script.len().min(3));
        pipelines.push(script.drain(..length).collect());
    }
    pipelines
}

/// One of some keys, the first more often than others: there they meet.
fn one_of(keys: &[usize], random: &mut Random) -> usize {
    if random.one_in(2) { keys[0] } else { keys[random.below(keys.len())] }
}

fn some_of(keys: &[usize], random: &mut Random) -> Vec<usize> {
    let first = random.below(keys.len());
    let count = random.between(1, keys.len());
    (first..first + count).map(|at| keys[at % keys.len()]).collect()
}

fn wait(random: &mut Random) -> Op {
    match random.below(4) {
        0 => Op::WaitPop { keys: some_of(&LISTS, random) },
        1 => Op::WaitRead { keys: some_of(&STREAMS, random) },
        _ => {
            let from = one_of(&LISTS, random);
            Op::WaitMove { from, to: LISTS[random.below(LISTS.len())] }
        }
    }
}

fn other(random: &mut Random, pushed: &mut u32) -> Op {
    match random.below(8) {
        0 => Op::Pop { key: one_of(&LISTS, random) },
        1 => Op::Look { keys: some_of(&LISTS, random) },
        2 => Op::Move { from: one_of(&LISTS, random), to: LISTS[random.below(LISTS.len())] },
        3 => {
            let count = random.between(1, 3);
            Op::Unit((0..count).map(|_| simple(random, pushed)).collect())
        }
        _ => push(random, pushed),
    }
}

fn simple(random: &mut Random, pushed: &mut u32) -> Op {
    match random.below(4) {
        0 => Op::Pop { key: one_of(&LISTS, random) },
        1 => Op::Move { from: one_of(&LISTS, random), to: LISTS[random.below(LISTS.len())] },
        _ => push(random, pushed),
    }
}

fn push(random: &mut Random, pushed: &mut u32) -> Op {
    *pushed += 1;
    let keys: &[usize] = if random.one_in(4) { &STREAMS } else { &LISTS };
    Op::Push { key: one_of(keys, random), value: *pushed }
}

/// Clients that move an element from list to list, over three shards, and one that takes it at the end;
/// all wait before it comes, as a rule.
fn chain(seed: u64, fault: Option<Fault>) -> Result<History, String> {
    let mut random = Random::new(seed);
    let settings = Settings { workers: random.between(3, 4), fault };
    let [a, b, c] = LISTS;
    let moves = |from, to| vec![vec![Op::WaitMove { from, to }]];
    let push = |value| vec![Op::Push { key: a, value }, Op::Look { keys: LISTS.to_vec() }];
    let scripts = [
        moves(a, b),
        moves(b, c),
        vec![vec![Op::WaitPop { keys: some_of(&[c, b], &mut random) }]],
        vec![push(1), push(2)],
    ];
    let pace = random.between(0, 600) as u64;
    let mut client = |(script, pace)| Client::new(random.below(settings.workers), script, pace);
    let clients = scripts.into_iter().zip([0, 0, 0, pace]).map(&mut client).collect();
    run(settings, clients, random)
}

/// Clients of one worker that wait again and again to move from the same list, and thieves who push and
/// pop in one pipeline.
fn thieves(seed: u64, fault: Option<Fault>) -> Result<History, String> {
    let mut random = Random::new(seed);
    let settings = Settings { workers: random.between(2, 4), fault };
    let [a, b, _] = LISTS;
    let home = random.below(settings.workers);
    let mut pushed = 0;
    let clients = (0..4)
        .map(|number| {
            let script = (0..random.between(1, 3)).map(|_| match number < 2 {
                true => vec![Op::WaitMove { from: a, to: b }],
                false => {
                    pushed += 1;
                    vec![Op::Push { key: a, value: pushed }, Op::Pop { key: a }]
                }
            });
            let script = script.collect();
            let (worker, pace) = match number < 2 {
                true => (home, 0),
                false => (random.below(settings.workers), random.below(200) as u64),
            };
            Client::new(worker, script, pace)
        })
        .collect();
    run(settings, clients, random)
}

fn judged(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    explained(history(seed, fault)?)
}

fn explained(history: History) -> Result<(), String> {
    match history.is_explained() {
        true => Ok(()),
        false => Err(format!("no order explains {history:#?}")),
    }
}

#[test]
fn waiters_are_served_in_one_order() {
    with_seeds(|seed| judged(seed, None));
}

#[test]
fn elements_go_on_and_on_in_one_instant() {
    with_seeds(|seed| explained(chain(seed, None)?));
}

#[test]
fn thieves_get_nothing_that_is_owed() {
    with_seeds(|seed| explained(thieves(seed, None)?));
}

/// That the workload does what it is for: clients wait, and are served, over several shards.
#[test]
fn many_wait_and_are_served() {
    let (mut served, mut moved) = (0, 0);
    for seed in 0..SEEDS {
        let history = history(seed, None).expect("it ends");
        let calls = || history.connections.iter().flatten();
        let has_waited = |call: &&Called| {
            call.waited < call.returned && matches!(call.outcome, Outcome::Answered(_))
        };
        served += calls().filter(has_waited).count();
        let moves = |call: &&Called| matches!(call.op, Op::WaitMove { .. });
        moved += calls().filter(has_waited).filter(moves).count();
    }
    assert!(served > 100 && moved > 30, "{served} served, {moved} of them moved an element");
}

#[test]
fn a_wait_that_nobody_has_heard_of_is_found() {
    finds_fault(|seed| explained(thieves(seed, Some(Fault::Unannounced))?));
}

#[test]
fn hearing_of_couplings_while_something_is_packed_is_found() {
    finds_fault(|seed| explained(thieves(seed, Some(Fault::HearWhilePacked))?));
}

#[test]
fn couplings_that_are_followed_one_step_are_found() {
    finds_fault(|seed| explained(chain(seed, Some(Fault::OneStepOnly))?));
}

#[test]
fn waiters_that_are_served_later_are_found() {
    finds_fault(|seed| judged(seed, Some(Fault::ServeLater)));
}

#[test]
fn a_timeout_that_claims_nothing_is_found() {
    finds_fault(|seed| judged(seed, Some(Fault::TimeOutUnclaimed)));
}

#[test]
fn a_client_that_leaves_and_claims_nothing_is_found() {
    finds_fault(|seed| judged(seed, Some(Fault::LeaveUnclaimed)));
}

#[test]
fn a_waiter_that_is_claimed_twice_is_found() {
    finds_fault(|seed| judged(seed, Some(Fault::AnsweredTwice)));
}

#[test]
fn a_connection_that_goes_on_while_it_waits_is_found() {
    finds_fault(|seed| judged(seed, Some(Fault::GoOnWhileWaiting)));
}

#[test]
fn serving_the_last_one_first_is_found() {
    finds_fault(|seed| judged(seed, Some(Fault::LastFirst)));
}
