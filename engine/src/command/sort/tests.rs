//! Replies of SORT, compared with what Redis answers.

use proptest::{collection::vec, prelude::*};

use crate::{
    command::{Effect, testing::Bench},
    keyspace::events::Class,
    shard::Settings,
};

fn ordinary() -> Bench {
    let mut bench = Bench::new();
    bench.expect(&[
        ("RPUSH l 3 1 2 10", ":4"),
        ("MSET w1 30 w2 20 w3 10 w10 25 o1 one o2 two", "OK"),
        ("HSET h1 n 7 name a", ":2"),
        ("HSET h2 n 5 name b", ":2"),
        ("HSET h3 n 6", ":1"),
    ]);
    bench
}

#[test]
fn elements_are_sorted() {
    let mut bench = ordinary();
    bench.expect(&[
        ("SORT l", "[\"1\" \"2\" \"3\" \"10\"]"),
        ("SORT l DESC", "[\"10\" \"3\" \"2\" \"1\"]"),
        ("SORT l ALPHA", "[\"1\" \"10\" \"2\" \"3\"]"),
        ("SORT l ALPHA DESC LIMIT 1 2", "[\"2\" \"10\"]"),
        ("SORT l LIMIT 1 2", "[\"2\" \"3\"]"),
        ("SORT l LIMIT -5 2", "[\"1\" \"2\"]"),
        ("SORT l LIMIT 2 -1", "[\"3\" \"10\"]"),
        ("SORT l LIMIT 9 1", "[]"),
        ("SORT l LIMIT 0 0", "[]"),
        ("SORT none", "[]"),
        ("SADD s b a c", ":3"),
        ("SORT s ALPHA", "[\"a\" \"b\" \"c\"]"),
        ("SORT s", "-ERR One or more scores can't be converted into double"),
        ("ZADD z 3 30 2 40 1 50", ":3"),
        ("SORT z", "[\"30\" \"40\" \"50\"]"),
        ("SORT_RO z DESC", "[\"50\" \"40\" \"30\"]"),
        ("SORT w1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SORT l LIMIT 1", "-ERR syntax error"),
        ("SORT l LIMIT a 1", "-ERR value is not an integer or out of range"),
        ("SORT l BY", "-ERR syntax error"),
        ("SORT l UP", "-ERR syntax error"),
        ("SORT_RO l STORE d", "-ERR syntax error"),
    ]);
    bench.call(&[b"RPUSH", b"odd", b"", b" 5", b"-inf", b"0x3", b"1e1"]);
    bench.expect(&[("SORT odd", "[\"-inf\" \"\" \"0x3\" \" 5\" \"1e1\"]")]);
}

#[test]
fn patterns_name_other_keys() {
    ordinary().expect(&[
        ("SORT l BY w*", "[\"3\" \"2\" \"10\" \"1\"]"),
        ("SORT l BY h*->n", "[\"10\" \"2\" \"3\" \"1\"]"),
        ("SORT l BY h*->none", "[\"1\" \"10\" \"2\" \"3\"]"),
        ("SORT l BY h*->", "[\"1\" \"10\" \"2\" \"3\"]"),
        ("SORT l BY nosort", "[\"3\" \"1\" \"2\" \"10\"]"),
        ("SORT l BY nosort DESC", "[\"10\" \"2\" \"1\" \"3\"]"),
        ("SORT l BY nosort LIMIT 1 2", "[\"1\" \"2\"]"),
        ("SORT l BY nosort DESC LIMIT 1 2", "[\"2\" \"1\"]"),
        ("SORT l GET o*", "[\"one\" \"two\" nil nil]"),
        ("SORT l LIMIT 0 2 GET # GET h*->name", "[\"1\" \"a\" \"2\" \"b\"]"),
        ("SORT l LIMIT 0 1 GET w* GET h* GET fixed", "[\"30\" nil nil]"),
        ("SORT l BY o*", "-ERR One or more scores can't be converted into double"),
        ("SORT l BY o* ALPHA", "[\"3\" \"10\" \"1\" \"2\"]"),
        ("SORT l BY o* ALPHA DESC LIMIT 0 2", "[\"2\" \"1\"]"),
    ]);
}

#[test]
fn results_are_kept() {
    let notify = Class::LIST | Class::GENERIC | Class::KEYEVENT;
    let mut bench = ordinary();
    bench.shard.configure(Settings { notify, ..Settings::default() });
    bench.expect(&[
        ("SORT l STORE d", ":4"),
        ("LRANGE d 0 -1", "[\"1\" \"2\" \"3\" \"10\"]"),
        ("SORT l BY nosort GET o* STORE l", ":4"),
        ("LRANGE l 0 -1", "[\"\" \"one\" \"two\" \"\"]"),
        ("SADD s c a b", ":3"),
        ("SORT s BY nosort STORE d", ":3"),
        ("LRANGE d 0 -1", "[\"a\" \"b\" \"c\"]"),
        ("SORT none STORE d", ":0"),
        ("EXISTS d", ":0"),
        ("SORT none STORE d", ":0"),
    ]);
    let events: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    assert_eq!(events, ["sortstore", "sortstore", "sortstore", "del"]);
    let effect = |bench: &mut Bench, line: &str| {
        bench.effect(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()).1
    };
    assert_eq!(effect(&mut bench, "SORT s ALPHA STORE d"), Ok(Effect::Changed(3)));
    assert_eq!(effect(&mut bench, "SORT none STORE nothing"), Ok(Effect::Unchanged));
    bench.shard.check();
}

#[test]
fn patterns_tell_where_their_keys_are() {
    let beyond = |line: &str| {
        let mut batch = tessera_proto::RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        super::reaches_beyond(&batch.get(0).expect("a request"), |name| name.starts_with(b"{t}"))
    };
    assert!(!beyond("SORT k"));
    assert!(!beyond("SORT k BY nosort GET #"));
    assert!(!beyond("SORT k BY {t}w*->f GET {t}*"));
    assert!(beyond("SORT k BY w*"));
    assert!(beyond("SORT k BY {t}w* GET *"));
    assert!(beyond("SORT k GET {x}*"));
    assert!(beyond("SORT k GET {t*}"));
    assert!(beyond("SORT k GET {}*"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn limits_cut_the_same_order(
        elements in vec(-50..50_i32, 1..60),
        offset in 0..70_usize,
        count in 0..70_usize,
        options in prop_oneof![Just(""), Just(" DESC"), Just(" ALPHA"), Just(" BY w* ALPHA")],
    ) {
        let mut bench = Bench::new();
        for number in -20..20 {
            bench.run(&format!("SET w{number} {}", number % 3));
        }
        let words: Vec<String> = elements.iter().map(i32::to_string).collect();
        bench.run(&format!("RPUSH l {}", words.join(" ")));
        let all = bench.run(&format!("SORT l{options}"));
        let all: Vec<&str> = all.trim_matches(['[', ']']).split(' ').collect();
        let end = (offset + count).min(all.len());
        let expected = all.get(offset.min(end)..end).unwrap_or_default().join(" ");
        let cut = bench.run(&format!("SORT l{options} LIMIT {offset} {count}"));
        prop_assert_eq!(cut, format!("[{expected}]"));
    }
}
