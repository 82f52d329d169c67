//! Differential test: the same random commands on redis-server 7.0 and on the server under test;
//! each reply is compared byte for byte.
//!
//! Where Redis promises no order, replies are compared as sets; where a reply tells the time,
//! within a minute. `streams.rs` makes the commands: a family is a list of templates there.
//! Where Redis 7.2 or Valkey 8 answer otherwise than 7.0, and Tessera as they do, the difference is
//! listed in `EXCEPTIONS`; each that was met is printed.
//!
//! A failure names the seed, which replays the stream: `TESSERA_DIFFERENTIAL_SEED`. The length is
//! `TESSERA_DIFFERENTIAL_COMMANDS` (default 34,000 a family and number of shards, which makes
//! 102,000 a family).

mod collections;
mod coverage;
mod entries;
mod specials;
mod streams;

use std::collections::BTreeSet;

use streams::{Compare, Family, Step, Stream};

use crate::harness::{Client, Reply, Server, env_number, on_1_2_and_4_shards, redis_server};

on_1_2_and_4_shards!(
    strings,
    keys,
    expiry,
    databases,
    malformed_arguments,
    lists,
    hashes,
    sets,
    sorted_sets,
    bitmaps,
    hyperloglogs,
    places,
    sorts,
    stream_entries,
    transactions
);

fn strings(shards: usize) {
    run(Family::Strings, shards);
}

fn keys(shards: usize) {
    run(Family::Keys, shards);
}

fn expiry(shards: usize) {
    run(Family::Expiry, shards);
}

fn databases(shards: usize) {
    run(Family::Databases, shards);
}

fn malformed_arguments(shards: usize) {
    run(Family::Malformed, shards);
}

fn lists(shards: usize) {
    run(Family::Lists, shards);
}

fn hashes(shards: usize) {
    run(Family::Hashes, shards);
}

fn sets(shards: usize) {
    run(Family::Sets, shards);
}

fn sorted_sets(shards: usize) {
    run(Family::SortedSets, shards);
}

fn bitmaps(shards: usize) {
    run(Family::Bitmaps, shards);
}

fn hyperloglogs(shards: usize) {
    run(Family::HyperLogLogs, shards);
}

fn places(shards: usize) {
    run(Family::Places, shards);
}

fn sorts(shards: usize) {
    run(Family::Sorts, shards);
}

fn stream_entries(shards: usize) {
    run(Family::Streams, shards);
}

fn transactions(shards: usize) {
    run(Family::Transactions, shards);
}

/// Commands sent at once: pipelines of different lengths take different ways.
const BATCHES: [usize; 6] = [1, 2, 7, 20, 60, 200];
/// What is shown of the past when replies differ.
const PAST_SHOWN: usize = 12;

/// A difference that is meant: a command, 7.0's answer and the later one.
struct Exception {
    command: &'static str,
    redis: &'static [u8],
    later: &'static [u8],
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        command: "OBJECT ENCODING",
        redis: b"$9\r\nquicklist\r\n",
        later: b"$8\r\nlistpack\r\n",
        why: "small lists are one listpack since Redis 7.2",
    },
    Exception {
        command: "OBJECT ENCODING",
        redis: b"$9\r\nhashtable\r\n",
        later: b"$8\r\nlistpack\r\n",
        why: "small sets of texts are one listpack since Redis 7.2",
    },
];

/// The exception that allows this difference.
fn exception(step: &Step, redis: &[u8], ours: &[u8]) -> Option<&'static Exception> {
    let command = format!("{step:?}");
    EXCEPTIONS.iter().find(|exception| {
        command.starts_with(exception.command)
            && redis == exception.redis
            && ours == exception.later
    })
}

