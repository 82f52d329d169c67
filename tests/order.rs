//! The one order: what a client has seen, everybody sees from then on, however commands are
//! pipelined and wherever their keys live (design, section 4).
//!
//! Writers pipeline an effect after its cause, on keys of different shards; readers look at the
//! effect first and at the cause second. Who sees the effect without the cause has found a
//! violation. With many connections, every worker has readers and writers, and each pipeline
//! alternates between keys of its own worker and of others.
//!
//! The checks are functions of an address, so that `toy.rs` and `planted.rs` can show that they object
//! to a server that breaks the order, and keep still before one that keeps it.

mod planted;
mod toy;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    pointers_never_lack_their_data,
    pipelined_readers_see_no_older_data,
    queues_never_lack_their_jobs,
    sets_of_several_keys_stand_in_the_order,
    sets_of_several_keys_are_seen_whole,
    own_pipelines_take_effect_in_program_order,
    renames_happen_at_one_instant,
);

const WRITERS: usize = 4;
const READERS: usize = 4;
const DEPTH: usize = 8;

/// What a check has seen.
#[derive(Debug, Default)]
struct Seen {
    observations: AtomicUsize,
    violations: AtomicUsize,
}

impl Seen {
    fn note(&self, holds: bool) {
        self.observations.fetch_add(1, Ordering::Relaxed);
        self.violations.fetch_add(usize::from(!holds), Ordering::Relaxed);
    }

    fn violations(&self) -> usize {
        self.violations.load(Ordering::Relaxed)
    }

    #[track_caller]
    fn check(&self) {
        let observations = self.observations.load(Ordering::Relaxed);
        assert!(observations > 100, "only {observations} observations");
        assert_eq!(self.violations(), 0, "violations in {observations} observations");
    }
}

fn connect(address: SocketAddr) -> Client {
    Client::connect(address).expect("a connection")
}

/// Runs `write(client, writer, round)` on all writers, and `read(client, writer, seen)` on all
/// readers over and over while a writer is at work.
fn watch(
    address: SocketAddr,
    rounds: usize,
    write: impl Fn(&mut Client, usize, usize) + Sync,
    read: impl Fn(&mut Client, usize, &Seen) + Sync,
) -> Seen {
    let seen = Seen::default();
    let working = AtomicUsize::new(WRITERS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (write, working) = (&write, &working);
            scope.spawn(move || {
                let mut client = connect(address);
                (1..=rounds).for_each(|round| write(&mut client, writer, round));
                working.fetch_sub(1, Ordering::Relaxed);
            });
        }
        for reader in 0..READERS {
            let (read, working, seen) = (&read, &working, &seen);
            scope.spawn(move || {
                let mut client = connect(address);
                let mut turn = reader;
                while working.load(Ordering::Relaxed) > 0 {
                    read(&mut client, turn % WRITERS, seen);
                    turn += 1;
                }
            });
        }
    });
    seen
}

/// A version: the number in a string, 0 when there is none.
fn version(reply: &Reply) -> usize {
    match reply {
        Reply::Bulk(digits) => String::from_utf8_lossy(digits).parse().expect("a version"),
        other => {
            assert!(other.is_null(), "{other:?}");
            0
        }
    }
}

/// Data first, then the pointer to it; readers follow the pointer.
fn follow_pointers(address: SocketAddr, rounds: usize) -> Seen {
    let write = |client: &mut Client, writer, round: usize| {
        for n in (round - 1) * DEPTH..round * DEPTH {
            client.push(["SET", &format!("data:{writer}:{n}"), "here"]);
            client.push(["SET", &format!("pointer:{writer}"), &n.to_string()]);
        }
        client.flush();
        client.receive_all(2 * DEPTH);
    };
    let read = |client: &mut Client, writer, seen: &Seen| {
        let pointer = client.call(["GET", &format!("pointer:{writer}")]);
        if !pointer.is_null() {
            let data = client.call(["GET", &format!("data:{writer}:{}", version(&pointer))]);
            seen.note(data == Reply::bulk("here"));
        }
    };
    watch(address, rounds, write, read)
}

