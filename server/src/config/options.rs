//! The options that the server acts on: names, defaults and bounds are those of Redis 7.2 and
//! Valkey 8, so that their configuration files mean here what they mean there.
//!
//! Options that are known there and not built here stand in `unbuilt.rs`; one that gets built
//! moves its row from there to here.

use std::os::unix::ffi::OsStringExt;

use super::choices::{AppendFsync, LogLevel, MaxmemoryPolicy, ProtectedAction, Supervised};
use super::cpus::available_cpus;
use super::special::{BIND, DIR, NOTIFICATIONS, OUTPUT_LIMITS, PERCENTILES, SAVE};
use super::table::{Flags, Row, Setting, Slot, options};
use super::value::{BufferLimit, Kind, Unit, Value};

const NONE: Flags = Flags::NONE;
const IMMUTABLE: Flags = Flags::IMMUTABLE;
const KEPT: Flags = Flags::KEPT;
const HIDDEN: Flags = Flags::HIDDEN;
const MULTI: Flags = Flags::MULTI;
const SENSITIVE: Flags = Flags::SENSITIVE;
const PROTECTED: Flags = Flags::PROTECTED;

const INT_MAX: i128 = i32::MAX as i128;
const UINT_MAX: i128 = u32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;
const MIB: u64 = 1 << 20;

/// The most shards that one process starts.
pub const SHARDS_MAX: u16 = 256;

