//! DUMP and RESTORE: payloads go to redis-server and Valkey and come from them.

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, rivals};

on_1_2_and_4_shards!(
    payloads_are_exchanged,
    payloads_that_content_decides_are_the_same_bytes,
    restored_keys_have_deadlines,
    damaged_payloads_are_refused,
);

/// Commands that make a key of each type and encoding, small and large.
fn samples() -> Vec<(&'static str, Vec<Vec<String>>)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let many = |command: &str, key: &str, count: usize, each: &dyn Fn(usize) -> String| {
        let all: Vec<usize> = (0..count).collect();
        all.chunks(500)
            .map(|chunk| {
                let elements = chunk.iter().flat_map(|&nth| words(&each(nth)));
                words(&format!("{command} {key}")).into_iter().chain(elements).collect()
            })
            .collect::<Vec<Vec<String>>>()
    };
    let long = "long text, often the same ".repeat(40).replace(' ', "_");
    let huge = "h".repeat(100_000);
    let noise: String = (0..50_000_u64)
        .map(|n| char::from(b'!' + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57) as u8 % 90))
        .collect();
    vec![
        ("int8", vec![words("SET int8 -7")]),
        ("int16", vec![words("SET int16 12345")]),
        ("int32", vec![words("SET int32 -2147483648")]),
        ("int64", vec![words("SET int64 9223372036854775807")]),
        ("embstr", vec![words("SET embstr hello")]),
        ("empty", vec![vec!["SET".into(), "empty".into(), String::new()]]),
        ("digits", vec![words("SET digits 007")]),
        ("raw", vec![words(&format!("SET raw {long}"))]),
        ("huge", vec![words(&format!("SET huge {huge}"))]),
        ("noise", vec![words(&format!("SET noise {noise}"))]),
        ("list", many("RPUSH", "list", 20, &|n| format!("element{n} {}", n * n * n))),
        ("longlist", many("RPUSH", "longlist", 4_000, &|n| format!("element:{n} -{n}"))),
        ("plainlist", vec![words(&format!("RPUSH plainlist a {noise} b {huge} 5 {long}"))]),
        ("intset16", many("SADD", "intset16", 30, &|n| format!("{}", n as i64 * 100 - 1_500))),
        ("intset64", vec![words("SADD intset64 1 -1 9223372036854775807 70000")]),
        ("bigintset", many("SADD", "bigintset", 2_000, &|n| format!("{n}"))),
        ("set", many("SADD", "set", 50, &|n| format!("member{n}"))),
        ("bigset", many("SADD", "bigset", 3_000, &|n| format!("member{n} {n}"))),
        ("hash", many("HSET", "hash", 100, &|n| format!("field{n} {n}"))),
        ("bighash", many("HSET", "bighash", 3_000, &|n| format!("field{n} value{n}"))),
        ("longhash", vec![words(&format!("HSET longhash f {long} g {noise} 12 {huge}"))]),
        ("zset", many("ZADD", "zset", 60, &|n| format!("{} member{n}", n as f64 / 8.0))),
        ("scores", vec![words("ZADD scores inf a -inf b 0.1 c 1e17 d 1e300 e -5 f 0 g 3.0e-7 h")]),
        ("stream", stream("stream", 12)),
        ("bigstream", stream("bigstream", 700)),
        ("emptystream", vec![words("XGROUP CREATE emptystream g 5-5 MKSTREAM")]),
        ("bigzset", many("ZADD", "bigzset", 3_000, &|n| format!("{}.5 member{n}", n % 700))),
    ]
}

/// Commands that make a stream with deleted entries and groups.
fn stream(key: &str, entries: usize) -> Vec<Vec<String>> {
    let mut lines: Vec<String> = (1..=entries)
        .map(|n| match n % 7 {
            0 => format!("XADD {key} {n}-1 other {n} field text{n}"),
            _ => format!("XADD {key} {n}-1 temperature {n} humidity {}", n * n),
        })
        .collect();
    lines.push(format!("XDEL {key} 3-1 {entries}-1"));
    lines.push(format!("XGROUP CREATE {key} readers 0"));
    lines.push(format!("XGROUP CREATE {key} idle $"));
    lines.push(format!("XGROUP CREATECONSUMER {key} readers nobody"));
    lines.push(format!("XREADGROUP GROUP readers alice COUNT 5 STREAMS {key} >"));
    lines.push(format!("XREADGROUP GROUP readers bob COUNT 2 STREAMS {key} >"));
    lines.push(format!("XACK {key} readers 2-1"));
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// Makes all samples and answers their keys.
pub(crate) fn fill(client: &mut Client) -> Vec<&'static str> {
    let samples = samples();
    for (key, commands) in &samples {
        client.call(["DEL", key]);
        for command in commands {
            let reply = client.call(command);
            assert!(!matches!(reply, Reply::Error(_)), "{key}: {reply:?}");
        }
    }
    samples.into_iter().map(|(key, _)| key).collect()
}

