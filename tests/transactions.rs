//! MULTI, EXEC, DISCARD, WATCH, UNWATCH; and that what is written as one is read as one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    queueing,
    errors_inside,
    commands_of_the_session_inside,
    subscriptions_inside_take_effect_in_their_place,
    a_long_script_inside_is_suspended,
    watched_keys,
    watched_keys_and_whole_databases,
    watched_keys_that_expire,
    pipelined,
    replies_turned_off,
    resp3,
    paused_writes_wait_whole,
    transfers_keep_the_sum,
    written_as_one_read_as_one,
);

fn queueing(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        EXEC                => -ERR EXEC without MULTI
        DISCARD             => -ERR DISCARD without MULTI
        MULTI               => +OK
        EXEC                => []
        MULTI               => +OK
        SET a 1             => +QUEUED
        SET b 2             => +QUEUED
        MGET a b c          => +QUEUED
        RENAME a c          => +QUEUED
        SINTERSTORE d e f   => +QUEUED
        DBSIZE              => +QUEUED
        KEYS c              => +QUEUED
        EXEC => [+OK +OK [\"1\" \"2\" nil] +OK :0 :2 [\"c\"]]
        MULTI               => +OK
        SET c changed       => +QUEUED
        DISCARD             => +OK
        GET c               => \"1\"
        MULTI               => +OK
        FLUSHALL            => +QUEUED
        DBSIZE              => +QUEUED
        EXEC                => [+OK :0]
        ",
    );
    client.transcript("MULTI => +OK");
    client.transcript("SET a queued => +QUEUED");
    let info = client.run("RESET");
    assert_eq!(info, Reply::Simple("RESET".into()));
    client.transcript("EXISTS a => :0");
}

fn errors_inside(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for bad in ["NOSUCH a", "GET", "MULTI", "WATCH a", "CLIENT NOSUCH", "SHUTDOWN"] {
        client.transcript("MULTI => +OK");
        client.transcript("SET a 1 => +QUEUED");
        assert!(matches!(client.run(bad), Reply::Error(_)), "{bad}");
        client.transcript("SET b 1 => +QUEUED");
        client.transcript("EXEC => -EXECABORT Transaction discarded because of previous errors.");
        client.transcript("EXISTS a b => :0");
    }
    client.transcript(
        "
        MULTI               => +OK
        SET a text          => +QUEUED
        INCR a              => +QUEUED
        LPUSH a 1           => +QUEUED
        ZUNION x a          => +QUEUED
        RENAME nothing b    => +QUEUED
        SET b after         => +QUEUED
        ",
    );
    let replies = client.run("EXEC").into_items();
    let errors: Vec<bool> = replies.iter().map(|it| matches!(it, Reply::Error(_))).collect();
    assert_eq!(errors, [false, true, true, true, true, false]);
    client.transcript("MGET a b => [\"text\" \"after\"]");
    // An EXEC that is refused itself ends the transaction.
    client.transcript("MULTI => +OK");
    client.transcript("SET a 1 => +QUEUED");
    client.transcript(
        "EXEC now => -EXECABORT Transaction discarded because of: wrong number of arguments for \
         'exec' command",
    );
    client.transcript("EXEC => -ERR EXEC without MULTI");
    client.transcript("CONFIG SET requirepass secret => +OK");
    let mut stranger = server.connect();
    stranger.transcript("MULTI => -NOAUTH Authentication required.");
    stranger.transcript(
        "EXEC => -EXECABORT Transaction discarded because of: NOAUTH Authentication required.",
    );
}

fn commands_of_the_session_inside(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        MULTI                    => +OK
        SET a zero               => +QUEUED
        SELECT 3                 => +QUEUED
        SET a three              => +QUEUED
        PING                     => +QUEUED
        CLIENT SETNAME inside    => +QUEUED
        CLIENT GETNAME           => +QUEUED
        SELECT 99                => +QUEUED
        CONFIG SET maxclients 99 => +QUEUED
        ECHO after               => +QUEUED
        EXEC => [+OK +OK +OK +PONG +OK \"inside\" -ERR DB index is out of range +OK \"after\"]
        GET a                    => \"three\"
        SELECT 0                 => +OK
        GET a                    => \"zero\"
        CONFIG GET maxclients    => [\"maxclients\" \"99\"]
        MULTI                    => +OK
        CLIENT LIST              => +QUEUED
        SET a 1                  => +QUEUED
        INFO clients             => +QUEUED
        GET a                    => +QUEUED
        ",
    );
    let replies = client.run("EXEC").into_items();
    let text = |at: usize| replies[at].clone().into_text();
    assert!(text(0).contains("name=inside"), "{}", text(0));
    assert!(text(2).contains("connected_clients:1"), "{}", text(2));
    assert_eq!((&replies[1], &replies[3]), (&Reply::ok(), &Reply::bulk("1")));
    client.transcript("WATCH a => +OK");
    client.transcript("MULTI => +OK");
    client.transcript("PING => +QUEUED");
    let line = server.connect().run("CLIENT LIST").into_text();
    let line = line.lines().find(|line| line.contains("name=inside")).expect("it is listed");
    assert!(line.contains(" flags=x ") && line.contains(" multi=1 watch=1 "), "{line}");
    server.connect().transcript("SET a 2 => +OK");
    let line = server.connect().run("CLIENT LIST").into_text();
    assert!(line.contains(" flags=xd "), "{line}");
    client.transcript("EXEC => nil-array");
}

fn subscriptions_inside_take_effect_in_their_place(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        MULTI              => +OK
        PUBLISH c early    => +QUEUED
        SUBSCRIBE c        => +QUEUED
        SUBSCRIBE d        => +QUEUED
        PSUBSCRIBE c*      => +QUEUED
        PUBLISH c both     => +QUEUED
        UNSUBSCRIBE c      => +QUEUED
        PUBLISH c pattern  => +QUEUED
        PUNSUBSCRIBE       => +QUEUED
        PUBLISH c nobody   => +QUEUED
        PUBLISH d channel  => +QUEUED
        EXEC => [:0 [\"subscribe\" \"c\" :1] [\"subscribe\" \"d\" :2] [\"psubscribe\" \"c*\" :3] \
                 :2 [\"unsubscribe\" \"c\" :2] :1 [\"punsubscribe\" \"c*\" :1] :0 :1]
        ",
    );
    let mut texts: Vec<String> = (0..4)
        .map(|_| client.receive().into_items().pop().expect("a message").into_text())
        .collect();
    // Those of one channel stand in their order; the other's may come between.
    let channel = texts.iter().position(|text| text == "channel").expect("it was subscribed to");
    texts.remove(channel);
    assert_eq!(texts, ["both", "both", "pattern"]);
}

fn a_long_script_inside_is_suspended(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10).start();
    let (mut long, mut other) = (server.connect(), server.connect());
    let is_busy = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with("BUSY "));
    for _ in 0..3 {
        long.transcript("MULTI => +OK");
        long.transcript("SET a before => +QUEUED");
        for _ in 0..2 {
            let queued = long.call(["EVAL", "while true do end", "1", "a"]);
            assert_eq!(queued, Reply::Simple("QUEUED".into()));
        }
        long.transcript("SET b after => +QUEUED");
        long.push(["EXEC"]);
        long.push(["GET", "b"]);
        long.flush();
        while !is_busy(&other.run("PING")) {
            thread::sleep(Duration::from_millis(2));
        }
        assert!(is_busy(&other.run("GET a")), "all commands are refused");
        let is_over = AtomicBool::new(false);
        let replies = thread::scope(|scope| {
            let (is_over, server) = (&is_over, &server);
            // Two scripts run too long, one after the other.
            scope.spawn(move || {
                let mut killer = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    killer.run("SCRIPT KILL");
                }
            });
            let replies = long.receive_all(2);
            is_over.store(true, Ordering::Relaxed);
            replies
        });
        let items = replies[0].clone().into_items();
        let errors: Vec<bool> = items.iter().map(|it| matches!(it, Reply::Error(_))).collect();
        assert_eq!(errors, [false, true, true, false], "{items:?}");
        assert_eq!(replies[1], Reply::bulk("after"));
        other.transcript("MGET a b => [\"before\" \"after\"]");
        other.transcript("DEL a b => :2");
    }
}

