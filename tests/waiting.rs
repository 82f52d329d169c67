//! Clients that wait for keys of several shards: what they are owed nobody else gets, and the first
//! push in the one order serves them, in the instant of the push.
//!
//! Keys without a tag are spread over the shards; waiting clients and pushers over connections, and so
//! over all workers. On one shard the same must hold, of course.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    messages_that_nobody_hears_delay_no_answer,
    an_element_is_moved_before_anybody_reaches_it,
    a_script_or_a_transaction_moves_it_at_its_end,
    an_element_goes_through_many_lists_in_one_instant,
    the_first_of_two_pushes_counts,
    mixed_waiters_are_served_in_their_order,
    a_destination_of_another_type_leaves_the_source,
    entries_of_groups_are_owed_too,
    who_has_waited_counts_as_executed,
    keys_are_awaited_as_long_as_somebody_waits,
    every_element_is_moved_exactly_once,
);

/// Sends lines in one pipeline; answers the replies.
fn pipelined(client: &mut Client, lines: &[&str]) -> Vec<String> {
    lines.iter().for_each(|line| client.push(line.split(' ')));
    client.flush();
    client.receive_all(lines.len()).into_iter().map(shown).collect()
}

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

fn messages_that_nobody_hears_delay_no_answer(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let script = "redis.call('RPUSH', KEYS[1], 'v') return redis.call('PUBLISH', KEYS[1], 'm')";
    for key in ["a", "b", "c", "d"] {
        // The key and the channel of its name live on one shard, and are reached in one turn.
        let mut waiter = server.waiting(&format!("BLPOP {key} 0"), 1);
        let lines = [&format!("RPUSH {key} v")[..], &format!("PUBLISH {key} m")];
        assert_eq!(pipelined(&mut client, &lines), ["1", "0"]);
        assert_eq!(shown(waiter.receive()), format!("[{key} v]"));
        let mut waiter = server.waiting(&format!("BLPOP {key} 0"), 1);
        client.push(["EVAL", script, "1", key]);
        client.push(["EVAL", script, "1", key]);
        client.flush();
        client.receive_all(2);
        assert_eq!(shown(waiter.receive()), format!("[{key} v]"));
        client.call(["DEL", key]);
    }
}

fn an_element_is_moved_before_anybody_reaches_it(shards: usize) {
    let server = Server::start(shards);
    let mut thief = server.connect();
    for nth in 0..scaled(20) {
        let target = ["a", "b", "c", "d"][nth % 4];
        let mut waiter = server.waiting(&format!("BLMOVE src {target} LEFT RIGHT 0"), 1);
        let replies = pipelined(
            &mut thief,
            &["RPUSH src v w", "LPOP src", "LPOP src", &format!("LRANGE {target} 0 -1")],
        );
        assert_eq!(replies, ["2", "w", "nil", "[v]"]);
        assert_eq!(shown(waiter.receive()), "v");
        // A second one waits as its predecessor did, and is served by something else than a push.
        let mut waiter = server.waiting(&format!("BRPOPLPUSH src {target} 0"), 1);
        let replies = pipelined(
            &mut thief,
            &["RPUSH other x", "RENAME other src", "EXISTS src", &format!("LPOP {target}")],
        );
        assert_eq!(replies, ["1", "OK", "0", "x"]);
        assert_eq!(shown(waiter.receive()), "x");
        thief.call(["DEL", target]);
    }
}

fn a_script_or_a_transaction_moves_it_at_its_end(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let declared = "redis.call('RPUSH', KEYS[1], 'v') return redis.call('LLEN', KEYS[1])";
    let hidden = "redis.call('RPUSH', 'src', 'v') return redis.call('LLEN', 'src')";
    for target in ["a", "b", "c", "d"] {
        for (script, keys) in [(declared, &["1", "src"][..]), (hidden, &["0"])] {
            let mut waiter = server.waiting(&format!("BLMOVE src {target} LEFT RIGHT 0"), 1);
            client.push(["EVAL", script].iter().chain(keys));
            client.push(["LPOP", "src"]);
            client.push(["LPOP", target]);
            client.flush();
            let replies: Vec<String> = client.receive_all(3).into_iter().map(shown).collect();
            assert_eq!(replies, ["1", "nil", "v"], "{script}");
            assert_eq!(shown(waiter.receive()), "v");
        }
        let mut waiter = server.waiting(&format!("BLMOVE src {target} LEFT RIGHT 0"), 1);
        let lines = ["MULTI", "RPUSH src x", "LPOP src", "RPUSH src v", "EXEC", "LPOP src"];
        let replies = pipelined(&mut client, &lines);
        assert_eq!(replies[4..], ["[1 x 1]", "nil"]);
        assert_eq!(shown(waiter.receive()), "v");
        assert_eq!(shown(client.call(["LPOP", target])), "v");
    }
}

