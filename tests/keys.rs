//! Keys: existence, deletion, names, copies, databases. SCAN's guarantee is in `scan.rs`,
//! deadlines in `expire.rs`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    existence_and_deletion,
    rename,
    copy,
    rename_over_shards_happens_once,
    renames_of_those_who_leave_hold_nobody_up,
    databases,
    flush,
    object,
    keys_by_pattern,
    random_key,
    large_collections_are_unlinked,
);

fn existence_and_deletion(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        MSET a 1 b 2 c 3 d 4        => +OK
        DBSIZE                      => :4
        EXISTS a b nobody a         => :3
        TOUCH a b nobody            => :2
        DEL a nobody a              => :1
        UNLINK b c nobody           => :2
        EXISTS a b c                => :0
        DBSIZE                      => :1
        TYPE a                      => +none
        TYPE d                      => +string
        DEL                         => -ERR wrong number of arguments for 'del' command
        "#,
    );
    let keys: Vec<_> = (0..1_000).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        client.push(["SET", key, "v"]);
    }
    client.flush();
    client.receive_all(keys.len());
    let with_all = |name: &str| {
        std::iter::once(name.to_owned()).chain(keys.iter().cloned()).collect::<Vec<_>>()
    };
    assert_eq!(client.call(with_all("EXISTS")), Reply::Integer(1_000));
    assert_eq!(client.call(with_all("DEL")), Reply::Integer(1_000));
    assert_eq!(client.call(with_all("EXISTS")), Reply::Integer(0));
}

fn rename(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        RENAME a b                => -ERR no such key
        RENAMENX a b              => -ERR no such key
        SET a 1 EXAT 100000000000    => +OK
        RENAME a b                => +OK
        EXISTS a                     => :0
        GET b                        => "1"
        EXPIRETIME b                 => :100000000000
        SET c 2                      => +OK
        RENAMENX b c              => :0
        RENAMENX b d              => :1
        RENAME c d                => +OK
        GET d                        => "2"
        TTL d                        => :-1
        RENAME d d                => +OK
        RENAMENX d d              => :0
        "#,
    );
}

fn copy(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET {t}a 1 EXAT 100000000000    => +OK
        COPY {t}a {t}b                  => :1
        GET {t}b                        => "1"
        EXPIRETIME {t}b                 => :100000000000
        SET {t}a 2                      => +OK
        COPY {t}a {t}b                  => :0
        COPY {t}a {t}b REPLACE          => :1
        GET {t}b                        => "2"
        TTL {t}b                        => :-1
        COPY {t}absent {t}c             => :0
        COPY {t}a other                 => :1
        COPY {t}a {t}a                  => -ERR source and destination objects are the same
        COPY {t}a {t}a DB 3             => :1
        COPY {t}a {t}b DB 99            => -ERR DB index is out of range
        COPY {t}a {t}b DB x             => -ERR value is not an integer or out of range
        COPY {t}a {t}b WHAT             => -ERR syntax error
        SELECT 3                        => +OK
        GET {t}a                        => "2"
        "#,
    );
}

/// Many clients rename the same keys, which live on different shards: each key moves once.
fn rename_over_shards_happens_once(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for round in 0..scaled(20) {
        let pairs: Vec<_> =
            (0..10).map(|n| (format!("from:{round}:{n}"), format!("to:{round}:{n}"))).collect();
        pairs.iter().for_each(|(from, _)| drop(client.call(["SET", from, from])));
        let moved = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    for (from, to) in &pairs {
                        client.push(["RENAMENX", from, to]);
                        client.push(["EXISTS", from]);
                        client.push(["GET", to]);
                    }
                    client.flush();
                    for (from, _) in &pairs {
                        let won = client.receive() == Reply::Integer(1);
                        moved.fetch_add(usize::from(won), Ordering::Relaxed);
                        assert_eq!(client.receive(), Reply::Integer(0), "{from} is gone");
                        assert_eq!(client.receive(), Reply::bulk(from), "and at its new name");
                    }
                });
            }
        });
        assert_eq!(moved.into_inner(), pairs.len());
    }
}

/// Clients that rename over shards and leave without waiting, among others that stay.
fn renames_of_those_who_leave_hold_nobody_up(shards: usize) {
    let server = Server::start(shards);
    let names: Vec<_> = (0..8).map(|n| format!("name:{n}")).collect();
    thread::scope(|scope| {
        for number in 0..6 {
            let (server, names) = (&server, &names);
            scope.spawn(move || {
                for _ in 0..scaled(20) {
                    let mut client = server.connect();
                    client.push(["SET", &names[number], "v"]);
                    for from in 0..names.len() {
                        client.push(["RENAME", &names[from], &names[(from + number) % 8]]);
                    }
                    client.flush();
                    if number % 2 == 0 {
                        client.receive_all(1 + names.len());
                    }
                }
            });
        }
    });
    let mut client = server.connect();
    client.push(["MSET", "last", "v", "name:1", "v", "name:2", "v", "name:3", "v"]);
    client.push(["RENAME", "last", "name:9"]);
    client.push(["GET", "name:9"]);
    client.flush();
    assert_eq!(client.receive_all(3), [Reply::ok(), Reply::ok(), Reply::bulk("v")]);
}