fn watched_keys(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut other) = (server.connect(), server.connect());
    // Who changes a watched key, and how; whether EXEC then fails.
    for (before, watch, change, fails) in [
        ("SET a 1", "WATCH a b", "SET a 1", true),
        ("SET a 1", "WATCH a b", "SET b 1", true),
        ("SET a 1", "WATCH a b", "SET c 1", false),
        ("SET a 1", "WATCH a b", "GET a", false),
        ("SET a 1", "WATCH a b", "DEL a", true),
        ("SET a 1", "WATCH a b", "DEL b", false),
        ("SET a 1", "WATCH a b", "RENAME a c", true),
        ("SET c 1", "WATCH a b", "RENAME c b", true),
        ("SADD c 1", "WATCH a b", "SUNIONSTORE a c d", true),
        ("SADD c 1", "WATCH a c", "SUNIONSTORE b c d", false),
        ("SET a 1", "WATCH a", "MSET x 1 a 2 y 3", true),
        ("SET a 1", "WATCH a", "EXPIRE a 100", true),
        ("SET a 1", "WATCH a", "PERSIST a", false),
        ("SET a 1", "WATCH a", "COPY a b", false),
    ] {
        for (by_itself, unwatch) in [(false, ""), (true, ""), (false, "UNWATCH")] {
            other.run("FLUSHALL");
            other.run(before);
            client.run(watch);
            if by_itself { &mut client } else { &mut other }.run(change);
            if !unwatch.is_empty() {
                client.run(unwatch);
            }
            client.run("MULTI");
            client.run("SET done 1");
            client.run("SET too 1");
            let failed = client.run("EXEC").is_null();
            assert_eq!(failed, fails && unwatch.is_empty(), "{before}, {watch}, {change}");
            // After EXEC nothing is watched.
            other.run(change);
            client.run("MULTI");
            client.run("PING");
            assert_eq!(client.run("EXEC").into_items().len(), 1);
        }
    }
    client.transcript("WATCH a => +OK");
    other.transcript("SET a 2 => +OK");
    client.transcript("MULTI => +OK");
    client.transcript("DISCARD => +OK");
    client.transcript("MULTI => +OK");
    client.transcript("EXEC => []");
    // Without MULTI, neither ends the watch.
    client.transcript("WATCH a => +OK");
    other.transcript("SET a 2 => +OK");
    client.transcript("EXEC => -ERR EXEC without MULTI");
    client.transcript("DISCARD => -ERR DISCARD without MULTI");
    client.transcript("MULTI => +OK");
    client.transcript("EXEC => nil-array");
}

