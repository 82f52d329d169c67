//! Linearizability of concurrent histories on single keys, over real TCP.
//!
//! A round: some clients, on connections spread over the workers, run random commands on one
//! fresh key, pipelined by three. Each command is noted with the time before its request was
//! sent, the time after its reply had come, and the reply. The checker then looks for one order
//! of all commands that explains every reply, keeps each client's program order, and lets no
//! command that had ended come after one that had not begun.

mod checker;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use checker::{Event, Operation, explain};
use fastrand::Rng;

use crate::harness::{Client, Server, ServerKind, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(concurrent_histories_have_an_order);

const CLIENTS: usize = 5;
const BATCHES: usize = 6;
const BATCH: usize = 3;

fn random_operation(random: &mut Rng, tag: &str) -> Operation {
    let value = || tag.as_bytes().to_vec();
    match random.u8(0..12) {
        0..4 => Operation::Get,
        4..6 => Operation::Set(value()),
        6 => Operation::SetIfAbsent(value()),
        7 => Operation::GetSet(value()),
        8 => Operation::Append(value()),
        9 => Operation::Delete,
        10 => Operation::GetDelete,
        _ => Operation::Length,
    }
}

/// Runs one client's part of a round.
fn perform(client: &mut Client, key: &str, name: usize, random: &mut Rng) -> Vec<Event> {
    let mut events = Vec::new();
    for batch in 0..BATCHES {
        let operations: Vec<_> = (0..BATCH)
            .map(|n| random_operation(random, &format!("<{name}.{batch}.{n}>")))
            .collect();
        for operation in &operations {
            client.push(operation.command(key));
        }
        let begin = Instant::now();
        client.flush();
        for operation in operations {
            let reply = client.receive();
            events.push(Event { operation, reply, begin, end: Instant::now() });
        }
    }
    events
}

/// The history of one round on a fresh key.
fn history(clients: &mut [Client], key: &str, seed: u64) -> Vec<Vec<Event>> {
    let barrier = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(name, client)| {
                scope.spawn(move || {
                    let mut random = Rng::with_seed(seed ^ name as u64);
                    barrier.wait();
                    perform(client, key, name, &mut random)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

/// A round whose history no order explains, in words, if there is one among so many.
fn unexplained(server: &Server, rounds: usize) -> Option<String> {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    (0..rounds).find_map(|round| {
        let seed = fastrand::u64(..);
        let history = history(&mut clients, &format!("key:{round}"), seed);
        let is_explained = explain(&history);
        (!is_explained).then(|| format!("round {round}, seed {seed}:\n{history:#?}"))
    })
}

fn concurrent_histories_have_an_order(shards: usize) {
    let server = Server::start(shards);
    if let Some(round) = unexplained(&server, scaled(60)) {
        panic!("no order explains {round}");
    }
}

/// A server that answers some reads with what was there before, on purpose.
#[test]
fn stale_reads_are_found() {
    if ServerKind::under_test().is_tessera() {
        let server = Server::builder(2).fault("stale-read").start();
        assert!(unexplained(&server, 200).is_some(), "no stale read was found");
    }
}
