//! What shards need to know of the configuration.
#![forbid(unsafe_code)]

use tessera_engine::{
    keyspace::events::Class,
    shard::{Settings, Shard},
    types::Thresholds,
};

use crate::config::{Config, MaxmemoryPolicy};

/// What the engine needs to know of the configuration.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        notify: Class::from_bits(config.notify_keyspace_events as u16),
        bulk_bytes_max: config.proto_max_bulk_len as usize,
        databases: config.databases as usize,
        active_expire_effort: config.active_expire_effort,
        hll_sparse_bytes_max: usize::try_from(config.hll_sparse_max_bytes).unwrap_or(usize::MAX),
        rdb_compression: config.rdbcompression,
        lfu: matches!(
            config.maxmemory_policy,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
        ),
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_minutes: config.lfu_decay_time,
        thresholds: thresholds(config),
        ..Settings::default()
    }
}

/// A worker's own shard, empty.
pub(crate) fn shard(own: u32, seed: u64, settings: Settings) -> Shard {
    let mut shard = Shard::new(seed, settings);
    if own != 0 {
        // FLUSHALL concerns all shards, and clients are told once.
        shard.keyspace.events.tracking.leave_flushes();
    }
    shard
}

/// The same, for shard `own`.
pub(crate) fn own_settings(config: &Config, own: u32) -> Settings {
    Settings { tracking_keys_max: tracking_keys_max(config, own), ..settings(config) }
}

/// Keys that shard `own` remembers for clients that cache them: its part of what all may, which is
/// none for some shards if there are fewer keys than shards.
fn tracking_keys_max(config: &Config, own: u32) -> usize {
    match usize::try_from(config.tracking_table_max_keys).unwrap_or(usize::MAX) {
        0 => usize::MAX,
        all => {
            let shards = (config.shards as usize).max(1);
            all / shards + usize::from((own as usize) < all % shards)
        }
    }
}

/// When collections change their encoding; what goes beyond the machine means never.
fn thresholds(config: &Config) -> Thresholds {
    let limit = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Thresholds {
        list_max_listpack_size: config.list_max_listpack_size,
        hash_max_listpack_entries: limit(config.hash_max_listpack_entries),
        hash_max_listpack_value: limit(config.hash_max_listpack_value),
        set_max_intset_entries: limit(config.set_max_intset_entries),
        set_max_listpack_entries: limit(config.set_max_listpack_entries),
        set_max_listpack_value: limit(config.set_max_listpack_value),
        zset_max_listpack_entries: limit(config.zset_max_listpack_entries),
        zset_max_listpack_value: limit(config.zset_max_listpack_value),
        stream_node_max_bytes: limit(config.stream_node_max_bytes),
        stream_node_max_entries: limit(config.stream_node_max_entries),
        ..Thresholds::default()
    }
}
