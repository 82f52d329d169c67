//! Collections: CPU of their commands at pipeline 16, and resident memory.
//!
//! Every run of a command begins with an empty server and what the command needs: pops find as many
//! elements as they are asked for, reads find collections of the size in their names.

use std::thread;
use std::time::Duration;

use crate::client::{Client, encode, key};
use crate::error::BenchError;
use crate::load::{Point, Tool};
use crate::options::Options;
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Running, Server};

/// Members of the collections that are written at random.
const MEMBERS: u64 = 100_000;
/// Keys of small collections: so many that the buffers for what is loaded, some ten megabytes, do not
/// show.
const SMALL_KEYS: u64 = 1_000_000;
/// Members of large collections.
const LARGE_MEMBERS: u64 = 1_000_000;
const PIPELINE: u64 = 16;
const CONNECTIONS: u64 = 50;
/// What allocators and background tasks get to give memory back before it is measured.
const SETTLING: Duration = Duration::from_millis(500);

/// A command to be measured.
struct Case {
    name: &'static str,
    /// What redis-benchmark sends.
    words: &'static str,
    /// Writes the n-th command that fills the server first.
    fill: Option<fn(u64, &mut Vec<u8>)>,
    /// How many such commands; none for one a request.
    filled: Option<u64>,
    /// CPU relative to redis-server that is asked for.
    target: f64,
}

const CASES: &[Case] = &[
    written("LPUSH", "LPUSH list element:__rand_int__"),
    written("RPUSH", "RPUSH list element:__rand_int__"),
    written("SADD", "SADD set member:__rand_int__"),
    written("HSET", "HSET hash field:__rand_int__ value:__rand_int__"),
    written("INCR", "INCR counter:__rand_int__"),
    written("XADD", "XADD stream * field __rand_int__"),
    popped("LPOP", "LPOP list", |n, out| {
        encode(out, [&b"RPUSH"[..], b"list", key(n).as_bytes()]);
    }),
    popped("SPOP", "SPOP set", |n, out| encode(out, [&b"SADD"[..], b"set", key(n).as_bytes()])),
    popped("ZPOPMIN", "ZPOPMIN zset", |n, out| zadd(out, n)),
    Case {
        name: "ZADD, 100,000 members",
        words: "ZADD zset __rand_int__ key:__rand_int__",
        fill: Some(|n, out| zadd(out, n)),
        filled: Some(MEMBERS),
        target: 0.5,
    },
    read("LRANGE_100", "LRANGE list 0 99", 100, |n, out| {
        encode(out, [&b"RPUSH"[..], b"list", key(n).as_bytes()]);
    }),
    read("HGETALL of 20", "HGETALL hash", 20, |n, out| {
        encode(out, [&b"HSET"[..], b"hash", key(n).as_bytes(), b"a value of some"]);
    }),
    read("ZRANGE of 100", "ZRANGE zset 0 99", 100, |n, out| zadd(out, n)),
];

const fn written(name: &'static str, words: &'static str) -> Case {
    Case { name, words, fill: None, filled: None, target: 0.65 }
}

const fn popped(name: &'static str, words: &'static str, fill: fn(u64, &mut Vec<u8>)) -> Case {
    Case { name, words, fill: Some(fill), filled: None, target: 0.65 }
}

const fn read(
    name: &'static str,
    words: &'static str,
    filled: u64,
    fill: fn(u64, &mut Vec<u8>),
) -> Case {
    Case { name, words, fill: Some(fill), filled: Some(filled), target: 0.7 }
}

fn zadd(out: &mut Vec<u8>, n: u64) {
    encode(out, [&b"ZADD"[..], b"zset", score(n).as_bytes(), key(n).as_bytes()]);
}

/// A whole score below a million, in no order.
fn score(n: u64) -> String {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000).to_string()
}

/// What takes memory: its name, how many commands make it, the command, and what is asked for.
struct Stock {
    name: &'static str,
    /// What a figure is of.
    unit: &'static str,
    commands: u64,
    write: fn(u64, &mut Vec<u8>),
    target: Target,
}

