//! Growth from an empty keyspace to 20 million keys under load: the slowest commands on the way,
//! by the server's own histogram and at a client that sends one command at a time.
//!
//! Both see whatever holds the server up, a processor that it had to share too. So the same growth
//! is done once more in this process, without a network: the slowest SET by the processor time of
//! its thread is what the table alone causes, on however busy a machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::client::{encode, key};
use crate::error::BenchError;
use crate::instructions::Bare;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Kind, Running, Server};

const KEYS: u64 = 20_000_000;
const VALUE_BYTES: usize = 8;
/// Between two commands of the measuring client.
const PAUSE: Duration = Duration::from_micros(200);
/// No command may take longer inside the server.
const COMMAND_TARGET_MS: f64 = 2.0;
/// What the table alone causes.
const ALONE: &str = "slowest SET without a network, processor time";

/// Sends single GETs until `done`; all their latencies in milliseconds, sorted.
fn sample(server: &Running, done: &AtomicBool) -> Result<Vec<f64>, BenchError> {
    let mut client = server.connect()?;
    let mut random = fastrand::Rng::with_seed(2);
    let mut latencies = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let key = key(random.u64(0..KEYS));
        let start = Instant::now();
        client.call(&["GET", &key])?;
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(PAUSE);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Fills the server; the sampled latencies of another client, and the seconds it took.
fn grow(options: &Options, server: &Running) -> Result<(Vec<f64>, f64), BenchError> {
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let latencies = thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(server, &done));
        let filled = server.connect().and_then(|mut client| {
            Ok(client.load(options.sized(KEYS, 20_000), |n, output| {
                encode(output, [&b"SET"[..], key(n).as_bytes(), &[b'x'; VALUE_BYTES]]);
            })?)
        });
        done.store(true, Ordering::Relaxed);
        let sampled = sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        filled.and(sampled)
    })?;
    Ok((latencies, start.elapsed().as_secs_f64()))
}

/// The slowest SET in milliseconds by the server's histogram, where it keeps one.
fn slowest_inside(server: &Running) -> Result<Option<f64>, BenchError> {
    let text = server.connect()?.call(&["INFO", "latencystats"])?;
    let line = text.lines().find(|line| line.starts_with("latency_percentiles_usec_set:"));
    let fields = line.and_then(|line| line.split_once(':')).map_or("", |(_, fields)| fields);
    let most = fields
        .split(',')
        .filter_map(|field| field.split_once('='))
        .find(|(name, _)| *name == "max" || *name == "p100");
    Ok(most.and_then(|(_, value)| value.trim().parse::<f64>().ok()).map(|us| us / 1e3))
}

/// The slowest SET in milliseconds of this thread's processor time, on the way from nothing.
fn slowest_alone(options: &Options) -> Result<f64, BenchError> {
    let mut bare = Bare::new();
    let mut request = Vec::new();
    let mut slowest = Duration::ZERO;
    for n in 0..options.sized(KEYS, 20_000) {
        request.clear();
        encode(&mut request, [&b"SET"[..], key(n).as_bytes(), &[b'x'; VALUE_BYTES]]);
        let start = thread_time();
        bare.run(&request)?;
        slowest = slowest.max(thread_time().saturating_sub(start));
    }
    Ok(slowest.as_secs_f64() * 1e3)
}

/// Processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(servers.len());
    for (column, server) in servers.iter().enumerate() {
        progress.step(server.name);
        if server.kind == Kind::Tessera {
            figures.add(ALONE, "ms", column, slowest_alone(options)?);
        }
        let running = server.start(1, &options.server_cpus)?;
        // The histogram's greatest value is its hundredth percentile.
        let percentiles = ["CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9 100"];
        let has_histogram = running.connect()?.call(&percentiles).is_ok();
        let (latencies, seconds) = grow(options, &running)?;
        let at = |part: f64| {
            latencies.get(((latencies.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(0.0)
        };
        figures.add("single GETs meanwhile, p99.9", "ms", column, at(0.999));
        figures.add("single GETs meanwhile, max", "ms", column, at(1.0));
        if let Some(most) = slowest_inside(&running)?.filter(|_| has_histogram) {
            figures.add("slowest SET inside the server", "ms", column, most);
        }
        figures.add(
            "keys written",
            "k keys/s",
            column,
            options.sized(KEYS, 20_000) as f64 / seconds / 1e3,
        );
    }
    figures.target("slowest SET inside the server", "ms", Target::AtMost(COMMAND_TARGET_MS));
    figures.target(ALONE, "ms", Target::AtMost(COMMAND_TARGET_MS));
    Ok(figures)
}
