//! Commands on keys of any type: replies, walks that miss nothing, deadlines.

use std::collections::HashSet;

use proptest::{collection::vec, prelude::*};

use crate::{
    command::testing::{Bench, START_MS},
    keyspace::events::Class,
    shard::Settings,
};

#[test]
fn keys_are_counted_and_deleted() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("MSET a 1 b 2 c 3", "OK"),
        ("EXISTS a b b none", ":3"),
        ("TOUCH a none", ":1"),
        ("TYPE a", "string"),
        ("TYPE none", "none"),
        ("DBSIZE", ":3"),
        ("DEL a none a", ":1"),
        ("UNLINK b c", ":2"),
        ("DBSIZE", ":0"),
        ("DEL", "-ERR wrong number of arguments for 'del' command"),
        ("RANDOMKEY", "nil"),
        ("SET k v", "OK"),
        ("RANDOMKEY", "\"k\""),
    ]);
    assert_eq!(bench.shard.changes(), 3 + 1 + 2 + 1);
}

#[test]
fn deadlines_set_after_the_clock_was_set_back_go_by_the_new_time() {
    let mut bench = Bench::new();
    let (hour_us, start_us) = (3_600_000_000, START_MS * 1_000);
    bench.expect(&[("SET old v PX 7200000", "OK"), ("SET gone v EX 10", "OK")]);
    bench.shard.advance_clock_us(start_us + hour_us);
    bench.expect(&[("EXISTS old gone", ":1")]);
    // Sets the cycle of background expiry to a time in the hour that is taken back.
    bench.shard.tick();

    bench.shard.set_clock_back_us(start_us);
    bench.expect(&[("PTTL old", ":7200000"), ("EXISTS gone", ":0"), ("SET k v PX 100", "OK")]);
    bench.shard.advance_clock_us(start_us + 100_000);
    bench.shard.tick();
    bench.expect(&[("DBSIZE", ":1"), ("EXISTS k", ":0")]);
}

/// A value of each type, and what reads it.
const READ_OF_EACH_TYPE: [(&str, &[&str]); 6] = [
    ("SET k 1", &["GET k", "STRLEN k", "GETRANGE k 0 1", "GETBIT k 0", "BITCOUNT k", "MGET k"]),
    ("RPUSH k a b", &["LRANGE k 0 -1", "LLEN k", "LINDEX k 0", "LPOS k a", "SORT_RO k ALPHA"]),
    ("SADD k a b", &["SMEMBERS k", "SISMEMBER k a", "SRANDMEMBER k", "SINTER k k", "SSCAN k 0"]),
    ("HSET k a b", &["HGETALL k", "HGET k a", "HRANDFIELD k", "HSCAN k 0", "HTTL k FIELDS 1 a"]),
    ("ZADD k 1 a", &["ZRANGE k 0 -1", "ZSCORE k a", "ZUNION 1 k", "ZCOUNT k 0 9", "GEOPOS k a"]),
    ("XADD k 1-1 a b", &["XRANGE k - +", "XLEN k", "XREAD STREAMS k 0", "XINFO STREAM k"]),
];

#[test]
fn while_expiry_is_held_up_no_read_removes_what_has_expired_nor_shows_it() {
    let of_any_type = [
        "EXISTS k",
        "TYPE k",
        "TTL k",
        "OBJECT ENCODING k",
        "DUMP k",
        "KEYS *",
        "SCAN 0",
        "TOUCH k",
    ];
    let mut bench = Bench::new();
    for (write, reads) in READ_OF_EACH_TYPE {
        let reads = || reads.iter().copied().chain(of_any_type);
        let of_nothing: Vec<String> = reads().map(|line| bench.run(line)).collect();
        bench.run(write);
        bench.run("PEXPIRE k 10");
        bench.shard.keyspace.hold_expiry(true);
        bench.pass_ms(10);
        bench.shard.tick();
        assert_eq!(bench.shard.tick_due_us(), None, "nothing is due");
        for (line, expected) in reads().zip(of_nothing) {
            assert_eq!(bench.run(line), expected, "{line}");
            assert_eq!(bench.run("DBSIZE"), ":1", "{line}");
        }
        bench.shard.keyspace.hold_expiry(false);
        bench.expect(&[("EXISTS k", ":0"), ("DBSIZE", ":0")]);
    }
    assert_eq!(bench.shard.keyspace.stats.expired, READ_OF_EACH_TYPE.len() as u64);
}

