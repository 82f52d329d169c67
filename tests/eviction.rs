//! `maxmemory`: what goes and what is refused when memory is short, and what hears of it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, redis_server};

on_1_2_and_4_shards!(
    every_policy_keeps_the_limit,
    volatile_policies_spare_keys_without_deadline,
    without_eviction_writes_are_refused,
    transactions_are_refused_as_a_whole,
    scripts_are_refused_by_what_they_declare,
    libraries_are_refused,
    who_watches_or_caches_a_key_hears_of_its_eviction,
    all_databases_give_way,
    large_values_give_way,
    evicted_keys_do_not_come_back_from_the_log,
    a_pause_holds_eviction_up,
    clients_that_hold_most_are_disconnected,
    figures_of_memory_are_shown,
    use_is_shown_by_the_policy,
);

/// What is waited for must come; how soon is not what is tested.
const PATIENCE: Duration = Duration::from_secs(60);

const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// By how much the limit may be exceeded: a reporting step, and what one command adds to a table, for
/// each shard.
fn overshoot(shards: usize) -> u64 {
    shards as u64 * ((16 << 10) + 12_000)
}

fn field(info: &str, name: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.unwrap_or_else(|| panic!("INFO has no {name}"));
    value.parse().expect("a number")
}

/// Bytes that count towards `maxmemory`.
fn counted(client: &mut Client) -> u64 {
    let info = client.run("INFO memory").into_text();
    field(&info, "used_memory") - field(&info, "mem_not_counted_for_evict")
}

fn stat(client: &mut Client, name: &str) -> u64 {
    field(&client.run("INFO stats").into_text(), name)
}

fn set(client: &mut Client, option: &str, value: impl ToString) {
    let reply = client.call(["CONFIG", "SET", option, &value.to_string()]);
    assert_eq!(reply, Reply::ok(), "{option}");
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn oom() -> Reply {
    Reply::Error(OUT_OF_MEMORY.into())
}

fn every_policy_keeps_the_limit(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        set(&mut client, "maxmemory", 0);
        set(&mut client, "maxmemory-policy", policy);
        client.run("FLUSHALL");
        client.run("CONFIG RESETSTAT");
        let limit = counted(&mut client) + 300_000;
        set(&mut client, "maxmemory", limit);
        for batch in 0..40 {
            for number in 0..50 {
                let key = format!("key:{}", batch * 50 + number);
                let value = "x".repeat(20 + number * 20);
                client.push(["SETEX", &key, "10000", &value]);
            }
            client.flush();
            for reply in client.receive_all(50) {
                assert_eq!(reply, Reply::ok(), "{policy}");
            }
            let used = counted(&mut client);
            assert!(used <= limit + overshoot(shards), "{policy}: {used} of {limit}");
        }
        let evicted = stat(&mut client, "evicted_keys");
        let left = client.run("DBSIZE").into_integer() as u64;
        assert!(evicted > 1_000 && left > 100, "{policy}: {evicted} evicted, {left} left");
        assert_eq!(evicted + left, 2_000, "{policy}");
    }
}

fn volatile_policies_spare_keys_without_deadline(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    set(&mut client, "maxmemory-policy", "volatile-lru");
    let limit = counted(&mut client) + 200_000;
    set(&mut client, "maxmemory", limit);
    // Half of what fits stays.
    for number in 0..400 {
        client.call(["SET", &format!("stays:{number}"), &"x".repeat(150)]);
    }
    for number in 0..2_000 {
        client.push(["SETEX", &format!("goes:{number}"), "10000", &"x".repeat(150)]);
    }
    client.flush();
    assert!(client.receive_all(2_000).iter().all(|reply| *reply == Reply::ok()));
    for number in 0..400 {
        assert_eq!(client.call(["EXISTS", &format!("stays:{number}")]), Reply::Integer(1));
    }
    // And when there is nothing else, what would stay is refused.
    let mut stored = 400;
    wait_until("nothing was refused", || {
        let refused = client.call(["SET", &format!("more:{stored}"), &"x".repeat(1_000)]);
        stored += usize::from(refused == Reply::ok());
        refused == oom()
    });
    assert_eq!(client.run("DBSIZE").into_integer() as usize, stored);
    assert!(counted(&mut client) <= limit + overshoot(shards));
}

