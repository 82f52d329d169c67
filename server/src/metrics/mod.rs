//! Counters of the running server: written by one worker each, read by anyone, never locked on
//! the way of a request.
//!
//! Each worker owns one `WorkerMetrics`. A counter is an atomic that only its owner writes, by a
//! plain load and store, so that counting costs no locked instruction and no cache line moves
//! between cores. `Metrics` adds them up for INFO.
//!
//! ```text
//! counters    the counters of a worker          histogram   durations, for percentiles
//! calls       what is counted of a command      steps       how long workers do not look at clients
//! snapshot    all of it at one moment           sampler     rates per second
//! process     what the operating system knows
//! ```
//!
//! CONFIG RESETSTAT cannot set another thread's counters to zero without a race, so it keeps
//! what they were (a baseline), and every later snapshot is shown less that.

#![forbid(unsafe_code)]

mod calls;
mod counters;
mod histogram;
mod process;
mod sampler;
mod snapshot;
mod steps;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use counters::{Counter, Counters, Totals};
pub use histogram::{Counts, Histogram};
pub use process::{
    CpuTime, ProcessInfo, cpu_times, random_id, resident_bytes, thread_cpu_time, unix_time,
};
pub use sampler::SAMPLE_PERIOD_MS;
use sampler::Sampler;
pub use snapshot::{CommandTotals, DatabaseKeys, Snapshot};
pub use steps::{StepCounts, Steps};

/// What one command did on one worker.
#[derive(Debug, Default)]
struct CommandMetrics {
    calls: Counter,
    nanos: Counter,
    rejected: Counter,
    failed: Counter,
    /// Made at the first call: most commands are never called.
    latency: OnceLock<Histogram>,
}

/// The most error prefixes that are told apart; more of them means that something makes them up.
const ERROR_PREFIXES_MAX: usize = 128;

/// Everything that one worker counts. Aligned so that two workers' counters never share the pair
/// of cache lines that the processor fetches together.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Plain counters.
    pub counters: Counters,
    /// How long it does not look at its clients.
    pub steps: Steps,
    commands: Box<[CommandMetrics]>,
    errors: Mutex<BTreeMap<String, u64>>,
    databases: Mutex<Vec<DatabaseKeys>>,
}

impl WorkerMetrics {
    /// Zeroes, for a server with that many rows in its command table.
    pub fn new(commands: usize) -> WorkerMetrics {
        WorkerMetrics {
            counters: Counters::default(),
            steps: Steps::default(),
            commands: (0..commands).map(|_| CommandMetrics::default()).collect(),
            errors: Mutex::default(),
            databases: Mutex::default(),
        }
    }

    /// Counts one execution of the command in row `command`.
    pub fn record_call(&self, command: usize, nanos: u64, failed: bool) {
        self.counters.commands_processed.add(1);
        let Some(metrics) = self.commands.get(command) else { return };
        metrics.calls.add(1);
        metrics.nanos.add(nanos);
        if failed {
            metrics.failed.add(1);
        }
    }

    /// Enters a duration into the histogram of the command in row `command`.
    pub fn record_latency(&self, command: usize, nanos: u64) {
        let Some(metrics) = self.commands.get(command) else { return };
        metrics.latency.get_or_init(Histogram::default).record(nanos);
    }

    /// Counts a command that was refused before it ran (arity, state, rights).
    pub fn record_rejected(&self, command: usize) {
        if let Some(metrics) = self.commands.get(command) {
            metrics.rejected.add(1);
        }
    }

    /// Counts an error reply by its first word. `reply` is the text after the dash.
    pub fn record_error(&self, reply: &[u8]) {
        self.counters.error_replies.add(1);
        let prefix = reply.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        let prefix = String::from_utf8_lossy(prefix);
        let mut errors = lock(&self.errors);
        if let Some(count) = errors.get_mut(prefix.as_ref()) {
            *count += 1;
        } else if errors.len() < ERROR_PREFIXES_MAX {
            errors.insert(prefix.into_owned(), 1);
        }
    }