fn an_element_goes_through_many_lists_in_one_instant(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let path = ["a", "b", "c", "d", "e", "f"];
    for nth in 0..scaled(5) {
        let mut movers: Vec<Client> = path
            .windows(2)
            .enumerate()
            .map(|(count, hop)| {
                let line = format!("BLMOVE {} {} LEFT RIGHT 0", hop[0], hop[1]);
                server.waiting(&line, count + 1)
            })
            .collect();
        let value = nth.to_string();
        let push = format!("RPUSH a {value}");
        let replies = pipelined(&mut client, &[&push, "EXISTS a b c d e f", "LPOP f"]);
        assert_eq!(replies, ["1", "1", &value]);
        for mover in &mut movers {
            assert_eq!(shown(mover.receive()), value);
        }
    }
}

/// A client that pipelines pushes to keys of several shards: whoever waits for all of them gets what
/// was pushed first.
fn the_first_of_two_pushes_counts(shards: usize) {
    let server = Server::start(shards);
    let mut pusher = server.connect();
    let keys = ["a", "b", "c", "d"];
    for nth in 0..scaled(40) {
        let (first, second) = (keys[nth % 4], keys[(nth / 4 + nth + 1) % 4]);
        if first == second {
            continue;
        }
        let mut waiter = server.waiting("BLPOP a b c d 0", 1);
        let lines = [format!("RPUSH {first} one"), format!("RPUSH {second} two")];
        pipelined(&mut pusher, &[&lines[0], &lines[1]]);
        assert_eq!(shown(waiter.receive()), format!("[{first} one]"));
        assert_eq!(shown(pusher.call(["LPOP", second])), "two");
    }
}

fn mixed_waiters_are_served_in_their_order(shards: usize) {
    let server = Server::start(shards);
    let lines = [
        "BLPOP src 0",
        "BLMOVE src a LEFT RIGHT 0",
        "BLPOP x src y 0",
        "BLMOVE src b LEFT RIGHT 0",
        "BLMPOP 0 2 z src LEFT",
    ];
    let mut waiters: Vec<Client> =
        (1..).zip(lines).map(|(count, line)| server.waiting(line, count)).collect();
    let replies = pipelined(&mut server.connect(), &["RPUSH src 1 2 3", "RPUSH src 4 5 6"]);
    assert_eq!(replies, ["3", "3"]);
    let served: Vec<String> = waiters.iter_mut().map(|it| shown(it.receive())).collect();
    assert_eq!(served, ["[src 1]", "2", "[src 3]", "4", "[src [5]]"]);
    assert_eq!(shown(server.connect().run("LRANGE src 0 -1")), "[6]");
}

fn a_destination_of_another_type_leaves_the_source(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for wrong in ["a", "b", "c", "d"] {
        client.call(["SET", wrong, "text"]);
        let mut refused = server.waiting(&format!("BLMOVE src {wrong} LEFT RIGHT 0"), 1);
        let mut next = server.waiting("BLPOP src 0", 2);
        assert_eq!(pipelined(&mut client, &["RPUSH src v w", "LPOP src"]), ["2", "w"]);
        assert!(shown(refused.receive()).starts_with("WRONGTYPE"));
        assert_eq!(shown(next.receive()), "[src v]");
    }
}

fn entries_of_groups_are_owed_too(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for stream in ["s", "t", "u"] {
        client.call(["XGROUP", "CREATE", stream, "g", "$", "MKSTREAM"]);
    }
    let read = "XREADGROUP GROUP g one BLOCK 0 STREAMS s t u > > >";
    let steal = "XREADGROUP GROUP g thief STREAMS s t u > > >";
    for (nth, stream) in ["s", "t", "u"].into_iter().enumerate() {
        let mut waiter = server.waiting(read, 1);
        let add = format!("XADD {stream} {}-1 f v", nth + 1);
        let replies = pipelined(&mut client, &[&add, steal]);
        assert_eq!(replies[1], "nil");
        let expected = format!("[[{stream} [[{}-1 [f v]]]]]", nth + 1);
        assert_eq!(shown(waiter.receive()), expected);
    }
    // Two of its streams in one unit: both are read.
    let mut waiter = server.waiting(read, 1);
    pipelined(&mut client, &["MULTI", "XADD u 9-1 f x", "XADD s 9-1 f y", "EXEC"]);
    assert_eq!(shown(waiter.receive()), "[[s [[9-1 [f y]]]] [u [[9-1 [f x]]]]]");
    // A group that is gone, by a command and by itself.
    let mut waiter = server.waiting(read, 1);
    client.run("XGROUP DESTROY t g");
    let error = shown(waiter.receive());
    assert!(error.starts_with("NOGROUP No such key 't'"), "{error}");
    client.run("XGROUP CREATE t g $");
    let mut waiter = server.waiting(read, 1);
    client.run("PEXPIRE u 20");
    let error = shown(waiter.receive());
    assert!(error.starts_with("NOGROUP No such key 'u'"), "{error}");
}

