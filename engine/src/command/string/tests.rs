//! Strings: each command's replies, and all against a naive model.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use tessera_proto::{Args, ReplyBuffer, Span};

use crate::{
    command::{
        Effect,
        testing::{Bench, START_MS},
    },
    shard::Settings,
    value::INLINE_STRING_BYTES_MAX,
};

#[test]
fn set_and_get() {
    Bench::new().expect(&[
        ("GET k", "nil"),
        ("SET k hello", "OK"),
        ("GET k", "\"hello\""),
        ("SET k 42", "OK"),
        ("GET k", "\"42\""),
        ("STRLEN k", ":2"),
        ("STRLEN none", ":0"),
        ("SET k v BAD", "-ERR syntax error"),
        ("SET k v EX", "-ERR syntax error"),
        ("SET k", "-ERR wrong number of arguments for 'set' command"),
    ]);
}

#[test]
fn set_obeys_its_conditions() {
    Bench::new().expect(&[
        ("SET k a XX", "nil"),
        ("SET k a NX", "OK"),
        ("SET k b NX", "nil"),
        ("SET k b XX", "OK"),
        ("SET k c NX GET", "\"b\""),
        ("SET k c XX GET", "\"b\""),
        ("SET new c NX GET", "nil"),
        ("GET new", "\"c\""),
        ("SET k d IFEQ x", "nil"),
        ("SET k d IFEQ c", "OK"),
        ("SET k e IFEQ d GET", "\"d\""),
        ("SET none e IFEQ d", "nil"),
        ("SET k 7", "OK"),
        ("SET k 8 IFEQ 7", "OK"),
        ("SET k v NX XX", "-ERR syntax error"),
        ("SET k v NX IFEQ a", "-ERR syntax error"),
        ("SET k v IFEQ", "-ERR syntax error"),
    ]);
}

#[test]
fn set_obeys_its_deadlines() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("SET k v EX 10", "OK"),
        ("PTTL k", ":10000"),
        ("SET k w KEEPTTL", "OK"),
        ("PTTL k", ":10000"),
        ("SET k w PX 1500", "OK"),
        ("PTTL k", ":1500"),
        ("SET k w", "OK"),
        ("PTTL k", ":-1"),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX x", "-ERR value is not an integer or out of range"),
        ("SET k v EX 1 PX 1", "-ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "-ERR syntax error"),
        ("SET k v EX 1 EX 2", "OK"),
        ("PTTL k", ":2000"),
        ("SET k v EXAT 1", "OK"),
        ("EXISTS k", ":0"),
        ("SETEX k 3 v", "OK"),
        ("PSETEX l 3 v", "OK"),
        ("PTTL k", ":3000"),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command"),
    ]);
    bench.pass_ms(2);
    assert_eq!(bench.run("GET l"), "\"v\"");
    bench.pass_ms(1);
    assert_eq!(bench.run("GET l"), "nil");
    assert_eq!(bench.run(&format!("SET k v PXAT {}", START_MS + 4)), "OK");
    bench.pass_ms(1);
    assert_eq!(bench.run("SET k v NX"), "OK", "an expired key is absent");
    bench.shard.check();
}

#[test]
fn reading_and_changing_in_one_command() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("GETSET k a", "nil"),
        ("GETSET k b", "\"a\""),
        ("GETEX k EX 5", "\"b\""),
        ("TTL k", ":5"),
        ("GETEX k", "\"b\""),
        ("TTL k", ":5"),
        ("GETEX k PERSIST", "\"b\""),
        ("TTL k", ":-1"),
        ("GETEX k PERSIST EX 5", "-ERR syntax error"),
        ("GETEX k EX -5", "-ERR invalid expire time in 'getex' command"),
        ("GETEX none EX 5", "nil"),
        ("GETEX k PXAT 1", "\"b\""),
        ("EXISTS k", ":0"),
        ("SET k v", "OK"),
        ("GETDEL k", "\"v\""),
        ("GETDEL k", "nil"),
        ("SET k v", "OK"),
        ("DELIFEQ k w", ":0"),
        ("DELIFEQ k v", ":1"),
        ("DELIFEQ k v", ":0"),
        ("SETNX k 1", ":1"),
        ("SETNX k 2", ":0"),
        ("GET k", "\"1\""),
    ]);
}

#[test]
fn many_keys_at_once() {
    Bench::new().expect(&[
        ("MSET a 1 b two", "OK"),
        ("MGET a none b", "[\"1\" nil \"two\"]"),
        ("MSETNX b 3 c 3", ":0"),
        ("EXISTS c", ":0"),
        ("MSETNX c 3 c 4", ":1"),
        ("GET c", "\"4\""),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
    ]);
}