    /// Publishes what the shard's databases hold; empty ones may be left out.
    pub fn publish_databases(&self, databases: impl IntoIterator<Item = DatabaseKeys>) {
        let mut published = lock(&self.databases);
        published.clear();
        published.extend(databases);
        self.counters.keys.set(published.iter().map(|database| database.keys).sum());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section leaves its value whole, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counters of all workers together.
pub struct Metrics {
    workers: Vec<Arc<WorkerMetrics>>,
    baseline: Mutex<Snapshot>,
    rates: Mutex<Rates>,
    memory_peak_bytes: AtomicU64,
}

#[derive(Default)]
struct Rates {
    commands: Sampler,
    input: Sampler,
    output: Sampler,
    turns: Sampler,
    turns_us: Sampler,
}

/// Counters whose rates are shown, over all workers.
#[derive(Default)]
struct Flows {
    commands: u64,
    input: u64,
    output: u64,
    turns: u64,
    turns_us: u64,
}

/// What goes on a second, now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CurrentRates {
    /// Commands a second.
    pub commands: f64,
    /// Bytes received a second.
    pub input_bytes: f64,
    /// Bytes sent a second.
    pub output_bytes: f64,
    /// Turns of all workers a second.
    pub turns: f64,
    /// Microseconds that a turn takes, on average.
    pub turn_us: f64,
}

impl Metrics {
    /// Counters for `workers` workers and a command table of `commands` rows.
    pub fn new(workers: usize, commands: usize) -> Metrics {
        Metrics {
            workers: (0..workers).map(|_| Arc::new(WorkerMetrics::new(commands))).collect(),
            baseline: Mutex::default(),
            rates: Mutex::default(),
            memory_peak_bytes: AtomicU64::new(0),
        }
    }

    /// The counters that worker `index` writes.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        self.workers[index].clone()
    }

