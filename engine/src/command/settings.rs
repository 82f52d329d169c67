//! What the configuration says that commands and shards obey.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    keyspace::{budget::Budget, events::Class, evict::Eviction, usage::Policy},
    types::Thresholds,
};

/// The tenacity up to which an eviction stays within half a millisecond, and the default.
pub(crate) const TENACITY_USUAL: u32 = 10;

/// Limits and thresholds that commands obey, from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `proto-max-bulk-len`: the longest string, in bytes.
    pub bulk_bytes_max: usize,
    /// Number of databases.
    pub databases: usize,
    /// Whether keys whose deadline passed are removed in the background.
    pub active_expire: bool,
    /// `active-expire-effort`, 1 to 10.
    pub active_expire_effort: u32,
    /// Whether an LFU policy keeps access frequencies where an LRU policy keeps times.
    pub lfu: bool,
    /// `lfu-log-factor`: the greater, the more accesses a step of a key's counter stands for.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`: minutes without use that cost one step; 0 for never.
    pub lfu_decay_minutes: u32,
    /// `notify-keyspace-events`: the events that are kept for delivery.
    pub notify: Class,
    /// This shard's part of `tracking-table-max-keys`: keys that are remembered for clients that
    /// cache them.
    pub tracking_keys_max: usize,
    /// `hll-sparse-max-bytes`: the longest sparse HyperLogLog, in bytes.
    pub hll_sparse_bytes_max: usize,
    /// `rdbcompression`: long strings in dumps are compressed.
    pub rdb_compression: bool,
    /// When collections change their encoding. The seed in it is drawn by the shard.
    pub thresholds: Thresholds,
    /// How much memory may be used, and what goes when that is not enough.
    pub memory: MemorySettings,
}

impl Settings {
    /// How the use of keys is remembered.
    pub(crate) fn usage_policy(&self) -> Policy {
        if self.lfu {
            Policy::Frequency {
                log_factor: self.lfu_log_factor,
                decay_minutes: self.lfu_decay_minutes,
            }
        } else {
            Policy::Recency
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bulk_bytes_max: 512 << 20,
            databases: 16,
            active_expire: true,
            active_expire_effort: 1,
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            notify: Class::NONE,
            tracking_keys_max: 1_000_000,
            hll_sparse_bytes_max: 3_000,
            rdb_compression: true,
            thresholds: Thresholds::default(),
            memory: MemorySettings::default(),
        }
    }
}

/// `maxmemory` and what belongs to it.
#[derive(Clone, Debug)]
pub struct MemorySettings {
    /// The limit, which all shards of a server share.
    pub budget: Arc<Budget>,
    /// What goes when memory is short; nothing under `noeviction`.
    pub eviction: Option<Eviction>,
    /// `maxmemory-eviction-tenacity`, 0 to 100: how long a command may be held up by eviction.
    pub tenacity: u32,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { budget: Arc::new(Budget::new(1)), eviction: None, tenacity: TENACITY_USUAL }
    }
}
