//! `maxmemory` at the workers: who is refused, and who lets keys go when.
//!
//! The limit and what all shards use of it are one [`Budget`] (see
//! `tessera_engine::keyspace::budget`). Shards let keys go before the commands that they execute; a
//! worker sees to the rest: that its shard goes on with it between commands, and that workers which
//! sleep wake when memory gets short, since each has to give its share.
//!
//! Invariants:
//! - a command that may need memory is refused where it comes in, before any part of it has been
//!   executed: so nothing of a MSET, a transaction or a script is executed alone;
//! - a worker does not go to sleep while its shard has something to let go;
//! - without a limit a turn pays one load.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use tessera_engine::{
    command::CommandError,
    keyspace::{
        Among,
        budget::Budget,
        evict::{Eviction, Order},
    },
    shard::MemorySettings,
};

use crate::{
    config::{Config, MaxmemoryPolicy},
    pause::Pause,
    server::Shared,
    worker::Worker,
};

/// What a command is refused with that may need memory while there is none.
pub(crate) const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What the policy of the configuration lets go; nothing under `noeviction`.
pub(crate) fn eviction(config: &Config) -> Option<Eviction> {
    let (among, order) = match config.maxmemory_policy {
        MaxmemoryPolicy::AllkeysLru => (Among::All, Order::Recency),
        MaxmemoryPolicy::AllkeysLfu => (Among::All, Order::Frequency),
        MaxmemoryPolicy::AllkeysRandom => (Among::All, Order::Random),
        MaxmemoryPolicy::VolatileLru => (Among::Volatile, Order::Recency),
        MaxmemoryPolicy::VolatileLfu => (Among::Volatile, Order::Frequency),
        MaxmemoryPolicy::VolatileRandom => (Among::Volatile, Order::Random),
        MaxmemoryPolicy::VolatileTtl => (Among::Volatile, Order::Deadline),
        MaxmemoryPolicy::NoEviction => return None,
    };
    Some(Eviction { among, order, samples: config.maxmemory_samples as usize })
}

/// Refuses a command that may need memory while no more can be had.
pub(crate) fn permit_memory(shared: &Shared) -> Result<(), CommandError> {
    match shared.memory.is_exhausted() {
        true => Err(CommandError::text(OUT_OF_MEMORY)),
        false => Ok(()),
    }
}

/// For how long more memory has been used than the limit allows.
#[derive(Debug, Default)]
pub struct OverLimit {
    /// Since when, in microseconds since the Unix epoch; 0 if not at present.
    since_us: AtomicI64,
    /// All times before, in microseconds.
    total_us: AtomicU64,
}

impl OverLimit {
    /// Notes whether it is so now.
    fn note(&self, is_over: bool, now_us: i64) {
        let since_us = self.since_us.load(Ordering::Relaxed);
        if is_over && since_us == 0 {
            // Of several workers that see it, one counts.
            let _ = self.since_us.compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
        } else if !is_over && since_us != 0 {
            let since_us = self.since_us.swap(0, Ordering::Relaxed);
            if since_us != 0 {
                let took_us = u64::try_from(now_us - since_us).unwrap_or(0);
                self.total_us.fetch_add(took_us, Ordering::Relaxed);
            }
        }
    }

    /// All times until `now_us` together, and the present one, in milliseconds.
    pub fn figures_ms(&self, now_us: i64) -> (u64, u64) {
        let current_us = match self.since_us.load(Ordering::Relaxed) {
            0 => 0,
            since_us => u64::try_from(now_us - since_us).unwrap_or(0),
        };
        let total_us = self.total_us.load(Ordering::Relaxed) + current_us;
        (total_us / 1_000, current_us / 1_000)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.since_us.store(0, Ordering::Relaxed);
        self.total_us.store(0, Ordering::Relaxed);
    }
}

impl Worker {
    /// What the own shard has to know of `maxmemory`; all shards learn of a new limit by it.
    pub(crate) fn memory_settings(&self) -> MemorySettings {
        let config = self.config.get();
        let eviction = eviction(config);
        let budget = Arc::clone(&self.shared.memory);
        if self.own == 0 {
            warn_of_limit(config, &budget);
        }
        budget.configure(config.maxmemory, eviction.is_some());
        MemorySettings { budget, eviction, tenacity: config.maxmemory_eviction_tenacity }
    }