fn databases(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        SET k zero                  => +OK
        SELECT 15                   => +OK
        EXISTS k                    => :0
        SET k fifteen               => +OK
        SELECT 16                   => -ERR DB index is out of range
        SELECT -1                   => -ERR DB index is out of range
        SELECT x                    => -ERR value is not an integer or out of range
        GET k                       => "fifteen"
        MOVE k 0                    => :0
        MOVE k 15                   => -ERR source and destination objects are the same
        MOVE k 16                   => -ERR DB index is out of range
        MOVE k 3                    => :1
        EXISTS k                    => :0
        MOVE k 3                    => :0
        SWAPDB 0 3                  => +OK
        SELECT 0                    => +OK
        GET k                       => "fifteen"
        SELECT 3                    => +OK
        GET k                       => "zero"
        SWAPDB 0 16                 => -ERR DB index is out of range
        SWAPDB x 0                  => -ERR invalid first DB index
        SWAPDB 0 x                  => -ERR invalid second DB index
        SWAPDB 3 3                  => +OK
        "#,
    );
    assert_eq!(server.connect().run("GET k"), Reply::bulk("fifteen"));
}

fn flush(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for (command, left) in
        [("FLUSHDB", 1), ("FLUSHDB ASYNC", 1), ("FLUSHALL SYNC", 0), ("FLUSHALL", 0)]
    {
        client.transcript(
            "
            SELECT 1                => +OK
            MSET a 1 b 2 c 3 d 4    => +OK
            SELECT 0                => +OK
            MSET e 1 f 2 g 3 h 4    => +OK
            ",
        );
        assert_eq!(client.run(command), Reply::ok(), "{command}");
        client.transcript("DBSIZE => :0");
        client.run("SELECT 1");
        assert_eq!(client.run("DBSIZE"), Reply::Integer(4 * left), "{command}");
        client.run("SELECT 0");
    }
    client.transcript("FLUSHALL WHENEVER => -ERR syntax error");
}

fn object(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET int 123                     => +OK
        OBJECT ENCODING int             => "int"
        SET short abc                   => +OK
        OBJECT ENCODING short           => "embstr"
        SET long 123456789012345678901234567890123456789012345 => +OK
        OBJECT ENCODING long            => "raw"
        APPEND short d                  => :4
        OBJECT ENCODING short           => "raw"
        OBJECT REFCOUNT long            => :1
        OBJECT IDLETIME long            => :0
        OBJECT ENCODING absent          => nil
        OBJECT REFCOUNT absent          => nil
        OBJECT FREQ long                => -ERR An LFU maxmemory policy is not selected, ...
        OBJECT WHAT long                => -ERR unknown subcommand 'WHAT'. Try OBJECT HELP.
        OBJECT ENCODING                 => -ERR wrong number of arguments for 'object|encoding' command
        "#,
    );
}

fn names(reply: Reply) -> BTreeSet<String> {
    reply.into_items().into_iter().map(Reply::into_text).collect()
}

fn keys_by_pattern(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut check = |pattern: &str, expected: &[&str]| {
        let expected: BTreeSet<_> = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names(client.call(["KEYS", pattern])), expected, "{pattern}");
    };
    check("*", &[]);
    server.connect().run("MSET one 1 two 2 three 3 {t}one 1 {t}two 2 o*e 1 Öl 3");
    check("*", &["one", "two", "three", "{t}one", "{t}two", "o*e", "Öl"]);
    check("t*", &["two", "three"]);
    check("t??", &["two"]);
    check("?ne", &["one"]);
    check("[ot]*", &["one", "two", "three", "o*e"]);
    check("[^ot]*", &["{t}one", "{t}two", "Öl"]);
    check("[a-o]*e", &["one", "o*e"]);
    check("o\\*e", &["o*e"]);
    check("{t}*", &["{t}one", "{t}two"]);
    check("two", &["two"]);
    check("nobody", &[]);
}

fn random_key(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    assert_eq!(client.run("RANDOMKEY"), Reply::NullBulk);
    let all: BTreeSet<_> = (0..20).map(|n| format!("key:{n}")).collect();
    for key in &all {
        client.call(["SET", key, "v"]);
    }
    // Each key has a chance of about 1/20 a draw: one that is missed 4,000 times is never drawn.
    let drawn: BTreeSet<_> = (0..4_000).map(|_| client.run("RANDOMKEY").into_text()).collect();
    assert_eq!(drawn, all, "every key can be drawn, and nothing else");
}

fn large_collections_are_unlinked(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for (key, command) in [("a", "DEL a"), ("b", "UNLINK b"), ("c", "SET c v")] {
        fill_list(&mut client, key);
        client.run(command);
        let expected = if key == "c" { "+string" } else { "+none" };
        assert_eq!(format!("{:?}", client.call(["TYPE", key])), expected);
    }
}

fn fill_list(client: &mut Client, key: &str) {
    const PUSHES: usize = 100;
    for _ in 0..PUSHES {
        let values = (0..100).map(|n| format!("value {n}"));
        client.push(["RPUSH".to_owned(), key.to_owned()].into_iter().chain(values));
    }
    client.flush();
    assert_eq!(client.receive_all(PUSHES).pop(), Some(Reply::Integer(10_000)));
}
