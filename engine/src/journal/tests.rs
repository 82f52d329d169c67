//! What a shard records, another shard repeats: every family of commands, at random.

use tessera_proto::Span;

use super::record::{Record, RecordBuffer, RecordError, RecordHead, check_reading, encode, peek};
use crate::{
    command::testing::Bench,
    keyspace::events::Class,
    persist::replay::Replay,
    shard::{Settings, Shard},
    sys::random::Random,
};

/// A bench whose shard records.
fn recording() -> Bench {
    let mut bench = Bench::new();
    bench.shard.keyspace.journal.start(0, 1, 0);
    bench
}

/// The records that wait, one behind the other.
fn taken(bench: &mut Bench) -> Vec<u8> {
    let journal = &mut bench.shard.keyspace.journal;
    let mut bytes = Vec::new();
    while let Some(chunk) = journal.take_until(u64::MAX) {
        bytes.extend_from_slice(&chunk.bytes);
        journal.recycle(chunk.bytes);
    }
    bytes
}

/// The records that wait, as words, with their databases.
fn recorded(bench: &mut Bench) -> Vec<String> {
    let bytes = taken(bench);
    let (mut rest, mut spans, mut lines) = (bytes.as_slice(), Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (record, len) = Record::read(rest, &mut spans).expect("a record");
        let words: Vec<_> =
            record.args().iter().map(|arg| arg.escape_ascii().to_string()).collect();
        lines.push(match record.head.database {
            0 => words.join(" "),
            database => format!("{database}: {}", words.join(" ")),
        });
        rest = &rest[len..];
    }
    lines
}

/// Another shard, with other random numbers and its time at 0, that repeats what waits in `bench`.
fn repeat(bench: &mut Bench) -> Bench {
    let mut shard = Shard::new(99, Settings::default());
    let bytes = taken(bench);
    let (mut rest, mut spans, mut replay) = (bytes.as_slice(), Vec::new(), Replay::default());
    while !rest.is_empty() {
        let (record, len) = Record::read(rest, &mut spans).expect("a record");
        replay.apply(&mut shard, &record).expect("what was done can be done again");
        rest = &rest[len..];
    }
    let mut repeated = Bench::new();
    repeated.shard = shard;
    repeated
}

