//! Snapshots under load: what clients notice of a BGSAVE, how long it takes, and what it costs in
//! memory.
//!
//! Latency is measured at a fixed rate, quiet and from the BGSAVE to its end, over many strings, and
//! over one hash and one sorted set that every request writes to. Memory is measured while a client
//! writes as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, encode, key};
use crate::error::BenchError;
use crate::options::Options;
use crate::pace::{self, Latencies};
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Running, Server};

const KEYS: u64 = 3_000_000;
const VALUE: [u8; 256] = [b'x'; 256];
const MEMBERS: u64 = 1_000_000;
const CONNECTIONS: usize = 20;
const QUIET: Duration = Duration::from_secs(10);
/// How often it is asked whether the save is over, and what memory is taken.
const LOOK: Duration = Duration::from_millis(50);
const SAVE_TIMEOUT: Duration = Duration::from_secs(300);
/// p99.9 in a snapshot against the quiet one, by the same server.
const LATENCY_RATIO: f64 = 2.0;
const LATENCY_MAX_MS: f64 = 5.0;
/// How long a snapshot may take, against redis-server's.
const DURATION_RATIO: f64 = 1.5;
/// Memory at its most, against the quiet one.
const MEMORY_RATIO: f64 = 1.1;

/// What the keys are, and what is done to them.
#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    rate: f64,
    fill: fn(&Options, &mut Client) -> std::io::Result<()>,
    write: fn(&Options, u64, &mut fastrand::Rng, &mut Vec<u8>),
}

const WORKLOADS: [Workload; 2] = [
    Workload { name: "strings", rate: 15_000.0, fill: fill_strings, write: write_strings },
    Workload { name: "hash and zset", rate: 10_000.0, fill: fill_members, write: write_members },
];

fn fill_strings(options: &Options, client: &mut Client) -> std::io::Result<()> {
    client.load(options.sized(KEYS, 2_000), |n, output| {
        encode(output, [&b"SET"[..], key(n).as_bytes(), &VALUE]);
    })
}

/// SET and GET in turn, over random keys.
fn write_strings(options: &Options, n: u64, random: &mut fastrand::Rng, output: &mut Vec<u8>) {
    let key = key(random.u64(0..options.sized(KEYS, 2_000)));
    if n.is_multiple_of(2) {
        encode(output, [&b"SET"[..], key.as_bytes(), &VALUE]);
    } else {
        encode(output, [&b"GET"[..], key.as_bytes()]);
    }
}

fn fill_members(options: &Options, client: &mut Client) -> std::io::Result<()> {
    let members = options.sized(MEMBERS, 2_000);
    client.load(members * 2, |n, output| write_member(n, n / 2, output))
}

/// HSET and ZINCRBY in turn, over random members.
fn write_members(options: &Options, n: u64, random: &mut fastrand::Rng, output: &mut Vec<u8>) {
    write_member(n, random.u64(0..options.sized(MEMBERS, 2_000)), output);
}

fn write_member(n: u64, member: u64, output: &mut Vec<u8>) {
    let member = format!("{member:010}");
    if n.is_multiple_of(2) {
        encode(output, [&b"HSET"[..], b"hash", member.as_bytes(), b"value of it"]);
    } else {
        encode(output, [&b"ZINCRBY"[..], b"zset", b"1", member.as_bytes()]);
    }
}

/// One field of INFO persistence as a number.
fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok())
}

/// Waits until the save is over; how long it took, in seconds.
fn watch_save(
    client: &mut Client,
    start: Instant,
    is_over: &AtomicBool,
) -> Result<f64, BenchError> {
    loop {
        let text = client.call(&["INFO", "persistence"])?;
        if field(&text, "rdb_bgsave_in_progress") == Some(0) {
            is_over.store(true, Ordering::Relaxed);
            return Ok(start.elapsed().as_secs_f64());
        }
        if start.elapsed() > SAVE_TIMEOUT {
            is_over.store(true, Ordering::Relaxed);
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        thread::sleep(LOOK);
    }
}

fn load(
    options: &Options,
    server: &Running,
    workload: Workload,
    is_over: impl Fn(Duration) -> bool,
) -> Result<Latencies, BenchError> {
    let mut random = fastrand::Rng::with_seed(3);
    let write = |n, output: &mut Vec<u8>| (workload.write)(options, n, &mut random, output);
    Ok(pace::run(server.address(), CONNECTIONS, workload.rate, write, is_over)?)
}

/// Latencies from the BGSAVE to its end, and how long it took in seconds.
fn load_while_saving(
    options: &Options,
    server: &Running,
    workload: Workload,
) -> Result<(Latencies, f64), BenchError> {
    let mut client = server.connect()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let start = Instant::now();
        client.call(&["BGSAVE"])?;
        let is_over = &is_over;
        let watcher = scope.spawn(move || watch_save(&mut client, start, is_over));
        let latencies = load(options, server, workload, |_| is_over.load(Ordering::Relaxed));
        let seconds = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((latencies?, seconds))
    })
}