    /// All counters now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.raw_snapshot();
        snapshot.subtract(&lock(&self.baseline));
        snapshot
    }

    /// CONFIG RESETSTAT: from now on counters start at zero; gauges stay.
    pub fn reset(&self) {
        let now = self.raw_snapshot();
        *lock(&self.baseline) = now;
        *lock(&self.rates) = Rates::default();
        self.memory_peak_bytes.store(0, Ordering::Relaxed);
    }

    /// Takes the samples for rates and peaks. One worker calls this from a timer, at least every
    /// `SAMPLE_PERIOD_MS` while there is traffic.
    pub fn sample(&self, now_ms: u64) {
        let flows = self.flows();
        let mut rates = lock(&self.rates);
        rates.commands.sample(now_ms, flows.commands);
        rates.input.sample(now_ms, flows.input);
        rates.output.sample(now_ms, flows.output);
        rates.turns.sample(now_ms, flows.turns);
        rates.turns_us.sample(now_ms, flows.turns_us);
        self.note_memory(self.used_bytes());
    }

    /// Rates at `now_ms`.
    pub fn rates(&self, now_ms: u64) -> CurrentRates {
        let flows = self.flows();
        let rates = lock(&self.rates);
        let turns = rates.turns.per_second(now_ms, flows.turns);
        let turns_us = rates.turns_us.per_second(now_ms, flows.turns_us);
        CurrentRates {
            commands: rates.commands.per_second(now_ms, flows.commands),
            input_bytes: rates.input.per_second(now_ms, flows.input),
            output_bytes: rates.output.per_second(now_ms, flows.output),
            turns,
            turn_us: if turns > 0.0 { turns_us / turns } else { 0.0 },
        }
    }

    /// Notes how many bytes are in use, and gives back the most that ever were.
    pub fn note_memory(&self, bytes: u64) -> u64 {
        self.memory_peak_bytes.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// Bytes that workers account for: keys, values, what is remembered of clients, and what these
    /// hold.
    pub fn used_bytes(&self) -> u64 {
        let used = |counters: &Counters| {
            counters.memory_bytes.get()
                + counters.client_table_bytes.get()
                + counters.garbage_bytes.get()
                + counters.preserved_bytes.get()
                + counters.clients_bytes.get()
        };
        self.workers.iter().map(|worker| used(&worker.counters)).sum()
    }

    /// Bytes that all clients hold.
    pub fn clients_bytes(&self) -> u64 {
        self.workers.iter().map(|worker| worker.counters.clients_bytes.get()).sum()
    }

    /// The most that one client holds which may be disconnected for it.
    pub fn largest_client_bytes(&self) -> u64 {
        let largest = |worker: &Arc<WorkerMetrics>| worker.counters.largest_client_bytes.get();
        self.workers.iter().map(largest).max().unwrap_or(0)
    }

    fn flows(&self) -> Flows {
        self.workers.iter().fold(Flows::default(), |sum, worker| {
            let counters = &worker.counters;
            Flows {
                commands: sum.commands + counters.commands_processed.get(),
                input: sum.input + counters.net_input_bytes.get(),
                output: sum.output + counters.net_output_bytes.get(),
                turns: sum.turns + counters.loop_turns.get(),
                turns_us: sum.turns_us + worker.steps.nanos.get() / 1000,
            }
        })
    }

    fn raw_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.workers {
            snapshot.add(worker);
        }
        snapshot.databases.sort_by_key(|database| database.database);
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_adds_the_workers_up() {
        let metrics = Metrics::new(2, 3);
        metrics.worker(0).record_call(1, 500, false);
        metrics.worker(1).record_call(1, 700, true);
        metrics.worker(1).record_latency(1, 700);
        metrics.worker(1).record_rejected(2);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.totals.commands_processed, 2);
        assert_eq!(snapshot.workers[0].commands_processed, 1);
        let command = &snapshot.commands[1];
        assert_eq!((command.calls, command.nanos, command.failed), (2, 1200, 1));
        assert_eq!(command.latency.total(), 1);
        assert_eq!(snapshot.commands[2].rejected, 1);
    }

    #[test]
    fn a_reset_starts_counts_again_but_not_gauges() {
        let metrics = Metrics::new(1, 1);
        let worker = metrics.worker(0);
        worker.record_call(0, 10, false);
        worker.record_latency(0, 10);
        worker.record_error(b"ERR x");
        worker.steps.turns.record(5);
        worker.counters.connected_clients.set(3);
        metrics.reset();
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.totals.commands_processed, 0);
        assert_eq!(snapshot.totals.connected_clients, 3);
        assert_eq!(snapshot.commands[0].calls, 0);
        assert_eq!(snapshot.commands[0].latency.total(), 0);
        assert!(snapshot.errors.is_empty());
        assert_eq!(snapshot.steps.turns.total(), 0);
        worker.record_call(0, 10, false);
        assert_eq!(metrics.snapshot().commands[0].calls, 1);
    }

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let metrics = Metrics::new(2, 0);
        metrics.worker(0).record_error(b"ERR syntax error");
        metrics.worker(1).record_error(b"ERR other");
        metrics.worker(1).record_error(b"WRONGTYPE Operation");
        let errors = metrics.snapshot().errors;
        assert_eq!(
            errors.into_iter().collect::<Vec<_>>(),
            [("ERR".into(), 2), ("WRONGTYPE".into(), 1)]
        );
    }

    #[test]
    fn made_up_error_prefixes_take_bounded_memory() {
        let worker = WorkerMetrics::new(0);
        for number in 0..1000 {
            worker.record_error(format!("E{number} x").as_bytes());
        }
        assert_eq!(lock(&worker.errors).len(), ERROR_PREFIXES_MAX);
    }

    #[test]
    fn databases_are_merged_over_the_shards() {
        let metrics = Metrics::new(2, 0);
        let keys = |database, keys, expires, average_ttl_ms| DatabaseKeys {
            database,
            keys,
            expires,
            average_ttl_ms,
        };
        metrics.worker(0).publish_databases([keys(3, 1, 0, 0), keys(0, 5, 1, 100)]);
        metrics.worker(1).publish_databases([keys(0, 2, 3, 200), keys(4, 0, 0, 0)]);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.databases, [keys(0, 7, 4, 175), keys(3, 1, 0, 0)]);
        assert_eq!(snapshot.totals.keys, 8);
    }

    #[test]
    fn the_memory_peak_never_falls() {
        let metrics = Metrics::new(1, 0);
        assert_eq!(metrics.note_memory(10), 10);
        assert_eq!(metrics.note_memory(5), 10);
    }

    #[test]
    fn rows_beyond_the_table_are_passed_over() {
        let worker = WorkerMetrics::new(0);
        worker.record_call(7, 1, false);
        worker.record_latency(7, 1);
        assert_eq!(worker.counters.commands_processed.get(), 1);
    }
}