#[test]
fn a_command_is_recorded_as_it_was_sent_unless_it_says_otherwise() {
    let mut bench = recording();
    for (line, records) in [
        ("SET a 1", &["SET a 1"][..]),
        ("GET a", &[]),
        ("incr a", &["incr a"]),
        ("INCRBY a x", &[]),
        ("DEL none", &[]),
        ("DEL a none", &["DEL a none"]),
        ("MSET a 1 b 2", &["MSET a 1 b 2"]),
        ("SET a 5 EX 10", &["SET a 5 PXAT 1700000010000"]),
        ("SET a 6 KEEPTTL XX", &["SET a 6 KEEPTTL"]),
        ("SET a 7 NX", &[]),
        ("SET a 7 GET", &["SET a 7"]),
        ("SET none 7 PXAT 5", &[]),
        ("SET a 7 PXAT 5", &["DEL a"]),
        ("SETEX a 10 v", &["SET a v PXAT 1700000010000"]),
        ("PSETEX a 10 v", &["SET a v PXAT 1700000000010"]),
        ("EXPIRE a 20", &["PEXPIREAT a 1700000020000"]),
        ("EXPIRE a 10 GT", &[]),
        ("EXPIREAT a 1800000000", &["PEXPIREAT a 1800000000000"]),
        ("GETEX a PERSIST", &["PERSIST a"]),
        ("GETEX a", &[]),
        ("GETEX a PX 5", &["PEXPIREAT a 1700000000005"]),
        ("GETEX a PXAT 5", &["DEL a"]),
        ("EXPIRE b -1", &["DEL b"]),
        ("INCRBYFLOAT f 1.5", &["SET f 1.5 KEEPTTL"]),
        ("GETDEL f", &["DEL f"]),
        ("HINCRBYFLOAT h f 0.1", &["HSET h f 0.1"]),
        ("SADD s x", &["SADD s x"]),
        ("SADD s x", &[]),
        ("SPOP s", &["DEL s"]),
        ("SPOP s", &[]),
        ("FLUSHALL", &["FLUSHALL"]),
        ("SWAPDB 0 1", &["SWAPDB 0 1"]),
        ("XADD x * f v", &["XADD x 1700000000000-0 f v"]),
        ("XADD x 1700000000001 f v", &["XADD x 1700000000001 f v"]),
        ("XADD x MAXLEN ~ 1 1700000000001-* f v", &["XADD x MAXLEN = 3 1700000000001-1 f v"]),
        ("XADD x MINID 5 * f v", &["XADD x MINID 5 1700000000001-2 f v"]),
        ("XTRIM x MAXLEN ~ 0", &["XTRIM x MAXLEN = 0"]),
        ("XTRIM x MAXLEN ~ 0", &[]),
        ("XADD x 1800000000000-1 f v", &["XADD x 1800000000000-1 f v"]),
        ("XGROUP CREATE x g 0", &["XGROUP CREATE x g 0"]),
        (
            "XREADGROUP GROUP g c STREAMS x >",
            &[
                "XGROUP CREATECONSUMER x g c",
                "XCLAIM x g c 0 1800000000000-1 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID \
                 LASTID 1800000000000-1",
                "XGROUP SETID x g 1800000000000-1 ENTRIESREAD 5",
            ],
        ),
        ("XREADGROUP GROUP g c STREAMS x >", &[]),
        (
            "XREADGROUP GROUP g c STREAMS x 0",
            &["XCLAIM x g c 0 1800000000000-1 TIME 1700000000000 RETRYCOUNT 2 FORCE JUSTID \
               LASTID 1800000000000-1"],
        ),
        ("XCLAIM x g c 9 1800000000000-1", &[]),
        (
            "XCLAIM x g d 0 1800000000000-1 TIME 7 JUSTID",
            &[
                "XGROUP CREATECONSUMER x g d",
                "XCLAIM x g d 0 1800000000000-1 TIME 7 RETRYCOUNT 2 FORCE JUSTID LASTID \
                 1800000000000-1",
            ],
        ),
        ("XACK x g 1800000000000-1", &["XACK x g 1800000000000-1"]),
    ] {
        bench.run(line);
        assert_eq!(recorded(&mut bench), *records, "after {line}");
    }
}

#[test]
fn members_drawn_at_random_are_recorded_by_name() {
    let mut bench = recording();
    bench.run("SADD s a b c d 1000 1001");
    recorded(&mut bench);
    let popped = bench.run("SPOP s 3");
    let record = recorded(&mut bench);
    let names = popped.trim_matches(['[', ']']).replace('"', "");
    assert_eq!(record, [format!("SREM s {names}")]);
}

#[test]
fn a_key_past_its_deadline_is_deleted_by_a_record_before_what_finds_it_gone() {
    let mut bench = recording();
    bench.database = 2;
    for line in ["SET a 1 PX 5", "SET b 1 PX 5", "SET c 1 PX 5"] {
        bench.run(line);
    }
    recorded(&mut bench);
    bench.pass_ms(10);
    bench.run("GET a");
    assert_eq!(recorded(&mut bench), ["2: DEL a"]);
    bench.run("SETNX b 2");
    assert_eq!(recorded(&mut bench), ["2: DEL b", "2: SETNX b 2"]);
    while bench.shard.keyspace.len(2) > 1 {
        bench.shard.tick();
        bench.pass_ms(1_000);
    }
    assert_eq!(recorded(&mut bench), ["2: DEL c"]);
}

