//! Replies of the HyperLogLog commands, compared with what Redis answers.

use crate::{
    command::{Effect, testing::Bench},
    keyspace::events::Class,
    shard::Settings,
};

#[test]
fn elements_are_added_and_counted() {
    Bench::new().expect(&[
        ("PFCOUNT h", ":0"),
        ("PFADD h", ":1"),
        ("PFADD h", ":0"),
        ("PFADD h a b c d e f g", ":1"),
        ("PFCOUNT h", ":7"),
        ("PFADD h a b c", ":0"),
        ("PFCOUNT h", ":7"),
        ("PFADD i f g h i", ":1"),
        ("PFCOUNT h i none", ":9"),
        ("PFMERGE both h i", "OK"),
        ("PFCOUNT both", ":9"),
        ("PFMERGE none", "OK"),
        ("PFCOUNT none", ":0"),
        ("PFDEBUG ENCODING h", "sparse"),
        ("PFDEBUG TODENSE h", ":1"),
        ("PFDEBUG TODENSE h", ":0"),
        ("PFDEBUG ENCODING h", "dense"),
        ("PFCOUNT h", ":7"),
        ("STRLEN h", ":12304"),
        ("PFDEBUG DECODE h", "-ERR HLL encoding is not sparse"),
        ("PFADD h x y z", ":1"),
        ("PFCOUNT h", ":10"),
        ("PFMERGE i h", "OK"),
        ("PFDEBUG ENCODING i", "dense"),
        ("PFCOUNT i", ":12"),
        ("PFDEBUG ENCODING missing", "-ERR The specified key does not exist"),
        ("PFDEBUG NOTHING h", "-ERR Unknown PFDEBUG subcommand 'NOTHING'"),
        ("PFDEBUG SIMD on", "OK"),
        ("PFDEBUG SIMD 1", "-ERR Argument must be ON or OFF"),
        ("PFSELFTEST", "OK"),
    ]);
}

#[test]
fn a_sketch_has_the_bytes_that_redis_gives_it() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("PFADD h", ":1"),
        ("GET h", "\"HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x7f\\xff\""),
        ("PFDEBUG DECODE h", "\"Z:16384\""),
        ("PFADD h foo", ":1"),
        ("PFDEBUG DECODE h", "\"Z:7348 v:5,1 Z:9035\""),
        ("PFCOUNT h", ":1"),
    ]);
}

#[test]
fn what_is_no_sketch_is_refused() {
    let mut bench = Bench::new();
    let not = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
    bench.expect(&[
        ("SET n 12", "OK"),
        ("PFADD n a", not),
        ("PFCOUNT n", not),
        ("RPUSH l a", ":1"),
        ("PFADD l a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("PFADD h a b", ":1"),
        ("PFMERGE h n", not),
        ("PFDEBUG GETREG n", not),
        ("APPEND h hello", ":29"),
        ("PFCOUNT h", "-INVALIDOBJ Corrupted HLL object detected"),
        ("PFCOUNT h h", "-INVALIDOBJ Corrupted HLL object detected"),
        ("PFMERGE d h", "-INVALIDOBJ Corrupted HLL object detected"),
        ("PFDEBUG TODENSE h", "-INVALIDOBJ Corrupted HLL object detected"),
        ("EXISTS d", ":0"),
        ("PFADD d a", ":1"),
        ("SETRANGE d 16 xx", ":21"),
        ("SETRANGE d 4 x", ":21"),
        ("PFADD d b", not),
    ]);
    bench.call(&[b"SET", b"short", b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x40"]);
    let before = bench.run("GET short");
    bench.expect(&[("PFADD short a b c", "-INVALIDOBJ Corrupted HLL object detected")]);
    assert_eq!(bench.run("GET short"), before);
    bench.shard.check();
}

#[test]
fn a_sketch_grows_dense_by_its_limit() {
    let settings = Settings { hll_sparse_bytes_max: 60, ..Settings::default() };
    let mut bench = Bench::with(settings);
    for number in 0..10 {
        bench.run(&format!("PFADD h {number}"));
        let encoding = bench.run("PFDEBUG ENCODING h");
        let len: usize = bench.run("STRLEN h")[1..].parse().expect("a length");
        assert_eq!(encoding == "sparse", len <= 60, "{len}");
    }
    bench.expect(&[("PFADD other 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", ":1")]);
    bench.expect(&[("PFDEBUG ENCODING other", "dense"), ("PFCOUNT other", ":20")]);
}

#[test]
fn registers_are_shown() {
    let mut bench = Bench::new();
    bench.run("PFADD h foo");
    let reply = bench.run("PFDEBUG GETREG h");
    let registers: Vec<&str> = reply[1..reply.len() - 1].split(' ').collect();
    assert_eq!(registers.len(), 16_384);
    assert_eq!(registers[7_348], ":5");
    assert_eq!(registers.iter().filter(|&&register| register == ":0").count(), 16_383);
    bench.expect(&[("PFDEBUG ENCODING h", "dense")]);
}

#[test]
fn events_and_effects_tell_what_changed() {
    let notify = Class::STRING | Class::KEYEVENT;
    let mut bench = Bench::with(Settings { notify, ..Settings::default() });
    for (line, changes) in [
        ("PFADD h a", 2),
        ("PFADD h a", 0),
        ("PFCOUNT h", 1),
        ("PFCOUNT h", 0),
        ("PFMERGE d h", 1),
        ("PFDEBUG TODENSE d", 1),
        ("PFADD d a", 0),
        ("PFADD d b", 1),
    ] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        assert_eq!(bench.effect(&words).1, Ok(Effect::count(changes)), "{line}");
    }
    let events: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    assert_eq!(events, ["pfadd", "pfadd", "pfadd"]);
}