fn without_eviction_writes_are_refused(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        MSET a 1 b 2 c 3                => +OK
        RPUSH list a b                  => :2
        CONFIG SET maxmemory 1          => +OK
        CONFIG GET maxmemory            => ["maxmemory" "1"]
        SET a 2                         => -OOM command not allowed when used memory > 'maxmemory'.
        MSET a 2 b 3                    => -OOM command not allowed when used memory > 'maxmemory'.
        SUNIONSTORE x y z               => -OOM command not allowed when used memory > 'maxmemory'.
        BLMOVE q p LEFT LEFT 0          => -OOM command not allowed when used memory > 'maxmemory'.
        GET a                           => "1"
        MGET a b c                      => ["1" "2" "3"]
        LPOP list                       => "a"
        EXPIRE a 1000                   => :1
        RENAME a d                      => +OK
        DEL b                           => :1
        "#,
    );
    let exceeded = |which: &str| {
        let field = format!("{which}_eviction_exceeded_time");
        server.info(&field).parse::<u64>().expect("milliseconds")
    };
    wait_until("it is not over the limit", || exceeded("current") > 0);
    client.transcript(
        r#"
        CONFIG SET maxmemory 1gb        => +OK
        CONFIG GET maxmemory            => ["maxmemory" "1073741824"]
        SET a 2                         => +OK
        CONFIG SET maxmemory 0          => +OK
        "#,
    );
    let stats = server.connect().run("INFO commandstats").into_text();
    let set = stats.lines().find(|line| line.starts_with("cmdstat_set:")).expect("SET was called");
    assert!(set.contains("calls=1,") && set.contains("rejected_calls=1,failed_calls=0"), "{set}");
    assert_eq!(server.info("errorstat_OOM"), "count=4");
    assert_eq!(server.info("evicted_keys"), "0");
    wait_until("it is still over the limit", || exceeded("current") == 0);
    assert!(exceeded("total") > 0);
}

fn transactions_are_refused_as_a_whole(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.run("SET x value");
    // What cannot be queued makes the whole fail.
    client.run("MULTI");
    client.run("SET a 1");
    set(&mut other, "maxmemory", 1);
    assert_eq!(client.run("LPUSH list 1"), oom());
    set(&mut other, "maxmemory", 0);
    client.run("SET b 2");
    let aborted = "EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(client.run("EXEC"), Reply::Error(aborted.into()));
    assert_eq!(client.run("EXISTS a b list"), Reply::Integer(0));
    // Memory gets short between the queue and its execution.
    client.run("MULTI");
    client.run("SET a 1");
    client.run("GET x");
    set(&mut other, "maxmemory", 1);
    let aborted = format!("EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}");
    assert_eq!(client.run("EXEC"), Reply::Error(aborted));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    // What only reads is executed.
    client.transcript(
        r#"
        MULTI                           => +OK
        GET x                           => +QUEUED
        DEL x                           => +QUEUED
        EXEC                            => ["value" :1]
        MULTI                           => +OK
        SET a 1                         => -OOM command not allowed when used memory > 'maxmemory'.
        DISCARD                         => +OK
        "#,
    );
    set(&mut other, "maxmemory", 0);
    assert_eq!(client.run("EXISTS a x"), Reply::Integer(0));
}

fn scripts_are_refused_by_what_they_declare(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("SET x value");
    set(&mut client, "maxmemory", 1);
    let mut eval = |script: &str| client.call(["EVAL", script, "1", "x"]);
    let refused = |reply: Reply| match reply {
        Reply::Error(text) => assert!(text.starts_with(OUT_OF_MEMORY), "{text}"),
        other => panic!("{other:?}"),
    };
    refused(eval("return redis.call('set', 'x', 1)"));
    refused(eval("return redis.pcall('set', 'x', 1)"));
    refused(eval("#!lua flags=\nreturn 1"));
    refused(eval("#!lua\nreturn redis.call('get', 'x')"));
    assert_eq!(eval("return redis.call('get', 'x')"), Reply::bulk("value"));
    assert_eq!(eval("#!lua flags=no-writes\nreturn 1"), Reply::Integer(1));
    // One that may go on, goes on to its end.
    assert_eq!(eval("redis.call('del', 'x') return redis.call('set', 'x', 'new')"), Reply::ok());
    assert_eq!(eval("#!lua flags=allow-oom\nreturn redis.call('set', 'x', 1)"), Reply::ok());
    let get = "return redis.call('get', 'x')";
    assert_eq!(client.call(["EVAL_RO", get, "1", "x"]), Reply::bulk("1"));
    // Within a transaction too.
    client.run("MULTI");
    client.call(["EVAL", "#!lua flags=\nreturn 1", "0"]);
    client.call(["EVAL", get, "1", "x"]);
    let replies = client.run("EXEC").into_items();
    assert_eq!(replies, [oom(), Reply::bulk("1")]);
}