/// Whether two replies differ in nothing but how the same numbers are written: 7.0 has seventeen digits
/// and few exponents, later versions the shortest text that reads back, and 1.5e+4 for some.
fn differ_in_notation(redis: &Reply, ours: &Reply) -> bool {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    match (redis, ours) {
        (Reply::Array(redis), Reply::Array(ours)) => {
            redis.len() == ours.len()
                && redis.iter().zip(ours).all(|(redis, ours)| differ_in_notation(redis, ours))
        }
        (Reply::Bulk(text), Reply::Bulk(other)) if text != other => {
            let is_later = other.len() < text.len() || other.contains(&b'e');
            let numbers = number(text).zip(number(other));
            is_later && numbers.is_some_and(|(redis, ours)| redis == ours)
        }
        (redis, ours) => redis == ours,
    }
}

/// A reply whose elements may stand in any order, in one that does not depend on how numbers are
/// written.
fn in_order(compare: Compare, reply: &Reply) -> Reply {
    let sorted = |items: &[Reply]| {
        let mut items = items.to_vec();
        items.sort_by_cached_key(|item| match item {
            Reply::Bulk(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok())
                .map_or(Reply::Bulk(text.clone()), |number| Reply::bulk(number.to_string())),
            other => other.clone(),
        });
        Reply::Array(items)
    };
    match (compare, reply) {
        (Compare::Unordered, Reply::Array(items)) => sorted(items),
        (Compare::Walk, Reply::Array(parts)) => match &parts[..] {
            [cursor, Reply::Array(items)] => Reply::Array(vec![cursor.clone(), sorted(items)]),
            _ => reply.clone(),
        },
        _ => reply.clone(),
    }
}

fn run(family: Family, shards: usize) {
    let Some(redis) = redis_server() else { return };
    let server = Server::start(shards);
    let (mut theirs, mut ours) = (redis.connect(), server.connect());
    let seed = env_number("TESSERA_DIFFERENTIAL_SEED", fastrand::u32(..) as usize) as u64;
    let commands = env_number("TESSERA_DIFFERENTIAL_COMMANDS", 34_000);
    let mut stream = Stream::new(family, seed);
    let mut past: Vec<String> = Vec::new();
    let mut batch_number = 0;
    let mut excused = BTreeSet::new();
    while past.len() < commands {
        let batch: Vec<Step> = stream.by_ref().take(BATCHES[batch_number % 6]).collect();
        batch_number += 1;
        send(&mut theirs, &batch);
        send(&mut ours, &batch);
        for step in &batch {
            let expected = (theirs.receive(), theirs.raw().to_vec());
            let got = (ours.receive(), ours.raw().to_vec());
            past.push(format!("{step:?} => {:?}", expected.0));
            let shown_alike = || {
                let [redis, ours] = [&expected.0, &got.0].map(|it| in_order(step.compare, it));
                differ_in_notation(&redis, &ours)
            };
            if let Some(exception) = exception(step, &expected.1, &got.1) {
                excused.insert(exception.why);
            } else if agree(step.compare, &expected, &got) {
                continue;
            } else if shown_alike() {
                excused.insert("numbers are written as short as can be since Redis 7.2");
            } else {
                let shown = past[past.len().saturating_sub(PAST_SHOWN)..].join("\n  ");
                let touched = related(&past, step);
                panic!(
                    "{family:?}, seed {seed}, command {}: got {:?}\nredis-server's story:\n  \
                     {shown}\nof the same keys:\n  {touched}",
                    past.len(),
                    got.0
                );
            }
        }
    }
    for why in excused {
        eprintln!("{family:?}: differs from Redis 7.0: {why}");
    }
}

fn send(client: &mut Client, batch: &[Step]) {
    for step in batch {
        client.push(&step.args);
    }
    client.flush();
}

/// Earlier commands that name one of the step's keys.
fn related(past: &[String], step: &Step) -> String {
    let keys: Vec<_> = step.args[1..].iter().map(|arg| arg.escape_ascii().to_string()).collect();
    let is_related = |line: &&String| {
        line.split(' ').skip(1).any(|word| keys.iter().any(|key| key.len() > 1 && word == key))
    };
    let lines: Vec<_> = past.iter().rev().filter(is_related).take(PAST_SHOWN).cloned().collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
}

fn sorted(items: &[Reply]) -> Vec<Reply> {
    let mut items = items.to_vec();
    items.sort();
    items
}