fn watched_keys_and_whole_databases(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut other) = (server.connect(), server.connect());
    for (before, change, fails) in [
        (&["SET a 1"][..], "FLUSHALL", true),
        (&["SET a 1"], "FLUSHDB", true),
        (&["SET b 1"], "FLUSHALL", false),
        (&["SET a 1"], "SWAPDB 0 1", true),
        (&["SELECT 1", "SET a 1"], "SWAPDB 0 1", true),
        (&["SELECT 1", "SET b 1"], "SWAPDB 0 1", false),
        (&["SELECT 1", "SET a 1"], "FLUSHDB", false),
        (&["SELECT 1", "SET a 1"], "MOVE a 0", true),
        (&["SELECT 1", "SET a 1"], "SET a 2", false),
    ] {
        other.run("FLUSHALL");
        other.run("SELECT 0");
        before.iter().for_each(|line| drop(other.run(line)));
        client.run("WATCH a");
        other.run(change);
        client.run("MULTI");
        client.run("PING");
        assert_eq!(client.run("EXEC").is_null(), fails, "{before:?}, {change}");
    }
}

fn watched_keys_that_expire(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
    for (deadline, waits, fails) in [("1", true, true), ("100000", true, false)] {
        client.call(["SET", "a", "1", "PX", deadline]);
        client.run("WATCH a");
        if waits {
            thread::sleep(Duration::from_millis(20));
        }
        client.run("MULTI");
        client.run("SET b 1");
        let failed = client.run("EXEC").is_null();
        // The key may be gone before it is watched, and then it does not change.
        assert!(failed == fails || (fails && deadline == "1"), "PX {deadline}");
    }
    client.run("SET a 1 PX 30");
    client.run("WATCH a");
    thread::sleep(Duration::from_millis(60));
    client.run("MULTI");
    client.run("PING");
    assert!(client.run("EXEC").is_null());
    // One that is gone already is watched as such.
    client.run("SET a 1 PX 1");
    thread::sleep(Duration::from_millis(20));
    client.run("WATCH a");
    client.run("MULTI");
    client.run("PING");
    assert_eq!(client.run("EXEC").into_items().len(), 1);
}

