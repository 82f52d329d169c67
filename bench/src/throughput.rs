//! CPU a request, throughput and latency under load tools; and one shard against two.

use crate::client::{encode, key};
use crate::error::BenchError;
use crate::load::{MEMTIER_FIRST_KEY, Point, Run, Tool};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Kind, Running, Server};

const KEYS: u64 = 100_000;
const VALUE_BYTES: u64 = 64;
const LARGE_KEYS: u64 = 1_000;
const LARGE_BYTES: u64 = 64 << 10;
/// Large values lie in a database of their own.
const LARGE_DATABASE: u32 = 1;
const PIPELINES: [u64; 3] = [1, 16, 64];
const CONNECTIONS: [u64; 2] = [50, 500];

/// CPU relative to redis-server that is asked for at each pipeline, 50 connections.
const CPU_TARGETS: [(u64, f64); 3] = [(1, 0.87), (16, 0.55), (64, 0.38)];
const LARGE_CPU_TARGET: f64 = 0.8;
/// CPU with 500 connections relative to the own with 50.
const MANY_CONNECTIONS_TARGET: f64 = 1.15;
/// CPU with two shards relative to one.
const SHARDS_TARGETS: [(u64, f64); 3] = [(1, 1.15), (16, 1.3), (64, 1.2)];

fn points(options: &Options) -> Vec<Point> {
    let mut points = Vec::new();
    for connections in CONNECTIONS {
        for pipeline in PIPELINES {
            for command in ["get", "set"] {
                points.push(small(options, command, connections, pipeline));
            }
        }
    }
    points.push(Point {
        command: "get",
        value_bytes: LARGE_BYTES,
        keys: LARGE_KEYS,
        connections: 50,
        pipeline: 1,
        database: LARGE_DATABASE,
        requests: options.sized(options.requests / 4, 500),
    });
    points
}

/// Pipelines make requests cheap: there are more of them, so that a run lasts seconds.
fn small(options: &Options, command: &'static str, connections: u64, pipeline: u64) -> Point {
    let times = if pipeline == 1 { 1 } else { 10 };
    let requests = options.sized(options.requests * times, 4_000);
    let (value_bytes, keys) = (VALUE_BYTES, KEYS);
    Point { command, value_bytes, keys, connections, pipeline, database: 0, requests }
}

fn name(point: &Point, tool: &Tool) -> String {
    let size = if point.value_bytes == LARGE_BYTES {
        "64 KiB".into()
    } else {
        format!("{} B", point.value_bytes)
    };
    let command = point.command.to_uppercase();
    format!("{command} {size} P{} c{} {}", point.pipeline, point.connections, tool.name())
}

/// Fills the databases that the points read.
fn preload(server: &Running, tools: &[Tool]) -> Result<(), BenchError> {
    let mut client = server.connect()?;
    let has_memtier = tools.iter().any(|tool| matches!(tool, Tool::Memtier(_)));
    let firsts = [Some(0), has_memtier.then_some(MEMTIER_FIRST_KEY)];
    for (database, keys, bytes) in
        [(0, KEYS, VALUE_BYTES), (LARGE_DATABASE, LARGE_KEYS, LARGE_BYTES)]
    {
        client.call(&["SELECT", &database.to_string()])?;
        let value = vec![b'x'; bytes as usize];
        for first in firsts.into_iter().flatten() {
            client.load(keys, |n, output| {
                encode(output, [b"SET", key(first + n).as_bytes(), &value]);
            })?;
        }
    }
    Ok(())
}

/// The order of servers in a round: each is first in its turn.
fn turn(round: usize, servers: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |at| (at + round) % servers)
}

fn add(figures: &mut Figures, point: &Point, tool: &Tool, column: usize, run: &Run) {
    let name = name(point, tool);
    figures.add(&name, "CPU ns/request", column, run.cpu_ns);
    figures.add(&name, "k requests/s", column, run.requests_per_s / 1e3);
    figures.add(&name, "p50 ms", column, run.p50_ms);
    figures.add(&name, "p99 ms", column, run.p99_ms);
    let tail = if tool.tail() == "max" { "max ms" } else { "p99.9 ms" };
    figures.add(&name, tail, column, run.tail_ms);
}