const STOCKS: &[Stock] = &[
    Stock {
        name: "hash of 10 fields, values of 16",
        unit: "RSS bytes/key",
        commands: SMALL_KEYS,
        write: |n, out| {
            small(out, "HSET", n, 10, |at, words| {
                words.extend([format!("field:{at}"), format!("{:016}", (n + at) * 7_919)]);
            });
        },
        target: Target::AtMost(320.0),
    },
    Stock {
        name: "zset of 20 members of 12",
        unit: "RSS bytes/key",
        commands: SMALL_KEYS,
        write: |n, out| {
            small(out, "ZADD", n, 20, |at, words| {
                words.extend([score(n + at), format!("member:{:05}", (n + at) % 100_000)]);
            });
        },
        target: Target::AtMost(390.0),
    },
    Stock {
        name: "list of 20 elements of 16",
        unit: "RSS bytes/key",
        commands: SMALL_KEYS,
        write: |n, out| {
            small(out, "RPUSH", n, 20, |at, words| words.push(format!("element:{:08}", n + at)));
        },
        target: Target::AtMost(400.0),
    },
    Stock {
        name: "zset of a million members of 12",
        unit: "RSS bytes/member",
        commands: LARGE_MEMBERS,
        write: |n, out| {
            let member = format!("m:{n:010}");
            encode(out, [&b"ZADD"[..], b"zset", score(n).as_bytes(), member.as_bytes()]);
        },
        target: Target::AtMostTimes(0.7, "redis"),
    },
    Stock {
        name: "set of a million members of 10",
        unit: "RSS bytes/member",
        commands: LARGE_MEMBERS,
        write: |n, out| encode(out, [&b"SADD"[..], b"set", format!("m:{n:08}").as_bytes()]),
        target: Target::AtMostTimes(0.6, "redis"),
    },
    Stock {
        name: "hash of a million fields",
        unit: "RSS bytes/field",
        commands: LARGE_MEMBERS,
        write: |n, out| {
            let field = format!("f:{n:08}");
            encode(out, [&b"HSET"[..], b"hash", field.as_bytes(), field.as_bytes()]);
        },
        target: Target::AtMostTimes(0.6, "redis"),
    },
];

/// A command that makes the whole n-th small collection.
fn small(
    out: &mut Vec<u8>,
    command: &str,
    n: u64,
    elements: u64,
    element: impl Fn(u64, &mut Vec<String>),
) {
    let mut words = vec![command.to_owned(), key(n)];
    (0..elements).for_each(|at| element(at, &mut words));
    encode(out, words.iter().map(String::as_bytes));
}

/// Measures commands, then memory.
pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    let steps = options.rounds * CASES.len() + STOCKS.len();
    progress.expect(steps * servers.len());
    measure_cpu(options, servers, progress, &mut figures)?;
    for stock in STOCKS {
        for (column, server) in servers.iter().enumerate() {
            progress.step(&format!("{}, {}", stock.name, server.name));
            let running = server.start(1, &options.server_cpus)?;
            figures.add(stock.name, stock.unit, column, resident(options, &running, stock)?);
        }
        figures.target(stock.name, stock.unit, stock.target);
    }
    Ok(figures)
}

fn measure_cpu(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    // Only redis-benchmark sends any command.
    let tools = Tool::find(options)?;
    let Some(tool) = tools.iter().find(|tool| matches!(tool, Tool::RedisBenchmark(_))) else {
        return Ok(());
    };
    let running: Vec<Running> = servers
        .iter()
        .map(|server| server.start(1, &options.server_cpus))
        .collect::<Result<_, _>>()?;
    for round in 0..options.rounds {
        for case in CASES {
            for place in 0..running.len() {
                let column = (round + place) % running.len();
                let server = &running[column];
                progress.step(&format!("{} on {}", case.name, server.name));
                let point = point(options, case);
                prepare(&mut server.connect()?, case, point.requests)?;
                let run = tool.run(server, &point, &options.load_cpus)?;
                figures.add(case.name, "CPU ns/request", column, run.cpu_ns);
            }
            let target = Target::AtMostTimes(case.target, "redis");
            figures.target(case.name, "CPU ns/request", target);
        }
    }
    Ok(())
}

fn point(options: &Options, case: &Case) -> Point {
    Point {
        command: case.words,
        value_bytes: 3,
        keys: MEMBERS,
        connections: CONNECTIONS,
        pipeline: PIPELINE,
        database: 0,
        requests: options.sized(options.requests, 800),
    }
}

fn prepare(client: &mut Client, case: &Case, requests: u64) -> Result<(), BenchError> {
    client.call(&["FLUSHALL"])?;
    if let Some(fill) = case.fill {
        client.load(case.filled.unwrap_or(requests), fill)?;
    }
    Ok(())
}

/// Bytes of memory that one of `stock` takes.
fn resident(options: &Options, server: &Running, stock: &Stock) -> Result<f64, BenchError> {
    let settled = || {
        if !options.smoke {
            thread::sleep(SETTLING);
        }
        probe::resident_bytes(server.process_id())
    };
    let count = options.sized(stock.commands, 1_000);
    let empty = settled()?;
    server.connect()?.load(count, stock.write)?;
    Ok(settled()?.saturating_sub(empty) as f64 / count as f64)
}

#[test]
fn small_collections_have_the_sizes_of_their_names() {
    let text = |stock: &Stock| {
        let mut out = Vec::new();
        (stock.write)(12_345, &mut out);
        String::from_utf8(out).expect("words are text")
    };
    let count = |text: &str, length: &str| text.lines().filter(|line| *line == length).count();
    let [hash, zset, list, ..] = STOCKS else { panic!("the small ones come first") };
    assert_eq!(count(&text(hash), "$16"), 1 + 10, "the key and the values");
    assert_eq!(count(&text(zset), "$12"), 20);
    assert_eq!(count(&text(list), "$16"), 1 + 20);
}