#[test]
fn records_carry_their_number_and_their_stamp() {
    let mut bench = Bench::new();
    bench.run("SET before 1");
    bench.shard.keyspace.journal.start(41, 7, 0);
    bench.run("SET a 1");
    bench.shard.keyspace.journal.set_stamp(8);
    bench.run("SET b 1");
    let bytes = taken(&mut bench);
    let mut spans = Vec::new();
    let (record, len) = Record::read(&bytes, &mut spans).expect("a record");
    assert_eq!(record.head, RecordHead { sequence: 42, stamp: 7, database: 0 });
    let mut spans = Vec::new();
    let (record, _) = Record::read(&bytes[len..], &mut spans).expect("a record");
    assert_eq!(record.head, RecordHead { sequence: 43, stamp: 8, database: 0 });
    assert_eq!(bench.shard.keyspace.journal.sequence(), 43);
}

#[test]
fn each_epoch_is_a_chunk_with_room_in_front() {
    let mut bench = Bench::new();
    bench.shard.keyspace.journal.start(10, 3, 64);
    for (epoch, line) in [(3, "SET a 1"), (3, "SET b 1"), (5, "GET a"), (6, "SET c 1")] {
        bench.shard.keyspace.journal.set_stamp(epoch);
        bench.run(line);
    }
    let journal = &mut bench.shard.keyspace.journal;
    assert_eq!((journal.sequence_until(5), journal.sequence_until(6)), (12, 13));
    assert!(journal.take_until(2).is_none());
    let chunk = journal.take_until(5).expect("the epoch 3");
    assert_eq!((chunk.epoch, chunk.first_sequence, chunk.last_sequence), (3, 11, 12));
    assert!(chunk.bytes[..64].iter().all(|&byte| byte == 0));
    let mut spans = Vec::new();
    let (record, _) = Record::read(&chunk.bytes[64..], &mut spans).expect("a record");
    assert_eq!(record.head.sequence, 11);
    assert!(journal.take_until(5).is_none() && !journal.is_empty());
    let chunk = journal.take_until(6).expect("the epoch 6");
    assert_eq!((chunk.epoch, chunk.first_sequence, chunk.last_sequence), (6, 13, 13));
    assert!(journal.is_empty());
    assert_eq!(journal.sequence_until(6), 13);
}

#[test]
fn a_journal_that_is_off_or_suspended_takes_nothing() {
    let mut bench = Bench::new();
    bench.run("SADD s a b");
    bench.run("SPOP s");
    assert_eq!(bench.shard.keyspace.journal.len(), 0);
    bench.shard.keyspace.journal.start(0, 1, 0);
    let was_on = bench.shard.keyspace.journal.suspend();
    bench.run("SPOP s");
    bench.shard.keyspace.journal.resume(was_on);
    assert!(was_on && bench.shard.keyspace.journal.is_empty());
    bench.run("SET a 1");
    assert_eq!(recorded(&mut bench), ["SET a 1"]);
}

/// Templates of command lines: `K` stands for a key of the type, `M` for a member or field, `N` for
/// a small number, `F` for a floating point number, `T` for a span of time in milliseconds, `U` for a
/// Unix time in milliseconds near now.
type Family = &'static [&'static str];

