//! What is exported makes the same keys again, in whatever form it was exported.

use tessera_proto::{Limits, RequestParser, Step};

use super::*;
use crate::{
    command::testing::{Bench, START_MS},
    persist::rdb::{Collision, Load, LoadStep, Reader},
};

/// Between the deadlines of the two fields that `filled` makes.
const NOW_MS: i64 = START_MS + 5_000;

/// A shard with keys of every type.
fn filled() -> Bench {
    let mut bench = Bench::new();
    for line in [
        "SET string text",
        "SET number 5",
        "SET raw and",
        "APPEND raw more",
        "RPUSH list a b 3",
        "SADD ints 1 2",
        "SADD set a 2",
        "ZADD zset 1.5 a -inf b 3 c",
        "HSET hash f v g 2",
        "PEXPIREAT string 1800000000000",
        "XADD stream 5-1 f v",
        "XADD stream 6-0 g w h x",
        "XADD stream 7-0 g w",
        "XDEL stream 7-0",
        "XGROUP CREATE stream group 0",
        "XGROUP CREATE stream other 6-0",
        "XGROUP CREATECONSUMER stream other idle",
        "XREADGROUP GROUP group alice COUNT 1 STREAMS stream >",
        "XADD emptied 9-9 f v",
        "XDEL emptied 9-9",
        "XGROUP CREATE new group $ MKSTREAM",
        "PFADD hll a b c",
    ] {
        let reply = bench.run(line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
    let numbers: Vec<String> = (0..2_000).map(|n| format!("element:{n}")).collect();
    for (command, key) in [("RPUSH", "large:list"), ("SADD", "large:set")] {
        bench.run(&format!("{command} {key} {}", numbers.join(" ")));
    }
    for n in 0..500 {
        bench.run(&format!("ZADD large:zset {n}.25 member:{n}"));
        bench.run(&format!("HSET large:hash field:{n} {n}"));
    }
    bench.run(&format!("SET long {}", "x".repeat(100_000)));
    bench.database = 3;
    bench.run("SET elsewhere 1");
    bench.database = 0;
    bench
}

fn with_timed_fields() -> Bench {
    let mut bench = Bench::new();
    bench.run("HSET hash soon 1 brief 2 never 3");
    bench.run("HSET gone brief 1");
    bench.run("HPEXPIREAT hash 1800000000000 FIELDS 1 soon");
    for key in ["hash", "gone"] {
        let at = START_MS + 1_000;
        bench.run(&format!("HPEXPIREAT {key} {at} FIELDS 1 brief"));
    }
    bench
}

fn options(target: Target) -> ExportOptions {
    ExportOptions { target, now_ms: NOW_MS }
}

fn requests_of(bench: &mut Bench, target: Target) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let shards = std::slice::from_mut(&mut bench.shard);
    let exported =
        export_requests(shards, &[], options(target), &mut out).expect("memory takes it");
    assert_eq!(exported.bytes, out.len() as u64);
    (out, exported)
}

fn rdb_of(bench: &mut Bench, target: Target) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let shards = std::slice::from_mut(&mut bench.shard);
    let libraries = [b"#!lua name=lib\ncode".to_vec()];
    let exported =
        export_rdb(shards, &libraries, options(target), &mut out).expect("memory takes it");
    assert_eq!(exported.bytes, out.len() as u64);
    (out, exported)
}

/// A shard that has executed the requests.
fn run_requests(mut bytes: &[u8]) -> Bench {
    let mut bench = Bench::new();
    let (mut parser, limits) = (RequestParser::new(), Limits::default());
    while !bytes.is_empty() {
        let Ok(Step::Request { consumed }) = parser.parse(bytes, &limits) else {
            panic!("whole requests: {:?}", bytes.get(..40));
        };
        let words: Vec<Vec<u8>> = parser.args(bytes).iter().map(<[u8]>::to_vec).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        match words[..] {
            [b"SELECT", number] => {
                let number = str::from_utf8(number).expect("a number");
                bench.database = number.parse().expect("a number");
            }
            _ => {
                let reply = bench.call(&words);
                assert!(!reply.starts_with('-'), "{:?}: {reply}", words[0]);
            }
        }
        bytes = &bytes[consumed..];
    }
    bench
}