fn pointers_never_lack_their_data(shards: usize) {
    let server = Server::start(shards);
    follow_pointers(server.address(), scaled(400)).check();
}

/// Writers write x and then y; readers pipeline y and then x: x is never older than y.
fn read_in_reverse(address: SocketAddr, rounds: usize) -> Seen {
    const PAIRS: usize = 8;
    let write = |client: &mut Client, writer, round: usize| {
        for pair in 0..PAIRS {
            client.push(["SET", &format!("x:{writer}:{pair}"), &round.to_string()]);
            client.push(["SET", &format!("y:{writer}:{pair}"), &round.to_string()]);
        }
        client.flush();
        client.receive_all(2 * PAIRS);
    };
    let read = |client: &mut Client, writer, seen: &Seen| {
        for pair in 0..PAIRS {
            client.push(["GET", &format!("y:{writer}:{pair}")]);
            client.push(["GET", &format!("x:{writer}:{pair}")]);
        }
        client.flush();
        for pair in client.receive_all(2 * PAIRS).chunks(2) {
            seen.note(version(&pair[1]) >= version(&pair[0]));
        }
    };
    watch(address, rounds, write, read)
}

fn pipelined_readers_see_no_older_data(shards: usize) {
    let server = Server::start(shards);
    read_in_reverse(server.address(), scaled(400)).check();
}

/// The job is stored, then queued; whoever pops it finds it.
fn queues_never_lack_their_jobs(shards: usize) {
    let server = Server::start(shards);
    let write = |client: &mut Client, writer, round: usize| {
        for n in 0..DEPTH {
            let job = format!("job:{writer}:{round}:{n}");
            client.push(["SET", &job, "work"]);
            client.push(["LPUSH", &format!("queue:{writer}"), &job]);
        }
        client.flush();
        client.receive_all(2 * DEPTH);
    };
    let read = |client: &mut Client, writer, seen: &Seen| {
        if let Reply::Bulk(job) = client.call(["RPOP", &format!("queue:{writer}")]) {
            let found = client.call([b"GET", &job[..]]);
            seen.note(found == Reply::bulk("work"));
        }
    };
    watch(server.address(), scaled(400), write, read).check();
}

/// MSET over keys of several shards comes before the pointer that is pipelined after it.
fn sets_of_several_keys_stand_in_the_order(shards: usize) {
    let server = Server::start(shards);
    const PARTS: usize = 6;
    let part = |writer: usize, part: usize| format!("part:{writer}:{part}");
    let write = |client: &mut Client, writer, round: usize| {
        let parts = (0..PARTS).flat_map(|n| [part(writer, n), round.to_string()]);
        client.push(std::iter::once("MSET".to_owned()).chain(parts));
        client.push(["SET", &format!("pointer:{writer}"), &round.to_string()]);
        client.flush();
        client.receive_all(2);
    };
    let read = |client: &mut Client, writer, seen: &Seen| {
        client.push(["GET", &format!("pointer:{writer}")]);
        let parts = (0..PARTS).map(|n| part(writer, n));
        client.push(std::iter::once("MGET".to_owned()).chain(parts));
        client.flush();
        let pointer = version(&client.receive());
        let parts = client.receive().into_items();
        seen.note(parts.iter().all(|part| version(part) >= pointer));
    };
    watch(server.address(), scaled(1_500), write, read).check();
}

