//! All counters at one moment, added up over the workers.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{CommandMetrics, Counts, StepCounts, Totals, WorkerMetrics, lock};

/// Keys of one database of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseKeys {
    /// The database's number.
    pub database: u32,
    /// Keys.
    pub keys: u64,
    /// Keys with a deadline.
    pub expires: u64,
    /// Milliseconds until the deadlines, summed over a sample and divided by its size.
    pub average_ttl_ms: u64,
}

/// What one command did, on all workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommandTotals {
    /// Executions.
    pub calls: u64,
    /// Nanoseconds of all executions.
    pub nanos: u64,
    /// Refusals before execution.
    pub rejected: u64,
    /// Executions that answered an error.
    pub failed: u64,
    /// How long executions took.
    pub latency: Counts,
}

/// All counters at one moment, less the baseline of the last CONFIG RESETSTAT.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Sums over the workers.
    pub totals: Totals,
    /// Each worker's own counters.
    pub workers: Vec<Totals>,
    /// How long workers did not look at their clients.
    pub steps: StepCounts,
    /// By row of the command table.
    pub commands: Vec<CommandTotals>,
    /// Error replies by their first word.
    pub errors: BTreeMap<String, u64>,
    /// Keys by database, in order, empty ones left out.
    pub databases: Vec<DatabaseKeys>,
}

impl Snapshot {
    pub(super) fn add(&mut self, worker: &WorkerMetrics) {
        self.totals.add(&worker.counters);
        let mut own = Totals::default();
        own.add(&worker.counters);
        self.workers.push(own);
        self.steps.add(&worker.steps);
        self.commands.resize(worker.commands.len(), CommandTotals::default());
        for (totals, metrics) in self.commands.iter_mut().zip(&worker.commands) {
            totals.add(metrics);
        }
        for (prefix, count) in lock(&worker.errors).iter() {
            *self.errors.entry(prefix.clone()).or_default() += count;
        }
        lock(&worker.databases).iter().for_each(|database| self.add_database(database));
    }

    fn add_database(&mut self, more: &DatabaseKeys) {
        match self.databases.iter_mut().find(|known| known.database == more.database) {
            Some(known) => {
                let expires = known.expires + more.expires;
                let sum = known.average_ttl_ms * known.expires + more.average_ttl_ms * more.expires;
                known.average_ttl_ms = sum.checked_div(expires).unwrap_or(0);
                known.keys += more.keys;
                known.expires = expires;
            }
            None if more.keys > 0 => self.databases.push(*more),
            None => {}
        }
    }

    pub(super) fn subtract(&mut self, baseline: &Snapshot) {
        self.totals.subtract_counts(&baseline.totals);
        self.steps.subtract(&baseline.steps);
        for (worker, earlier) in self.workers.iter_mut().zip(&baseline.workers) {
            worker.subtract_counts(earlier);
        }
        for (command, earlier) in self.commands.iter_mut().zip(&baseline.commands) {
            command.subtract(earlier);
        }
        for (prefix, earlier) in &baseline.errors {
            if let Some(count) = self.errors.get_mut(prefix) {
                *count = count.saturating_sub(*earlier);
            }
        }
        self.errors.retain(|_, count| *count > 0);
    }
}

impl CommandTotals {
    fn add(&mut self, metrics: &CommandMetrics) {
        self.calls += metrics.calls.get();
        self.nanos += metrics.nanos.get();
        self.rejected += metrics.rejected.get();
        self.failed += metrics.failed.get();
        if let Some(latency) = metrics.latency.get() {
            latency.add_to(&mut self.latency);
        }
    }

    fn subtract(&mut self, earlier: &CommandTotals) {
        self.calls = self.calls.saturating_sub(earlier.calls);
        self.nanos = self.nanos.saturating_sub(earlier.nanos);
        self.rejected = self.rejected.saturating_sub(earlier.rejected);
        self.failed = self.failed.saturating_sub(earlier.failed);
        self.latency.subtract(&earlier.latency);
    }
}
