//! Workloads for the order rules, and the faults that they must find.

use std::cell::Cell;

use super::{
    check::{has_one_order, never_older},
    connection::{Action, Command, Connection},
    finds_fault,
    random::Random,
    with_seeds,
    world::{Fault, Outcome, Settings, World},
};

pub(super) fn settings(random: &mut Random, fault: Option<Fault>) -> Settings {
    Settings {
        workers: random.between(2, 4),
        keys: random.between(2, 5),
        credits: random.between(1, 3),
        full: random.between(1, 4),
        fault,
    }
}

fn single(key: usize, action: Action) -> Command {
    Command { parts: vec![(key, action)], together: false, hidden: false }
}

/// Cuts a script into the pipelines in which the client sends it.
pub(super) fn in_pipelines(mut script: Vec<Command>, random: &mut Random) -> Vec<Vec<Command>> {
    let mut pipelines = Vec::new();
    while !script.is_empty() {
        let length = random.between(1, script.len().min(6));
        pipelines.push(script.drain(..length).collect());
    }
    pipelines
}

/// Reads and writes of any keys by a few connections, some over several shards at once: short
/// histories, judged by the full search.
fn any_commands(seed: u64, fault: Option<Fault>) -> Result<(), String> {
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
    let Outcome { history, served, .. } = World::new(settings, connections, random).run()?;
    in_order_of_places(&served)?;
    match has_one_order(&history, settings.keys) {
        true => Ok(()),
        false => Err(format!("no order explains {history:#?}")),
    }
}

/// One key mostly; every value is written once, so that each read tells which write it saw.
fn any_command(keys: usize, random: &mut Random, written: &mut u32) -> Command {
    let count = if random.one_in(5) { random.between(2, keys.min(3)) } else { 1 };
    let first = random.below(keys);
    let writes = random.one_in(2);
    let parts = (0..count).map(|part| {
        *written += u32::from(writes);
        let action = if writes { Action::Write(*written) } else { Action::Read };
        ((first + part) % keys, action)
    });
    Command { parts: parts.collect(), together: false, hidden: false }
}

/// One connection writes rising numbers to all keys in one order, again and again: data, then the
/// pointer to it. The others read in the reverse order: what they read later is never older. Either
/// the writer or the readers pass the shards in ascending order, and so several in one round.
fn data_then_pointer(seed: u64, fault: Option<Fault>) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let settings = settings(&mut random, fault);
    let (writes, reads) = (random.between(3, 12) as u32, random.between(3, 12));
    let mut order: Vec<_> = (0..settings.keys).collect();
    if random.one_in(2) {
        order.reverse();
    }
    let there = (1..=writes)
        .flat_map(|number| order.iter().map(move |&key| single(key, Action::Write(number))));
    let back = (0..reads).flat_map(|_| order.iter().rev().map(|&key| single(key, Action::Read)));
    let mut connection = |script: Vec<Command>| {
        let worker = random.below(settings.workers);
        Connection::new(worker, in_pipelines(script, &mut random))
    };
    let mut connections = vec![connection(there.collect())];
    connections.extend((0..3).map(|_| connection(back.clone().collect())));
    let Outcome { history, served, on_guests, .. } =
        World::new(settings, connections, random).run()?;
    in_order_of_places(&served)?;
    match history[1..].iter().find(|reads| !never_older(reads, settings.keys)) {
        None => Ok(on_guests),
        Some(reads) => Err(format!("what was read later is older: {reads:#?}")),
    }
}

/// Rule (b) by itself. As long as each producer fills a place before it takes the next, no client can
/// tell whether a consumer waits for it; epochs and transactions can, as they count on positions.
fn in_order_of_places(served: &[Vec<u64>]) -> Result<(), String> {
    match served.iter().all(|places| places.is_sorted()) {
        true => Ok(()),
        false => Err("a consumer passed a place that was not filled".to_owned()),
    }
}

#[test]
fn any_commands_have_one_order() {
    with_seeds(|seed| any_commands(seed, None));
}

#[test]
fn the_data_is_there_before_its_pointer() {
    let on_guests = Cell::new(0);
    with_seeds(|seed| {
        on_guests.set(on_guests.get() + data_then_pointer(seed, None)?);
        Ok(())
    });
    assert!(on_guests.get() > 0, "no command executed on the shard of a worker that sleeps");
}

#[test]
fn runs_that_leave_all_at_once_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::AllRunsAtOnce)));
    finds_fault(|seed| any_commands(seed, Some(Fault::AllRunsAtOnce)));
}

#[test]
fn runs_for_lower_shards_after_higher_ones_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::DescendingRuns)));
    finds_fault(|seed| any_commands(seed, Some(Fault::DescendingRuns)));
}

#[test]
fn places_taken_in_descending_order_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::DescendingPlaces)));
}

#[test]
fn a_full_parcel_that_leaves_before_lower_ones_is_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::FullParcelAlone)));
}

#[test]
fn own_runs_before_the_places_are_taken_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::OwnRunsFirst)));
    finds_fault(|seed| any_commands(seed, Some(Fault::OwnRunsFirst)));
}

#[test]
fn passing_an_unfilled_place_is_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::PassUnfilled)));
    finds_fault(|seed| any_commands(seed, Some(Fault::PassUnfilled)));
}

#[test]
fn a_tail_read_before_the_places_were_taken_is_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::TailBeforePlaces)));
    finds_fault(|seed| any_commands(seed, Some(Fault::TailBeforePlaces)));
}

#[test]
fn own_runs_past_an_unfilled_place_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::OwnDespiteUnfilled)));
}

#[test]
fn commands_on_a_guest_whose_owner_has_mail_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::GuestDespiteMail)));
    finds_fault(|seed| any_commands(seed, Some(Fault::GuestDespiteMail)));
}

#[test]
fn commands_on_a_guest_whose_owner_sets_mail_aside_are_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::GuestDespiteWanted)));
}

#[test]
fn looking_at_the_guests_before_the_own_tail_is_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::GuestsBeforeTail)));
}

#[test]
fn overtaking_a_run_without_credit_is_found() {
    finds_fault(|seed| data_then_pointer(seed, Some(Fault::OvertakeWithoutCredit)));
    finds_fault(|seed| any_commands(seed, Some(Fault::OvertakeWithoutCredit)));
}
