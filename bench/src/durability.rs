//! The log under load: SET of 64 bytes with `appendfsync always` and `everysec`, against the same
//! server without a log and against rivals.
//!
//! Unpipelined writes under `always` are what a disk can flush, shared by all clients that wait at the
//! same time; pipelined ones show what a record costs.

use crate::error::BenchError;
use crate::load::{Point, Tool};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Kind, Server};

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: u64 = 64;
/// Processor time of a pipelined SET relative to redis-server's.
const EVERYSEC_CPU: f64 = 0.5;
const ALWAYS_CPU: f64 = 0.6;

/// A policy, a pipeline and how many requests there are for each of the unpipelined default.
const CASES: [(&str, u64, f64); 4] =
    [("always", 1, 0.5), ("always", 16, 2.0), ("everysec", 16, 10.0), ("none", 16, 10.0)];

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let tools = Tool::find(options)?;
    let able = |server: &&Server| server.kind != Kind::Dragonfly;
    let servers: Vec<&Server> = servers.iter().filter(able).collect();
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(CASES.len() * options.rounds * servers.len());
    for (policy, pipeline, share) in CASES {
        let requests = options.sized((options.requests as f64 * share) as u64, 1_000);
        let (command, connections, database) = ("set", 50, 0);
        let (value_bytes, keys) = (VALUE_BYTES, KEYS);
        let point = Point { command, value_bytes, keys, connections, pipeline, database, requests };
        for round in 0..options.rounds {
            for at in 0..servers.len() {
                let column = (at + round) % servers.len();
                progress.step(&format!("{policy}, P{pipeline}, {}", servers[column].name));
                let dir = tempfile::tempdir()?;
                let logged = ["--appendonly", "yes", "--appendfsync", policy];
                let extra = if policy == "none" { &[][..] } else { &logged };
                let cpus = &options.server_cpus;
                let running = servers[column].start_in(dir.path(), 1, cpus, extra)?;
                for tool in &tools {
                    let run = tool.run(&running, &point, &options.load_cpus)?;
                    let name = format!("SET {policy} P{pipeline} c50 {}", tool.name());
                    figures.add(&name, "CPU ns/request", column, run.cpu_ns);
                    figures.add(&name, "k requests/s", column, run.requests_per_s / 1e3);
                    figures.add(&name, "p99 ms", column, run.p99_ms);
                }
            }
        }
    }
    for tool in &tools {
        let name =
            |policy: &str, pipeline: u64| format!("SET {policy} P{pipeline} c50 {}", tool.name());
        let at_most = |ratio| Target::AtMostTimes(ratio, "redis");
        figures.target(&name("always", 1), "p99 ms", at_most(1.0));
        figures.target(&name("always", 1), "k requests/s", Target::TimesOrMore(1.0, "redis"));
        figures.target(&name("always", 16), "CPU ns/request", at_most(ALWAYS_CPU));
        figures.target(&name("always", 16), "k requests/s", Target::TimesOrMore(1.2, "redis"));
        figures.target(&name("everysec", 16), "CPU ns/request", at_most(EVERYSEC_CPU));
    }
    Ok(figures)
}
