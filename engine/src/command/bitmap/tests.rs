//! Replies of the bitmap commands, compared with what Redis answers.

use crate::{
    command::{Effect, testing::Bench},
    keyspace::events::Class,
    shard::Settings,
};

#[test]
fn single_bits_are_set_and_read() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("GETBIT k 0", ":0"),
        ("SETBIT k 1 1", ":0"),
        ("GET k", "\"@\""),
        ("SETBIT k 1 1", ":1"),
        ("SETBIT k 23 0", ":0"),
        ("GET k", "\"@\\x00\\x00\""),
        ("GETBIT k 1", ":1"),
        ("GETBIT k 2", ":0"),
        ("GETBIT k 4294967295", ":0"),
        ("SET n 12", "OK"),
        ("SETBIT n 6 0", ":0"),
        ("SETBIT n 7 0", ":1"),
        ("GET n", "\"02\""),
        ("OBJECT ENCODING n", "\"raw\""),
        ("SETBIT k x 1", "-ERR bit offset is not an integer or out of range"),
        ("SETBIT k -1 1", "-ERR bit offset is not an integer or out of range"),
        ("SETBIT k 4294967296 1", "-ERR bit offset is not an integer or out of range"),
        ("GETBIT k 4294967296", "-ERR bit offset is not an integer or out of range"),
        ("SETBIT k 0 2", "-ERR bit is not an integer or out of range"),
        ("RPUSH l a", ":1"),
        ("SETBIT l 0 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("GETBIT l 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
    assert_eq!(bench.effect(&[b"SETBIT", b"k", b"1", b"1"]).1, Ok(Effect::Unchanged));
    assert_eq!(bench.effect(&[b"SETBIT", b"k", b"30", b"0"]).1, Ok(Effect::Changed(1)));
    bench.shard.check();
}

#[test]
fn long_bitmaps_grow_and_keep_their_deadline() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("SETBIT k 9000 1", ":0"),
        ("EXPIRE k 100", ":1"),
        ("SETBIT k 90000 1", ":0"),
        ("STRLEN k", ":11251"),
        ("BITCOUNT k", ":2"),
        ("TTL k", ":100"),
        ("BITOP OR k k none", ":11251"),
        ("TTL k", ":-1"),
    ]);
    bench.shard.check();
}

#[test]
fn bits_are_counted() {
    Bench::new().expect(&[
        ("BITCOUNT none", ":0"),
        ("BITCOUNT none 0 x", "-ERR value is not an integer or out of range"),
        ("SET k foobar", "OK"),
        ("BITCOUNT k", ":26"),
        ("BITCOUNT k 0 0", ":4"),
        ("BITCOUNT k 1", ":22"),
        ("BITCOUNT k 1 1 byte", ":6"),
        ("BITCOUNT k 5 30 BIT", ":17"),
        ("BITCOUNT k -3 -5", ":0"),
        ("BITCOUNT k -100 -90 BIT", ":0"),
        ("BITCOUNT k -2 -1", ":7"),
        ("BITCOUNT k 0 0 BITS", "-ERR syntax error"),
        ("BITCOUNT k 0 0 BIT x", "-ERR syntax error"),
        ("BITCOUNT k x", "-ERR value is not an integer or out of range"),
        ("BITCOUNT k 9223372036854775807 -9223372036854775808", ":0"),
        ("BITCOUNT k -9223372036854775808 9223372036854775807 BIT", ":26"),
        ("SET n 1", "OK"),
        ("BITCOUNT n", ":3"),
    ]);
}

#[test]
fn bits_are_found() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("BITPOS none 0", ":0"),
        ("BITPOS none 1", ":-1"),
        ("BITPOS none 0 5 9", ":0"),
        ("BITPOS none 2", "-ERR The bit argument must be 1 or 0."),
        ("BITPOS none x", "-ERR value is not an integer or out of range"),
        ("BITPOS none 1 0 1 BITS", "-ERR syntax error"),
        ("BITPOS none 1 0 1 BIT x", "-ERR syntax error"),
    ]);
    bench.call(&[b"SET", b"ones", b"\xff\xff\xff"]);
    bench.call(&[b"SET", b"k", b"\x00\xff\xf0"]);
    bench.call(&[b"SET", b"empty", b""]);
    bench.expect(&[
        ("BITPOS ones 0", ":24"),
        ("BITPOS ones 0 1", ":24"),
        ("BITPOS ones 0 0 -1", ":-1"),
        ("BITPOS ones 0 3", ":-1"),
        ("BITPOS k 1", ":8"),
        ("BITPOS k 1 2", ":16"),
        ("BITPOS k 0 1", ":20"),
        ("BITPOS k 0 1 1", ":-1"),
        ("BITPOS k 1 0 7 BIT", ":-1"),
        ("BITPOS k 1 3 12 BIT", ":8"),
        ("BITPOS k 0 9 -1 BIT", ":20"),
        ("BITPOS k 1 -4 -1 BIT", ":-1"),
        ("BITPOS empty 0", ":-1"),
        ("BITPOS empty 1", ":-1"),
    ]);
}