/// Writers set several keys at once, readers read them at once, forwards and backwards: all keys tell
/// of the same round.
fn read_together(address: SocketAddr, rounds: usize) -> Seen {
    const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let write = |client: &mut Client, writer, round: usize| {
        let value = format!("{}", round * WRITERS + writer);
        for _ in 0..2 {
            client.push(["MSET"].into_iter().chain(KEYS.iter().flat_map(|key| [*key, &value])));
        }
        client.flush();
        client.receive_all(2);
    };
    let read = |client: &mut Client, _, seen: &Seen| {
        client.push(["MGET"].into_iter().chain(KEYS));
        client.push(["MGET"].into_iter().chain(KEYS.into_iter().rev()));
        client.flush();
        for reply in client.receive_all(2) {
            let values = reply.into_items();
            seen.note(values.iter().all(|value| *value == values[0]));
        }
    };
    watch(address, rounds, write, read)
}

fn sets_of_several_keys_are_seen_whole(shards: usize) {
    let server = Server::start(shards);
    read_together(server.address(), scaled(400)).check();
}

/// One connection alone: each command sees all earlier ones, single-key and multi-key mixed.
fn own_pipelines_take_effect_in_program_order(shards: usize) {
    let server = Server::start(shards);
    thread::scope(|scope| {
        for writer in 0..6 {
            let mut client = server.connect();
            scope.spawn(move || {
                for round in 0..scaled(100) {
                    check_program_order(&mut client, writer, round);
                }
            });
        }
    });
}

fn check_program_order(client: &mut Client, writer: usize, round: usize) {
    let value = round.to_string();
    let keys: Vec<_> = (0..8).map(|n| format!("own:{writer}:{n}")).collect();
    let all = |name: &str| std::iter::once(name.to_owned()).chain(keys.iter().cloned());
    for key in &keys {
        client.push(["SET", key, &value]);
        client.push(["INCR", key]);
    }
    client.push(all("MGET"));
    client.push(all("DEL"));
    client.push(["EXISTS", &keys[3]]);
    let values = keys.iter().flat_map(|key| [key.clone(), value.clone()]);
    client.push(std::iter::once("MSET".to_owned()).chain(values));
    client.push(["GETDEL", &keys[5]]);
    client.push(all("EXISTS"));
    client.flush();
    let next = Reply::bulk((round + 1).to_string());
    for _ in &keys {
        assert_eq!(client.receive(), Reply::ok());
        assert_eq!(client.receive(), Reply::Integer(round as i64 + 1));
    }
    assert_eq!(client.receive(), Reply::Array(vec![next; keys.len()]));
    assert_eq!(client.receive(), Reply::Integer(8));
    assert_eq!(client.receive(), Reply::Integer(0));
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(client.receive(), Reply::bulk(&value));
    assert_eq!(client.receive(), Reply::Integer(7));
}

/// A value moves from one key to another while readers pipeline a GET of each, the old name first:
/// who finds the old name gone finds the value, or a later one, under the new name.
fn renames_happen_at_one_instant(shards: usize) {
    let server = Server::start(shards);
    let seen = Seen::default();
    let rounds = scaled(1_500);
    let is_over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut reader = connect(server.address());
                let mut greatest = 0;
                while is_over.load(Ordering::Relaxed) == 0 {
                    reader.push(["GET", "old"]);
                    reader.push(["GET", "new"]);
                    reader.flush();
                    let (old, new) = (number(reader.receive()), number(reader.receive()));
                    if let Some(old) = old {
                        greatest = greatest.max(old);
                    } else if greatest > 0 {
                        seen.note(new.is_some_and(|new| new >= greatest));
                    }
                }
            });
        }
        // Several connections in turn, so that the renames come from several workers.
        let mut writers: Vec<_> = (0..WRITERS).map(|_| connect(server.address())).collect();
        for round in 1..=rounds {
            let writer = &mut writers[round % WRITERS];
            writer.call(["SET", "old", &round.to_string()]);
            writer.call(["RENAME", "old", "new"]);
        }
        is_over.store(1, Ordering::Relaxed);
    });
    seen.check();
}

fn number(reply: Reply) -> Option<u64> {
    (!reply.is_null()).then(|| reply.into_text().parse().expect("a number"))
}