#[test]
fn what_is_written_while_expiry_is_held_up_finds_no_trace_of_what_has_expired() {
    let mut bench = Bench::new();
    bench.expect(&[("SET k 1 PX 10", "OK"), ("RPUSH list a", ":1"), ("PEXPIRE list 10", ":1")]);
    bench.shard.keyspace.hold_expiry(true);
    bench.pass_ms(10);
    bench.expect(&[
        ("INCR k", ":1"),
        ("TTL k", ":-1"),
        ("SADD list a", ":1"),
        ("TTL list", ":-1"),
        ("DBSIZE", ":2"),
    ]);
    bench.shard.check();
}

#[test]
fn deadlines_are_set_shown_and_removed() {
    let mut bench = Bench::new();
    let second = START_MS / 1_000;
    bench.expect(&[
        ("EXPIRE k 10", ":0"),
        ("TTL k", ":-2"),
        ("PEXPIRETIME k", ":-2"),
        ("SET k v", "OK"),
        ("TTL k", ":-1"),
        ("PERSIST k", ":0"),
        ("EXPIRE k 10", ":1"),
        ("TTL k", ":10"),
        ("PTTL k", ":10000"),
        ("EXPIRETIME k", &format!(":{}", second + 10)),
        ("PEXPIRETIME k", &format!(":{}", START_MS + 10_000)),
        ("PEXPIRE k 1499", ":1"),
        ("TTL k", ":1"),
        (&format!("EXPIREAT k {}", second + 7), ":1"),
        ("TTL k", ":7"),
        (&format!("PEXPIREAT k {}", START_MS + 7), ":1"),
        ("PTTL k", ":7"),
        ("PERSIST k", ":1"),
        ("TTL k", ":-1"),
        ("EXPIRE k -1", ":1"),
        ("EXISTS k", ":0"),
        ("SET k v", "OK"),
        ("PEXPIREAT k -9223372036854775808", ":1"),
        ("EXISTS k", ":0"),
    ]);
    bench.shard.check();
}

#[test]
fn conditions_on_deadlines() {
    Bench::new().expect(&[
        ("SET k v", "OK"),
        ("EXPIRE k 10 XX", ":0"),
        ("EXPIRE k 10 GT", ":0"),
        ("EXPIRE k 10 XX LT", ":0"),
        ("EXPIRE k 10 LT", ":1"),
        ("EXPIRE k 20 NX", ":0"),
        ("EXPIRE k 10 GT", ":0"),
        ("EXPIRE k 20 GT", ":1"),
        ("EXPIRE k 20 LT", ":0"),
        ("EXPIRE k 15 xx lt", ":1"),
        ("TTL k", ":15"),
        (
            "EXPIRE k 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "EXPIRE k 1 NX GT",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE k 1 BAD", "-ERR Unsupported option BAD"),
        ("EXPIRE k x", "-ERR value is not an integer or out of range"),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("EXPIRE k -9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
        ("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
    ]);
}

#[test]
fn a_key_is_gone_at_its_very_millisecond() {
    let mut bench = Bench::new();
    bench.expect(&[("SET k v PX 100", "OK"), ("SET l v PX 100", "OK"), ("SET m v PX 100", "OK")]);
    bench.pass_ms(99);
    bench.expect(&[("GET k", "\"v\""), ("PTTL k", ":1"), ("DBSIZE", ":3")]);
    bench.pass_ms(1);
    bench.expect(&[
        ("KEYS *", "[]"),
        ("SCAN 0", "[\"0\" []]"),
        ("GET k", "nil"),
        ("INCR l", ":1"),
        ("TTL l", ":-1"),
        ("RENAME m n", "-ERR no such key"),
        ("RANDOMKEY", "\"l\""),
        ("DBSIZE", ":1"),
    ]);
    assert_eq!(bench.shard.keyspace.stats.expired, 3);
    bench.shard.check();
}

#[test]
fn keys_are_renamed_with_all_they_have() {
    Bench::new().expect(&[
        ("RENAME a b", "-ERR no such key"),
        ("RENAMENX a b", "-ERR no such key"),
        ("SET a 1 EX 10", "OK"),
        ("RENAME a a", "OK"),
        ("RENAMENX a a", ":0"),
        ("SET b x", "OK"),
        ("RENAMENX a b", ":0"),
        ("RENAME a b", "OK"),
        ("GET b", "\"1\""),
        ("TTL b", ":10"),
        ("EXISTS a", ":0"),
        ("RENAMENX b c", ":1"),
        ("TTL c", ":10"),
        ("SET d v", "OK"),
        ("RENAME d c", "OK"),
        ("TTL c", ":-1"),
    ]);
}

#[test]
fn keys_are_copied_and_moved() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("COPY a b", ":0"),
        ("SET a text EX 10", "OK"),
        ("COPY a a", "-ERR source and destination objects are the same"),
        ("COPY a b", ":1"),
        ("TTL b", ":10"),
        ("COPY a b", ":0"),
        ("SET a other", "OK"),
        ("COPY a b REPLACE", ":1"),
        ("GET b", "\"other\""),
        ("TTL b", ":-1"),
        ("COPY a a DB 1", ":1"),
        ("COPY a a DB 16", "-ERR DB index is out of range"),
        ("COPY a a DB x", "-ERR value is not an integer or out of range"),
        ("COPY a a DB", "-ERR syntax error"),
        ("MOVE a 1", ":0"),
        ("MOVE b 1", ":1"),
        ("MOVE b 0", "-ERR source and destination objects are the same"),
        ("MOVE b 99", "-ERR DB index is out of range"),
        ("EXISTS b", ":0"),
    ]);
    bench.database = 1;
    bench.expect(&[("MGET a b", "[\"other\" \"other\"]"), ("DBSIZE", ":2")]);
    bench.shard.check();
}

