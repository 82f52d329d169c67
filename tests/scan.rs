//! SCAN's guarantee: what is there from the first call to the last is returned, whatever the
//! table does meanwhile, and nothing is returned that never was there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    a_quiet_table_is_walked_whole,
    options,
    guarantee_while_the_table_grows,
    guarantee_while_the_table_shrinks,
    guarantee_while_others_write,
    any_cursor_is_harmless,
);

fn fill(client: &mut Client, prefix: &str, count: usize) {
    for first in (0..count).step_by(1_000) {
        let numbers = first..count.min(first + 1_000);
        for n in numbers.clone() {
            client.push(["SET", &format!("{prefix}:{n}"), "v"]);
        }
        client.flush();
        client.receive_all(numbers.len());
    }
}

fn remove(client: &mut Client, prefix: &str, numbers: std::ops::Range<usize>) {
    for n in numbers.clone() {
        client.push(["DEL", &format!("{prefix}:{n}")]);
    }
    client.flush();
    client.receive_all(numbers.len());
}

/// One call of SCAN: the next cursor and the keys.
fn scan(client: &mut Client, cursor: &str, options: &[&str]) -> (String, Vec<String>) {
    let mut command = vec!["SCAN", cursor];
    command.extend(options);
    let mut parts = client.call(command).into_items();
    let keys = parts.pop().expect("keys").into_items();
    let cursor = parts.pop().expect("a cursor").into_text();
    (cursor, keys.into_iter().map(Reply::into_text).collect())
}

/// A whole walk; `between` is called after each step with the number of steps so far.
fn walk(client: &mut Client, options: &[&str], mut between: impl FnMut(usize)) -> Vec<String> {
    let (mut cursor, mut all) = ("0".to_owned(), Vec::new());
    for step in 1.. {
        let (next, keys) = scan(client, &cursor, options);
        all.extend(keys);
        if next == "0" {
            break;
        }
        assert!(step < 1_000_000, "the walk does not end");
        cursor = next;
        between(step);
    }
    all
}

#[track_caller]
fn check_complete(seen: &[String], prefix: &str, count: usize) {
    let seen: BTreeSet<_> = seen.iter().map(String::as_str).collect();
    let missed: Vec<_> =
        (0..count).filter(|n| !seen.contains(format!("{prefix}:{n}").as_str())).collect();
    assert!(missed.is_empty(), "{} of {count} keys missed: {:?}", missed.len(), missed.first());
}

fn a_quiet_table_is_walked_whole(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    assert_eq!(walk(&mut client, &[], |_| ()), Vec::<String>::new());
    for count in [1, 10, 3_000] {
        client.run("FLUSHALL");
        fill(&mut client, "key", count);
        for options in [&[][..], &["COUNT", "1"], &["COUNT", "7"], &["COUNT", "100000"]] {
            let seen = walk(&mut client, options, |_| ());
            check_complete(&seen, "key", count);
            assert_eq!(seen.len(), count, "nothing is returned twice while nothing moves");
        }
    }
}

fn options(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill(&mut client, "a", 100);
    fill(&mut client, "b", 100);
    client.run("RPUSH list x");
    let seen = walk(&mut client, &["MATCH", "a:*"], |_| ());
    check_complete(&seen, "a", 100);
    assert_eq!(seen.len(), 100);
    let seen = walk(&mut client, &["TYPE", "list", "COUNT", "50"], |_| ());
    assert_eq!(seen, ["list"]);
    let seen = walk(&mut client, &["TYPE", "string", "MATCH", "*:7"], |_| ());
    assert_eq!(seen.len(), 2);
    client.transcript(
        "
        SCAN x                  => -ERR invalid cursor
        SCAN 0 COUNT 0          => -ERR syntax error
        SCAN 0 COUNT x          => -ERR value is not an integer or out of range
        SCAN 0 MATCH            => -ERR syntax error
        SCAN 0 WHAT 1           => -ERR syntax error
        SCAN                    => -ERR wrong number of arguments for 'scan' command
        ",
    );
    // As strtoul reads numbers, whoever looks at the cursor.
    for start in [" 0", "+0", "00", " +00"] {
        assert_eq!(scan(&mut client, start, &[]), scan(&mut client, "0", &[]), "{start}");
    }
    for nothing in ["", " ", "+", "0 ", "++0", "-1"] {
        let answer = client.call(["SCAN", nothing]);
        assert_eq!(answer, Reply::Error("ERR invalid cursor".into()), "{nothing}");
    }
}

fn guarantee_while_the_table_grows(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut writer = server.connect();
    fill(&mut client, "stays", 2_000);
    let seen = walk(&mut client, &["COUNT", "10"], |step| {
        if step <= 50 {
            fill(&mut writer, &format!("new:{step}"), 1_000);
        }
    });
    check_complete(&seen, "stays", 2_000);
}

fn guarantee_while_the_table_shrinks(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut writer = server.connect();
    fill(&mut client, "stays", 2_000);
    fill(&mut client, "goes", 50_000);
    let seen = walk(&mut client, &["COUNT", "20"], |step| {
        if step <= 100 {
            remove(&mut writer, "goes", 500 * (step - 1)..500 * step);
        }
    });
    check_complete(&seen, "stays", 2_000);
    let foreign = seen.iter().find(|key| !key.starts_with("stays:") && !key.starts_with("goes:"));
    assert_eq!(foreign, None);
}

fn guarantee_while_others_write(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill(&mut client, "stays", 5_000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3 {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut client = server.connect();
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let prefix = format!("tide:{writer}");
                    fill(&mut client, &prefix, 1_000 + 4_000 * (round % 2));
                    remove(&mut client, &prefix, 0..5_000);
                }
            });
        }
        let walks = (0..scaled(5)).map(|_| walk(&mut client, &["COUNT", "25"], |_| ()));
        let walks: Vec<_> = walks.collect();
        done.store(true, Ordering::Relaxed);
        walks.iter().for_each(|seen| check_complete(seen, "stays", 5_000));
    });
}

/// Cursors come from clients: none may be believed.
fn any_cursor_is_harmless(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill(&mut client, "key", 1_000);
    let mut random = fastrand::Rng::with_seed(7);
    for bits in 0..64 {
        let near = 1u64 << bits;
        for cursor in [near, near - 1, near | 1, random.u64(..), u64::MAX >> bits] {
            let (_, keys) = scan(&mut client, &cursor.to_string(), &["COUNT", "3"]);
            assert!(keys.iter().all(|key| key.starts_with("key:")));
        }
    }
    client.transcript("DBSIZE => :1000");
}