fn agree(compare: Compare, expected: &(Reply, Vec<u8>), got: &(Reply, Vec<u8>)) -> bool {
    const A_MINUTE_MS: i64 = 60_000;
    match (compare, &expected.0, &got.0) {
        (Compare::Time, Reply::Integer(a), Reply::Integer(b)) if *a > 0 && *b > 0 => {
            (a - b).abs() <= A_MINUTE_MS
        }
        (Compare::Unordered, Reply::Array(a), Reply::Array(b)) => sorted(a) == sorted(b),
        (Compare::Walk, Reply::Array(a), Reply::Array(b)) => match (&a[..], &b[..]) {
            ([cursor, Reply::Array(a)], [other, Reply::Array(b)]) => {
                cursor == other && sorted(a) == sorted(b)
            }
            _ => false,
        },
        (Compare::WithoutTimes, expected, got) => {
            entries::without_times(expected) == entries::without_times(got)
        }
        _ => expected.1 == got.1,
    }
}

#[test]
fn a_difference_is_noticed() {
    let reply = |bytes: &[u8]| {
        let mut raw = Vec::new();
        (crate::harness::read_reply(&mut &bytes[..], &mut raw).expect("RESP"), raw)
    };
    let one_two = reply(b"*2\r\n:1\r\n:2\r\n");
    let two_one = reply(b"*2\r\n:2\r\n:1\r\n");
    let (none, empty) = (reply(b"$-1\r\n"), reply(b"*-1\r\n"));
    assert!(!agree(Compare::Exact, &one_two, &two_one));
    assert!(agree(Compare::Unordered, &one_two, &two_one));
    assert!(!agree(Compare::Unordered, &one_two, &reply(b"*2\r\n:1\r\n:1\r\n")));
    assert!(!agree(Compare::Exact, &none, &empty));
    let scores =
        |text: &str| reply(format!("*2\r\n+a\r\n${}\r\n{text}\r\n", text.len()).as_bytes()).0;
    assert!(differ_in_notation(&scores("-16485.8203125"), &scores("-1.64858203125e+4")));
    assert!(!differ_in_notation(&scores("-16485.8203125"), &scores("-1.64858203126e+4")));
    assert!(differ_in_notation(&scores("0.10000000000000001"), &scores("0.1")));
    assert!(!differ_in_notation(&scores("15"), &scores("15.0")));
    let members = |texts: [&str; 2]| Reply::Array(texts.map(Reply::bulk).to_vec());
    let (plain, short) = (members(["14189.35546875", "7"]), members(["7", "1.418935546875e+4"]));
    assert!(!differ_in_notation(&plain, &short));
    let sorted = |reply: &Reply| in_order(Compare::Unordered, reply);
    assert!(differ_in_notation(&sorted(&plain), &sorted(&short)));
    assert!(!differ_in_notation(&sorted(&plain), &sorted(&members(["7", "1.4e+4"]))));
    let walk = |bytes: &str| reply(format!("*2\r\n{bytes}").as_bytes());
    let (forth, back) =
        (walk("$1\r\n0\r\n*2\r\n:1\r\n:2\r\n"), walk("$1\r\n0\r\n*2\r\n:2\r\n:1\r\n"));
    assert!(agree(Compare::Walk, &forth, &back));
    assert!(!agree(Compare::Walk, &forth, &walk("$1\r\n0\r\n*1\r\n:2\r\n")));
    assert!(!agree(Compare::Walk, &forth, &walk("$1\r\n7\r\n*2\r\n:2\r\n:1\r\n")));
    assert!(agree(Compare::Time, &reply(b":100\r\n"), &reply(b":200\r\n")));
    assert!(!agree(Compare::Time, &reply(b":100\r\n"), &reply(b":-1\r\n")));
    let pending =
        |time, count| reply(format!("*3\r\n$1\r\na\r\n:{time}\r\n:{count}\r\n").as_bytes());
    assert!(agree(Compare::WithoutTimes, &pending(1, 2), &pending(9, 2)));
    assert!(!agree(Compare::WithoutTimes, &pending(1, 2), &pending(1, 3)));
}