const STRINGS: Family = &[
    "SET K M",
    "SET K N EX 1",
    "SET K M PX T",
    "SET K N PXAT U",
    "SET K M KEEPTTL",
    "SET K N NX",
    "SET K M XX GET",
    "SET K M NX PX T",
    "SET K N IFEQ N",
    "SETNX K M",
    "SETEX K 1 N",
    "PSETEX K T M",
    "GETSET K N",
    "MSET K M K N",
    "MSETNX K M K N",
    "MSETEX 2 K M K N PX T",
    "MSETEX 2 K M K N NX",
    "MSETEX 1 K M PXAT U",
    "DELEX K IFNE M",
    "SET K M IFNE N PX T",
    "GETDEL K",
    "DELIFEQ K N",
    "GETEX K PX T",
    "GETEX K PXAT U",
    "GETEX K PERSIST",
    "APPEND K M",
    "SETRANGE K N M",
    "INCR K",
    "DECRBY K N",
    "INCRBYFLOAT K F",
    "GET K",
    "DEL K",
];
const KEYS: Family = &[
    "SET K M",
    "RPUSH K M N",
    "HSET K M N",
    "EXPIRE K 1",
    "PEXPIRE K T",
    "PEXPIREAT K U",
    "PEXPIRE K T NX",
    "PEXPIRE K T GT",
    "PEXPIREAT K U LT",
    "EXPIRE K -1",
    "PERSIST K",
    "DEL K K",
    "UNLINK K",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K REPLACE DB 1",
    "MOVE K 1",
    "SWAPDB 0 1",
    "FLUSHDB",
    "TOUCH K",
    "EXISTS K K",
    "TTL K",
];
const LISTS: Family = &[
    "LPUSH K M",
    "RPUSH K M N F",
    "LPUSHX K M",
    "RPUSHX K N",
    "LPOP K",
    "RPOP K N",
    "LSET K N M",
    "LINSERT K BEFORE M N",
    "LREM K N M",
    "LTRIM K N -2",
    "LMOVE K K LEFT RIGHT",
    "RPOPLPUSH K K",
    "LMPOP 2 K K RIGHT COUNT N",
    "PEXPIRE K T",
];
const SETS: Family = &[
    "SADD K M N",
    "SADD K M M M F",
    "SREM K M",
    "SPOP K",
    "SPOP K N",
    "SMOVE K K M",
    "SUNIONSTORE K K K",
    "SINTERSTORE K K K",
    "SDIFFSTORE K K K",
    "PEXPIRE K T",
];
const HASHES: Family = &[
    "HSET K M N M F",
    "HMSET K M N",
    "HSETNX K M N",
    "HDEL K M",
    "HINCRBY K M N",
    "HINCRBYFLOAT K M F",
    "HPEXPIRE K T FIELDS 1 M",
    "HPEXPIRE K T NX FIELDS 2 M M",
    "HPEXPIREAT K U GT FIELDS 2 M M",
    "HEXPIRE K 0 FIELDS 1 M",
    "HPERSIST K FIELDS 2 M M",
    "HGETDEL K FIELDS 1 M",
    "HGETEX K PX T FIELDS 2 M M",
    "HGETEX K PXAT U FIELDS 1 M",
    "HGETEX K PERSIST FIELDS 1 M",
    "HSETEX K PX T FIELDS 2 M N M F",
    "HSETEX K FNX PXAT U FIELDS 1 M N",
    "HSETEX K FXX KEEPTTL FIELDS 1 M N",
    "HGET K M",
    "COPY K K REPLACE",
    "PEXPIRE K T",
];
const ZSETS: Family = &[
    "ZADD K N M",
    "ZADD K NX F M N M",
    "ZADD K XX CH N M",
    "ZADD K GT N M",
    "ZADD K INCR F M",
    "ZINCRBY K F M",
    "ZREM K M",
    "ZPOPMIN K",
    "ZPOPMAX K N",
    "ZMPOP 1 K MIN COUNT N",
    "ZREMRANGEBYRANK K 0 N",
    "ZREMRANGEBYSCORE K N F",
    "ZREMRANGEBYLEX K - [M",
    "ZUNIONSTORE K 2 K K WEIGHTS F N",
    "ZINTERSTORE K 2 K K AGGREGATE MAX",
    "ZDIFFSTORE K 2 K K",
    "ZRANGESTORE K K 0 N",
    "PEXPIRE K T",
];