/// Servers side by side, each with one shard.
pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let tools = Tool::find(options)?;
    let running: Vec<Running> = servers
        .iter()
        .map(|server| server.start(1, &options.server_cpus))
        .collect::<Result<_, _>>()?;
    running.iter().try_for_each(|server| preload(server, &tools))?;
    let points = points(options);
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(options.rounds * points.len() * tools.len() * servers.len());
    for round in 0..options.rounds {
        for point in &points {
            for tool in &tools {
                for column in turn(round, running.len()) {
                    progress.step(&format!("{} on {}", name(point, tool), running[column].name));
                    let run = tool.run(&running[column], point, &options.load_cpus)?;
                    add(&mut figures, point, tool, column, &run);
                }
            }
        }
    }
    add_many_to_few(&mut figures, &points, &tools);
    set_targets(&mut figures, &points, &tools);
    Ok(figures)
}

/// Rows of CPU at 500 connections relative to 50, pair by pair.
fn add_many_to_few(figures: &mut Figures, points: &[Point], tools: &[Tool]) {
    for tool in tools {
        for few in points.iter().filter(|point| point.connections == 50) {
            let many = Point { connections: 500, ..*few };
            let cpu = |figures: &Figures, point: &Point| {
                let name = name(point, tool);
                let found = figures
                    .rows
                    .iter()
                    .find(|row| row.name == name && row.unit == "CPU ns/request");
                found.map(|row| row.samples.clone())
            };
            let (Some(of_few), Some(of_many)) = (cpu(figures, few), cpu(figures, &many)) else {
                continue;
            };
            let command = few.command.to_uppercase();
            let name = format!("{command} P{} c500 / c50 {}", few.pipeline, tool.name());
            for (column, (few, many)) in of_few.iter().zip(&of_many).enumerate() {
                for (few, many) in few.iter().zip(many) {
                    figures.add(&name, "CPU ratio", column, many / few);
                }
            }
            figures.target(&name, "CPU ratio", Target::AtMost(MANY_CONNECTIONS_TARGET));
        }
    }
}

fn set_targets(figures: &mut Figures, points: &[Point], tools: &[Tool]) {
    for tool in tools {
        for point in points.iter().filter(|point| point.connections == 50) {
            let by_pipeline = CPU_TARGETS.iter().find(|(pipeline, _)| *pipeline == point.pipeline);
            let ratio = match by_pipeline {
                _ if point.value_bytes == LARGE_BYTES => LARGE_CPU_TARGET,
                Some((_, ratio)) => *ratio,
                None => continue,
            };
            let target = Target::AtMostTimes(ratio, "redis");
            figures.target(&name(point, tool), "CPU ns/request", target);
        }
    }
}

/// Tessera with two shards against one shard; server and load share all CPUs named.
pub(crate) fn run_shards(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let Some(tessera) = servers.iter().find(|server| server.kind == Kind::Tessera) else {
        return Ok(Figures::default());
    };
    let tools = Tool::find(options)?;
    let cpus = [&options.server_cpus[..], &options.load_cpus].concat();
    let running = [2, 1].map(|shards| tessera.start(shards, &cpus));
    let running: Vec<Running> = running.into_iter().collect::<Result<_, _>>()?;
    running.iter().try_for_each(|server| preload(server, &tools))?;
    let mut figures = Figures::new(["tessera 2 shards", "tessera 1 shard"]);
    progress.expect(options.rounds * PIPELINES.len() * 2 * tools.len() * running.len());
    for round in 0..options.rounds {
        for pipeline in PIPELINES {
            for command in ["get", "set"] {
                let point = small(options, command, 50, pipeline);
                for tool in &tools {
                    for column in turn(round, running.len()) {
                        progress.step(&format!("{}, {} shards", name(&point, tool), 2 - column));
                        let run = tool.run(&running[column], &point, &cpus)?;
                        add(&mut figures, &point, tool, column, &run);
                    }
                    let ratio = SHARDS_TARGETS.iter().find(|(at, _)| *at == pipeline);
                    if let Some((_, ratio)) = ratio {
                        let target = Target::AtMostTimes(*ratio, "tessera 1 shard");
                        figures.target(&name(&point, tool), "CPU ns/request", target);
                    }
                }
            }
        }
    }
    Ok(figures)
}

#[test]
fn each_server_is_first_in_its_turn() {
    let orders: Vec<Vec<usize>> = (0..3).map(|round| turn(round, 3).collect()).collect();
    assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
}
