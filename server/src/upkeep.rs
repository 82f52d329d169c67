//! A worker's background work on its shard, timed; and the figures about it.
//!
//! Active expiry removes keys and frees what they held in slices, between turns. What operators know
//! from Redis as one expire cycle is here a row of slices without a rest in between, so their times
//! are added up: INFO's `expire_cycle_cpu_milliseconds` and the event `expire-cycle` of the latency
//! monitor show what expiry has taken in all, while no client has waited for more than one slice.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::{session::Session, worker::Worker};

/// Time until a shard that had nothing to do is looked at again when it may have got something: as
/// long as keys with deadlines are left alone when none of them is stale.
const UNFORESEEN_INTERVAL_US: i64 = 100_000;
/// Entries of waiting clients that are looked at for those who wait no more, before they are counted.
const WAITS_SWEPT: usize = 1_000;

/// A row of slices under way.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// What the slices have taken so far.
    took: Duration,
    /// Keys have expired.
    has_expired: bool,
}

impl Worker {
    /// A slice of the shard's background work; answers whether more is left.
    pub(crate) fn tick_shard(&mut self) -> bool {
        let (start, before) = (Instant::now(), self.shard.keyspace.stats.expired);
        let is_behind = self.shard.tick();
        self.upkeep.took += start.elapsed();
        self.upkeep.has_expired |= self.shard.keyspace.stats.expired > before;
        if self.upkeep.has_expired {
            self.note_expire_cycle();
        }
        if !is_behind {
            let Upkeep { took, has_expired } = std::mem::take(&mut self.upkeep);
            if has_expired {
                self.metrics.counters.expire_cycle_us.add(took.as_micros() as u64);
            }
        }
        is_behind
    }

    /// Plans the shard's next slice; the last one was in this turn, if `is_due` says so.
    ///
    /// A shard without deadlines has nothing to do. That its first one has been set nobody is told, as
    /// commands would have to look whether it is the first: something has happened in every turn that
    /// does not come by itself, so there is a slice soon after. Other workers may set deadlines on a
    /// shard that lies in its berth without a turn of its owner, which therefore looks regularly.
    pub(crate) fn plan_shard_tick(&mut self, is_due: bool) {
        if is_due && self.shard.is_here() {
            self.shard_due_us = self.shard.tick_due_us().unwrap_or(i64::MAX);
        }
        let may_have_changed = !is_due || self.map.shards() > 1;
        if self.shard_due_us == i64::MAX && may_have_changed {
            self.shard_due_us = self.now_us + UNFORESEEN_INTERVAL_US;
        }
    }

    /// Whether replies have left what they captured for the shard to free: that begins at once, and not
    /// when the next tick is due, which an idle worker has once a second.
    #[inline]
    pub(crate) fn has_deferred_free(&self) -> bool {
        self.shard.is_here() && self.shard.keyspace.deferred_free().has_some()
    }

    /// Enters the row of slices under way into the latency monitor as soon as it has taken long; what it
    /// takes in the same second replaces that.
    fn note_expire_cycle(&self) {
        let threshold_ms = self.config.get().latency_monitor_threshold;
        let took_ms = self.upkeep.took.as_millis() as u64;
        if threshold_ms > 0 && took_ms >= threshold_ms {
            self.shared.latency.add("expire-cycle", self.now_us, took_ms as i64);
        }
    }

    /// Publishes figures of the shard's background work, and of who waits for its keys.
    pub(crate) fn publish_upkeep(&mut self) {
        self.shard.sweep_waiters(WAITS_SWEPT);
        let (counters, keyspace) = (&self.metrics.counters, &self.shard.keyspace);
        let (pending, freed) = keyspace.lazily_freed();
        counters.lazyfree_pending.set(pending);
        counters.lazyfreed_objects.set(freed);
        counters.watched_keys.set(keyspace.watched() as u64);
        counters.awaited_keys.set(keyspace.events.awaited_keys() as u64);
        counters.awaited_keys_on_no_key.set(self.shard.keys_awaited_to_go() as u64);
    }

    /// Clients that watch keys.
    pub(crate) fn watching_clients(&self) -> usize {
        let watches = |session: &Session| session.watch.is_some();
        self.network.connections().filter(|(_, open)| watches(&open.session)).count()
    }
}