fn pipelined(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for round in 0..scaled(50) {
        let (one, two) = (format!("k{round}"), format!("m{}", round * 7));
        let lines = [
            vec!["WATCH", &one, &two],
            vec!["GET", &one],
            vec!["MULTI"],
            vec!["SET", &one, "1"],
            vec!["INCR", &one],
            vec!["SET", &two, "5"],
            vec!["EXEC"],
            vec!["GET", &one],
            vec!["MULTI"],
            vec!["APPEND", &two, "6"],
            vec!["EXEC"],
            vec!["GET", &two],
            vec!["MGET", &one, &two],
            vec!["DEL", &one, &two],
        ];
        lines.iter().for_each(|line| client.push(line));
        client.flush();
        let replies = client.receive_all(lines.len());
        assert_eq!(
            replies[6],
            Reply::Array(vec![Reply::ok(), Reply::Integer(2), Reply::ok()]),
            "{replies:?}"
        );
        assert_eq!(replies[7], Reply::bulk("2"));
        assert_eq!(replies[10], Reply::Array(vec![Reply::Integer(2)]));
        assert_eq!(replies[11], Reply::bulk("56"));
        assert_eq!(replies[12], Reply::Array(vec![Reply::bulk("2"), Reply::bulk("56")]));
        assert_eq!(replies[13], Reply::Integer(2));
    }
}

fn replies_turned_off(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for line in [
        "CLIENT REPLY OFF",
        "WATCH a b",
        "MULTI",
        "SET a 1",
        "SET b 1",
        "EXEC",
        "MULTI",
        "INCR a",
        "EXEC",
        "CLIENT REPLY ON",
        "MGET a b",
    ] {
        client.push(line.split(' '));
    }
    client.flush();
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(client.receive(), Reply::Array(vec![Reply::bulk("2"), Reply::bulk("1")]));
}

fn resp3(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.run("HELLO 3");
    client.transcript("WATCH a => +OK");
    other.transcript("SET a 1 => +OK");
    client.transcript("MULTI => +OK");
    client.transcript("EXEC => null");
    client.transcript("MULTI => +OK");
    client.transcript("HSET h f v => +QUEUED");
    client.transcript("GET nothing => +QUEUED");
    client.transcript("HGETALL h => +QUEUED");
    assert_eq!(
        client.run("EXEC"),
        Reply::Array(vec![
            Reply::Integer(1),
            Reply::Null,
            Reply::Map(vec![Reply::bulk("f"), Reply::bulk("v")]),
        ])
    );
}

fn paused_writes_wait_whole(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut reader, mut other) =
        (server.connect(), server.connect(), server.connect());
    other.transcript("CLIENT PAUSE 60000 WRITE => +OK");
    for line in ["MULTI", "GET a", "SET a 1", "SET b 1", "EXEC"] {
        client.push(line.split(' '));
    }
    client.flush();
    reader.transcript("MULTI => +OK");
    reader.transcript("GET a => +QUEUED");
    reader.transcript("EXEC => [nil]");
    reader.transcript("MGET a b => [nil nil]");
    other.transcript("CLIENT UNPAUSE => +OK");
    assert_eq!(client.receive_all(5)[4].clone().into_items().len(), 3);
    reader.transcript("MGET a b => [\"1\" \"1\"]");
}

const ACCOUNTS: usize = 12;
const SUM: i64 = 1200;

fn account(number: usize) -> String {
    format!("account:{number}")
}

/// A transfer as a script, whose keys are on any shards.
const TRANSFER: &str = "redis.call('DECRBY', KEYS[1], ARGV[1]) \
                        return redis.call('INCRBY', KEYS[2], ARGV[1])";

/// Moves a random amount between two accounts in one of three ways; answers whether it was done.
fn transfer(client: &mut Client, random: &mut Rng) -> bool {
    let (from, to) = (account(random.usize(..ACCOUNTS)), account(random.usize(..ACCOUNTS)));
    let amount = random.i64(1..20);
    let way = random.usize(..3);
    if way == 0 {
        client.call(["EVAL", TRANSFER, "2", &from, &to, &amount.to_string()]);
        return true;
    }
    if way == 1 {
        for line in [
            vec!["MULTI".to_owned()],
            vec!["DECRBY".into(), from, amount.to_string()],
            vec!["INCRBY".into(), to, amount.to_string()],
            vec!["EXEC".into()],
        ] {
            client.push(line);
        }
        client.flush();
        return client.receive_all(4)[3].clone().into_items().len() == 2;
    }
    if from == to {
        return true;
    }
    // What is read decides what is written, so both keys are watched.
    client.call(["WATCH", &from, &to]);
    let held = client.call(["MGET", &from, &to]).into_items();
    let held: Vec<i64> = held.into_iter().map(number).collect();
    client.run("MULTI");
    client.call(["SET", &from, &(held[0] - amount).to_string()]);
    client.call(["SET", &to, &(held[1] + amount).to_string()]);
    !client.run("EXEC").is_null()
}