#[test]
fn databases_are_swapped_and_flushed() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("SET k zero", "OK"),
        ("SWAPDB 0 1", "OK"),
        ("DBSIZE", ":0"),
        ("SWAPDB 0 x", "-ERR invalid second DB index"),
        ("SWAPDB x 0", "-ERR invalid first DB index"),
        ("SWAPDB 0 16", "-ERR DB index is out of range"),
        ("SET k one", "OK"),
        ("FLUSHDB NOW", "-ERR syntax error"),
        ("FLUSHDB SYNC", "OK"),
        ("DBSIZE", ":0"),
    ]);
    bench.database = 1;
    bench.expect(&[("GET k", "\"zero\""), ("FLUSHALL async", "OK"), ("GET k", "nil")]);
    assert!(bench.shard.keyspace.has_garbage());
    while bench.shard.tick() {}
    assert!(!bench.shard.keyspace.has_garbage());
    bench.shard.check();
}

#[test]
fn a_large_collection_is_freed_in_slices() {
    let mut bench = Bench::new();
    for part in 0..60 {
        let members: Vec<String> =
            (0..1_000).map(|n| format!("member:{}", part * 1_000 + n)).collect();
        bench.run(&format!("SADD large {}", members.join(" ")));
    }
    bench.expect(&[("SADD small 1 2 3 x", ":4"), ("DEL small", ":1")]);
    assert!(!bench.shard.keyspace.has_garbage(), "what is small is freed at once");
    bench.run("DEL large");
    assert!(bench.shard.keyspace.has_garbage());
    bench.shard.check();
    let mut slices = 1;
    while bench.shard.tick() {
        slices += 1;
    }
    assert!(slices > 1, "{slices}");
    assert!(!bench.shard.keyspace.has_garbage());
    bench.shard.check();
}

#[test]
fn keys_match_patterns() {
    let mut bench = Bench::new();
    bench.expect(&[("MSET one 1 two 2 three 3", "OK"), ("KEYS t*e", "[\"three\"]")]);
    bench.call(&[b"SET", b"", b"empty"]);
    assert_eq!(bench.run("KEYS *").matches('"').count(), 8);
    assert_eq!(bench.run("KEYS"), "-ERR wrong number of arguments for 'keys' command");
}