fn libraries_are_refused(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let plain = "#!lua name=plain\nredis.register_function('plain', function(keys) \
                 return redis.call('set', keys[1], '1') end)";
    let free = "#!lua name=free\nredis.register_function{function_name='free', \
                callback=function(keys) return redis.call('set', keys[1], '2') end, \
                flags={'allow-oom'}}";
    for library in [plain, free] {
        client.call(["FUNCTION", "LOAD", library]);
    }
    let dump = client.run("FUNCTION DUMP").into_bytes();
    set(&mut client, "maxmemory", 1);
    assert_eq!(client.call(["FUNCTION", "LOAD", "REPLACE", plain]), oom());
    let restore: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &dump, b"REPLACE"];
    assert_eq!(client.call(restore), oom());
    assert_eq!(client.run("FCALL plain 1 k"), oom());
    assert_eq!(client.run("FCALL free 1 k"), Reply::ok());
    assert_eq!(client.run("GET k"), Reply::bulk("2"));
}

fn who_watches_or_caches_a_key_hears_of_its_eviction(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut reader, mut watcher) =
        (server.connect(), server.connect(), server.connect());
    let mut listener = server.connect();
    set(&mut client, "notify-keyspace-events", "Ee");
    set(&mut client, "maxmemory-policy", "allkeys-lru");
    client.run("SET foo bar");
    reader.run("HELLO 3");
    reader.run("CLIENT TRACKING ON");
    reader.run("GET foo");
    watcher.run("WATCH foo");
    watcher.run("MULTI");
    watcher.run("PING");
    listener.run("SUBSCRIBE __keyevent@0__:evicted");
    set(&mut client, "maxmemory", 1);
    let message = ["message", "__keyevent@0__:evicted", "foo"];
    assert_eq!(listener.receive(), Reply::Array(message.iter().map(Reply::bulk).collect()));
    let stale = Reply::Array(vec![Reply::bulk("foo")]);
    assert_eq!(reader.receive(), Reply::Push(vec![Reply::bulk("invalidate"), stale]));
    wait_until("the watched key is still there", || client.run("DBSIZE") == Reply::Integer(0));
    assert_eq!(watcher.run("EXEC"), Reply::NullArray);
    assert_eq!(stat(&mut client, "evicted_keys"), 1);
}

fn all_databases_give_way(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    set(&mut client, "maxmemory-policy", "allkeys-random");
    for database in 0..3 {
        client.call(["SELECT", &database.to_string()]);
        for number in 0..200 {
            client.call(["SET", &format!("key:{number}"), "v"]);
        }
    }
    set(&mut client, "maxmemory", 1);
    wait_until("some keys stay", || stat(&mut client, "evicted_keys") == 600);
    assert_eq!(client.run("INFO keyspace").into_text().trim(), "# Keyspace");
    wait_until("writes are still let through", || client.run("SET k v") == oom());
}

fn large_values_give_way(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    set(&mut client, "maxmemory-policy", "allkeys-lru");
    let limit = counted(&mut client) + (8 << 20);
    set(&mut client, "maxmemory", limit);
    let text = "x".repeat(1 << 20);
    for number in 0..40 {
        assert_eq!(client.call(["SET", &format!("string:{number}"), &text]), Reply::ok());
        let used = counted(&mut client);
        let most = limit + shards as u64 * (1 << 20) + overshoot(shards);
        assert!(used <= most, "{used} of {limit}");
    }
    for number in 0..20 {
        let key = format!("set:{number}");
        for part in 0..10 {
            let members: Vec<String> = (0..2_000).map(|at| format!("member:{part}:{at}")).collect();
            let words = ["SADD", &key].into_iter().chain(members.iter().map(String::as_str));
            assert_eq!(client.call(words), Reply::Integer(2_000));
        }
    }
    wait_until("memory stays above the limit", || counted(&mut client) <= limit);
    assert!(stat(&mut client, "evicted_keys") > 20);
    assert!(client.run("DBSIZE").into_integer() > 0);
    // What was let go is freed soon after.
    wait_until("garbage stays", || {
        let info = client.run("INFO memory").into_text();
        field(&info, "used_memory") < limit + (1 << 20)
    });
}