#[test]
fn counting_is_exact_up_to_its_bounds() {
    Bench::new().expect(&[
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("DECR n", ":41"),
        ("DECRBY n -9", ":50"),
        ("OBJECT ENCODING n", "\"int\""),
        ("SET n 9223372036854775806", "OK"),
        ("INCR n", ":9223372036854775807"),
        ("INCR n", "-ERR increment or decrement would overflow"),
        ("GET n", "\"9223372036854775807\""),
        ("SET n -9223372036854775808", "OK"),
        ("DECR n", "-ERR increment or decrement would overflow"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        ("INCRBY n 1.5", "-ERR value is not an integer or out of range"),
        ("SET s 010", "OK"),
        ("INCR s", "-ERR value is not an integer or out of range"),
        ("SET s 1", "OK"),
        ("APPEND s 0", ":2"),
        ("INCR s", ":11"),
        ("SET t 5 EX 100", "OK"),
        ("INCR t", ":6"),
        ("TTL t", ":100"),
    ]);
}

#[test]
fn floats_are_added_as_redis_does() {
    Bench::new().expect(&[
        ("INCRBYFLOAT f 10.5", "\"10.5\""),
        ("INCRBYFLOAT f 0.1", "\"10.6\""),
        ("INCRBYFLOAT f -10.6", "\"0\""),
        ("OBJECT ENCODING f", "\"embstr\""),
        ("INCR f", ":1"),
        ("INCRBYFLOAT f 5.0e3", "\"5001\""),
        ("INCRBYFLOAT f nan", "-ERR value is not a valid float"),
        ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity"),
        ("SET s x", "OK"),
        ("INCRBYFLOAT s 1", "-ERR value is not a valid float"),
    ]);
}

#[test]
fn parts_of_strings() {
    Bench::new().expect(&[
        ("APPEND k Hello", ":5"),
        ("APPEND k World", ":10"),
        ("GETRANGE k 0 4", "\"Hello\""),
        ("GETRANGE k -5 -1", "\"World\""),
        ("GETRANGE k -100 100", "\"HelloWorld\""),
        ("GETRANGE k 5 2", "\"\""),
        ("GETRANGE k 10 20", "\"\""),
        ("GETRANGE k -1 -5", "\"\""),
        ("GETRANGE k 9223372036854775807 9223372036854775807", "\"\""),
        ("GETRANGE k -9223372036854775808 9223372036854775807", "\"HelloWorld\""),
        ("SUBSTR k 0 0", "\"H\""),
        ("GETRANGE none 0 -1", "\"\""),
        ("SETRANGE k 5 There", ":10"),
        ("GET k", "\"HelloThere\""),
        ("SETRANGE k 12 x", ":13"),
        ("GET k", "\"HelloThere\\x00\\x00x\""),
        ("SETRANGE none 5 ", ":0"),
        ("EXISTS none", ":0"),
        ("SETRANGE new 2 ab", ":4"),
        ("GET new", "\"\\x00\\x00ab\""),
        ("SETRANGE k -1 x", "-ERR offset is out of range"),
        ("SETRANGE k 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (
            "SETRANGE k 9223372036854775807 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        ("SET n 12345", "OK"),
        ("SETRANGE n 1 0", ":5"),
        ("GET n", "\"10345\""),
        ("GETRANGE n 0 1", "\"10\""),
    ]);
}

#[test]
fn encodings_are_named_as_redis_names_them() {
    let mut bench = Bench::new();
    for (value, name) in [
        ("0", "int"),
        ("-9223372036854775808", "int"),
        ("9223372036854775808", "embstr"),
        ("01", "embstr"),
        (&"x".repeat(44), "embstr"),
        (&"x".repeat(45), "raw"),
        (&"x".repeat(INLINE_STRING_BYTES_MAX), "raw"),
        (&"x".repeat(INLINE_STRING_BYTES_MAX + 1), "raw"),
    ] {
        bench.run(&format!("SET k {value}"));
        assert_eq!(bench.run("OBJECT ENCODING k"), format!("\"{name}\""), "{value}");
        assert_eq!(bench.run("GET k"), format!("\"{value}\""));
    }
    bench.expect(&[
        ("SET k ab", "OK"),
        ("APPEND k c", ":3"),
        ("OBJECT ENCODING k", "\"raw\""),
        ("APPEND new ab", ":2"),
        ("OBJECT ENCODING new", "\"embstr\""),
        ("SETRANGE fresh 0 ab", ":2"),
        ("OBJECT ENCODING fresh", "\"raw\""),
        ("OBJECT ENCODING none", "nil"),
    ]);
}

#[test]
fn a_long_string_is_changed_in_place_unless_a_reply_holds_it() {
    let mut bench = Bench::new();
    let long = "x".repeat(3 * INLINE_STRING_BYTES_MAX);
    bench.run(&format!("SET k {long}"));
    for step in 1..200 {
        let len = long.len() + step;
        assert_eq!(bench.run("APPEND k y"), format!(":{len}"));
    }
    assert_eq!(bench.run(&format!("GETRANGE k {} {}", long.len() - 1, long.len())), "\"xy\"");
    assert_eq!(bench.run("SETRANGE k 0 ab"), format!(":{}", long.len() + 199));
    assert_eq!(bench.run("GETRANGE k 0 2"), "\"abx\"");
    assert_eq!(bench.run("COPY k copy"), ":1");
    bench.run("SETRANGE k 0 cd");
    assert_eq!(bench.run("GETRANGE copy 0 2"), "\"abx\"", "a copy is a value of its own");
    assert_eq!(bench.run("GETRANGE k 0 2"), "\"cdx\"");
    bench.shard.check();
}

#[test]
fn a_long_string_is_taken_over_and_sent_without_a_copy() {
    let value = Bytes::from(vec![b'x'; 4 * INLINE_STRING_BYTES_MAX]);
    let mut input = BytesMut::from(&b"SETk"[..]);
    input.extend_from_slice(&value);
    let owner = input.freeze();
    let spans =
        [(0, 3), (3, 1), (4, value.len())].map(|(start, len)| Span { start, len: len as u32 });
    let mut bench = Bench::new();
    let mut out = ReplyBuffer::new();
    let set = bench.execute(Args::with_owner(&owner, &spans), &mut out);
    assert_eq!(set, Ok(Effect::Changed(1)));

    out.clear();
    let get = bench.execute(Args::new(b"GETk", &spans[..2]), &mut out);
    assert_eq!(get, Ok(Effect::Unchanged));
    let sent = out.chunks().find(|chunk| chunk.len() == value.len()).expect("the value");
    assert_eq!(sent, &value[..]);
    assert_eq!(sent.as_ptr(), owner[4..].as_ptr(), "the very bytes that were received");

    drop(owner);
    bench.run("APPEND k y");
    let sent = out.chunks().find(|chunk| chunk.len() == value.len()).expect("the value");
    assert_eq!(sent, &value[..], "a reply on its way out does not change");
    bench.shard.check();
}

#[test]
fn strings_grow_no_longer_than_allowed() {
    let mut bench = Bench::with(Settings { bulk_bytes_max: 10, ..Settings::default() });
    bench.expect(&[
        ("SET k 123456789", "OK"),
        ("APPEND k 0", ":10"),
        ("APPEND k 1", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("STRLEN k", ":10"),
    ]);
}

#[test]
fn common_subsequences() {
    Bench::new().expect(&[
        ("MSET a ohmytext b mynewtext", "OK"),
        ("LCS a b", "\"mytext\""),
        ("LCS a b LEN", ":6"),
        ("LCS a b IDX", "[\"matches\" [[[:4 :7] [:5 :8]] [[:2 :3] [:0 :1]]] \"len\" :6]"),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "[\"matches\" [[[:4 :7] [:5 :8] :4]] \"len\" :6]",
        ),
        ("LCS a none", "\"\""),
        ("LCS a none IDX", "[\"matches\" [] \"len\" :0]"),
        ("LCS a b LEN IDX", "-ERR If you want both the length and indexes, please just use IDX."),
        ("LCS a b MINMATCHLEN", "-ERR syntax error"),
    ]);
}

#[test]
fn notifications_name_what_happened() {
    use crate::keyspace::events::Class;
    let notify = Class::ALL | Class::KEYEVENT;
    let mut bench = Bench::with(Settings { notify, ..Settings::default() });
    for line in
        ["SET k v EX 1", "INCR n", "APPEND k w", "GETEX k PERSIST", "GETDEL k", "SETRANGE r 0 x"]
    {
        bench.run(line);
    }
    let names: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    assert_eq!(names, ["set", "expire", "incrby", "append", "persist", "del", "setrange"]);
}

/// One command of the property test, on one of three keys.
#[derive(Clone, Debug)]
enum Op {
    Set(Vec<u8>),
    Append(Vec<u8>),
    SetRange(usize, Vec<u8>),
    GetRange(i64, i64),
    IncrBy(i64),
    Get,
    GetDel,
    SetNx(Vec<u8>),
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..80),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => (0..3_usize, any::<u8>()).prop_map(|(delta, byte)| {
            vec![byte; INLINE_STRING_BYTES_MAX - 1 + delta]
        }),
    ]
}

