//! Commands over several keys, and scripts: what it costs that they are atomic.
//!
//! Keys of 16 bytes and values of 64. `{a}` and `{b}` are tags whose slots lie in different halves of
//! the keyspace, so a script's keys are on one of two shards, or on both.

use crate::client::{encode, key};
use crate::error::BenchError;
use crate::load::{Line, Run, Tool};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Kind, Running, Server};

const KEYS: u64 = 100_000;
const KEYS_AT_ONCE: usize = 10;
const VALUE_BYTES: usize = 64;
const CONNECTIONS: u64 = 50;
const PIPELINES: [u64; 2] = [1, 16];
/// CPU of a script on one shard relative to redis-server.
const SCRIPT_TARGET: f64 = 0.9;

const SCRIPT: &str = "return redis.call('incr', KEYS[1]) + redis.call('incr', KEYS[2])";

/// What is sent, and its name.
struct Load {
    name: &'static str,
    words: Vec<String>,
}

const ONE_SHARD_SCRIPT: &str = "EVAL of 2 keys, one shard";

fn loads() -> Vec<Load> {
    let drawn = || "key:__rand_int__".to_owned();
    let value = "x".repeat(VALUE_BYTES);
    let mget = std::iter::once("MGET".to_owned()).chain((0..KEYS_AT_ONCE).map(|_| drawn()));
    let pairs = (0..KEYS_AT_ONCE).flat_map(|_| [drawn(), value.clone()]);
    let mset = std::iter::once("MSET".to_owned()).chain(pairs);
    let script = |tags: [char; 2]| {
        let keys = tags.map(|tag| format!("{{{tag}}}:__rand_int__"));
        ["EVAL", SCRIPT, "2"].map(str::to_owned).into_iter().chain(keys).collect()
    };
    vec![
        Load { name: "MGET of 10 keys", words: mget.collect() },
        Load { name: "MSET of 10 keys", words: mset.collect() },
        Load { name: ONE_SHARD_SCRIPT, words: script(['a', 'a']) },
        Load { name: "EVAL of 2 keys, two halves", words: script(['a', 'b']) },
    ]
}

fn preload(server: &Running) -> Result<(), BenchError> {
    let value = [b'x'; VALUE_BYTES];
    server.connect()?.load(KEYS, |n, output| {
        encode(output, [b"SET", key(n).as_bytes(), &value]);
    })?;
    Ok(())
}

fn name(load: &Load, pipeline: u64) -> String {
    format!("{} P{pipeline}", load.name)
}

/// All loads at all pipelines, with their names.
fn lines(options: &Options) -> Vec<(String, Line)> {
    let line = |load: &Load, pipeline: u64| Line {
        words: load.words.clone(),
        keys: KEYS,
        connections: CONNECTIONS,
        pipeline,
        requests: options.sized(options.requests / 2 * pipeline.min(4), 1_000),
    };
    let at_all =
        |load: Load| PIPELINES.map(|pipeline| (name(&load, pipeline), line(&load, pipeline)));
    loads().into_iter().flat_map(at_all).collect()
}

/// Every load on every server in turn, `options.rounds` times.
fn measure(
    options: &Options,
    running: &[Running],
    columns: Vec<String>,
    cpus: &[usize],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let tools = Tool::find(options)?;
    running.iter().try_for_each(preload)?;
    let lines = lines(options);
    let mut figures = Figures::new(columns);
    progress.expect(options.rounds * lines.len() * running.len());
    for round in 0..options.rounds {
        for (name, line) in &lines {
            for at in 0..running.len() {
                // Each is first in its turn.
                let column = (at + round) % running.len();
                progress.step(&format!("{name} on {}", running[column].name));
                let run = |tool: &Tool| tool.run_line(&running[column], line, cpus);
                if let Some(run) = tools.iter().find_map(run) {
                    add(&mut figures, name, column, &run?);
                }
            }
        }
    }
    Ok(figures)
}

fn add(figures: &mut Figures, name: &str, column: usize, run: &Run) {
    figures.add(name, "CPU ns/request", column, run.cpu_ns);
    figures.add(name, "k requests/s", column, run.requests_per_s / 1e3);
    figures.add(name, "p50 ms", column, run.p50_ms);
    figures.add(name, "p99 ms", column, run.p99_ms);
}

/// Servers side by side, each with one shard pinned to one CPU.
pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let start = |server: &Server| server.start(1, &options.server_cpus);
    let running: Vec<Running> = servers.iter().map(start).collect::<Result<_, _>>()?;
    let columns = servers.iter().map(|server| server.name.to_owned()).collect();
    let mut figures = measure(options, &running, columns, &options.load_cpus, progress)?;
    for pipeline in PIPELINES {
        for load in loads().iter().filter(|load| load.name == ONE_SHARD_SCRIPT) {
            let target = Target::AtMostTimes(SCRIPT_TARGET, "redis");
            figures.target(&name(load, pipeline), "CPU ns/request", target);
        }
    }
    Ok(figures)
}

/// Tessera with two shards beside one; server and load share all CPUs named.
pub(crate) fn run_shards(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let Some(tessera) = servers.iter().find(|server| server.kind == Kind::Tessera) else {
        return Ok(Figures::default());
    };
    let cpus = [&options.server_cpus[..], &options.load_cpus].concat();
    let running = [2, 1].map(|shards| tessera.start(shards, &cpus));
    let running: Vec<Running> = running.into_iter().collect::<Result<_, _>>()?;
    let columns = ["tessera 2 shards", "tessera 1 shard"].map(str::to_owned).to_vec();
    measure(options, &running, columns, &cpus, progress)
}
