//! RSS a key: ten sizes of the keyspace, values of 8 and 32 bytes, with and without deadlines, and
//! after much coming and going.
//!
//! Ten sizes, because tables grow in steps: at one size alone a server may just have grown.

use std::thread;
use std::time::Duration;

use crate::client::{encode, key};
use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target, median};
use crate::servers::{Running, Server};

const SIZES: u64 = 10;
const LEAST_KEYS: u64 = 2_000_000;
const MOST_KEYS: u64 = 4_000_000;
const CHURN_ROUNDS: u64 = 10;
/// What allocators and background tasks get to give memory back before it is measured.
const SETTLING: Duration = Duration::from_millis(500);
/// Median bytes a key asked for, by bytes of the value.
const TARGETS: [(u64, f64); 2] = [(8, 44.0), (32, 70.0)];
const WORST_MORE: f64 = 8.0;
const DEADLINE_MORE: f64 = 8.0;
const CHURN_RATIO: f64 = 1.15;

/// The sizes to measure at, ascending.
fn sizes(options: &Options) -> Vec<u64> {
    let (least, most) = (options.sized(LEAST_KEYS, 2_000), options.sized(MOST_KEYS, 4_000));
    (0..SIZES).map(|step| least + (most - least) * step / (SIZES - 1)).collect()
}

/// Writes keys `first..end`; with a deadline a far one.
fn fill(
    server: &Running,
    numbers: impl Iterator<Item = u64>,
    value: &[u8],
    has_deadline: bool,
) -> Result<(), BenchError> {
    let mut client = server.connect()?;
    let numbers: Vec<u64> = numbers.collect();
    client.load(numbers.len() as u64, |at, output| {
        let key = key(numbers[at as usize]);
        if has_deadline {
            encode(output, [&b"SET"[..], key.as_bytes(), value, b"EXAT", b"100000000000"]);
        } else {
            encode(output, [&b"SET"[..], key.as_bytes(), value]);
        }
    })?;
    Ok(())
}

fn settled_bytes(options: &Options, server: &Running) -> Result<u64, BenchError> {
    if !options.smoke {
        thread::sleep(SETTLING);
    }
    probe::resident_bytes(server.process_id())
}

/// Bytes a key at each size, for a fresh server.
fn measure(
    options: &Options,
    server: &Running,
    value: &[u8],
    has_deadline: bool,
) -> Result<Vec<f64>, BenchError> {
    let empty = settled_bytes(options, server)?;
    let mut loaded = 0;
    let mut found = Vec::new();
    for size in sizes(options) {
        fill(server, loaded..size, value, has_deadline)?;
        loaded = size;
        found.push(settled_bytes(options, server)?.saturating_sub(empty) as f64 / size as f64);
    }
    Ok(found)
}

/// Deletes and writes again a random half of the keys, again and again; the growth by that.
fn churn(options: &Options, server: &Running, value: &[u8]) -> Result<f64, BenchError> {
    let keys = options.sized(MOST_KEYS, 4_000);
    let before = settled_bytes(options, server)? as f64;
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..CHURN_ROUNDS {
        let mut half: Vec<u64> = (0..keys).filter(|_| random.bool()).collect();
        let mut client = server.connect()?;
        client.load(half.len() as u64, |at, output| {
            encode(output, [&b"DEL"[..], key(half[at as usize]).as_bytes()]);
        })?;
        random.shuffle(&mut half);
        fill(server, half.into_iter(), value, false)?;
    }
    Ok(settled_bytes(options, server)? as f64 / before)
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(TARGETS.len() * servers.len() * 3);
    for (bytes, target) in TARGETS {
        let value = vec![b'x'; bytes as usize];
        let median_name = format!("{bytes} B values, median");
        let worst_name = format!("{bytes} B values, worst size");
        let deadline_name = format!("{bytes} B values, a deadline adds");
        let churn_name = format!("{bytes} B values, after churn / before");
        for (column, server) in servers.iter().enumerate() {
            let cpus = &options.server_cpus;
            progress.step(&format!("{bytes} B, {}", server.name));
            let plain_server = server.start(1, cpus)?;
            let plain = measure(options, &plain_server, &value, false)?;
            progress.step(&format!("{bytes} B after churn, {}", server.name));
            let grown = churn(options, &plain_server, &value)?;
            drop(plain_server);
            progress.step(&format!("{bytes} B with deadlines, {}", server.name));
            let timed = measure(options, &server.start(1, cpus)?, &value, true)?;
            let middle = |samples: &[f64]| median(samples).unwrap_or(0.0);
            let worst = plain.iter().copied().fold(0.0, f64::max);
            plain.iter().for_each(|&bytes| figures.add(&median_name, "bytes/key", column, bytes));
            figures.add(&worst_name, "bytes/key", column, worst);
            figures.add(&deadline_name, "bytes/key", column, middle(&timed) - middle(&plain));
            figures.add(&churn_name, "RSS ratio", column, grown);
        }
        figures.target(&median_name, "bytes/key", Target::AtMost(target));
        figures.target(&worst_name, "bytes/key", Target::AtMost(target + WORST_MORE));
        figures.target(&deadline_name, "bytes/key", Target::AtMost(DEADLINE_MORE));
        figures.target(&churn_name, "RSS ratio", Target::AtMost(CHURN_RATIO));
    }
    Ok(figures)
}
