//! Toy servers of two "shards", to show that the checks of the order object to a fault.
//!
//! [`Fault::NoOrder`] lets the runs of one connection take their places in the shards' mailboxes
//! in any order, against rule (a) of the design, and only puts the *replies* in order: mail to one
//! of the shards leaves late, so effects get ahead of their causes. [`Fault::None`] runs commands
//! one by one on one map.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{follow_pointers, read_in_reverse};
use crate::harness::{Reply, read_reply};

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoOrder,
}

type Command = Vec<Vec<u8>>;
type Map = HashMap<Vec<u8>, Vec<u8>>;
type Job = (Command, Sender<Vec<u8>>);

/// Runs GET and SET; the reply in RESP.
fn execute(map: &mut Map, command: &Command) -> Vec<u8> {
    if command[0] == b"SET" {
        map.insert(command[1].clone(), command[2].clone());
        return b"+OK\r\n".to_vec();
    }
    match map.get(&command[1]) {
        None => b"$-1\r\n".to_vec(),
        Some(value) => {
            let header = format!("${}\r\n", value.len()).into_bytes();
            [&header[..], value, b"\r\n"].concat()
        }
    }
}

/// A connection's mail to `shard`, each letter of which leaves after `delay`.
fn late_mail(shard: Sender<Job>, delay: Duration) -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    thread::spawn(move || {
        for job in jobs {
            thread::sleep(delay);
            if shard.send(job).is_err() {
                return;
            }
        }
    });
    sender
}

/// A shard's thread: runs what comes.
fn shard() -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    thread::spawn(move || {
        let mut map = Map::new();
        for (command, reply) in jobs {
            // The connection may be gone: its reply is then nobody's.
            let _ = reply.send(execute(&mut map, &command));
        }
    });
    sender
}

/// Pointers and y live on the shard that mail reaches at once, data and x on the other.
fn shard_of(command: &Command) -> usize {
    usize::from(command[1].starts_with(b"data:") || command[1].starts_with(b"x:"))
}

fn serve(stream: TcpStream, run: impl Fn(Command) -> std::sync::mpsc::Receiver<Vec<u8>>) {
    let mut output = stream.try_clone().expect("a second handle");
    let (pending, replies) = channel::<std::sync::mpsc::Receiver<Vec<u8>>>();
    thread::spawn(move || {
        for reply in replies {
            let Ok(bytes) = reply.recv() else { return };
            if output.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut input = BufReader::new(stream);
    while let Ok(request) = read_reply(&mut input, &mut Vec::new()) {
        let command = request.into_items().into_iter().map(Reply::into_bytes).collect();
        if pending.send(run(command)).is_err() {
            return;
        }
    }
}

fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let shards = [shard(), shard()];
    let map = Arc::new(Mutex::new(Map::new()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let late = late_mail(shards[1].clone(), Duration::from_micros(200));
            let (shards, map) = ([shards[0].clone(), late], Arc::clone(&map));
            thread::spawn(move || {
                serve(stream, |command| {
                    let (sender, reply) = channel();
                    if fault == Fault::NoOrder {
                        let to = &shards[shard_of(&command)];
                        to.send((command, sender)).expect("a shard's thread");
                    } else {
                        let mut map = map.lock().expect("no thread panics with it");
                        sender.send(execute(&mut map, &command)).expect("our own receiver");
                    }
                    reply
                });
            });
        }
    });
    address
}

#[test]
fn the_checks_object_to_a_server_without_order() {
    let seen = follow_pointers(start(Fault::NoOrder), 20);
    assert!(seen.violations() > 0, "{seen:?}");
    let seen = read_in_reverse(start(Fault::NoOrder), 20);
    assert!(seen.violations() > 0, "{seen:?}");
}

#[test]
fn the_checks_keep_still_before_a_server_with_order() {
    follow_pointers(start(Fault::None), 200).check();
    read_in_reverse(start(Fault::None), 200).check();
}