/// All that a key holds, sorted where its type has no order.
pub(crate) fn content(client: &mut Client, key: &str) -> (String, Vec<Reply>) {
    let Reply::Simple(kind) = client.call(["TYPE", key]) else { panic!("TYPE {key}") };
    let items = match kind.as_str() {
        "string" => vec![client.call(["GET", key])],
        "list" => client.call(["LRANGE", key, "0", "-1"]).into_items(),
        "zset" => {
            let items = client.call(["ZRANGE", key, "0", "-1", "WITHSCORES"]).into_items();
            items.chunks(2).flat_map(|pair| [pair[0].clone(), number(&pair[1])]).collect()
        }
        "set" => {
            let mut members = client.call(["SMEMBERS", key]).into_items();
            members.sort();
            members
        }
        "hash" => {
            let items = client.call(["HGETALL", key]).into_items();
            let mut pairs: Vec<Reply> =
                items.chunks(2).map(|pair| Reply::Array(pair.to_vec())).collect();
            pairs.sort();
            pairs
        }
        "stream" => {
            let mut items = client.call(["XRANGE", key, "-", "+"]).into_items();
            items.push(client.call(["XINFO", "GROUPS", key]));
            if let Reply::Array(pending) = client.call(["XPENDING", key, "readers"]) {
                items.extend(pending);
            }
            items
        }
        other => panic!("{key} is a {other}"),
    };
    (kind, items)
}

/// A score in one form, since Redis 7.0 writes it with more digits.
fn number(score: &Reply) -> Reply {
    let text = score.clone().into_text();
    let number: f64 = text.parse().unwrap_or_else(|_| panic!("a score: {text}"));
    Reply::Double(number.to_string())
}

#[track_caller]
fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    client.call(["DUMP", key]).into_bytes()
}

#[track_caller]
fn restore(client: &mut Client, key: &str, payload: &[u8]) {
    let words: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", payload, b"REPLACE"];
    assert_eq!(client.call(words), Reply::ok(), "RESTORE {key}");
}

fn payloads_are_exchanged(shards: usize) {
    for rival in rivals() {
        let server = Server::start(shards);
        let (mut ours, mut theirs) = (server.connect(), rival.connect());
        let keys = fill(&mut ours);
        fill(&mut theirs);
        for compression in ["yes", "no"] {
            for client in [&mut ours, &mut theirs] {
                client.call(["CONFIG", "SET", "rdbcompression", compression]);
            }
            for key in &keys {
                let expected = content(&mut ours, key);
                let name = |client: &mut Client, key| client.call(["OBJECT", "ENCODING", key]);
                let payload = dump(&mut ours, key);
                restore(&mut theirs, "copy", &payload);
                assert_eq!(content(&mut theirs, "copy"), expected, "{key} there");
                assert_eq!(name(&mut theirs, "copy"), name(&mut theirs, key), "{key} there");
                let payload = dump(&mut theirs, key);
                restore(&mut ours, "copy", &payload);
                assert_eq!(content(&mut ours, "copy"), expected, "{key} here");
                assert_eq!(name(&mut ours, "copy"), name(&mut ours, key), "{key} here");
            }
        }
    }
}

/// Redis 7.0 writes what is written here, but for the order of hash tables, the digits of scores
/// (17 of them there) and compression.
fn payloads_that_content_decides_are_the_same_bytes(shards: usize) {
    let Some(rival) = crate::harness::redis_server() else { return };
    let server = Server::start(shards);
    let (mut ours, mut theirs) = (server.connect(), rival.connect());
    for client in [&mut ours, &mut theirs] {
        client.call(["CONFIG", "SET", "rdbcompression", "no"]);
        fill(client);
    }
    for key in [
        "int8",
        "int16",
        "int32",
        "int64",
        "embstr",
        "empty",
        "digits",
        "raw",
        "huge",
        "noise",
        "list",
        "longlist",
        "emptystream",
        "intset16",
        "intset64",
        "hash",
        "zset",
        "bigzset",
    ] {
        assert!(dump(&mut ours, key) == dump(&mut theirs, key), "{key}");
    }
}

fn restored_keys_have_deadlines(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("SET k v");
    let payload = dump(&mut client, "k");
    let words: [&[u8]; 4] = [b"RESTORE", b"n", b"100000", &payload];
    assert_eq!(client.call(words), Reply::ok());
    let left = client.run("PTTL n").into_integer();
    assert!((50_000..=100_000).contains(&left), "{left}");
    let busy = client.call(words);
    assert_eq!(busy, Reply::Error("BUSYKEY Target key name already exists.".into()));
    let past: [&[u8]; 6] = [b"RESTORE", b"n", b"1", &payload, b"ABSTTL", b"REPLACE"];
    assert_eq!(client.call(past), Reply::ok());
    client.transcript("EXISTS n => :0");
}

fn damaged_payloads_are_refused(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let keys = fill(&mut client);
    let refused = Reply::Error("ERR DUMP payload version or checksum are wrong".into());
    for key in keys {
        let payload = dump(&mut client, key);
        for at in [0, payload.len() / 2, payload.len() - 1] {
            let mut damaged = payload.clone();
            damaged[at] ^= 0x10;
            let words: [&[u8]; 4] = [b"RESTORE", b"damaged", b"0", &damaged];
            assert_eq!(client.call(words), refused, "{key}");
        }
    }
    client.transcript("EXISTS damaged => :0");
}