    /// At the beginning of a turn: whether keys may go during it. Nothing goes while clients are
    /// paused, a script runs too long or data is loaded.
    #[inline]
    pub(crate) fn begin_turn_of_memory(&mut self) {
        if self.shard.is_here() {
            let is_held = self.pause != Pause::Off || self.busy.is_some() || self.is_loading;
            self.shard.hold_eviction(is_held);
        }
    }

    /// Whether the own shard has to let keys go.
    #[inline]
    pub(crate) fn wants_room(&self) -> bool {
        self.shared.memory.limit() != 0 && self.shard.is_here() && self.shard.wants_room()
    }

    /// Lets a slice of the own shard's keys go, in the present epoch. One that takes long is an event
    /// of the latency monitor.
    pub(crate) fn make_room(&mut self) {
        let began = Instant::now();
        self.shard.keyspace.journal.set_stamp(self.shared.aof.epoch());
        self.shard.make_room();
        let threshold_ms = self.config.get().latency_monitor_threshold;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if threshold_ms > 0 && took_ms >= threshold_ms {
            let took_ms = i64::try_from(took_ms).unwrap_or(i64::MAX);
            self.shared.latency.add("eviction-cycle", self.now_us, took_ms);
        }
    }

    /// Publishes what the own shard takes of memory.
    pub(crate) fn publish_memory(&mut self) {
        if self.own == 0 {
            // What all workers share counts once.
            self.shard.note_shared_memory(self.shared.scripts.figures().bytes());
        }
        self.shard.count_memory();
        let (counters, keyspace) = (&self.metrics.counters, &self.shard.keyspace);
        let databases = 0..keyspace.database_count();
        let structure: usize = databases.map(|database| keyspace.structure_bytes(database)).sum();
        counters.memory_bytes.set(keyspace.used_bytes() as u64);
        counters.structure_bytes.set(structure as u64);
        counters.client_table_bytes.set(keyspace.client_table_bytes() as u64);
        counters.garbage_bytes.set(keyspace.garbage_bytes() as u64);
        counters.preserved_bytes.set(keyspace.preserved_bytes() as u64);
    }

    /// At the end of a turn: if memory has got short, those who sleep are to give their share.
    #[inline]
    pub(crate) fn end_turn_of_memory(&mut self) {
        if self.shared.memory.limit() != 0 || self.is_over_limit {
            self.note_limit();
        }
    }

    fn note_limit(&mut self) {
        let is_over = self.shared.memory.is_over();
        self.shared.over_limit.note(is_over, self.now_us);
        if is_over && !self.shared.memory.is_exhausted() {
            self.outboxes.wake_all_but(|_| false);
        }
        self.is_over_limit = is_over;
    }
}

/// Says in the log that a new limit is below what is in use.
fn warn_of_limit(config: &Config, budget: &Budget) {
    let (limit, used) = (config.maxmemory, budget.used());
    if limit != 0 && limit != budget.limit() && used > limit {
        tracing::warn!(
            "The new maxmemory of {limit} bytes is below the {used} bytes in use: keys will be \
             evicted or writes refused, as maxmemory-policy '{}' says.",
            config.maxmemory_policy.name()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_over_the_limit_add_up() {
        let over = OverLimit::default();
        over.note(false, 1_000);
        assert_eq!(over.figures_ms(5_000), (0, 0));
        over.note(true, 10_000);
        over.note(true, 12_000);
        assert_eq!(over.figures_ms(15_000), (5, 5));
        over.note(false, 20_000);
        over.note(true, 30_000);
        assert_eq!(over.figures_ms(33_000), (13, 3));
        over.reset();
        assert_eq!(over.figures_ms(34_000), (0, 0));
    }

    #[test]
    fn every_policy_says_what_goes() {
        let mut config = Config::default();
        assert_eq!(eviction(&config), None);
        config.maxmemory_policy = MaxmemoryPolicy::VolatileTtl;
        config.maxmemory_samples = 7;
        let wanted = Eviction { among: Among::Volatile, order: Order::Deadline, samples: 7 };
        assert_eq!(eviction(&config), Some(wanted));
    }
}
