//! Snapshots under load: what clients notice of a BGSAVE, how long it takes, and what it costs in
//! memory.
//!
//! Latency is measured at a fixed rate, quiet and from the BGSAVE to its end, over many strings, and
//! over one hash and one sorted set that every request writes to. What the server itself can answer
//! for stands beside it: how long its own steps were, by its own figures (INFO debug). Memory is
//! measured while a client writes as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::client::{Client, encode, key};
use crate::error::BenchError;
use crate::options::Options;
use crate::pace::{self, Latencies};
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Line, Target};
use crate::servers::{Running, Server};

const KEYS: u64 = 3_000_000;
const VALUE: [u8; 256] = [b'x'; 256];
const MEMBERS: u64 = 1_000_000;
const CONNECTIONS: usize = 20;
const QUIET: Duration = Duration::from_secs(10);
/// The load goes on for so long before the BGSAVE and after its end, for the chart.
const MARGIN: Duration = Duration::from_secs(1);
/// Each point of the chart is the worst latency of so many seconds.
const STRETCH_S: f64 = 0.02;
/// How often it is asked whether the save is over, and what memory is taken.
const LOOK: Duration = Duration::from_millis(50);
const SAVE_TIMEOUT: Duration = Duration::from_secs(300);
/// p99.9 in a snapshot against the quiet one, by the same server.
const LATENCY_RATIO: f64 = 2.0;
const LATENCY_MAX_MS: f64 = 5.0;
/// The longest slice of a save inside the server.
const SLICE_MAX_MS: f64 = 0.5;
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

/// Begins a save and waits until it is over. Then the load may end.
fn save(client: &mut Client, margin: Duration, may_end: &AtomicBool) -> Result<Saved, BenchError> {
    let mut begin_and_wait = || -> Result<Saved, BenchError> {
        thread::sleep(margin);
        let began = Instant::now();
        client.call(&["BGSAVE"])?;
        loop {
            let text = client.call(&["INFO", "persistence"])?;
            if field(&text, "rdb_bgsave_in_progress") == Some(0) {
                break;
            }
            if began.elapsed() > SAVE_TIMEOUT {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
            thread::sleep(LOOK);
        }
        let ended = Instant::now();
        thread::sleep(margin);
        Ok(Saved { began, ended })
    };
    let saved = begin_and_wait();
    may_end.store(true, Ordering::Relaxed);
    saved
}

/// When a save was.
struct Saved {
    began: Instant,
    ended: Instant,
}

fn load(
    options: &Options,
    server: &Running,
    workload: Workload,
    is_over: impl Fn(Duration) -> bool,
) -> Result<Latencies, BenchError> {
    let mut random = fastrand::Rng::with_seed(3);
    let write = |n, output: &mut Vec<u8>| (workload.write)(options, n, &mut random, output);
    // The thread stays off the server's CPU. A CPU that is not there is passed over.
    let mut cpus = CpuSet::new();
    options.load_cpus.iter().for_each(|&cpu| cpus.set(cpu));
    let before = sched_getaffinity(None).ok();
    let _ = sched_setaffinity(None, &cpus);
    let latencies = pace::run(server.address(), CONNECTIONS, workload.rate, write, is_over);
    if let Some(before) = before {
        let _ = sched_setaffinity(None, &before);
    }
    Ok(latencies?)
}

/// Latencies before, in and after a save, and when that was.
fn load_while_saving(
    options: &Options,
    server: &Running,
    workload: Workload,
) -> Result<(Latencies, Saved), BenchError> {
    let mut client = server.connect()?;
    let may_end = AtomicBool::new(false);
    thread::scope(|scope| {
        let may_end = &may_end;
        let margin = options.lasting(MARGIN);
        let saver = scope.spawn(move || save(&mut client, margin, may_end));
        let latencies = load(options, server, workload, |_| may_end.load(Ordering::Relaxed));
        let saved = saver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((latencies?, saved))
    })
}

/// What a server says of the length of its own steps, in milliseconds.
struct Inside {
    turn: f64,
    slice: f64,
    slice_cpu: f64,
}

/// The longest steps since the last CONFIG RESETSTAT; nothing if the server does not say.
fn longest_inside(server: &Running) -> Result<Option<Inside>, BenchError> {
    let text = server.connect()?.call(&["INFO", "debug"])?;
    let most = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let (_, most) = line.trim().rsplit_once("max=")?;
        most.parse::<f64>().ok().map(|micros| micros / 1e3)
    };
    let turn = most("eventloop_duration_percentiles_usec");
    let slices = most("save_slice_percentiles_usec").zip(most("save_slice_cpu_percentiles_usec"));
    Ok(turn.zip(slices).map(|(turn, (slice, slice_cpu))| Inside { turn, slice, slice_cpu }))
}