const BITMAPS: Family = &[
    "SETBIT K N 1",
    "SETBIT K N 0",
    "BITOP XOR K K K",
    "BITOP AND K none none",
    "BITFIELD K SET u4 N N INCRBY i5 #N N",
    "BITFIELD K OVERFLOW FAIL INCRBY u2 N N",
    "SET K M",
    "PEXPIRE K T",
];
const HYPERLOGLOGS: Family = &[
    "PFADD K M",
    "PFADD K M N F",
    "PFCOUNT K",
    "PFCOUNT K K",
    "PFMERGE K K",
    "PFDEBUG TODENSE K",
    "SET K M",
    "DEL K",
    "PEXPIRE K T",
];
const PLACES: Family = &[
    "GEOADD K F N M",
    "GEOADD K NX F N M N F M",
    "GEOSEARCHSTORE K K FROMLONLAT N N BYRADIUS 400 km",
    "GEORADIUS K N N 300 km STOREDIST K",
    "GEORADIUSBYMEMBER K M 300 km STORE K",
    "ZREM K M",
    "PEXPIRE K T",
];
const SORTS: Family = &[
    "RPUSH K N M",
    "SADD K M N F",
    "ZADD K N M",
    "SORT K ALPHA STORE K",
    "SORT K ALPHA BY key* STORE K",
    "SORT K BY nosort GET # STORE K",
    "SORT K STORE K",
    "DEL K",
    "PEXPIRE K T",
];

const STREAMS: Family = &[
    "XADD K * f M",
    "XADD K * f M g N",
    "XADD K U-* f M",
    "XADD K NOMKSTREAM MAXLEN 5 * f M",
    "XADD K MAXLEN ~ 3 LIMIT 0 * f M",
    "XADD K MINID ~ U LIMIT N * f M",
    "XTRIM K MAXLEN N",
    "XTRIM K MAXLEN ~ N",
    "XTRIM K MINID U",
    "XDEL K U",
    "XSETID K 1900000000000-0 ENTRIESADDED 1000 MAXDELETEDID U",
    "XGROUP CREATE K g$ $ MKSTREAM",
    "XGROUP CREATE K g$ 0 MKSTREAM ENTRIESREAD N",
    "XGROUP SETID K g$ 0",
    "XGROUP DESTROY K g$",
    "XGROUP CREATECONSUMER K g$ M",
    "XGROUP DELCONSUMER K g$ M",
    "XREADGROUP GROUP g$ M COUNT N STREAMS K >",
    "XREADGROUP GROUP g$ M NOACK STREAMS K >",
    "XREADGROUP GROUP g$ M STREAMS K 0",
    "XACK K g$ U",
    "XCLAIM K g$ M 0 U IDLE T FORCE",
    "XCLAIM K g$ M N U JUSTID LASTID U",
    "XAUTOCLAIM K g$ M 0 0 COUNT 2",
    "XAUTOCLAIM K g$ M T 0 JUSTID",
    "COPY K K REPLACE",
    "DEL K",
    "PEXPIRE K T",
];

fn line(template: &str, random: &mut Random, now_ms: i64) -> String {
    let word = |word: &str, random: &mut Random| match word {
        "K" => format!("key{}", random.below(4)),
        "M" => format!("m{}", random.below(6)),
        "[M" => format!("[m{}", random.below(6)),
        "N" => random.below(4).to_string(),
        "g$" => format!("g{}", random.below(2)),
        "U-*" => format!("{}-*", now_ms - 10 + random.below(40) as i64),
        "#N" => format!("#{}", random.below(4)),
        "F" => format!("{}.{}", random.below(9), random.below(100)),
        "T" => (1 + random.below(40)).to_string(),
        "U" => (now_ms - 10 + random.below(40) as i64).to_string(),
        literal => literal.into(),
    };
    let words: Vec<_> = template.split(' ').map(|each| word(each, random)).collect();
    words.join(" ")
}