fn measure_latency(
    options: &Options,
    server: &Running,
    workload: Workload,
    column: usize,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    (workload.fill)(options, &mut server.connect()?)?;
    let quiet_for = if options.smoke { Duration::from_millis(50) } else { QUIET };
    let quiet = load(options, server, workload, |elapsed| elapsed >= quiet_for)?;
    let (saving, seconds) = load_while_saving(options, server, workload)?;
    let name = workload.name;
    figures.add(&format!("{name}: p99.9 quiet"), "ms", column, quiet.at(0.999));
    figures.add(&format!("{name}: p99.9 in a snapshot"), "ms", column, saving.at(0.999));
    figures.add(&format!("{name}: max quiet"), "ms", column, quiet.at(1.0));
    figures.add(&format!("{name}: max in a snapshot"), "ms", column, saving.at(1.0));
    let ratio = saving.at(0.999) / quiet.at(0.999).max(1e-3);
    figures.add(&format!("{name}: p99.9 in a snapshot / quiet"), "ratio", column, ratio);
    figures.add(&format!("{name}: snapshot takes"), "s", column, seconds);
    figures.add(&format!("{name}: requests in it"), "k", column, saving.count() as f64 / 1e3);
    Ok(())
}

/// The most memory that the server and its children take from the BGSAVE to its end, against what it
/// takes before, while a client overwrites all keys again and again.
fn measure_memory(options: &Options, server: &Running) -> Result<f64, BenchError> {
    fill_strings(options, &mut server.connect()?)?;
    let is_over = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<(), BenchError> {
            let mut client = server.connect()?;
            let mut random = fastrand::Rng::with_seed(4);
            while !is_over.load(Ordering::Relaxed) {
                client.load(256, |_, output| write_strings(options, 0, &mut random, output))?;
                written.fetch_add(256, Ordering::Relaxed);
            }
            Ok(())
        });
        let mut client = server.connect()?;
        while written.load(Ordering::Relaxed) < options.sized(KEYS / 4, 1_000) {
            thread::sleep(LOOK);
        }
        let quiet = probe::proportional_bytes(server.process_id())?;
        client.call(&["BGSAVE"])?;
        let (start, mut most) = (Instant::now(), quiet);
        while field(&client.call(&["INFO", "persistence"])?, "rdb_bgsave_in_progress") == Some(1)
            && start.elapsed() < SAVE_TIMEOUT
        {
            most = most.max(probe::proportional_bytes(server.process_id())?);
            thread::sleep(LOOK);
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(most as f64 / quiet as f64)
    })
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(servers.len() * (WORKLOADS.len() + 1));
    for workload in WORKLOADS {
        for (column, server) in servers.iter().enumerate() {
            progress.step(&format!("{}, {}", workload.name, server.name));
            let running = server.start(1, &options.server_cpus)?;
            measure_latency(options, &running, workload, column, &mut figures)?;
        }
    }
    let memory = "strings written at full speed: memory in a snapshot / quiet";
    for (column, server) in servers.iter().enumerate() {
        progress.step(&format!("memory, {}", server.name));
        let running = server.start(1, &options.server_cpus)?;
        figures.add(memory, "PSS ratio", column, measure_memory(options, &running)?);
    }
    for workload in WORKLOADS {
        let named = |what: &str| format!("{}: {what}", workload.name);
        figures.target(
            &named("p99.9 in a snapshot / quiet"),
            "ratio",
            Target::AtMost(LATENCY_RATIO),
        );
        figures.target(&named("max in a snapshot"), "ms", Target::AtMost(LATENCY_MAX_MS));
        let duration = Target::AtMostTimes(DURATION_RATIO, "redis");
        figures.target(&named("snapshot takes"), "s", duration);
    }
    figures.target(memory, "PSS ratio", Target::AtMost(MEMORY_RATIO));
    Ok(figures)
}