fn measure_latency(
    options: &Options,
    server: &Running,
    workload: Workload,
    column: usize,
    figures: &mut Figures,
) -> Result<(), BenchError> {
    (workload.fill)(options, &mut server.connect()?)?;
    let name = workload.name;
    let cpu = || probe::cpu_ns_with_ended(server.process_id());
    let quiet_for = options.lasting(QUIET);
    server.connect()?.call(&["CONFIG", "RESETSTAT"])?;
    let before = cpu()?;
    let quiet = load(options, server, workload, |elapsed| elapsed >= quiet_for)?;
    let quiet_cpu = (cpu()? - before) as f64 / quiet_for.as_nanos() as f64;
    if let Some(inside) = longest_inside(server)? {
        figures.add(&format!("{name}: longest own turn, quiet"), "ms", column, inside.turn);
    }
    server.connect()?.call(&["CONFIG", "RESETSTAT"])?;
    let before = cpu()?;
    let (all, saved) = load_while_saving(options, server, workload)?;
    let used = (cpu()? - before) as f64 / 1e9;
    let span = (saved.ended + options.lasting(MARGIN) * 2 - saved.began).as_secs_f64();
    let since = |moment: Instant| moment.saturating_duration_since(all.start).as_secs_f64();
    let (began, ended) = (since(saved.began), since(saved.ended));
    let saving = all.between(began, ended);
    let mut add = |what: &str, unit, value| {
        figures.add(&format!("{name}: {what}"), unit, column, value);
    };
    add("p99.9 quiet", "ms", quiet.at(0.999));
    add("p99.9 in a snapshot", "ms", saving.at(0.999));
    add("max quiet", "ms", quiet.at(1.0));
    add("max in a snapshot", "ms", saving.at(1.0));
    if let Some(inside) = longest_inside(server)? {
        add("longest own turn in it", "ms", inside.turn);
        add("longest own slice, by the clock", "ms", inside.slice);
        add("longest own slice, of processor time", "ms", inside.slice_cpu);
    }
    add("p99.9 in a snapshot / quiet", "ratio", saving.at(0.999) / quiet.at(0.999).max(1e-3));
    add("snapshot takes", "s", ended - began);
    add("processor time of it", "CPU s", (used - quiet_cpu * span).max(0.0));
    add("requests in it", "k", saving.count() as f64 / 1e3);
    let panel = format!("{name}: worst latency of each {:.0} ms, in ms", STRETCH_S * 1e3);
    let points = all.worst_of_each(STRETCH_S);
    figures.lines.push(Line { panel, column, points, marks: [began, ended] });
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
        let slices = ["longest own slice, by the clock", "longest own slice, of processor time"];
        for slice in slices {
            figures.target(&named(slice), "ms", Target::AtMost(SLICE_MAX_MS));
        }
        let duration = Target::AtMostTimes(DURATION_RATIO, "redis");
        figures.target(&named("snapshot takes"), "s", duration);
    }
    figures.target(memory, "PSS ratio", Target::AtMost(MEMORY_RATIO));
    Ok(figures)
}