options! {
    // The server's own.

    /// Worker threads, each owning a part of the keyspace.
    shards: u16 = available_cpus();
        "shards", KEPT, Kind::number(1, SHARDS_MAX as i128);

    // Network.

    /// TCP port; 0 is none.
    port: u16 = 6379;
        "port", NONE, Kind::number(0, 65535);
    /// Addresses to listen on; one that starts with `-` may be missing; none is every address.
    bind: Vec<Vec<u8>> = vec![b"127.0.0.1".to_vec(), b"-::1".to_vec()];
        "bind", MULTI, Kind::Special(&BIND);
    /// Path of the UNIX socket; empty is none.
    unixsocket: Vec<u8> = Vec::new();
        "unixsocket", IMMUTABLE, Kind::optional_text();
    /// Permissions of the UNIX socket; 0 leaves those of the process's umask.
    unixsocketperm: u32 = 0;
        "unixsocketperm", IMMUTABLE, Kind::Number { min: 0, max: 0o777, unit: Unit::Octal };
    /// Pending connections that the kernel holds for `accept`.
    tcp_backlog: u32 = 511;
        "tcp-backlog", IMMUTABLE, Kind::number(0, INT_MAX);
    /// Seconds between keep-alive probes; 0 is none.
    tcp_keepalive: u32 = 300;
        "tcp-keepalive", NONE, Kind::number(0, INT_MAX);
    /// Seconds after which an idle client is disconnected; 0 is never.
    timeout: u32 = 0;
        "timeout", NONE, Kind::number(0, INT_MAX);
    /// Clients at a time.
    maxclients: u32 = 10_000;
        "maxclients", NONE, Kind::number(1, UINT_MAX);
    /// Without a password, clients of other machines are refused.
    protected_mode: bool = true;
        "protected-mode", NONE, Kind::Bool;
    /// Password of the default user; empty is none.
    requirepass: Vec<u8> = Vec::new();
        "requirepass", SENSITIVE, Kind::optional_text();
    /// Bytes of the longest argument.
    proto_max_bulk_len: u64 = 512 * MIB;
        "proto-max-bulk-len", NONE, Kind::memory(MIB as i128, LONG_MAX);
    /// Bytes of a client's request that may be gathered.
    client_query_buffer_limit: u64 = 1024 * MIB;
        "client-query-buffer-limit", NONE, Kind::memory(MIB as i128, LONG_MAX);
    /// Keys that are remembered for clients that cache them; 0 is no bound.
    tracking_table_max_keys: u64 = 1_000_000;
        "tracking-table-max-keys", NONE, Kind::number(0, LONG_MAX);
    /// Output that may wait: normal, replica and pubsub clients.
    client_output_buffer_limit: [BufferLimit; 3] = [
        BufferLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
        BufferLimit { hard_bytes: 256 * MIB, soft_bytes: 64 * MIB, soft_seconds: 60 },
        BufferLimit { hard_bytes: 32 * MIB, soft_bytes: 8 * MIB, soft_seconds: 60 },
    ];
        "client-output-buffer-limit", MULTI, Kind::Special(&OUTPUT_LIMITS);

    // Process.

    /// Working directory, absolute.
    dir: Vec<u8> = working_directory();
        "dir", PROTECTED, Kind::Special(&DIR);
    /// Asked to go to the background; the server stays in the foreground and says so.
    daemonize: bool = false;
        "daemonize", IMMUTABLE, Kind::Bool;
    /// The service manager to tell of readiness.
    supervised: Supervised = Supervised::No;
        "supervised", IMMUTABLE, Kind::Choice(Supervised::NAMES);
    /// File that holds the process id while the server runs; empty is none.
    pidfile: Vec<u8> = Vec::new();
        "pidfile", IMMUTABLE, Kind::optional_text();
    /// Least severe lines of the log.
    loglevel: LogLevel = LogLevel::Notice;
        "loglevel", NONE, Kind::Choice(LogLevel::NAMES);
    /// File of the log; empty is standard output.
    logfile: Vec<u8> = Vec::new();
        "logfile", IMMUTABLE, Kind::text();
    /// Show a banner although the log is no terminal.
    always_show_logo: bool = false;
        "always-show-logo", IMMUTABLE, Kind::Bool;
    /// Who may use DEBUG.
    enable_debug_command: ProtectedAction = ProtectedAction::No;
        "enable-debug-command", IMMUTABLE, Kind::Choice(ProtectedAction::NAMES);
    /// Who may set protected options.
    enable_protected_configs: ProtectedAction = ProtectedAction::No;
        "enable-protected-configs", IMMUTABLE, Kind::Choice(ProtectedAction::NAMES);
    /// Background turns a second.
    hz: u32 = 10;
        "hz", NONE, Kind::number(0, INT_MAX);

    // Keyspace.

    /// Databases that SELECT reaches.
    databases: u32 = 16;
        "databases", IMMUTABLE, Kind::number(1, INT_MAX);
    /// Bytes of data to stay below; 0 is no bound.
    maxmemory: u64 = 0;
        "maxmemory", NONE, Kind::memory(0, u64::MAX as i128);
    /// What gives way at `maxmemory`.
    maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction;
        "maxmemory-policy", NONE, Kind::Choice(MaxmemoryPolicy::NAMES);
    /// Keys compared for one eviction.
    maxmemory_samples: u32 = 5;
        "maxmemory-samples", NONE, Kind::number(1, 64);
    /// Effort to stay below `maxmemory`, in per cent.
    maxmemory_eviction_tenacity: u32 = 10;
        "maxmemory-eviction-tenacity", NONE, Kind::number(0, 100);
    /// Bytes that clients' buffers may take together, or, below 0, per cent of `maxmemory`; 0 is no
    /// bound.
    maxmemory_clients: i64 = 0;
        "maxmemory-clients", NONE,
        Kind::Number { min: -100, max: LONG_MAX, unit: Unit::MemoryOrPercent };
    /// How slowly the access counter grows.
    lfu_log_factor: u32 = 10;
        "lfu-log-factor", NONE, Kind::number(0, INT_MAX);
    /// Minutes after which the access counter falls.
    lfu_decay_time: u32 = 1;
        "lfu-decay-time", NONE, Kind::number(0, INT_MAX);
    /// Effort of active expiry, 1 to 10.
    active_expire_effort: u32 = 1;
        "active-expire-effort", NONE, Kind::number(1, 10);
    /// Evicted values are freed in the background.
    lazyfree_lazy_eviction: bool = true;
        "lazyfree-lazy-eviction", NONE, Kind::Bool;
    /// Expired values are freed in the background.
    lazyfree_lazy_expire: bool = true;
        "lazyfree-lazy-expire", NONE, Kind::Bool;
    /// Replaced values are freed in the background.
    lazyfree_lazy_server_del: bool = true;
        "lazyfree-lazy-server-del", NONE, Kind::Bool;
    /// DEL frees in the background.
    lazyfree_lazy_user_del: bool = true;
        "lazyfree-lazy-user-del", NONE, Kind::Bool;
    /// FLUSHALL and FLUSHDB free in the background when they do not say which.
    lazyfree_lazy_user_flush: bool = true;
        "lazyfree-lazy-user-flush", NONE, Kind::Bool;
    /// Classes of keyspace notifications, as bits.
    notify_keyspace_events: u32 = 0;
        "notify-keyspace-events", NONE, Kind::Special(&NOTIFICATIONS);

    // Snapshots.

    /// Refuse writes while save points are set and the last save in the background has failed.
    stop_writes_on_bgsave_error: bool = true;
        "stop-writes-on-bgsave-error", NONE, Kind::Bool;
    /// Have a snapshot's bytes made durable while it is written, not all at its end.
    rdb_save_incremental_fsync: bool = true;
        "rdb-save-incremental-fsync", NONE, Kind::Bool;
    /// Microseconds that each key of a save takes at least: a slow disk, for tests.
    rdb_key_save_delay: i64 = 0;
        "rdb-key-save-delay", HIDDEN, Kind::number(i32::MIN as i128, INT_MAX);
    /// Snapshot points: seconds and changes, each pair a reason to save.
    save: Vec<(u64, u64)> = vec![(3_600, 1), (300, 100), (60, 10_000)];
        "save", MULTI, Kind::Special(&SAVE);
    /// Name of the RDB file in `dir`.
    dbfilename: Vec<u8> = b"dump.rdb".to_vec();
        "dbfilename", PROTECTED, Kind::text();
    /// Long strings in RDB files and dumps are compressed.
    rdbcompression: bool = true;
        "rdbcompression", NONE, Kind::Bool;
    /// RDB files end in a checksum, and it is compared when they are read.
    rdbchecksum: bool = true;
        "rdbchecksum", IMMUTABLE, Kind::Bool;

    // Append-only log.

    /// Whether every change is logged.
    appendonly: bool = false;
        "appendonly", NONE, Kind::Bool;
    /// When the log is made durable.
    appendfsync: AppendFsync = AppendFsync::EverySec;
        "appendfsync", NONE, Kind::Choice(AppendFsync::NAMES);
    /// Directory of the log, in `dir`.
    appenddirname: Vec<u8> = b"appendonlydir".to_vec();
        "appenddirname", IMMUTABLE, Kind::text();
    /// Growth since the last rewrite, in per cent, at which the log is written anew; 0 is never.
    auto_aof_rewrite_percentage: u32 = 100;
        "auto-aof-rewrite-percentage", NONE, Kind::number(0, INT_MAX);
    /// Bytes below which the log is not written anew by itself.
    auto_aof_rewrite_min_size: u64 = 64 * MIB;
        "auto-aof-rewrite-min-size", NONE, Kind::memory(0, LONG_MAX);
    /// A log whose end was torn by a crash is loaded without it.
    aof_load_truncated: bool = true;
        "aof-load-truncated", NONE, Kind::Bool;

    // Encodings.

    /// Fields of a hash up to which it stays packed.
    hash_max_listpack_entries: u64 = 512;
        "hash-max-listpack-entries" | "hash-max-ziplist-entries", NONE,
        Kind::number(0, LONG_MAX);
    /// Bytes of a field or value up to which a hash stays packed.
    hash_max_listpack_value: u64 = 64;
        "hash-max-listpack-value" | "hash-max-ziplist-value", NONE, Kind::memory(0, LONG_MAX);
    /// Bytes (-1 to -5) or elements of a list's packed node.
    list_max_listpack_size: i64 = -2;
        "list-max-listpack-size" | "list-max-ziplist-size", NONE,
        Kind::number(i32::MIN as i128, INT_MAX);
    /// Nodes at either end of a list that are never compressed.
    list_compress_depth: u32 = 0;
        "list-compress-depth", NONE, Kind::number(0, INT_MAX);
    /// Members of a set of integers up to which it stays an array.
    set_max_intset_entries: u64 = 512;
        "set-max-intset-entries", NONE, Kind::number(0, LONG_MAX);
    /// Members of a set up to which it stays packed.
    set_max_listpack_entries: u64 = 128;
        "set-max-listpack-entries", NONE, Kind::number(0, LONG_MAX);
    /// Bytes of a member up to which a set stays packed.
    set_max_listpack_value: u64 = 64;
        "set-max-listpack-value", NONE, Kind::number(0, LONG_MAX);
    /// Members of a sorted set up to which it stays packed.
    zset_max_listpack_entries: u64 = 128;
        "zset-max-listpack-entries" | "zset-max-ziplist-entries", NONE,
        Kind::number(0, LONG_MAX);
    /// Bytes of a member up to which a sorted set stays packed.
    zset_max_listpack_value: u64 = 64;
        "zset-max-listpack-value" | "zset-max-ziplist-value", NONE, Kind::memory(0, LONG_MAX);
    /// Bytes up to which a HyperLogLog stays sparse.
    hll_sparse_max_bytes: u64 = 3000;
        "hll-sparse-max-bytes", NONE, Kind::memory(0, LONG_MAX);
    /// Bytes of a stream's node.
    stream_node_max_bytes: u64 = 4096;
        "stream-node-max-bytes", NONE, Kind::memory(0, LONG_MAX);
    /// Entries of a stream's node.
    stream_node_max_entries: u64 = 100;
        "stream-node-max-entries", NONE, Kind::number(0, LONG_MAX);

    // Observation.

    /// Milliseconds after which other clients are told that a script keeps the server busy; 0 is
    /// never.
    busy_reply_threshold: u64 = 5000;
        "busy-reply-threshold" | "lua-time-limit", NONE, Kind::number(0, LONG_MAX);
    /// Microseconds from which a command enters the slow log; -1 is never, 0 always.
    slowlog_log_slower_than: i64 = 10_000;
        "slowlog-log-slower-than", NONE, Kind::number(-1, LONG_MAX);
    /// Entries of the slow log.
    slowlog_max_len: u64 = 128;
        "slowlog-max-len", NONE, Kind::number(0, LONG_MAX);
    /// Milliseconds from which an event enters the latency monitor; 0 is never.
    latency_monitor_threshold: u64 = 0;
        "latency-monitor-threshold", NONE, Kind::number(0, LONG_MAX);
    /// Keep a histogram for each command.
    latency_tracking: bool = true;
        "latency-tracking", NONE, Kind::Bool;
    /// Percentiles that INFO latencystats shows.
    latency_tracking_info_percentiles: Vec<f64> = vec![50.0, 99.0, 99.9];
        "latency-tracking-info-percentiles", MULTI, Kind::Special(&PERCENTILES);
}

/// Least and greatest background turns a second; values beyond are drawn to these, as in Redis.
const HZ_BOUNDS: (u32, u32) = (1, 500);

impl Config {
    /// Draws values that Redis accepts and then limits into their range.
    pub(super) fn normalise(&mut self) {
        self.hz = self.hz.clamp(HZ_BOUNDS.0, HZ_BOUNDS.1);
    }
}

fn working_directory() -> Vec<u8> {
    std::env::current_dir().map_or_else(|_| b"/".to_vec(), |path| path.into_os_string().into_vec())
}
