//! 10,000 connections held, and the CPU that 1,000 idle ones cost.

use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::progress::Progress;
use crate::report::{Figures, Target};
use crate::servers::{Running, Server};

const MANY: u64 = 10_000;
const IDLE: u64 = 1_000;
const IDLE_TIME: Duration = Duration::from_secs(10);
/// Per cent of one core with the idle connections.
const IDLE_TARGET_PERCENT: f64 = 0.5;
/// Descriptors besides those of the connections.
const DESCRIPTORS_MORE: u64 = 100;

/// Lets this process, and the servers that it starts, have as many descriptors as are needed.
fn allow_descriptors(connections: u64) -> Result<(), BenchError> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections + DESCRIPTORS_MORE;
    let enough = |value: Option<u64>| value.is_none_or(|value| value >= wanted);
    if !enough(limit.maximum) {
        let what = format!("{wanted} descriptors are more than the hard limit (ulimit -Hn)");
        return Err(BenchError::Usage(what));
    }
    if !enough(limit.current) {
        let raised = Rlimit { current: limit.maximum, ..limit };
        setrlimit(Resource::Nofile, raised)
            .map_err(|error| BenchError::Connection(error.into()))?;
    }
    Ok(())
}

fn open(server: &Running, count: u64) -> Result<Vec<Client>, BenchError> {
    (0..count).map(|_| server.connect()).collect()
}

/// Uses every connection once.
fn ping(clients: &mut [Client]) -> Result<(), BenchError> {
    clients.iter_mut().try_for_each(|client| client.call(&["PING"]).map(drop))?;
    Ok(())
}

/// Per cent of a core that the server uses while its connections say nothing.
fn idle_percent(options: &Options, server: &Running) -> Result<f64, BenchError> {
    let mut clients = open(server, options.sized(IDLE, 100))?;
    ping(&mut clients)?;
    // Whatever the connecting caused is over by then.
    thread::sleep(Duration::from_millis(500));
    let time = if options.smoke { Duration::from_millis(100) } else { IDLE_TIME };
    let before = probe::cpu_ns(server.process_id())?;
    thread::sleep(time);
    let used = probe::cpu_ns(server.process_id())? - before;
    Ok(used as f64 / time.as_nanos() as f64 * 100.0)
}

pub(crate) fn run(
    options: &Options,
    servers: &[Server],
    progress: &mut Progress,
) -> Result<Figures, BenchError> {
    let many = options.sized(MANY, 200);
    allow_descriptors(many)?;
    let mut figures = Figures::new(servers.iter().map(|server| server.name));
    progress.expect(2 * servers.len());
    for (column, server) in servers.iter().enumerate() {
        progress.step(&format!("{} idle", server.name));
        let running = server.start(1, &options.server_cpus)?;
        figures.add("idle connections", "% of a core", column, idle_percent(options, &running)?);
        progress.step(&format!("{} many", server.name));
        let before = probe::resident_bytes(running.process_id())?;
        let mut clients = open(&running, many)?;
        ping(&mut clients)?;
        ping(&mut clients)?;
        let grown = probe::resident_bytes(running.process_id())?.saturating_sub(before);
        figures.add("connections held", "connections", column, clients.len() as f64);
        figures.add("memory a connection", "bytes", column, grown as f64 / clients.len() as f64);
    }
    figures.target("idle connections", "% of a core", Target::AtMost(IDLE_TARGET_PERCENT));
    Ok(figures)
}