#[test]
fn strings_are_combined() {
    let mut bench = Bench::new();
    bench.call(&[b"MSET", b"a", b"\xf0\xff", b"b", b"\x3c", b"c", b"\x06\x01"]);
    bench.expect(&[
        ("BITOP AND d a b", ":2"),
        ("GET d", "\"0\\x00\""),
        ("BITOP OR d a b none", ":2"),
        ("GET d", "\"\\xfc\\xff\""),
        ("BITOP xor d a b c", ":2"),
        ("GET d", "\"\\xca\\xfe\""),
        ("BITOP NOT d b", ":1"),
        ("GET d", "\"\\xc3\""),
        ("BITOP DIFF d a b c", ":2"),
        ("GET d", "\"\\xc0\\xfe\""),
        ("BITOP DIFF1 d a b c", ":2"),
        ("GET d", "\"\\x0e\\x00\""),
        ("BITOP ANDOR d a b c", ":2"),
        ("GET d", "\"0\\x01\""),
        ("BITOP ONE d a b c", ":2"),
        ("GET d", "\"\\xca\\xfe\""),
        ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key."),
        ("BITOP DIFF d a", "-ERR BITOP DIFF must be called with at least two source keys."),
        ("BITOP NAND d a b", "-ERR syntax error"),
        ("BITOP AND d none nothing", ":0"),
        ("EXISTS d", ":0"),
        ("RPUSH l a", ":1"),
        ("BITOP AND d a l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("BITOP AND l a b", ":2"),
        ("TYPE l", "string"),
    ]);
    bench.shard.check();
}

#[test]
fn integers_are_read_and_changed() {
    Bench::new().expect(&[
        ("BITFIELD none GET u8 0", "[:0]"),
        ("BITFIELD none", "[]"),
        ("EXISTS none", ":0"),
        ("BITFIELD k SET u8 0 255 GET u8 0", "[:0 :255]"),
        ("BITFIELD k INCRBY i5 100 1 GET u4 0", "[:1 :15]"),
        ("BITFIELD k SET u8 #1 7 GET u16 0", "[:0 :65287]"),
        ("BITFIELD k OVERFLOW SAT INCRBY u8 0 10 OVERFLOW FAIL INCRBY u8 0 1", "[:255 nil]"),
        ("BITFIELD k INCRBY u8 0 1", "[:0]"),
        ("BITFIELD k SET i64 0 -1 GET i64 0 GET u63 1", "[:1970324836974592 :-1 :9223372036854775807]"),
        ("BITFIELD k OVERFLOW SAT SET i8 0 200 GET i8 0", "[:-1 :127]"),
        ("BITFIELD_RO k GET i8 0", "[:127]"),
        ("BITFIELD_RO k SET i8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
        ("BITFIELD k GET u64 0", "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."),
        ("BITFIELD k GET x8 0", "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."),
        ("BITFIELD k GET u8 -1", "-ERR bit offset is not an integer or out of range"),
        ("BITFIELD k GET u8 #9223372036854775807", "-ERR bit offset is not an integer or out of range"),
        ("BITFIELD k SET u8 0 x", "-ERR value is not an integer or out of range"),
        ("BITFIELD k SET u8 0", "-ERR syntax error"),
        ("BITFIELD k OVERFLOW NEVER", "-ERR Invalid OVERFLOW type specified"),
        ("BITFIELD f OVERFLOW FAIL INCRBY u2 0 9", "[nil]"),
        ("STRLEN f", ":1"),
    ]);
}

#[test]
fn events_and_effects_tell_what_changed() {
    let notify = Class::STRING | Class::GENERIC | Class::KEYEVENT;
    let mut bench = Bench::with(Settings { notify, ..Settings::default() });
    for line in [
        "SETBIT k 1 1",
        "SETBIT k 1 1",
        "BITFIELD k GET u8 0",
        "BITFIELD k SET u8 0 64",
        "BITFIELD k SET u8 0 65 INCRBY u8 8 1",
        "BITOP NOT d k",
        "BITOP AND d none none",
        "BITOP AND d none none",
    ] {
        bench.run(line);
    }
    let events: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    assert_eq!(events, ["setbit", "setbit", "set", "del"]);
    assert_eq!(bench.shard.changes(), 1 + 2 + 1 + 1);
}