fn number(reply: Reply) -> i64 {
    reply.into_text().parse().expect("an account holds a number")
}

/// Reads all accounts as one, in one of two ways.
fn total(client: &mut Client, random: &mut Rng) -> i64 {
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    if random.bool() {
        client.push(["MGET"].into_iter().chain(names.iter().map(String::as_str)));
        client.flush();
        return client.receive().into_items().into_iter().map(number).sum();
    }
    client.push(["MULTI"]);
    names.iter().for_each(|name| client.push(["GET", name]));
    client.push(["EXEC"]);
    client.flush();
    let replies = client.receive_all(ACCOUNTS + 2);
    replies[ACCOUNTS + 1].clone().into_items().into_iter().map(number).sum()
}

fn transfers_keep_the_sum(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for number in 0..ACCOUNTS {
        client.call(["SET", &account(number), &(SUM / ACCOUNTS as i64).to_string()]);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let server = &server;
                scope.spawn(move || {
                    let (mut client, mut random) = (server.connect(), Rng::with_seed(writer));
                    (0..scaled(300)).filter(|_| transfer(&mut client, &mut random)).count()
                })
            })
            .collect();
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let (mut client, mut random) = (server.connect(), Rng::with_seed(100 + reader));
                    let mut reads = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(total(&mut client, &mut random), SUM);
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let done: usize = writers.into_iter().map(|it| it.join().expect("a writer ends")).sum();
        is_over.store(true, Ordering::Relaxed);
        let reads: usize = readers.into_iter().map(|it| it.join().expect("a reader ends")).sum();
        assert!(done > scaled(300) && reads > 0, "{done} transfers, {reads} reads");
    });
    assert_eq!(total(&mut client, &mut Rng::with_seed(1)), SUM);
}

/// Writers set all keys to one value at once, in three ways; readers read them at once, and pipeline
/// single reads around, none of which may be older than one before it.
fn written_as_one_read_as_one(shards: usize) {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let server = Server::start(shards);
    let is_over = AtomicBool::new(false);
    let write = |client: &mut Client, value: usize| {
        let value = value.to_string();
        let pairs = KEYS.iter().flat_map(|key| [*key, value.as_str()]);
        if value.ends_with(['0', '1', '2', '3', '4']) {
            client.push(["MSET"].into_iter().chain(pairs));
            client.flush();
            assert_eq!(client.receive(), Reply::ok());
        } else {
            client.push(["MULTI"]);
            KEYS.iter().for_each(|key| client.push(["SET", key, &value]));
            client.push(["EXEC"]);
            client.flush();
            client.receive_all(KEYS.len() + 2);
        }
    };
    write(&mut server.connect(), 0);
    let read = |client: &mut Client, last: &mut i64| {
        // Single reads before and after those that read all at once.
        KEYS.iter().for_each(|key| client.push(["GET", key]));
        client.push(["MGET"].into_iter().chain(KEYS));
        client.push(["GET", KEYS[0]]);
        client.push(["MGET"].into_iter().chain(KEYS.into_iter().rev()));
        KEYS.iter().for_each(|key| client.push(["GET", key]));
        client.flush();
        let mut values = Vec::new();
        for reply in client.receive_all(2 * KEYS.len() + 3) {
            match reply {
                Reply::Array(items) => {
                    let read: Vec<i64> = items.into_iter().map(number).collect();
                    assert!(read.windows(2).all(|pair| pair[0] == pair[1]), "torn: {read:?}");
                    values.push(read[0]);
                }
                single => values.push(number(single)),
            }
        }
        assert!(*last <= values[0] && values.is_sorted(), "older after newer: {last} {values:?}");
        *last = values[values.len() - 1];
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut last, mut reads) = (server.connect(), 0, 0);
                    while !is_over.load(Ordering::Relaxed) {
                        read(&mut client, &mut last);
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let mut client = server.connect();
        (1..=scaled(400)).for_each(|value| write(&mut client, value));
        is_over.store(true, Ordering::Relaxed);
        let reads: usize = readers.into_iter().map(|it| it.join().expect("a reader ends")).sum();
        assert!(reads > 0);
    });
}
