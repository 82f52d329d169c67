//! Workloads for transactions over shards, and the faults that they must find.

use super::{
    SEEDS,
    check::{Effect, has_one_order},
    connection::{Action, Command, Connection},
    finds_fault,
    random::Random,
    rounds::{in_pipelines, settings},
    with_seeds,
    world::{Fault, Outcome, World},
};

/// Atomic commands over several keys, some of which read and write, among plain ones, pipelined by a
/// few connections: short histories, judged by the full search.
fn any_transactions(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let mut random = Random::new(seed);
    let settings = settings(&mut random, fault);
    let mut written = 0;
    let connections = (0..random.between(2, 5))
        .map(|_| {
            let length = random.between(2, 6);
            let script = (0..length).map(|_| any_command(settings.keys, &mut random, &mut written));
            let script = script.collect();
            Connection::new(random.below(settings.workers), in_pipelines(script, &mut random))
        })
        .collect();
    let history = World::new(settings, connections, random).run()?.history;
    match has_one_order(&history, settings.keys) {
        true => Ok(()),
        false => Err(format!("no order explains {history:#?}")),
    }
}

/// Every value is written once, so that each read tells which write it saw.
fn any_command(keys: usize, random: &mut Random, written: &mut u32) -> Command {
    let count = if random.one_in(2) { random.between(2, keys.min(3)) } else { 1 };
    let (first, kind) = (random.below(keys), random.below(5));
    let parts = (0..count).map(|part| {
        let writes = match kind {
            0 | 1 => true,
            2 | 3 => false,
            _ => random.one_in(2),
        };
        *written += u32::from(writes);
        let action = if writes { Action::Write(*written) } else { Action::Read };
        ((first + part) % keys, action)
    });
    Command { parts: parts.collect(), atomic: true }
}

/// Several connections write one number to all keys at once, others read all keys at once, and some
/// write a pair of keys: whoever reads all must see each pair as one writer left it.
///
/// Returns how many transactions had to draw alone.
fn never_torn(seed: u64) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let mut settings = settings(&mut random, None);
    settings.keys = 2 * random.between(1, 2);
    let all = |action: Action, first: usize, keys: usize| Command {
        parts: (first..first + keys).map(|key| (key, action)).collect(),
        atomic: true,
    };
    let mut written = 0;
    let connections = (0..random.between(3, 6))
        .map(|number| {
            let script = (0..random.between(3, 15)).map(|_| match number % 3 {
                0 => all(Action::Read, 0, settings.keys),
                1 => {
                    written += 1;
                    all(Action::Write(written), 0, settings.keys)
                }
                _ => {
                    written += 1;
                    all(Action::Write(written), 2 * random.below(settings.keys / 2), 2)
                }
            });
            let script = script.collect();
            Connection::new(random.below(settings.workers), in_pipelines(script, &mut random))
        })
        .collect();
    let Outcome { history, drawn_alone, .. } = World::new(settings, connections, random).run()?;
    let torn = history.iter().flatten().find(|operation| {
        let pairs = operation.effects.chunks(2);
        pairs.into_iter().any(|pair| match pair {
            [(_, Effect::Read(one)), (_, Effect::Read(other))] => one != other,
            _ => false,
        })
    });
    torn.map_or(Ok(drawn_alone), |operation| Err(format!("a pair is torn: {operation:#?}")))
}

/// A circle of causes over three shards that only the lock tables' attention to when everything set
/// out can prevent: a reader pipelines x, then y; a writer y, then u; a transaction reads u and
/// writes x.
fn crossing(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    const X: usize = 0;
    const Y: usize = 1;
    const U: usize = 2;
    let mut random = Random::new(seed);
    let mut settings = settings(&mut random, fault);
    (settings.workers, settings.keys) = (random.between(3, 4), 3);
    let mut written = 0;
    let connections = (0..4)
        .map(|number| {
            let mut script = Vec::new();
            for _ in 0..random.between(1, 3) {
                written += 1;
                let write = Action::Write(written);
                let commands = match number {
                    0 => vec![vec![(X, Action::Read)], vec![(Y, Action::Read)]],
                    1 => vec![vec![(Y, write)], vec![(U, write)]],
                    _ => vec![vec![(X, write), (U, Action::Read)]],
                };
                let atomic = true;
                script.extend(commands.into_iter().map(|parts| Command { parts, atomic }));
            }
            Connection::new(random.below(settings.workers), vec![script])
        })
        .collect();
    let history = World::new(settings, connections, random).run()?.history;
    match has_one_order(&history, settings.keys) {
        true => Ok(()),
        false => Err(format!("no order explains {history:#?}")),
    }
}

#[test]
fn crossing_causes_have_one_order() {
    with_seeds(|seed| crossing(seed, None));
}

#[test]
fn any_transactions_have_one_order() {
    with_seeds(|seed| any_transactions(seed, None));
}

#[test]
fn what_is_written_as_one_is_read_as_one() {
    with_seeds(|seed| never_torn(seed).map(|_| ()));
}

#[test]
fn contention_makes_some_transactions_draw_alone() {
    let alone = |seed: u64| never_torn(seed).expect("the workload has one order");
    assert!((0..SEEDS).map(alone).any(|count| count > 0));
}

#[test]
fn commands_that_do_not_ask_for_locks_are_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::SkipLockCheck)));
}

#[test]
fn concluding_before_all_hops_is_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::ConcludeEarly)));
}

#[test]
fn commands_that_leave_before_the_transaction_is_scheduled_are_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::LeaveBeforeScheduled)));
}

#[test]
fn transactions_that_come_too_late_and_are_not_refused_are_found() {
    finds_fault(|seed| crossing(seed, Some(Fault::NoFloor)));
}

#[test]
fn waiting_for_a_younger_transaction_is_found() {
    finds_fault(|seed| crossing(seed, Some(Fault::WaitForYounger)));
}

#[test]
fn one_tag_for_all_places_of_a_round_is_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::TagOfRound)));
}