#[test]
fn scan_refuses_what_it_cannot_read() {
    Bench::new().expect(&[
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN -1", "-ERR invalid cursor"),
        ("SCAN 18446744073709551616", "-ERR invalid cursor"),
        ("SCAN 00", "[\"0\" []]"),
        ("SCAN 0 COUNT 0", "-ERR syntax error"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("SCAN 0 MATCH", "-ERR syntax error"),
        ("SCAN 0 BAD x", "-ERR syntax error"),
        ("SCAN 18446744073709551615", "[\"0\" []]"),
    ]);
}

/// All keys that a walk with SCAN and these options finds.
fn scan_all(bench: &mut Bench, options: &str) -> Vec<String> {
    let (mut cursor, mut found) = (String::from("0"), Vec::new());
    loop {
        let reply = bench.run(&format!("SCAN {cursor}{options}"));
        let mut strings = reply.split('"').skip(1).step_by(2).map(str::to_string);
        cursor = strings.next().expect("a cursor");
        found.extend(strings);
        if cursor == "0" {
            return found;
        }
    }
}

#[test]
fn a_scan_finds_every_key_once_and_what_it_is_asked_for() {
    let mut bench = Bench::new();
    for number in 0..3_000 {
        bench.run(&format!("SET key:{number} v"));
    }
    let found = scan_all(&mut bench, " COUNT 7");
    assert_eq!(found.len(), 3_000);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 3_000);
    assert_eq!(scan_all(&mut bench, " MATCH key:12*3 COUNT 100").len(), 11);
    assert_eq!(scan_all(&mut bench, " TYPE string COUNT 100").len(), 3_000);
    assert_eq!(scan_all(&mut bench, " TYPE stream COUNT 100").len(), 0);
}

#[test]
fn objects_tell_their_use() {
    let mut bench = Bench::new();
    bench.expect(&[("SET k v", "OK"), ("OBJECT IDLETIME k", ":0"), ("OBJECT REFCOUNT k", ":1")]);
    bench.pass_ms(5_000);
    bench.expect(&[("OBJECT IDLETIME k", ":5"), ("TTL k", ":-1"), ("OBJECT IDLETIME k", ":5")]);
    bench.expect(&[("TOUCH k", ":1"), ("OBJECT IDLETIME k", ":0"), ("OBJECT FREQ none", "nil")]);
    assert!(bench.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
    bench.shard.configure(Settings { lfu: true, ..Settings::default() });
    assert!(bench.run("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected"));
    bench.expect(&[("SET f v", "OK"), ("OBJECT FREQ f", ":5"), ("GET f", "\"v\"")]);
    bench.expect(&[("OBJECT FREQ f", ":6")]);
    bench.expect(&[
        ("OBJECT", "-ERR wrong number of arguments for 'object' command"),
        ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command"),
        ("OBJECT NOTHING k", "-ERR unknown subcommand 'NOTHING'. Try OBJECT HELP."),
    ]);
}

#[test]
fn events_follow_a_key_over_databases() {
    let notify = Class::GENERIC | Class::EXPIRED | Class::MISS | Class::KEYSPACE;
    let mut bench = Bench::with(Settings { notify, ..Settings::default() });
    for line in ["SET k v PX 5", "COPY k c DB 2", "MOVE k 3", "GET none"] {
        bench.run(line);
    }
    bench.pass_ms(5);
    bench.database = 2;
    bench.run("EXISTS c");
    let events: Vec<_> =
        bench.shard.keyspace.events.take().iter().map(|e| (e.name, e.database)).collect();
    let expected = [
        ("expire", 0),
        ("copy_to", 2),
        ("move_from", 0),
        ("move_to", 3),
        ("keymiss", 0),
        ("expired", 2),
        ("keymiss", 2),
    ];
    assert_eq!(events, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Redis's guarantee: what is there from the first call to the last comes up, whatever else
    /// comes and goes, and nothing comes up that was never there.
    #[test]
    fn a_scan_misses_nothing_that_stays(
        staying in 1..400_usize,
        churn in vec((any::<bool>(), 0..2_000_u32), 0..600),
        count in 1..40_usize,
    ) {
        let mut bench = Bench::new();
        for number in 0..staying {
            bench.run(&format!("SET stay:{number} v"));
        }
        let mut churn = churn.chunks(1 + churn.len() / 20).cycle();
        let (mut cursor, mut found) = (String::from("0"), HashSet::new());
        for _ in 0..10_000 {
            let reply = bench.run(&format!("SCAN {cursor} COUNT {count}"));
            let mut strings = reply.split('"').skip(1).step_by(2).map(str::to_string);
            cursor = strings.next().expect("a cursor");
            found.extend(strings);
            if cursor == "0" {
                break;
            }
            for (set, number) in churn.next().unwrap_or_default() {
                let line = if *set { "SET go:" } else { "DEL go:" };
                bench.run(&format!("{line}{number}{}", if *set { " v" } else { "" }));
            }
        }
        prop_assert_eq!(cursor, "0", "the walk ends");
        prop_assert_eq!(found.iter().filter(|key| key.starts_with("stay:")).count(), staying);
        prop_assert!(found.iter().all(|key| key.starts_with("stay:") || key.starts_with("go:")));
        bench.shard.check();
    }
}
