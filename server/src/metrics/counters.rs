//! The counters of a worker, and their sums over all workers.
//!
//! A counter is an atomic that only its owner writes, by a plain load and store: no locked
//! instruction, and no cache line moves between cores but when INFO reads.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter. Called by the owner only.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Sets a gauge. Called by the owner only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, perhaps one step behind.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters of a worker, their sums, and how these are added and subtracted.
macro_rules! counters {
    (counts { $($(#[$doc:meta])* $count:ident,)* } gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)* }) => {
        /// The counters and gauges of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $count: Counter,)*
            $($(#[$gauge_doc])* pub $gauge: Counter,)*
        }

        /// Sums over all workers, or what one of them counted.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Totals {
            $($(#[$doc])* pub $count: u64,)*
            $($(#[$gauge_doc])* pub $gauge: u64,)*
        }

        impl Totals {
            pub(super) fn add(&mut self, counters: &Counters) {
                $(self.$count += counters.$count.get();)*
                $(self.$gauge += counters.$gauge.get();)*
            }

            /// Gauges tell the present and stay.
            pub(super) fn subtract_counts(&mut self, earlier: &Totals) {
                $(self.$count = self.$count.saturating_sub(earlier.$count);)*
            }
        }
    };
}

counters! {
    counts {
        /// Commands executed, whatever they answered.
        commands_processed,
        /// Connections accepted.
        connections_received,
        /// Connections refused because of `maxclients`.
        connections_rejected,
        /// Bytes received from clients.
        net_input_bytes,
        /// Bytes sent to clients.
        net_output_bytes,
        /// Receptions from sockets.
        reads_processed,
        /// Sends to sockets.
        writes_processed,
        /// Reads that found their key.
        keyspace_hits,
        /// Reads that did not.
        keyspace_misses,
        /// Keys removed because their deadline had passed.
        expired_keys,
        /// Fields of hashes removed because their deadline had passed.
        expired_fields,
        /// Times that active expiry stopped because its time was up.
        expire_time_cap_reached,
        /// Microseconds spent on active expiry.
        expire_cycle_us,
        /// Values freed in the background.
        lazyfreed_objects,
        /// Keys removed because memory was short.
        evicted_keys,
        /// Replies that were errors.
        error_replies,
        /// Clients disconnected because clients held too much memory together.
        evicted_clients,
        /// Clients disconnected because their request grew too long.
        query_buffer_disconnections,
        /// Clients disconnected because they did not read their replies.
        output_buffer_disconnections,
        /// Logins refused.
        auth_failures,
        /// Commands executed here for clients of other workers.
        remote_commands,
        /// Commands executed on the shard of a worker that slept.
        guest_commands,
        /// Pieces of news that were lost, since a worker did not take them.
        lost_news,
        /// Runs that waited for credits of another worker's mailbox.
        credit_stalls,
        /// Times that writers were held up because a save had preserved too much.
        save_stalls,
        /// Turns that met a place that was taken and not yet filled.
        unfilled_stalls,
        /// Turns of the worker's loop.
        loop_turns,
    }
    gauges {
        /// Clients connected.
        connected_clients,
        /// Clients waiting in a blocking command, or for the end of a pause.
        blocked_clients,
        /// Keys that such clients wait for.
        awaited_keys,
        /// Clients in subscription mode.
        pubsub_clients,
        /// Channels that somebody listens to.
        pubsub_channels,
        /// Patterns that somebody listens to.
        pubsub_patterns,
        /// Channels of slots that somebody listens to.
        pubsub_sharded,
        /// Clients that cache keys.
        tracking_clients,
        /// Keys that they have read.
        tracking_keys,
        /// How many clients have read these, all together.
        tracking_items,
        /// Prefixes of keys that they have asked for.
        tracking_prefixes,
        /// Clients that watch keys.
        watching_clients,
        /// Keys of all databases.
        keys,
        /// Bytes that keys and values take.
        memory_bytes,
        /// Bytes that an empty shard takes.
        startup_bytes,
        /// Bytes of these that are neither keys nor values: buckets and directories.
        structure_bytes,
        /// Bytes of what shards remember of clients: keys that they have read.
        client_table_bytes,
        /// Bytes of what was removed and is not freed yet.
        garbage_bytes,
        /// Bytes that are kept for a snapshot under way.
        preserved_bytes,
        /// Bytes that clients hold: what they have sent, and what they have not read.
        clients_bytes,
        /// The most of these that one client holds which may be disconnected for it.
        largest_client_bytes,
        /// Bytes that the Lua states for EVAL's scripts take.
        lua_bytes,
        /// Bytes that the Lua states for functions take.
        lua_function_bytes,
        /// Changes of the keyspace since the start; no CONFIG RESETSTAT forgets them.
        changes,
        /// Messages that wait in the worker's mailbox.
        mailbox_depth,
        /// Values that wait to be freed in the background.
        lazyfree_pending,
        /// Keys that clients watch.
        watched_keys,
        /// Keys whose removal clients wait for.
        awaited_keys_on_no_key,
    }
}
