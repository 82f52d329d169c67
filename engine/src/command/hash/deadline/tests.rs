//! Fields that expire: replies, events and records, compared with what Redis 8 answers.

use crate::{
    command::testing::{Bench, START_MS},
    keyspace::events::Class,
    shard::Settings,
};

fn listening() -> Bench {
    let notify = Class::HASH | Class::GENERIC | Class::EXPIRED | Class::KEYEVENT;
    Bench::with(Settings { notify, ..Settings::default() })
}

/// Runs a line; answers the events that it caused.
fn events(bench: &mut Bench, line: &str) -> Vec<&'static str> {
    bench.run(line);
    bench.shard.keyspace.events.take().iter().map(|event| event.name).collect()
}

#[test]
fn deadlines_are_set_shown_and_taken_away() {
    let mut bench = Bench::new();
    let second = START_MS / 1_000;
    bench.expect(&[
        ("HEXPIRE none 10 FIELDS 2 a b", "[:-2 :-2]"),
        ("HTTL none FIELDS 1 a", "[:-2]"),
        ("HPERSIST none FIELDS 1 a", "[:-2]"),
        ("HSET h a 1 b 2 c 3", ":3"),
        ("OBJECT ENCODING h", "\"listpack\""),
        ("HEXPIRE h 10 FIELDS 3 a x b", "[:1 :-2 :1]"),
        ("OBJECT ENCODING h", "\"listpackex\""),
        ("HTTL h FIELDS 4 a b c x", "[:10 :10 :-1 :-2]"),
        ("HPEXPIRE h 1500 FIELDS 1 b", "[:1]"),
        ("HTTL h FIELDS 1 b", "[:2]"),
        ("HPTTL h FIELDS 2 a b", "[:10000 :1500]"),
        ("HEXPIRETIME h FIELDS 2 a b", &format!("[:{} :{}]", second + 10, second + 2)),
        ("HPEXPIRETIME h FIELDS 1 b", &format!("[:{}]", START_MS + 1_500)),
        (&format!("HEXPIREAT h {} FIELDS 1 c", second + 5), "[:1]"),
        (&format!("HPEXPIREAT h {} FIELDS 1 a", START_MS + 7), "[:1]"),
        ("HPTTL h FIELDS 2 a c", "[:7 :5000]"),
        ("HPERSIST h FIELDS 3 a x a", "[:1 :-2 :-1]"),
        ("HPTTL h FIELDS 1 a", "[:-1]"),
        ("HPEXPIREAT h 1 FIELDS 2 a b", "[:2 :2]"),
        ("HGETALL h", "[\"c\" \"3\"]"),
        ("HEXPIRE h 0 FIELDS 1 c", "[:2]"),
        ("EXISTS h", ":0"),
    ]);
    bench.shard.check();
}

#[test]
fn conditions_on_deadlines() {
    Bench::new().expect(&[
        ("HSET h a 1", ":1"),
        ("HEXPIRE h 10 XX FIELDS 1 a", "[:0]"),
        ("HEXPIRE h 10 GT FIELDS 1 a", "[:0]"),
        ("HEXPIRE h 10 NX FIELDS 1 a", "[:1]"),
        ("HEXPIRE h 20 NX FIELDS 1 a", "[:0]"),
        ("HEXPIRE h 10 GT FIELDS 1 a", "[:0]"),
        ("HEXPIRE h 20 gt FIELDS 1 a", "[:1]"),
        ("HEXPIRE h 20 LT FIELDS 1 a", "[:0]"),
        ("HEXPIRE h 15 LT FIELDS 1 a", "[:1]"),
        ("HEXPIRE h 30 XX FIELDS 1 a", "[:1]"),
        ("HPERSIST h FIELDS 1 a", "[:1]"),
        ("HEXPIRE h 5 LT FIELDS 1 a", "[:1]"),
    ]);
}