fn evicted_keys_do_not_come_back_from_the_log(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let start = || {
        let builder = Server::builder(shards).option("dir", directory.path().display());
        builder.option("appendonly", "yes").option("appendfsync", "always").start()
    };
    let mut server = start();
    let mut client = server.connect();
    set(&mut client, "maxmemory-policy", "allkeys-random");
    let limit = counted(&mut client) + 100_000;
    set(&mut client, "maxmemory", limit);
    for number in 0..1_500 {
        client.push(["SET", &format!("key:{number}"), &"x".repeat(100)]);
    }
    client.flush();
    client.receive_all(1_500);
    wait_until("memory stays above the limit", || counted(&mut client) <= limit);
    let mut keys = client.run("KEYS *").into_items();
    server.signal(Signal::KILL);
    server.wait_for_end();
    let server = start();
    let mut again = server.connect().run("KEYS *").into_items();
    keys.sort();
    again.sort();
    assert!((200..1_200).contains(&keys.len()), "{}", keys.len());
    assert_eq!(keys, again);
}

fn a_pause_holds_eviction_up(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for number in 0..100 {
        client.call(["SET", &format!("key:{number}"), "v"]);
    }
    set(&mut client, "maxmemory-policy", "allkeys-random");
    client.run("CLIENT PAUSE 100000 WRITE");
    set(&mut client, "maxmemory", 1);
    assert_eq!(client.run("DBSIZE"), Reply::Integer(100));
    assert_eq!(client.run("GET key:1"), Reply::bulk("v"));
    assert_eq!(stat(&mut client, "evicted_keys"), 0);
    client.run("CLIENT UNPAUSE");
    wait_until("keys stay", || client.run("DBSIZE") == Reply::Integer(0));
}

fn clients_that_hold_most_are_disconnected(shards: usize) {
    let server = Server::start(shards);
    let mut control = server.connect();
    assert_eq!(control.run("CLIENT NO-EVICT on"), Reply::ok());
    set(&mut control, "maxmemory-clients", "3mb");
    let (mut small, mut large) = (server.connect(), server.connect());
    small.run("PING");
    // Half a request: it is kept until the rest comes.
    large.send_raw(b"*2\r\n$3\r\nGET\r\n$10000000\r\n").expect("an open connection");
    let _ = large.send_raw(&vec![b'x'; 4 << 20]);
    assert!(large.is_closed());
    assert_eq!(small.run("PING"), Reply::Simple("PONG".into()));
    assert_eq!(server.info("evicted_clients"), "1");
    assert_eq!(server.info("evicted_keys"), "0");
    // Who may not be disconnected counts, and others go for it.
    set(&mut control, "maxmemory-clients", "5%");
    assert_eq!(control.run("CONFIG GET maxmemory-clients").into_items()[1], Reply::bulk("5%"));
    // Five per cent of nothing is no bound.
    let mut free = server.connect();
    free.send_raw(b"*2\r\n$3\r\nGET\r\n$5000000\r\n").expect("an open connection");
    free.send_raw(&vec![b'x'; 5_000_000]).expect("an open connection");
    free.send_raw(b"\r\n").expect("an open connection");
    assert_eq!(free.receive(), Reply::NullBulk);
    assert_eq!(server.info("evicted_clients"), "1");
}

fn figures_of_memory_are_shown(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let empty = counted(&mut client);
    for number in 0..1_000 {
        client.call(["SET", &format!("key:{number}"), &"x".repeat(1_000)]);
    }
    let full = counted(&mut client);
    assert!((1_000_000..1_300_000).contains(&(full - empty)), "{empty} to {full}");
    let stats = client.run("MEMORY STATS").into_items();
    let number = |name: &str| {
        let at = stats.iter().position(|item| *item == Reply::bulk(name));
        stats[at.unwrap_or_else(|| panic!("no {name}")) + 1].clone().into_integer()
    };
    assert_eq!(number("keys.count"), 1_000);
    assert!(number("total.allocated") >= number("dataset.bytes") + number("overhead.total"));
    assert!(number("dataset.bytes") > 1_000_000 && number("clients.normal") > 0);
    assert!((1_000..1_500).contains(&number("keys.bytes-per-key")));
    assert!(stats.contains(&Reply::bulk("db.0")));
    let doctor = client.run("MEMORY DOCTOR").into_text();
    assert!(doctor.contains("very little memory"), "{doctor}");
    assert_eq!(client.run("MEMORY PURGE"), Reply::ok());
    assert!(!client.run("MEMORY MALLOC-STATS").into_text().is_empty());
    client.run("FLUSHALL");
    wait_until("memory stays", || counted(&mut client) < empty + 20_000);
}