fn op() -> impl Strategy<Value = (usize, Op)> {
    let op = prop_oneof![
        value().prop_map(Op::Set),
        value().prop_map(Op::Append),
        (0..200_usize, value()).prop_map(|(at, patch)| Op::SetRange(at, patch)),
        (-100..100_i64, -100..100_i64).prop_map(|(start, end)| Op::GetRange(start, end)),
        any::<i64>().prop_map(Op::IncrBy),
        Just(Op::Get),
        Just(Op::GetDel),
        value().prop_map(Op::SetNx),
    ];
    (0..3_usize, op)
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

impl Op {
    fn run(&self, bench: &mut Bench, key: &[u8]) -> String {
        match self {
            Self::Set(value) => bench.call(&[b"SET", key, value]),
            Self::Append(value) => bench.call(&[b"APPEND", key, value]),
            Self::SetRange(at, patch) => {
                bench.call(&[b"SETRANGE", key, at.to_string().as_bytes(), patch])
            }
            Self::GetRange(start, end) => bench.call(&[
                b"GETRANGE",
                key,
                start.to_string().as_bytes(),
                end.to_string().as_bytes(),
            ]),
            Self::IncrBy(by) => bench.call(&[b"INCRBY", key, by.to_string().as_bytes()]),
            Self::Get => bench.call(&[b"GET", key]),
            Self::GetDel => bench.call(&[b"GETDEL", key]),
            Self::SetNx(value) => bench.call(&[b"SETNX", key, value]),
        }
    }

    /// The same on plain vectors of bytes.
    fn run_model(&self, model: &mut HashMap<Vec<u8>, Vec<u8>>, key: &[u8]) -> String {
        let old = model.get(key).cloned();
        match self {
            Self::Set(value) => {
                model.insert(key.into(), value.clone());
                "OK".into()
            }
            Self::Append(suffix) => {
                let bytes = model.entry(key.into()).or_default();
                bytes.extend_from_slice(suffix);
                format!(":{}", bytes.len())
            }
            Self::SetRange(_, patch) if patch.is_empty() => {
                format!(":{}", old.unwrap_or_default().len())
            }
            Self::SetRange(at, patch) => {
                let bytes = model.entry(key.into()).or_default();
                bytes.resize(bytes.len().max(at + patch.len()), 0);
                bytes[*at..at + patch.len()].copy_from_slice(patch);
                format!(":{}", bytes.len())
            }
            Self::GetRange(start, end) => {
                let bytes = old.unwrap_or_default();
                let len = bytes.len() as i64;
                let index = |at: i64| if at < 0 { (at + len).max(0) } else { at };
                let empty_by_itself = *start < 0 && *end < 0 && start > end;
                let taken = (index(*start)..=index(*end))
                    .filter(|_| !empty_by_itself)
                    .filter_map(|at| bytes.get(at as usize).copied());
                shown(&taken.collect::<Vec<_>>())
            }
            Self::IncrBy(by) => {
                let text = old.map_or("0".into(), |old| String::from_utf8_lossy(&old).into_owned());
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                match number.map(|number| number.checked_add(*by)) {
                    None => "-ERR value is not an integer or out of range".into(),
                    Some(None) => "-ERR increment or decrement would overflow".into(),
                    Some(Some(sum)) => {
                        model.insert(key.into(), sum.to_string().into_bytes());
                        format!(":{sum}")
                    }
                }
            }
            Self::Get => old.map_or("nil".into(), |old| shown(&old)),
            Self::GetDel => model.remove(key).map_or("nil".into(), |old| shown(&old)),
            Self::SetNx(value) => {
                model.entry(key.into()).or_insert_with(|| value.clone());
                format!(":{}", i64::from(old.is_none()))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn strings_match_plain_vectors(ops in vec(op(), 1..40)) {
        let (mut bench, mut model) = (Bench::new(), HashMap::new());
        for (key, op) in ops {
            let key = [b'k', b'0' + key as u8];
            prop_assert_eq!(op.run(&mut bench, &key), op.run_model(&mut model, &key));
        }
        bench.shard.check();
    }
}