#[test]
fn arguments_are_checked() {
    let missing = "-ERR Mandatory argument FIELDS is missing or not at the right position";
    let mismatch = "-ERR The `numfields` parameter must match the number of arguments";
    let positive = "-ERR Number of fields must be a positive integer";
    Bench::new().expect(&[
        ("HSET h a 1", ":1"),
        ("HEXPIRE h 10 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command"),
        ("HEXPIRE h 10 FIELD 1 a", missing),
        ("HEXPIRE h 10 NX GT FIELDS 1 a", missing),
        ("HEXPIRE h 10 FIELDS 2 a", mismatch),
        ("HEXPIRE h 10 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h x FIELDS 1 a", "-ERR value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
        ("HEXPIRE h 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command"),
        (
            "HPEXPIREAT h 70368744177664 FIELDS 1 a",
            "-ERR invalid expire time in 'hpexpireat' command",
        ),
        ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "[:1]"),
        ("HPEXPIRETIME h FIELDS 1 a", "[:70368744177663]"),
        ("HTTL h FIELDS x a", positive),
        ("HTTL h FIELDS 2 a", mismatch),
        ("HPERSIST h a 1 b", missing),
        ("HGETDEL h FIELDS 0 a", positive),
        ("HGETEX h PXAT 1 1", missing),
        ("HGETEX h PERSIST 1 FIELDS 1 a", missing),
        ("HGETEX h EX -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
        ("HSETEX h fxx fnx FIELDS 1 a b", "-ERR Only one of FXX or FNX arguments can be specified"),
        (
            "HSETEX h EX 1 KEEPTTL FIELDS 1 a b",
            "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        ),
        ("HSETEX h nx FIELDS 1 a b", "-ERR unknown argument: nx"),
        ("HSETEX h ex FIELDS 1 a b", "-ERR value is not an integer or out of range"),
        ("HSETEX h FIELDS 0 a b", "-ERR invalid number of fields"),
        ("HSETEX h FIELDS 2 a b c", "-ERR wrong number of arguments for 'hsetex' command"),
        (
            "HSETEX h FNX EX 1 KEEPTTL",
            "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        ),
        ("SET k v", "OK"),
        (
            "HEXPIRE k x FIELDS 1 a",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("HTTL k a b c", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HGETEX k a b c", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        (
            "HSETEX k FIELDS 1 a b",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ]);
}

#[test]
fn a_field_is_gone_at_its_very_millisecond() {
    let mut bench = Bench::new();
    bench.shard.configure(Settings { active_expire: false, ..Settings::default() });
    bench.expect(&[("HSET h a 1 b 2 c 3", ":3"), ("HPEXPIRE h 100 FIELDS 2 a b", "[:1 :1]")]);
    bench.pass_ms(99);
    bench.expect(&[("HGET h a", "\"1\""), ("HLEN h", ":3"), ("HPTTL h FIELDS 1 a", "[:1]")]);
    bench.pass_ms(1);
    bench.expect(&[
        ("HLEN h", ":1"),
        ("HGETALL h", "[\"c\" \"3\"]"),
        ("HKEYS h", "[\"c\"]"),
        ("HVALS h", "[\"3\"]"),
        ("HSCAN h 0 NOVALUES", "[\"0\" [\"c\"]]"),
        ("HRANDFIELD h 9", "[\"c\"]"),
        ("HMGET h a b c", "[nil nil \"3\"]"),
        ("HEXISTS h a", ":0"),
        ("HSTRLEN h b", ":0"),
        ("HSETNX h a new", ":1"),
        ("HTTL h FIELDS 1 a", "[:-1]"),
        ("HDEL h b", ":0"),
        ("HPEXPIRE h 5 FIELDS 2 a c", "[:1 :1]"),
    ]);
    bench.pass_ms(5);
    bench.expect(&[
        ("HLEN h", ":0"),
        ("HRANDFIELD h", "nil"),
        ("HRANDFIELD h 3", "[]"),
        ("HINCRBY h c 1", ":1"),
        ("HINCRBYFLOAT h a 1.5", "\"1.5\""),
        ("HGET h d", "nil"),
    ]);
    bench.shard.check();
}

#[test]
fn setting_a_field_takes_its_deadline_away_and_counting_leaves_it() {
    Bench::new().expect(&[
        ("HSET h a 1 b 2 c 3", ":3"),
        ("HEXPIRE h 10 FIELDS 3 a b c", "[:1 :1 :1]"),
        ("HSET h a 9", ":0"),
        ("HINCRBY h b 5", ":7"),
        ("HINCRBYFLOAT h c 0.5", "\"3.5\""),
        ("HTTL h FIELDS 3 a b c", "[:-1 :10 :10]"),
        ("COPY h i", ":1"),
        ("RENAME h j", "OK"),
        ("HTTL i FIELDS 1 b", "[:10]"),
        ("HTTL j FIELDS 1 b", "[:10]"),
    ]);
}

#[test]
fn fields_are_read_and_removed_dated_or_set_in_one_step() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("HGETDEL none FIELDS 2 a b", "[nil nil]"),
        ("HGETEX none FIELDS 1 a", "[nil]"),
        ("HSETEX h FXX FIELDS 1 a 1", ":0"),
        ("EXISTS h", ":0"),
        ("HSETEX h EX 10 FIELDS 2 a 1 b 2", ":1"),
        ("HTTL h FIELDS 2 a b", "[:10 :10]"),
        ("HSETEX h FNX FIELDS 2 b 3 c 3", ":0"),
        ("HSETEX h KEEPTTL FIELDS 1 a 5", ":1"),
        ("HSETEX h fxx FIELDS 1 b 6", ":1"),
        ("HGETEX h FIELDS 3 a b x", "[\"5\" \"6\" nil]"),
        ("HTTL h FIELDS 2 a b", "[:10 :-1]"),
        ("HGETEX h PERSIST FIELDS 2 a b", "[\"5\" \"6\"]"),
        ("HGETEX h PX 50 FIELDS 2 a x", "[\"5\" nil]"),
        ("HPTTL h FIELDS 2 a b", "[:50 :-1]"),
        ("HGETEX h PXAT 1 FIELDS 1 a", "[\"5\"]"),
        ("HGETDEL h FIELDS 3 b b a", "[\"6\" nil nil]"),
        ("EXISTS h", ":0"),
        ("HSETEX h PX 0 FIELDS 1 a 1", ":1"),
        ("EXISTS h", ":0"),
        ("HSET h a 1 b 2", ":2"),
        ("HSETEX h EXAT 1 FIELDS 1 a 1", ":1"),
        ("HGETALL h", "[\"b\" \"2\"]"),
    ]);
    bench.shard.check();
}

#[test]
fn events_have_the_names_of_redis() {
    let mut bench = listening();
    assert_eq!(events(&mut bench, "HSETEX h EX 100 FIELDS 2 a 1 b 2"), ["hset", "hexpire"]);
    assert_eq!(events(&mut bench, "HEXPIRE h 10 FIELDS 2 a x"), ["hexpire"]);
    assert_eq!(events(&mut bench, "HEXPIRE h 10 NX FIELDS 1 a"), [""; 0]);
    assert_eq!(events(&mut bench, "HPERSIST h FIELDS 1 a"), ["hpersist"]);
    assert_eq!(events(&mut bench, "HGETEX h PX 50 FIELDS 1 a"), ["hexpire"]);
    assert_eq!(events(&mut bench, "HGETDEL h FIELDS 1 b"), ["hdel"]);
    bench.pass_ms(50);
    assert_eq!(events(&mut bench, "HGET h a"), ["hexpired", "del"]);
    assert_eq!(events(&mut bench, "HSETEX h PX 0 FIELDS 1 a 1"), ["hset", "hdel", "del"]);
    assert_eq!(events(&mut bench, "HSET h a 1"), ["hset"]);
    assert_eq!(events(&mut bench, "HEXPIRE h 0 FIELDS 1 a"), ["hdel", "del"]);
    assert_eq!(events(&mut bench, "HSETEX h PX 5 FIELDS 1 a 1"), ["hset", "hexpire"]);
    bench.pass_ms(5);
    assert_eq!(
        events(&mut bench, "HSETEX h FNX PX 9 FIELDS 1 a 2"),
        ["hexpired", "del", "hset", "hexpire"]
    );
    bench.shard.check();
}

#[test]
fn fields_that_nobody_reads_are_removed_when_they_are_due() {
    let mut bench = listening();
    bench.run("HSET h stays 1");
    for number in 0..1_000 {
        bench.run(&format!("HSETEX h PX {} FIELDS 1 field:{number} v", 1 + number % 50));
    }
    bench.run("HSETEX gone PX 20 FIELDS 1 a 1");
    bench.shard.keyspace.events.take();
    let due_us = bench.shard.tick_due_us().expect("work is due");
    assert_eq!(due_us, (START_MS + 1) * 1_000);
    bench.pass_ms(50);
    let mut ticks = 0;
    while bench.shard.keyspace.next_field_due_ms().is_some() {
        bench.pass_ms(1);
        bench.shard.tick();
        ticks += 1;
    }
    assert!((5..50).contains(&ticks), "{ticks}");
    bench.expect(&[("HLEN h", ":1"), ("EXISTS gone", ":0")]);
    let names: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    assert!(names.contains(&"hexpired") && names.contains(&"del"));
    assert_eq!(bench.shard.tick_due_us(), None);
    bench.shard.check();
}

/// The payload of DUMP for a value of `kind`.
fn payload(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = [&[kind], value].concat();
    crate::persist::rdb::payload::seal(&mut payload);
    payload
}

fn dump(bench: &mut Bench, key: &str) -> Vec<u8> {
    let mut out = tessera_proto::ReplyBuffer::new();
    let mut batch = tessera_proto::RequestBatch::new();
    batch.push_slices([&b"DUMP"[..], key.as_bytes()]);
    let _ = bench.execute(batch.get(0).expect("a request"), &mut out).expect("a payload");
    let reply = out.to_vec();
    let head = reply.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
    reply[head..reply.len() - 2].to_vec()
}

#[test]
fn deadlines_are_dumped_and_restored() {
    let mut bench = Bench::new();
    bench.run("HSET h a 1 b 2 c 3");
    bench.run("HPEXPIRE h 500 FIELDS 1 a");
    bench.run("HPEXPIRE h 700 FIELDS 1 b");
    for number in 0..400 {
        bench.run(&format!("HSETEX large PX {} FIELDS 1 field:{number} {number}", 1_000 + number));
    }
    for key in ["h", "large"] {
        let payload = dump(&mut bench, key);
        assert_eq!(bench.call(&[b"RESTORE", b"copy", b"0", &payload, b"REPLACE"]), "OK");
        let len = bench.run(&format!("HLEN {key}"));
        assert_eq!(bench.run("HLEN copy"), len);
    }
    bench.expect(&[("HPTTL copy FIELDS 2 field:0 field:399", "[:1000 :1399]")]);
    let payload = dump(&mut bench, "h");
    bench.call(&[b"RESTORE", b"copy", b"0", &payload, b"REPLACE"]);
    bench.expect(&[
        ("HPTTL copy FIELDS 4 a b c x", "[:500 :700 :-1 :-2]"),
        ("OBJECT ENCODING copy", "\"listpackex\""),
        ("PERSIST copy", ":0"),
    ]);
    bench.pass_ms(700);
    assert_eq!(bench.run("HGETALL copy"), "[\"c\" \"3\"]");
    bench.shard.check();
}

#[test]
fn redis_s_packed_form_is_restored_and_nonsense_refused() {
    let mut bench = Bench::new();
    // Field a with value 1 and a deadline in the year 2200, field b without one.
    let at = 7_258_118_400_000_i64;
    let mut pack = vec![0, 0, 0, 0, 6, 0, 0x81, b'a', 2, 1, 1, 0xF4];
    pack.extend(at.to_le_bytes());
    pack.extend([9, 0x81, b'b', 2, 2, 1, 0, 1, 0xFF]);
    let len = (pack.len() as u32).to_le_bytes();
    pack[..4].copy_from_slice(&len);
    let head = [&at.to_le_bytes()[..], &[pack.len() as u8]].concat();
    let whole = payload(25, &[&head[..], &pack].concat());
    assert_eq!(bench.call(&[b"RESTORE", b"h", b"0", &whole]), "OK");
    bench.expect(&[
        ("HPEXPIRETIME h FIELDS 2 a b", &format!("[:{at} :-1]")),
        ("HMGET h a b", "[\"1\" \"2\"]"),
    ]);
    let early = at.to_le_bytes();
    for value in [
        // A deadline beyond all bounds.
        [&early[..], &[1, 0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, b'a', 1, b'1']]
            .concat(),
        // A field twice.
        [&early[..], &[2, 1, 1, b'a', 1, b'1', 0, 1, b'a', 1, b'1']].concat(),
        // No field.
        [&early[..], &[0]].concat(),
        early[..5].to_vec(),
    ] {
        let reply = bench.call(&[b"RESTORE", b"x", b"0", &payload(24, &value)]);
        assert_eq!(reply, "-ERR Bad data format");
    }
    bench.shard.check();
}