fn use_is_shown_by_the_policy(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("SET foo bar");
    let dump = client.run("DUMP foo").into_bytes();
    set(&mut client, "maxmemory-policy", "allkeys-lru");
    let restore = |client: &mut Client, option: &str, value: &str| {
        client.run("DEL foo");
        let words: [&[u8]; 6] =
            [b"RESTORE", b"foo", b"0", &dump, option.as_bytes(), value.as_bytes()];
        assert_eq!(client.call(words), Reply::ok());
    };
    restore(&mut client, "IDLETIME", "1000");
    let idle = client.run("OBJECT IDLETIME foo").into_integer();
    assert!((1_000..1_100).contains(&idle), "{idle}");
    assert!(matches!(client.run("OBJECT FREQ foo"), Reply::Error(_)));
    set(&mut client, "maxmemory-policy", "allkeys-lfu");
    restore(&mut client, "FREQ", "100");
    assert_eq!(client.run("OBJECT FREQ foo"), Reply::Integer(100));
    client.run("SET new 1");
    assert_eq!(client.run("OBJECT FREQ new"), Reply::Integer(5));
    assert!(matches!(client.run("OBJECT IDLETIME foo"), Reply::Error(_)));
}

/// What redis-server says to the same commands when memory is short.
#[test]
fn refusals_are_those_of_redis() {
    let Some(redis) = redis_server() else { return };
    for shards in [1, 4] {
        let server = Server::start(shards);
        let (mut own, mut other) = (server.connect(), redis.connect());
        other.run("FLUSHALL");
        other.run("CONFIG SET maxmemory 0");
        for line in [
            "SET a 1",
            "HSET hash f v",
            "ZADD zset 1 m",
            "RPUSH list a",
            "CONFIG SET maxmemory 1",
            "SET a 2",
            "SETNX b 1",
            "GETSET a 2",
            "APPEND a 2",
            "INCR a",
            "SETRANGE a 0 x",
            "SETBIT a 7 1",
            "BITOP NOT b a",
            "PFADD h a",
            "MSET a 1 b 2",
            "MSETNX b 1 c 2",
            "HSET hash g v",
            "HINCRBY hash n 1",
            "HDEL hash f",
            "ZADD zset 2 n",
            "ZUNIONSTORE d 1 zset",
            "ZREM zset m",
            "SADD set m",
            "RPUSH list b",
            "LSET list 0 b",
            "LINSERT list BEFORE a b",
            "RPOPLPUSH list list",
            "LPOP list",
            "XADD s * f v",
            "GEOADD g 1 1 m",
            "SORT list STORE d",
            "COPY a b",
            "RENAME a b",
            "GETDEL b",
            "PERSIST a",
            "GETEX a",
            "RESTORE r 0 x",
            "TOUCH a",
            "SET",
            "SET a",
            // In MULTI redis-server 7.0 refuses what only reads too, Valkey 8 does not.
            "EVAL return(redis.call('set','a','1')) 1 a",
            "EVAL return(redis.pcall('set','a','1')) 1 a",
            "EVAL return(redis.call('get','a')) 1 a",
            "FLUSHALL",
            "CONFIG SET maxmemory 0",
            "SET a 2",
            "GET a",
        ] {
            let (mine, theirs) = (own.run(line), other.run(line));
            // Redis adds where in the script it happened, in another way.
            let shorten = |reply: Reply| match reply {
                Reply::Error(text) => {
                    let end = text.find(" script: ").unwrap_or(text.len());
                    Reply::Error(text[..end].to_owned())
                }
                other => other,
            };
            assert_eq!(shorten(mine), shorten(theirs), "{line} on {shards} shards");
        }
    }
}