fn who_has_waited_counts_as_executed(shards: usize) {
    let server = Server::builder(shards).option("slowlog-log-slower-than", 0).start();
    let mut client = server.connect();
    let figures = |client: &mut Client| {
        let stats = client.run("INFO commandstats").into_text();
        let calls = stats.lines().find(|line| line.starts_with("cmdstat_blmove"));
        let slow = shown(client.run("SLOWLOG GET 100")).matches("BLMOVE src").count();
        (calls.map(|line| line.split(',').next().unwrap_or_default().to_owned()), slow)
    };
    let mut waiter = server.connect();
    let id = waiter.run("CLIENT ID").into_integer();
    let commands = |client: &mut Client| {
        let line = client.call(["CLIENT", "LIST", "ID", &id.to_string()]).into_text();
        line.split("tot-cmds=").nth(1).map(|rest| rest.trim().to_owned())
    };
    waiter.push(["BLMOVE", "src", "dst", "LEFT", "LEFT", "0"]);
    waiter.flush();
    server.wait_for_blocked(1);
    assert_eq!(figures(&mut client), (None, 0));
    assert_eq!(commands(&mut client).as_deref(), Some("1"));
    client.run("RPUSH src v");
    assert_eq!(shown(waiter.receive()), "v");
    assert_eq!(figures(&mut client), (Some("cmdstat_blmove:calls=1".into()), 1));
    assert_eq!(commands(&mut client).as_deref(), Some("2"));
}

fn keys_are_awaited_as_long_as_somebody_waits(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let awaited =
        || [server.info("total_blocking_keys"), server.info("total_blocking_keys_on_nokey")];
    client.run("XGROUP CREATE s g $ MKSTREAM");
    let lists = server.waiting("BLPOP a b c d 0", 1);
    let reader = server.waiting("XREADGROUP GROUP g r BLOCK 0 STREAMS s >", 2);
    let mut patient = server.waiting("BLPOP a 0", 3);
    assert_eq!(awaited(), ["5", "1"]);
    drop(reader);
    server.wait_for_blocked(2);
    assert_eq!(awaited(), ["4", "0"]);
    drop(lists);
    server.wait_for_blocked(1);
    assert_eq!(awaited(), ["1", "0"]);
    client.run("RPUSH a v");
    assert_eq!(shown(patient.receive()), "[a v]");
    assert_eq!(awaited(), ["0", "0"]);
}

/// Movers from two queues to lists of their own, who leave while they wait and come again: every
/// element is in one place at the end.
fn every_element_is_moved_exactly_once(shards: usize) {
    let (pushers, movers, each) = (2, 5, scaled(150));
    let server = Server::start(shards);
    thread::scope(|scope| {
        for pusher in 0..pushers {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for nth in 0..each {
                    let (key, element) = (format!("q{}", nth % 2), format!("{pusher}:{nth}"));
                    client.call(["RPUSH", &key, &element]);
                }
            });
        }
        for mover in 0..movers {
            let server = &server;
            scope.spawn(move || {
                let mut random = Rng::with_seed(mover);
                let own = format!("own{mover}");
                let mut idle = 0;
                while idle < 3 {
                    let mut client = server.connect();
                    let queue = ["q0", "q1"][random.usize(..2)];
                    for _ in 0..random.usize(1..8) {
                        let reply = client.call(["BLMOVE", queue, &own, "LEFT", "RIGHT", "0.3"]);
                        idle = if reply.is_null() { idle + 1 } else { 0 };
                    }
                    // It leaves in the middle of a wait, or of being served.
                    client.push(["BLMOVE", queue, &own, "LEFT", "RIGHT", "0"]);
                    client.flush();
                    if random.bool() {
                        thread::sleep(Duration::from_millis(random.u64(0..5)));
                    }
                }
            });
        }
    });
    let mut client = server.connect();
    let lists = ["q0", "q1"].map(String::from).into_iter();
    let lists = lists.chain((0..movers).map(|mover| format!("own{mover}")));
    let mut found = Vec::new();
    for list in lists {
        let elements = client.call(["LRANGE", &list, "0", "-1"]).into_items();
        found.extend(elements.into_iter().map(Reply::into_text));
    }
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!((found.len(), unique.len()), (pushers * each, pushers * each));
}