/// Runs random commands of a family while time passes, and compares with a shard that repeats the
/// records. Answers how many keys were compared.
fn run_family(family: Family, seed: u64) -> usize {
    let mut random = Random::from_seed(seed);
    let mut bench = recording();
    bench.shard.configure(Settings { notify: Class::ALL, ..Settings::default() });
    for _ in 0..120 {
        let template = family[random.below(family.len() as u64) as usize];
        let now_ms = bench.shard.keyspace.now_ms();
        bench.run(&line(template, &mut random, now_ms));
        match random.below(10) {
            0 => bench.pass_ms(random.below(30) as i64),
            1 => bench.database = 1 - bench.database,
            2 => _ = bench.shard.tick(),
            _ => {}
        }
    }
    let mut repeated = repeat(&mut bench);
    // The copy learns the time only now, and what is past its deadline goes in both.
    let now_us = bench.shard.keyspace.clock().now_us();
    repeated.shard.advance_clock_us(now_us);
    let contents = bench.contents();
    assert_eq!(repeated.contents(), contents, "seed {seed}");
    repeated.shard.check();
    contents.len()
}

#[test]
fn every_family_is_repeated_from_its_records() {
    for (family, name) in [
        (STRINGS, "strings"),
        (KEYS, "keys"),
        (LISTS, "lists"),
        (SETS, "sets"),
        (HASHES, "hashes"),
        (ZSETS, "sorted sets"),
        (BITMAPS, "bitmaps"),
        (HYPERLOGLOGS, "HyperLogLogs"),
        (PLACES, "places"),
        (STREAMS, "streams"),
        (SORTS, "sorts"),
    ] {
        let compared: usize = (0..60).map(|seed| run_family(family, seed)).sum();
        assert!(compared > 60, "{name}: only {compared} keys were compared");
    }
}

fn encoded(words: &[&[u8]]) -> RecordBuffer {
    let mut bytes = RecordBuffer::new();
    let head = RecordHead { sequence: u64::MAX, stamp: 1 << 40, database: 300 };
    encode(&mut bytes, head, words.len(), words.iter().copied());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let long = vec![b'x'; 70_000];
    for words in [&[&b"FLUSHALL"[..]][..], &[b"SET", b"", &long], &[b"", b"\r\n"]] {
        let mut bytes = encoded(words);
        let len = bytes.len();
        bytes.extend_from_slice(b"behind");
        let mut spans = vec![Span { start: 1, len: 1 }];
        let (record, read) = Record::read(&bytes, &mut spans).expect("a record");
        assert_eq!(read, len);
        assert_eq!(record.head.database, 300);
        assert!(record.args().iter().eq(words.iter().copied()));
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let bytes = encoded(&[b"SET", b"key", b"value"]);
    let mut spans = Vec::new();
    for len in 0..bytes.len() {
        assert_eq!(Record::read(&bytes[..len], &mut spans).err(), Some(RecordError::Short));
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::read(&bytes, &mut spans).is_err(), "bit {bit}");
    }
}

#[test]
fn hostile_bytes_with_a_right_checksum_are_no_record() {
    let mut random = Random::from_seed(5);
    for _ in 0..20_000 {
        let mut bytes = encoded(&[b"SET", b"key", b"value"]);
        let body = 8 + 16;
        for _ in 0..1 + random.below(3) {
            let at = body + random.below((bytes.len() - body) as u64) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        check_reading(&bytes);
    }
}

#[test]
fn a_glance_at_a_record_shows_its_length_and_key() {
    let mut bytes = RecordBuffer::new();
    let head = RecordHead { sequence: 9, stamp: 4, database: 3 };
    let words: [&[&[u8]]; 2] = [&[b"SET", b"some key", b"v"], &[b"FLUSHALL"]];
    for words in words {
        encode(&mut bytes, head, words.len(), words.iter().copied());
    }
    let (len, database, key) = peek(&bytes).expect("a record");
    assert_eq!((database, key), (3, &b"some key"[..]));
    assert_eq!(peek(&bytes[len..]), Some((bytes.len() - len, 3, &b""[..])));
    assert_eq!(peek(&bytes[..len - 1]), None);
    assert_eq!(peek(&[]), None);
    // Whatever the bytes are, it ends.
    for at in 0..bytes.len() {
        let mut hostile = bytes.clone();
        hostile[at] = 0xFF;
        let _ = peek(&hostile);
    }
}
