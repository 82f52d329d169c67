//! PUBLISH to many subscribers: CPU of the server for each message delivered.
//!
//! The publisher waits for each reply before it publishes again, as publishers do that look at the
//! number of receivers; another figure has it pipeline. The subscribers are read by threads on the
//! load's CPUs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::client::{Client, encode};
use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Running, Server};

const SUBSCRIBERS: u64 = 100;
const MESSAGE_BYTES: usize = 64;
/// Messages published in a run.
const MESSAGES: u64 = 10_000;
/// Messages on their way at once when the publisher pipelines.
const DEPTHS: [u64; 2] = [1, 16];
/// CPU for each delivered message relative to redis-server.
const CPU_TARGET: f64 = 0.6;

/// Subscribed connections, and the thread that reads them.
struct Subscribers {
    streams: Vec<TcpStream>,
    reader: JoinHandle<()>,
}

impl Subscribers {
    /// Subscribes `count` connections.
    fn start(server: &Running, count: u64, cpus: &[usize]) -> Result<Self, BenchError> {
        let mut streams = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(server.address())?;
            let mut request = Vec::new();
            encode(&mut request, [&b"SUBSCRIBE"[..], b"news"]);
            stream.write_all(&request)?;
            // The confirmation, which has the same length everywhere.
            stream.read_exact(&mut [0; "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n".len()])?;
            streams.push(stream);
        }
        let clones: Vec<TcpStream> =
            streams.iter().map(TcpStream::try_clone).collect::<Result<_, _>>()?;
        let cpus = cpus.to_vec();
        let reader = thread::spawn(move || read_all(clones, &cpus));
        Ok(Self { streams, reader })
    }

    fn end(self) {
        for stream in &self.streams {
            // A server that has ended has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // The reader ends when all are closed, and holds nothing that could fail.
        let _ = self.reader.join();
    }
}

/// Reads from all streams in turn until they end. Each message to all is one round, so that nobody
/// waits for long.
fn read_all(mut streams: Vec<TcpStream>, cpus: &[usize]) {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    if !cpus.is_empty() {
        // On a machine without these CPUs it runs where it may.
        let _ = sched_setaffinity(None, &set);
    }
    let mut bytes = vec![0; 1 << 16];
    while !streams.is_empty() {
        streams.retain_mut(|stream| matches!(stream.read(&mut bytes), Ok(1..)));
    }
}

fn name(depth: u64) -> String {
    match depth {
        1 => format!("PUBLISH to {SUBSCRIBERS}"),
        _ => format!("PUBLISH to {SUBSCRIBERS}, pipeline {depth}"),
    }
}

/// Publishes `count` messages, `depth` at once.
fn publish(client: &mut Client, count: u64, depth: u64) -> Result<(), BenchError> {
    let text = vec![b'x'; MESSAGE_BYTES];
    for _ in 0..count / depth {
        client.load(depth, |_, output| encode(output, [&b"PUBLISH"[..], b"news", &text]))?;
    }
    Ok(())
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    let count = options.sized(MESSAGES, 64);
    progress.expect(options.rounds * servers.len() * DEPTHS.len());
    for _ in 0..options.rounds {
        for (column, server) in servers.iter().enumerate() {
            let running = server.start(1, &options.server_cpus)?;
            let subscribers = Subscribers::start(&running, SUBSCRIBERS, &options.load_cpus)?;
            let mut client = running.connect()?;
            publish(&mut client, count / 10, 1)?;
            for depth in DEPTHS {
                progress.step(&format!("{} on {}", name(depth), server.name));
                let before = probe::cpu_ns(running.process_id())?;
                publish(&mut client, count, depth)?;
                let used = probe::cpu_ns(running.process_id())? - before;
                let delivered = (count / depth * depth * SUBSCRIBERS) as f64;
                figures.add(&name(depth), "CPU ns/message", column, used as f64 / delivered);
            }
            subscribers.end();
        }
    }
    for depth in DEPTHS {
        let target = Target::AtMostTimes(CPU_TARGET, "redis");
        figures.target(&name(depth), "CPU ns/message", target);
    }
    Ok(figures)
}
