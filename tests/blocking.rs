//! Commands that wait for data.
//!
//! Waiting clients and pushers are spread over connections, and so over all workers; the keys of one
//! command live on several shards. "Waits" is asked of the server (INFO's `blocked_clients`), not of
//! the clock.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    what_comes_is_given_to_who_waits,
    what_is_there_is_taken_at_once,
    first_come_first_served,
    a_push_in_a_pipeline_is_owed_to_the_waiter,
    lists_are_moved_over_shards,
    serving_one_may_serve_another,
    any_command_that_makes_the_key_serves,
    values_of_other_types_serve_nobody,
    streams_are_read_when_entries_come,
    times_are_kept_and_refused,
    waits_are_ended_by_other_clients,
    who_is_gone_takes_nothing,
    commands_behind_wait_too,
    a_transaction_serves_at_its_end,
    a_script_serves_at_its_end,
    every_element_is_popped_exactly_once,
);

/// A reply as one line: elements in brackets, null as `nil`.
fn shown(reply: Reply) -> String {
    match reply {
        null if null.is_null() => "nil".into(),
        Reply::Integer(number) => number.to_string(),
        Reply::Simple(text) | Reply::Error(text) => text,
        Reply::Array(items) => {
            let items: Vec<String> = items.into_iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        other => other.into_text(),
    }
}

fn what_comes_is_given_to_who_waits(shards: usize) {
    let server = Server::start(shards);
    let mut pusher = server.connect();
    for (waits, comes, reply) in [
        ("BLPOP k 0", "RPUSH k v w", "[k v]"),
        ("BRPOP a b c d 0", "RPUSH c v w", "[c w]"),
        ("BLMPOP 0 3 e f g RIGHT COUNT 2", "RPUSH f 1 2 3", "[f [3 2]]"),
        ("BZPOPMIN h i j 0", "ZADD i 1 x 2 y", "[i x 1]"),
        ("BZPOPMAX l 0", "ZADD l 1 x 2 y", "[l y 2]"),
        ("BZMPOP 0 2 m n MAX COUNT 5", "ZADD n 1 x 2 y", "[n [[y 2] [x 1]]]"),
    ] {
        let mut client = server.waiting(waits, 1);
        pusher.run(comes);
        assert_eq!(shown(client.receive()), reply, "{waits}, {comes}");
        server.wait_for_blocked(0);
    }
    assert_eq!(shown(pusher.run("LRANGE k 0 -1")), "[w]");
    assert_eq!(shown(pusher.run("EXISTS n l h e")), "1");
}

fn what_is_there_is_taken_at_once(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for line in ["RPUSH a 1 2", "RPUSH b 3", "ZADD z 1 m", "XADD s 1-1 f v"] {
        client.run(line);
    }
    for (line, reply) in [
        ("BLPOP none b a 0", "[b 3]"),
        ("BLPOP none b a 0", "[a 1]"),
        ("BLMOVE a t LEFT LEFT 0", "2"),
        ("BRPOPLPUSH t u 0", "2"),
        ("BZPOPMAX none z 0", "[z m 1]"),
        ("XREAD BLOCK 0 STREAMS s none 0 0", "[[s [[1-1 [f v]]]]]"),
        ("BLPOP s 0", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        assert_eq!(shown(client.run(line)), reply, "{line}");
    }
}

fn first_come_first_served(shards: usize) {
    let server = Server::start(shards);
    let mut waiters: Vec<Client> = (0..5)
        .map(|nth| {
            let line = if nth % 2 == 0 { "BLPOP other k 0" } else { "BLPOP k 0" };
            server.waiting(line, nth + 1)
        })
        .collect();
    assert_eq!(server.connect().run("RPUSH k 0 1 2"), Reply::Integer(3));
    server.connect().run("RPUSH k 3 4 5");
    for (nth, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(shown(waiter.receive()), format!("[k {nth}]"));
    }
    assert_eq!(shown(server.connect().run("LRANGE k 0 -1")), "[5]");
}

fn a_push_in_a_pipeline_is_owed_to_the_waiter(shards: usize) {
    let server = Server::start(shards);
    let mut thief = server.connect();
    for nth in 0..scaled(50) {
        let mut waiter = server.waiting("BLPOP other k 0", 1);
        thief.push(["RPUSH", "k", &nth.to_string()]);
        thief.push(["LPOP", "k"]);
        thief.flush();
        assert_eq!(thief.receive(), Reply::Integer(1));
        assert!(thief.receive().is_null());
        assert_eq!(shown(waiter.receive()), format!("[k {nth}]"));
    }
}

fn lists_are_moved_over_shards(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for target in ["a", "b", "c", "d", "e"] {
        let mut waiter = server.waiting(&format!("BLMOVE src {target} RIGHT LEFT 0"), 1);
        client.run("RPUSH src 1 2");
        assert_eq!(shown(waiter.receive()), "2");
        assert_eq!(shown(client.call(["LRANGE", target, "0", "-1"])), "[2]");
        assert_eq!(shown(client.run("LPOP src")), "1");
    }
    // A destination of the wrong type: the error is the answer, and nothing is lost.
    client.run("SET wrong 1");
    let mut waiter = server.waiting("BRPOPLPUSH src wrong 0", 1);
    client.run("RPUSH src v");
    assert!(shown(waiter.receive()).starts_with("WRONGTYPE"));
    assert_eq!(shown(client.run("LRANGE src 0 -1")), "[v]");
}

fn serving_one_may_serve_another(shards: usize) {
    let server = Server::start(shards);
    let mut last = server.waiting("BLPOP c 0", 1);
    let mut second = server.waiting("BLMOVE b c LEFT LEFT 0", 2);
    let mut first = server.waiting("BLMOVE a b LEFT LEFT 0", 3);
    server.connect().run("RPUSH a v");
    assert_eq!(shown(first.receive()), "v");
    assert_eq!(shown(second.receive()), "v");
    assert_eq!(shown(last.receive()), "[c v]");
    assert_eq!(server.connect().run("EXISTS a b c"), Reply::Integer(0));
}

fn any_command_that_makes_the_key_serves(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for comes in [
        "RENAME list k",
        "RENAMENX list k",
        "COPY list k",
        "SORT list ALPHA STORE k",
        "LMOVE list k LEFT LEFT",
        "RPOPLPUSH list k",
        "SELECT 1;MOVE k 0",
        "SELECT 1;SWAPDB 0 1",
    ] {
        client.run("FLUSHALL");
        client.run("RPUSH list v");
        client.run("SELECT 1");
        client.run("RPUSH k v");
        client.run("SELECT 0");
        let mut waiter = server.waiting("BLPOP k none 0", 1);
        comes.split(';').for_each(|line| _ = client.run(line));
        assert_eq!(shown(waiter.receive()), "[k v]", "{comes}");
        client.run("SELECT 0");
    }
    client.run("FLUSHALL");
    client.run("ZADD a 1 m");
    client.run("ZADD b 2 n");
    let mut waiter = server.waiting("BZPOPMIN k 0", 1);
    client.run("ZUNIONSTORE k 2 a b");
    assert_eq!(shown(waiter.receive()), "[k m 1]");
}

fn values_of_other_types_serve_nobody(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut lists = server.waiting("BLPOP k 0", 1);
    let mut sorted = server.waiting("BZPOPMIN k 0", 2);
    client.run("SADD k x");
    client.run("DEL k");
    client.run("ZADD k 1 m");
    assert_eq!(shown(sorted.receive()), "[k m 1]");
    client.run("RPUSH k v");
    assert_eq!(shown(lists.receive()), "[k v]");
}

fn streams_are_read_when_entries_come(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("XADD s 1-1 f old");
    let mut one = server.waiting("XREAD BLOCK 0 STREAMS s $", 1);
    let mut many = server.waiting("XREAD BLOCK 0 STREAMS t s u $ $ $", 2);
    client.run("XADD s 2-1 f new");
    assert_eq!(shown(one.receive()), "[[s [[2-1 [f new]]]]]");
    assert_eq!(shown(many.receive()), "[[s [[2-1 [f new]]]]]");

    client.run("XGROUP CREATE s g $");
    let mut first = server.waiting("XREADGROUP GROUP g a BLOCK 0 STREAMS s >", 1);
    let mut second = server.waiting("XREADGROUP GROUP g b BLOCK 0 STREAMS s >", 2);
    client.run("XADD s 3-1 f v");
    assert_eq!(shown(first.receive()), "[[s [[3-1 [f v]]]]]");
    server.wait_for_blocked(1);
    client.run("DEL s");
    let error = shown(second.receive());
    assert!(error.starts_with("NOGROUP"), "{error}");
}

fn times_are_kept_and_refused(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let begun = Instant::now();
    assert!(client.run("BLPOP k 0.05").is_null());
    assert!(client.run("BZPOPMIN k l m 0.05").is_null());
    assert!(client.run("XREAD BLOCK 50 STREAMS s $").is_null());
    assert!(client.run("BLMOVE k l LEFT LEFT 0.05").is_null());
    assert!(begun.elapsed() >= Duration::from_millis(200), "a wait was cut short");
    for (line, error) in [
        ("BLPOP k x", "ERR timeout is not a float or out of range"),
        ("BLPOP k -1", "ERR timeout is negative"),
        ("BLMOVE k l LEFT LEFT 1e300", "ERR timeout is out of range"),
        ("BLMPOP -1 1 k LEFT", "ERR timeout is negative"),
        ("BZMPOP 0 0 k MIN", "ERR numkeys should be greater than 0"),
        ("XREAD BLOCK 1.5 STREAMS s $", "ERR timeout is not an integer or out of range"),
    ] {
        assert_eq!(shown(client.run(line)), error, "{line}");
    }
}

fn waits_are_ended_by_other_clients(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut waiter = server.connect();
    let id = waiter.run("CLIENT ID").into_integer().to_string();
    assert_eq!(client.call(["CLIENT", "UNBLOCK", &id]), Reply::Integer(0));
    for (reason, reply) in
        [("TIMEOUT", "nil"), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")]
    {
        waiter.push(["BLPOP", "a", "b", "0"]);
        waiter.flush();
        server.wait_for_blocked(1);
        let list = client.run("CLIENT LIST").into_text();
        assert!(list.contains(" flags=b "), "{list}");
        assert_eq!(client.call(["CLIENT", "UNBLOCK", &id, reason]), Reply::Integer(1));
        assert_eq!(shown(waiter.receive()), reply);
    }
    client.run("RPUSH a v");
    assert_eq!(client.run("LLEN a"), Reply::Integer(1), "nobody waits any more");
    let counted = client.run("INFO commandstats").into_text();
    assert!(counted.contains("cmdstat_blpop:calls=2,"), "{counted}");
}

fn who_is_gone_takes_nothing(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for nth in 0..scaled(20) {
        let mut gone = server.waiting("BLPOP a k b 0", 1);
        let mut stays = server.waiting("BLPOP k 0", 2);
        if nth % 2 == 0 {
            drop(gone);
        } else {
            gone.finish_sending();
        }
        server.wait_for_blocked(1);
        client.call(["RPUSH", "k", &nth.to_string()]);
        assert_eq!(shown(stays.receive()), format!("[k {nth}]"));
    }
    let _killed = server.waiting("BLPOP k 0", 1);
    client.run("CLIENT KILL TYPE normal");
    server.wait_for_blocked(0);
    assert_eq!(client.run("RPUSH k v"), Reply::Integer(1));
    assert_eq!(client.run("LLEN k"), Reply::Integer(1));
}

fn commands_behind_wait_too(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut waiter = server.connect();
    for line in ["SET before 1", "BLPOP k l 0", "SET behind 1", "PING"] {
        waiter.push(line.split(' '));
    }
    waiter.flush();
    assert_eq!(waiter.receive(), Reply::ok());
    server.wait_for_blocked(1);
    assert_eq!(client.run("EXISTS before behind"), Reply::Integer(1));
    client.run("RPUSH l v");
    assert_eq!(shown(waiter.receive()), "[l v]");
    assert_eq!(waiter.receive(), Reply::ok());
    assert_eq!(shown(waiter.receive()), "PONG");
}

fn a_transaction_serves_at_its_end(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut run = |line: &str| shown(client.run(line));
    for (queued, replies, served) in [
        ("RPUSH a 1;LPOP a;RPUSH a 2;RPUSH a 3;DEL none", "[1 1 1 2 0]", "[a 2]"),
        ("RPUSH b 1;RPUSH c 2;BLPOP none 0", "[1 1 nil]", "[b 1]"),
        ("RPUSH c 1;RPUSH a 2;RPUSH b 3", "[1 1 1]", "[a 2]"),
    ] {
        run("FLUSHALL");
        let mut waiter = server.waiting("BLPOP a b c 0", 1);
        run("MULTI");
        queued.split(';').for_each(|line| assert_eq!(run(line), "QUEUED"));
        assert_eq!(run("EXEC"), replies, "{queued}");
        assert_eq!(shown(waiter.receive()), served, "{queued}");
    }
}

fn a_script_serves_at_its_end(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for (waits, script, keys, reply) in [
        (
            "BLPOP a 0",
            "redis.call('RPUSH', KEYS[1], 'v') return redis.call('LLEN', KEYS[1])",
            1,
            "[a v]",
        ),
        (
            "BLPOP a b 0",
            "redis.call('RPUSH', KEYS[2], 'x') redis.call('RPUSH', KEYS[1], 'v') \
             return redis.call('LLEN', KEYS[2])",
            2,
            "[a v]",
        ),
    ] {
        let mut waiter = server.waiting(waits, 1);
        let keys = keys.to_string();
        assert_eq!(client.call(["EVAL", script, &keys, "a", "b"]), Reply::Integer(1), "{waits}");
        assert_eq!(shown(waiter.receive()), reply, "the first key that is named counts");
    }
    assert_eq!(shown(client.run("EVAL return{redis.call('BLPOP','none',0)} 0")), "[nil]");
}

/// Poppers over keys of all shards, some of which leave and come again while they wait; what was
/// popped by somebody who read the reply, or is left, is what was pushed, once each.
fn every_element_is_popped_exactly_once(shards: usize) {
    let (pushers, poppers, each) = (3, 6, scaled(400));
    let server = Server::start(shards);
    let mut popped: Vec<String> = thread::scope(|scope| {
        for pusher in 0..pushers {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for nth in 0..each {
                    let (key, element) = (format!("k{}", nth % 4), format!("{pusher}:{nth}"));
                    client.push(["RPUSH", &key, &element]);
                    if nth % 16 == 15 {
                        client.flush();
                        client.receive_all(16);
                    }
                }
                client.flush();
                client.receive_all(each % 16);
            });
        }
        let poppers: Vec<_> = (0..poppers)
            .map(|popper| {
                let server = &server;
                scope.spawn(move || {
                    let mut popped = Vec::new();
                    loop {
                        let mut client = server.connect();
                        for _ in 0..20 {
                            let time = if popper % 2 == 0 { "0.5" } else { "1" };
                            let reply = client.call(["BLPOP", "k0", "k1", "k2", "k3", time]);
                            if reply.is_null() {
                                return popped;
                            }
                            popped.extend(reply.into_items().pop().map(Reply::into_text));
                        }
                    }
                })
            })
            .collect();
        poppers.into_iter().flat_map(|popper| popper.join().expect("a popper")).collect()
    });
    let mut client = server.connect();
    for key in ["k0", "k1", "k2", "k3"] {
        let left = client.call(["LRANGE", key, "0", "-1"]).into_items();
        popped.extend(left.into_iter().map(Reply::into_text));
    }
    let unique: BTreeSet<&String> = popped.iter().collect();
    assert_eq!((popped.len(), unique.len()), (pushers * each, pushers * each));
}
