//! What time brings to a worker: the time of its turns, background work in slices, and the figures
//! that it publishes for INFO.
#![forbid(unsafe_code)]

use tessera_engine::sys::clock::SET_BACK_MIN_US;

use super::Worker;
use crate::metrics::DatabaseKeys;

impl Worker {
    /// Takes over the time of this turn.
    #[inline]
    pub(super) fn take_time(&mut self, now_us: i64) {
        let latest_us = self.shard.clock_us().unwrap_or(0).max(self.now_us);
        if now_us + SET_BACK_MIN_US < latest_us {
            self.clock_was_set_back(now_us);
        }
        self.now_us = now_us;
        self.shard.advance_clock_us(now_us);
    }

    /// The machine's clock was set back: nothing may wait for the times that were foreseen by the old
    /// one. Messages of workers that have not seen it yet carry the old time; whoever takes that over
    /// comes here again in its next turn.
    #[cold]
    fn clock_was_set_back(&mut self, now_us: i64) {
        self.shard.set_clock_back_us(now_us);
        (self.next_tick_us, self.shard_due_us) = (now_us, now_us);
        for connection in self.network.connections_mut() {
            let session = &mut connection.session;
            session.active_us = session.active_us.min(now_us);
            session.over_soft_limit_us = session.over_soft_limit_us.map(|since| since.min(now_us));
        }
        if self.own == 0 {
            tracing::warn!(
                "The machine's clock was set back: deadlines go by the new time from now on"
            );
        }
    }

    /// Background work, a slice at a time.
    pub(super) fn tick(&mut self) {
        let is_due = self.is_behind
            || self.now_us >= self.next_tick_us.min(self.shard_due_us)
            || self.has_deferred_free();
        if self.wants_room() {
            self.make_room();
        }
        if is_due && self.shard.is_here() {
            // Keys that expire now do so in the present epoch.
            self.shard.keyspace.journal.set_stamp(self.shared.aof.epoch());
            self.is_behind = self.tick_shard();
        }
        self.plan_shard_tick(is_due);
        if self.own == 0 {
            self.look_at_schedule();
        }
        if self.now_us < self.next_tick_us {
            return;
        }
        // What a transaction has set whose client left before it ended, nobody was told of.
        if self.config.refresh() {
            self.configure();
        }
        self.publish();
        self.end_idle_couplings();
        if self.own == 0 {
            self.shared.metrics.sample((self.now_us / 1_000) as u64);
            self.look_at_save_points();
            self.look_at_log_size();
        }
        self.check_clients();
        let hz = i64::from(self.config.get().hz);
        self.next_tick_us = self.now_us + if self.is_idle() { 1_000_000 } else { 1_000_000 / hz };
    }

    /// Whether nothing changes by itself: no deadlines, no clients that could time out.
    fn is_idle(&self) -> bool {
        if !self.shard.is_here() {
            return false;
        }
        let keyspace = &self.shard.keyspace;
        (0..keyspace.database_count()).all(|database| keyspace.volatile_len(database) == 0)
    }

    /// Publishes this worker's figures for INFO.
    pub(crate) fn publish(&mut self) {
        let counters = &self.metrics.counters;
        let network = self.network.counters();
        counters.connected_clients.set(self.network.len() as u64);
        counters.blocked_clients.set(self.blocked_clients() as u64);
        counters.watching_clients.set(self.watching_clients() as u64);
        counters.connections_rejected.set(network.rejected);
        counters.net_input_bytes.set(network.received);
        counters.net_output_bytes.set(network.sent);
        self.weigh_clients();
        self.scripts.tidy(&self.shared);
        let counters = &self.metrics.counters;
        let (scripts, functions) = self.scripts.used_bytes();
        counters.lua_bytes.set(scripts as u64);
        counters.lua_function_bytes.set(functions as u64);
        counters.mailbox_depth.set(self.mail.depth() as u64);
        if self.shard.is_here() {
            self.publish_shard();
            self.publish_upkeep();
            self.publish_audience();
        }
    }

    /// Publishes the own shard's figures.
    fn publish_shard(&mut self) {
        self.publish_memory();
        let counters = &self.metrics.counters;
        let stats = self.shard.keyspace.stats;
        counters.keyspace_hits.set(stats.hits);
        counters.keyspace_misses.set(stats.misses);
        counters.expired_keys.set(stats.expired);
        counters.expired_fields.set(stats.expired_fields);
        counters.evicted_keys.set(stats.evicted);
        counters.changes.set(self.shard.changes());
        let keyspace = &self.shard.keyspace;
        let databases = (0..keyspace.database_count()).filter(|&number| keyspace.len(number) > 0);
        self.metrics.publish_databases(databases.map(|number| DatabaseKeys {
            database: number as u32,
            keys: keyspace.len(number) as u64,
            expires: keyspace.volatile_len(number) as u64,
            average_ttl_ms: 0,
        }));
    }
}
