//! Recovery: how long a start takes over 3 million keys with values of 64 bytes, from the log, from
//! dump.rdb, and from the snapshot that a rewritten log begins with.
//!
//! Each server loads what it has written itself. The files are read once before, so that they are in
//! the page cache for all: what is measured is the server, not the disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{encode, key};
use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Kind, Running, Server};

const KEYS: u64 = 3_000_000;
const VALUE_BYTES: usize = 64;
const LOOK: Duration = Duration::from_millis(20);
const REWRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// Time against redis-server's, from the log and from snapshots.
const LOG_RATIO: f64 = 0.4;
const SNAPSHOT_RATIO: f64 = 0.35;
/// How many times as fast two shards on two cores must be.
const SHARDS_GAIN: f64 = 1.7;

const LOGGED: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];

/// What a server starts from.
struct Source {
    name: &'static str,
    options: &'static [&'static str],
    /// What makes it of the loaded keys.
    make: fn(&Running) -> Result<(), BenchError>,
    ratio: f64,
}

const SOURCES: [Source; 3] = [
    Source { name: "log", options: &LOGGED, make: |_| Ok(()), ratio: LOG_RATIO },
    Source { name: "dump.rdb", options: &[], make: save, ratio: SNAPSHOT_RATIO },
    Source { name: "base of the log", options: &LOGGED, make: rewrite, ratio: SNAPSHOT_RATIO },
];

fn save(server: &Running) -> Result<(), BenchError> {
    server.connect()?.call(&["SAVE"])?;
    Ok(())
}

fn rewrite(server: &Running) -> Result<(), BenchError> {
    let (mut client, start) = (server.connect()?, Instant::now());
    client.call(&["BGREWRITEAOF"])?;
    while client.call(&["INFO", "persistence"])?.contains("aof_rewrite_in_progress:1") {
        if start.elapsed() > REWRITE_TIMEOUT {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Fills a server in `dir`, and ends it.
fn prepare(
    options: &Options,
    server: &Server,
    source: &Source,
    dir: &Path,
    place: (usize, &[usize]),
) -> Result<(), BenchError> {
    let running = server.start_in(dir, place.0, place.1, source.options)?;
    let mut random = fastrand::Rng::with_seed(5);
    let mut value = [0; VALUE_BYTES];
    running.connect()?.load(options.sized(KEYS, 2_000), |n, output| {
        value.iter_mut().for_each(|byte| *byte = random.alphanumeric() as u8);
        encode(output, [&b"SET"[..], key(n).as_bytes(), &value]);
    })?;
    (source.make)(&running)?;
    running.shut_down()
}

/// Reads all files below `dir`.
fn warm(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            warm(&path)?;
        } else {
            io::copy(&mut File::open(path)?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Seconds from the start of the process to its first answer, and of its processor time.
fn measure(
    options: &Options,
    server: &Server,
    source: &Source,
    dir: &Path,
    place: (usize, &[usize]),
) -> Result<(f64, f64), BenchError> {
    warm(dir)?;
    let start = Instant::now();
    let running = server.start_in(dir, place.0, place.1, source.options)?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = probe::cpu_ns_with_ended(running.process_id())? as f64 / 1e9;
    let keys = running.connect()?.call(&["DBSIZE"])?;
    if keys.parse() != Ok(options.sized(KEYS, 2_000)) {
        let what = format!("has {keys} keys after it was started from its {}", source.name);
        return Err(BenchError::Server { server: server.name.into(), what });
    }
    running.shut_down()?;
    Ok((seconds, cpu))
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let able = |server: &&Server| server.kind != Kind::Dragonfly;
    let servers: Vec<&Server> = servers.iter().filter(able).collect();
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    let all_cpus = [&options.server_cpus[..], &options.load_cpus].concat();
    progress.expect(SOURCES.len() * (servers.len() + 1));
    for source in &SOURCES {
        for (column, server) in servers.iter().enumerate() {
            let shard_counts: &[usize] = if server.kind == Kind::Tessera { &[1, 2] } else { &[1] };
            for &shards in shard_counts {
                progress.step(&format!("{}, {}, {shards}", source.name, server.name));
                let cpus = if shards == 1 { &options.server_cpus } else { &all_cpus };
                let dir = tempfile::tempdir()?;
                prepare(options, server, source, dir.path(), (shards, cpus))?;
                for _ in 0..options.rounds {
                    let place = (shards, &cpus[..]);
                    let (seconds, cpu) = measure(options, server, source, dir.path(), place)?;
                    let name = name(source, shards);
                    figures.add(&name, "s", column, seconds);
                    figures.add(&name, "CPU s", column, cpu);
                }
            }
        }
        compare_shards(&mut figures, source);
        let target = Target::AtMostTimes(source.ratio, "redis");
        figures.target(&name(source, 1), "s", target);
    }
    Ok(figures)
}

fn name(source: &Source, shards: usize) -> String {
    match shards {
        1 => source.name.to_owned(),
        _ => format!("{}, {shards} shards on {shards} cores", source.name),
    }
}

/// The row of two shards relative to one.
fn compare_shards(figures: &mut Figures, source: &Source) {
    let times = |shards: usize| {
        let name = name(source, shards);
        let row = figures.rows.iter().find(|row| row.name == name && row.unit == "s");
        row.map_or(Vec::new(), |row| row.samples[0].clone())
    };
    let pairs: Vec<(f64, f64)> = times(1).into_iter().zip(times(2)).collect();
    let ratio = format!("{}: two shards / one", source.name);
    for (one, two) in pairs {
        figures.add(&ratio, "time ratio", 0, two / one);
    }
    figures.target(&ratio, "time ratio", Target::AtMost(1.0 / SHARDS_GAIN));
}