/// A shard that has loaded the file, and the code of the libraries in it.
fn load_rdb(bytes: &[u8]) -> (Bench, Vec<Vec<u8>>) {
    let (mut bench, mut libraries) = (Bench::new(), Vec::new());
    let thresholds = bench.shard.thresholds().clone();
    let mut load = Load::new(Reader::new(Some(bytes.len() as u64), true), Collision::Refuse);
    load.supply(bytes);
    loop {
        let keyspace = &mut bench.shard.keyspace;
        match load.step(keyspace, &thresholds, |_| true).expect("it is well-formed") {
            LoadStep::NeedMore(_) => panic!("it has everything"),
            LoadStep::Aux { .. } => {}
            LoadStep::Function(code) => libraries.push(code),
            LoadStep::Done => return (bench, libraries),
        }
    }
}

#[test]
fn whoever_executes_the_requests_holds_the_same() {
    let mut bench = filled();
    let (requests, exported) = requests_of(&mut bench, Target::Any);
    assert_eq!((exported.keys, exported.pending_left_out), (18, 0));
    let mut other = run_requests(&requests);
    assert_eq!(other.contents(), bench.contents());
}

#[test]
fn whoever_loads_the_file_holds_the_same() {
    let mut bench = filled();
    let (file, exported) = rdb_of(&mut bench, Target::Any);
    assert!(file.starts_with(b"REDIS0010"));
    assert_eq!(exported.keys, 18);
    let (mut other, libraries) = load_rdb(&file);
    assert_eq!(other.contents(), bench.contents());
    assert_eq!(libraries, [b"#!lua name=lib\ncode"]);
}

#[test]
fn deadlines_of_fields_are_for_those_who_know_them() {
    let mut bench = with_timed_fields();
    let (requests, exported) = requests_of(&mut bench, Target::Newer);
    assert_eq!((exported.keys, exported.hashes_without_deadlines), (2, 0));
    assert_eq!(run_requests(&requests).contents(), bench.contents());
    let (file, _) = rdb_of(&mut bench, Target::Newer);
    assert!(file.starts_with(b"REDIS0012"));
    assert_eq!(load_rdb(&file).0.contents(), bench.contents());

    let (requests, exported) = requests_of(&mut bench, Target::Any);
    assert_eq!((exported.keys, exported.hashes_without_deadlines), (1, 2));
    let (file, exported) = rdb_of(&mut bench, Target::Any);
    assert_eq!((exported.keys, exported.hashes_without_deadlines), (1, 2));
    for mut other in [run_requests(&requests), load_rdb(&file).0] {
        assert_eq!(other.run("EXISTS gone"), ":0");
        let mut fields: Vec<_> = ["soon", "brief", "never"]
            .iter()
            .filter(|field| other.run(&format!("HEXISTS hash {field}")) == ":1")
            .collect();
        fields.sort();
        assert_eq!(fields, [&"never", &"soon"]);
        assert_eq!(other.run("HPEXPIRETIME hash FIELDS 1 soon"), "[:-1]");
    }
}

#[test]
fn large_collections_come_in_several_requests() {
    let mut bench = Bench::new();
    let elements: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    bench.run(&format!("RPUSH list {}", elements.join(" ")));
    let (requests, _) = requests_of(&mut bench, Target::Any);
    let text = String::from_utf8(requests).expect("text");
    assert_eq!(text.matches("RPUSH").count(), 4);
}

#[test]
fn what_is_pending_and_deleted_is_left_out_and_counted() {
    let mut bench = Bench::new();
    for line in [
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c STREAMS s >",
        "XDEL s 1-1",
    ] {
        bench.run(line);
    }
    let (requests, exported) = requests_of(&mut bench, Target::Any);
    assert_eq!(exported.pending_left_out, 1);
    assert_eq!(run_requests(&requests).run("XPENDING s g - + 9").matches("2-1").count(), 1);
}
