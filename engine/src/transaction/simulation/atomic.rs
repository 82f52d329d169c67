//! Workloads for commands over several shards, and the faults that they must find.

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

/// Commands over several keys, in parts or over lent shards, some of which read and write, among
/// plain ones, pipelined by a few connections: short histories, judged by the full search.
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
    let parts: Vec<_> = (0..count)
        .map(|part| {
            let writes = match kind {
                0 | 1 => true,
                2 | 3 => false,
                _ => random.one_in(2),
            };
            *written += u32::from(writes);
            let action = if writes { Action::Write(*written) } else { Action::Read };
            ((first + part) % keys, action)
        })
        .collect();
    let together = kind == 4 || random.one_in(3);
    Command { hidden: together && count > 2 && random.one_in(2), parts, together }
}

/// Several connections write one number to all keys at once, others read all keys at once, and some
/// write a pair of keys: whoever reads all must see each pair as one writer left it.
///
/// Returns how many commands were executed over lent shards.
fn never_torn(seed: u64, fault: Option<Fault>) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let mut settings = settings(&mut random, fault);
    settings.keys = 2 * random.between(1, 2);
    let all = |action: Action, first: usize, keys: usize, together: bool| Command {
        parts: (first..first + keys).map(|key| (key, action)).collect(),
        together,
        hidden: false,
    };
    let mut written = 0;
    let connections = (0..random.between(3, 6))
        .map(|number| {
            let script = (0..random.between(3, 15)).map(|_| {
                let together = random.one_in(3);
                match number % 3 {
                    0 => all(Action::Read, 0, settings.keys, together),
                    1 => {
                        written += 1;
                        all(Action::Write(written), 0, settings.keys, together)
                    }
                    _ => {
                        written += 1;
                        let first = 2 * random.below(settings.keys / 2);
                        all(Action::Write(written), first, 2, together)
                    }
                }
            });
            let script = script.collect();
            Connection::new(random.below(settings.workers), in_pipelines(script, &mut random))
        })
        .collect();
    let Outcome { history, together, .. } = World::new(settings, connections, random).run()?;
    let torn = history.iter().flatten().find(|operation| {
        let pairs = operation.effects.chunks(2);
        pairs.into_iter().any(|pair| match pair {
            [(_, Effect::Read(one)), (_, Effect::Read(other))] => one != other,
            _ => false,
        })
    });
    torn.map_or(Ok(together), |operation| Err(format!("a pair is torn: {operation:#?}")))
}

/// A circle of causes over three shards that only a cut can prevent: a reader pipelines x, then y; a
/// writer y, then u; a transaction reads u and writes x.
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
                let command = |parts| Command { parts, together: true, hidden: false };
                script.extend(commands.into_iter().map(command));
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
    with_seeds(|seed| never_torn(seed, None).map(|_| ()));
}

#[test]
fn shards_are_lent() {
    let lent = |seed: u64| never_torn(seed, None).expect("the workload has one order");
    assert!((0..SEEDS).map(lent).sum::<usize>() > SEEDS as usize);
}

#[test]
fn places_without_a_cut_are_found() {
    finds_fault(|seed| never_torn(seed, Some(Fault::NoCut)).map(|_| ()));
    finds_fault(|seed| crossing(seed, Some(Fault::NoCut)));
}

#[test]
fn a_cut_through_a_round_is_found() {
    finds_fault(|seed| crossing(seed, Some(Fault::CutDespiteOthers)));
}

#[test]
fn a_round_within_a_cut_is_found() {
    finds_fault(|seed| crossing(seed, Some(Fault::EnterClosed)));
}

#[test]
fn own_parts_that_take_no_place_are_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::OwnPartInPlace)));
}

#[test]
fn loans_before_the_parts_of_their_cut_on_some_shards_are_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::LoansAmongParts)));
}

#[test]
fn an_owner_that_goes_on_while_its_shard_is_lent_is_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::GoOnWhileLent)));
}

#[test]
fn a_connection_that_goes_on_before_its_unit_is_done_is_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::GoOnBeforeDone)));
}

#[test]
fn writes_that_are_lost_with_a_loan_are_found() {
    finds_fault(|seed| any_transactions(seed, Some(Fault::ForgetWrites)));
}
