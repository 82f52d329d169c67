//! `maxmemory-clients`: when all clients together hold too much memory, those that hold most are
//! disconnected.
//!
//! What a client holds is what it has sent and what was not executed yet, what it has not read, and
//! what its session keeps (MULTI, WATCH, subscriptions). Each worker weighs its clients a hundred
//! times a second while there is a bound, and sooner when much has come in, and publishes the sum and
//! the largest one. When the sums exceed the bound, the worker with the largest client disconnects
//! that, and so on.
//!
//! Invariants:
//! - a client that has said CLIENT NO-EVICT counts, and stays;
//! - without a bound nothing is weighed but for INFO.
#![forbid(unsafe_code)]

use crate::{
    config::Config,
    net::{CloseMode, ConnectionId},
    session_commands::client_bytes,
    worker::Worker,
};

/// The least bound, so that a server with a mistaken one can still be spoken to, as in Redis.
const LIMIT_MIN: u64 = 128 << 10;
/// Between two looks at the clients, unless much has come in.
const WEIGH_INTERVAL_US: i64 = 10_000;
/// The part of the bound that may come in before the clients are weighed sooner.
const RECEIVED_SHARE: u64 = 16;

/// When a worker's clients were last weighed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weighed {
    at_us: i64,
    /// Bytes received until then.
    received: u64,
}

/// Bytes that all clients may hold; 0 is no bound.
fn clients_limit(config: &Config) -> u64 {
    let percent = config.maxmemory_clients.min(0).unsigned_abs();
    let bytes = match config.maxmemory_clients {
        0 => return 0,
        bytes @ 1.. => bytes as u64,
        _ if config.maxmemory == 0 => return 0,
        _ => (u128::from(config.maxmemory) * u128::from(percent) / 100) as u64,
    };
    bytes.max(LIMIT_MIN)
}

impl Worker {
    /// At the end of a turn: disconnects clients if all hold too much together.
    #[inline]
    pub(crate) fn look_after_clients(&mut self) {
        if self.config.get().maxmemory_clients != 0 {
            self.bound_clients();
        }
    }

    fn bound_clients(&mut self) {
        let limit = clients_limit(self.config.get());
        let Weighed { at_us, received } = self.clients_weighed;
        let now_received = self.network.counters().received;
        let is_due = self.now_us - at_us >= WEIGH_INTERVAL_US
            || self.now_us < at_us
            || now_received - received >= limit / RECEIVED_SHARE;
        if limit == 0 || !is_due {
            return;
        }
        self.clients_weighed = Weighed { at_us: self.now_us, received: now_received };
        let mut evictable = self.weigh_clients();
        evictable.sort_unstable_by_key(|&(bytes, _)| bytes);
        while self.shared.metrics.clients_bytes() > limit {
            let largest = evictable.last().map_or(0, |&(bytes, _)| bytes);
            if self.shared.metrics.largest_client_bytes() > largest as u64 {
                // It is another worker's turn.
                return self.outboxes.wake_all_but(|_| false);
            }
            let Some((bytes, id)) = evictable.pop() else { return };
            self.evict_client(id, bytes);
            let counters = &self.metrics.counters;
            counters.clients_bytes.set(counters.clients_bytes.get().saturating_sub(bytes as u64));
            let next = evictable.last().map_or(0, |&(bytes, _)| bytes);
            counters.largest_client_bytes.set(next as u64);
        }
    }

    /// Adds up what the own clients hold, and publishes that. Answers those that may be disconnected
    /// for it, each with what it holds.
    pub(crate) fn weigh_clients(&mut self) -> Vec<(usize, ConnectionId)> {
        let mut evictable = Vec::new();
        let mut sum = 0;
        for (id, connection) in self.network.connections().filter(|(_, open)| !open.is_closing()) {
            let bytes = client_bytes(id, connection);
            sum += bytes;
            if !connection.session.no_evict {
                evictable.push((bytes, id));
            }
        }
        let largest = evictable.iter().map(|&(bytes, _)| bytes).max().unwrap_or(0);
        self.metrics.counters.clients_bytes.set(sum as u64);
        self.metrics.counters.largest_client_bytes.set(largest as u64);
        evictable
    }

    fn evict_client(&mut self, id: ConnectionId, bytes: usize) {
        let Some(connection) = self.network.connection(id) else { return };
        let session = &connection.session;
        tracing::info!(
            "Evicting client: id={} addr={} name={} tot-mem={bytes}",
            session.id,
            session.peer,
            session.name
        );
        self.metrics.counters.evicted_clients.add(1);
        self.network.close(id, CloseMode::Now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_in_bytes_or_per_cent_of_maxmemory() {
        for (maxmemory, clients, limit) in [
            (0, 0, 0),
            (0, 5_000_000, 5_000_000),
            (0, -10, 0),
            (100 << 20, -10, 10 << 20),
            (100 << 20, 1, LIMIT_MIN),
            (1 << 20, -1, LIMIT_MIN),
        ] {
            let mut config = Config::default();
            (config.maxmemory, config.maxmemory_clients) = (maxmemory, clients);
            assert_eq!(clients_limit(&config), limit, "{clients} of {maxmemory}");
        }
    }
}
