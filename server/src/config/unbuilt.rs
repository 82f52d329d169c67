//! Options that Redis 7.2 and Valkey 8 know and that are not built here yet.
//!
//! They are checked as there, remembered, shown by CONFIG GET and written back by CONFIG REWRITE,
//! so that files, tools and dashboards made for Redis work; each that a file or command line
//! mentions costs one warning line, since nothing acts on it.

use super::special::{OOM_VALUES, REPLICAOF};
use super::table::{Flags, Row, Slot};
use super::value::Kind;

const NONE: Flags = Flags::NONE;
const IMMUTABLE: Flags = Flags::IMMUTABLE;
const MULTI: Flags = Flags::MULTI;
const SENSITIVE: Flags = Flags::SENSITIVE;
const HIDDEN: Flags = Flags::HIDDEN;

const INT_MIN: i128 = i32::MIN as i128;
const INT_MAX: i128 = i32::MAX as i128;
const UINT_MAX: i128 = u32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;

/// A row without an older name.
const fn row(name: &'static str, flags: Flags, kind: Kind, default: &'static str) -> Row {
    Row { name, alias: None, flags, kind, slot: Slot::Unbuilt { default } }
}

/// A row that an older name reaches too.
const fn renamed(
    name: &'static str,
    alias: &'static str,
    flags: Flags,
    kind: Kind,
    default: &'static str,
) -> Row {
    Row { name, alias: Some(alias), flags, kind, slot: Slot::Unbuilt { default } }
}

/// The options that are only remembered.
pub(super) static UNBUILT: &[Row] = &[
    // Log and snapshots.
    row("appendfilename", IMMUTABLE, Kind::text(), "appendonly.aof"),
    row("no-appendfsync-on-rewrite", NONE, Kind::Bool, "no"),
    row("aof-use-rdb-preamble", NONE, Kind::Bool, "yes"),
    row("aof-timestamp-enabled", NONE, Kind::Bool, "no"),
    row("aof-rewrite-incremental-fsync", NONE, Kind::Bool, "yes"),
    row("aof-disable-auto-gc", HIDDEN, Kind::Bool, "no"),
    row("rdb-del-sync-files", NONE, Kind::Bool, "no"),
    row("key-load-delay", HIDDEN, Kind::number(INT_MIN, INT_MAX), "0"),
    row("loading-process-events-interval-bytes", HIDDEN, Kind::number(1024, INT_MAX), "2097152"),
    row("sanitize-dump-payload", NONE, Kind::Choice(&["no", "yes", "clients"]), "no"),
    // Replication.
    renamed("replicaof", "slaveof", IMMUTABLE.and(MULTI), Kind::Special(&REPLICAOF), "no one"),
    renamed("primaryuser", "masteruser", SENSITIVE, Kind::optional_text(), "\"\""),
    renamed("primaryauth", "masterauth", SENSITIVE, Kind::optional_text(), "\"\""),
    renamed("replica-serve-stale-data", "slave-serve-stale-data", NONE, Kind::Bool, "yes"),
    renamed("replica-read-only", "slave-read-only", NONE, Kind::Bool, "yes"),
    renamed("replica-lazy-flush", "slave-lazy-flush", NONE, Kind::Bool, "yes"),
    renamed("replica-ignore-maxmemory", "slave-ignore-maxmemory", NONE, Kind::Bool, "yes"),
    row("replica-announced", NONE, Kind::Bool, "yes"),
    row("replica-ignore-disk-write-errors", NONE, Kind::Bool, "no"),
    renamed("replica-priority", "slave-priority", NONE, Kind::number(0, INT_MAX), "100"),
    renamed("replica-announce-ip", "slave-announce-ip", NONE, Kind::optional_text(), "\"\""),
    renamed("replica-announce-port", "slave-announce-port", NONE, Kind::number(0, 65535), "0"),
    row("repl-disable-tcp-nodelay", NONE, Kind::Bool, "no"),
    row("repl-diskless-sync", NONE, Kind::Bool, "yes"),
    row("dual-channel-replication-enabled", NONE, Kind::Bool, "no"),
    row("repl-diskless-sync-delay", NONE, Kind::number(0, INT_MAX), "5"),
    row("repl-diskless-sync-max-replicas", NONE, Kind::number(0, INT_MAX), "0"),
    row(
        "repl-diskless-load",
        NONE,
        Kind::Choice(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]),
        "disabled",
    ),
    row("repl-timeout", NONE, Kind::number(1, INT_MAX), "60"),
    renamed(
        "repl-ping-replica-period",
        "repl-ping-slave-period",
        NONE,
        Kind::number(1, INT_MAX),
        "10",
    ),
    row("repl-backlog-size", NONE, Kind::memory(1, LONG_MAX), "10mb"),
    row("repl-backlog-ttl", NONE, Kind::number(0, LONG_MAX), "3600"),
    renamed("min-replicas-to-write", "min-slaves-to-write", NONE, Kind::number(0, INT_MAX), "0"),
    renamed("min-replicas-max-lag", "min-slaves-max-lag", NONE, Kind::number(0, INT_MAX), "10"),
    row(
        "propagation-error-behavior",
        NONE,
        Kind::Choice(&["ignore", "panic", "panic-on-replicas"]),
        "ignore",
    ),
    // Cluster.
    row("cluster-enabled", IMMUTABLE, Kind::Bool, "no"),
    row("cluster-config-file", IMMUTABLE, Kind::text(), "nodes.conf"),
    row("cluster-node-timeout", NONE, Kind::number(0, LONG_MAX), "15000"),
    row("cluster-ping-interval", HIDDEN, Kind::number(0, LONG_MAX), "0"),
    row("cluster-port", IMMUTABLE, Kind::number(0, 65535), "0"),
    row("cluster-require-full-coverage", NONE, Kind::Bool, "yes"),
    renamed("cluster-replica-no-failover", "cluster-slave-no-failover", NONE, Kind::Bool, "no"),
    row("cluster-allow-reads-when-down", NONE, Kind::Bool, "no"),
    row("cluster-allow-pubsubshard-when-down", NONE, Kind::Bool, "yes"),
    row("cluster-allow-replica-migration", NONE, Kind::Bool, "yes"),
    row("cluster-slot-stats-enabled", NONE, Kind::Bool, "no"),
    renamed(
        "cluster-replica-validity-factor",
        "cluster-slave-validity-factor",
        NONE,
        Kind::number(0, INT_MAX),
        "10",
    ),
    row("cluster-migration-barrier", NONE, Kind::number(0, INT_MAX), "1"),
    row("cluster-blacklist-ttl", NONE, Kind::number(0, LONG_MAX), "60"),
    row("cluster-link-sendbuf-limit", NONE, Kind::memory(0, u64::MAX as i128), "0"),
    row("cluster-announce-ip", NONE, Kind::optional_text(), "\"\""),
    row("cluster-announce-client-ipv4", NONE, Kind::optional_text(), "\"\""),
    row("cluster-announce-client-ipv6", NONE, Kind::optional_text(), "\"\""),
    row("cluster-announce-hostname", NONE, Kind::optional_text(), "\"\""),
    row("cluster-announce-human-nodename", NONE, Kind::optional_text(), "\"\""),
    row("cluster-announce-bus-port", NONE, Kind::number(0, 65535), "0"),
    row("cluster-announce-port", NONE, Kind::number(0, 65535), "0"),
    row("cluster-announce-tls-port", NONE, Kind::number(0, 65535), "0"),
    row(
        "cluster-preferred-endpoint-type",
        NONE,
        Kind::Choice(&["ip", "hostname", "unknown-endpoint"]),
        "ip",
    ),
    // TLS.
    row("tls-port", NONE, Kind::number(0, 65535), "0"),
    row("tls-cluster", NONE, Kind::Bool, "no"),
    row("tls-replication", NONE, Kind::Bool, "no"),
    row("tls-auth-clients", NONE, Kind::Choice(&["no", "yes", "optional"]), "yes"),
    row("tls-prefer-server-ciphers", NONE, Kind::Bool, "no"),
    row("tls-session-caching", NONE, Kind::Bool, "yes"),
    row("tls-session-cache-size", NONE, Kind::number(0, INT_MAX), "20480"),
    row("tls-session-cache-timeout", NONE, Kind::number(0, INT_MAX), "300"),
    row("tls-cert-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-key-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-client-cert-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-client-key-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-dh-params-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-ca-cert-file", NONE, Kind::optional_text(), "\"\""),
    row("tls-ca-cert-dir", NONE, Kind::optional_text(), "\"\""),
    row("tls-protocols", NONE, Kind::optional_text(), "\"\""),
    row("tls-ciphers", NONE, Kind::optional_text(), "\"\""),
    row("tls-ciphersuites", NONE, Kind::optional_text(), "\"\""),
    row("tls-key-file-pass", SENSITIVE, Kind::optional_text(), "\"\""),
    row("tls-client-key-file-pass", SENSITIVE, Kind::optional_text(), "\"\""),
    // Memory.
    row("activerehashing", NONE, Kind::Bool, "yes"),
    row("activedefrag", NONE, Kind::Bool, "no"),
    row("active-defrag-cycle-min", NONE, Kind::number(1, 99), "1"),
    row("active-defrag-cycle-max", NONE, Kind::number(1, 99), "25"),
    row("active-defrag-cycle-us", NONE, Kind::number(0, 100000), "500"),
    row("active-defrag-threshold-lower", NONE, Kind::number(0, 1000), "10"),
    row("active-defrag-threshold-upper", NONE, Kind::number(0, 1000), "100"),
    row("active-defrag-max-scan-fields", NONE, Kind::number(1, LONG_MAX), "1000"),
    row("active-defrag-ignore-bytes", NONE, Kind::memory(1, LONG_MAX), "100mb"),
    row("jemalloc-bg-thread", NONE, Kind::Bool, "yes"),
    row("dynamic-hz", NONE, Kind::Bool, "yes"),
    // Process and operating system.
    row("oom-score-adj", NONE, Kind::Choice(&["no", "yes", "relative", "absolute"]), "no"),
    row("oom-score-adj-values", MULTI, Kind::Special(&OOM_VALUES), "0 200 800"),
    row("disable-thp", IMMUTABLE, Kind::Bool, "yes"),
    row("set-proc-title", IMMUTABLE, Kind::Bool, "yes"),
    row("proc-title-template", NONE, Kind::text(), "\"{title} {listen-addr} {server-mode}\""),
    row("syslog-enabled", IMMUTABLE, Kind::Bool, "no"),
    row("syslog-ident", IMMUTABLE, Kind::text(), "tessera"),
    row(
        "syslog-facility",
        IMMUTABLE,
        Kind::Choice(&[
            "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
        ]),
        "local0",
    ),
    row("log-format", NONE, Kind::Choice(&["legacy", "logfmt"]), "legacy"),
    row(
        "log-timestamp-format",
        NONE,
        Kind::Choice(&["legacy", "iso8601", "milliseconds"]),
        "legacy",
    ),
    row("hide-user-data-from-log", NONE, Kind::Bool, "yes"),
    renamed("server-cpulist", "server_cpulist", IMMUTABLE, Kind::optional_text(), "\"\""),
    renamed("bio-cpulist", "bio_cpulist", IMMUTABLE, Kind::optional_text(), "\"\""),
    renamed("aof-rewrite-cpulist", "aof_rewrite_cpulist", IMMUTABLE, Kind::optional_text(), "\"\""),
    renamed("bgsave-cpulist", "bgsave_cpulist", IMMUTABLE, Kind::optional_text(), "\"\""),
    row("io-threads", IMMUTABLE, Kind::number(1, 128), "1"),
    row("events-per-io-thread", NONE, Kind::number(0, INT_MAX), "2"),
    row("prefetch-batch-max-size", NONE, Kind::number(0, 128), "16"),
    row("min-io-threads-avoid-copy-reply", HIDDEN, Kind::number(0, INT_MAX), "7"),
    row("crash-log-enabled", NONE, Kind::Bool, "yes"),
    row("crash-memcheck-enabled", NONE, Kind::Bool, "yes"),
    row("use-exit-on-panic", HIDDEN, Kind::Bool, "no"),
    row("enable-debug-assert", IMMUTABLE.and(HIDDEN), Kind::Bool, "no"),
    row("watchdog-period", HIDDEN, Kind::number(0, INT_MAX), "0"),
    row("debug-context", HIDDEN, Kind::text(), "\"\""),
    row("shutdown-timeout", NONE, Kind::number(0, INT_MAX), "10"),
    row(
        "shutdown-on-sigint",
        MULTI,
        Kind::Flags(&["default", "save", "nosave", "now", "force"]),
        "default",
    ),
    row(
        "shutdown-on-sigterm",
        MULTI,
        Kind::Flags(&["default", "save", "nosave", "now", "force"]),
        "default",
    ),
    row("ignore-warnings", NONE, Kind::text(), "\"\""),
    row("locale-collate", NONE, Kind::text(), "\"\""),
    row("availability-zone", NONE, Kind::text(), "\"\""),
    row("extended-redis-compatibility", NONE, Kind::Bool, "no"),
    // Network, access and scripts.
    row("unixsocketgroup", IMMUTABLE, Kind::optional_text(), "\"\""),
    row("bind-source-addr", NONE, Kind::optional_text(), "\"\""),
    row("socket-mark-id", IMMUTABLE, Kind::number(0, UINT_MAX), "0"),
    row("max-new-connections-per-cycle", NONE, Kind::number(1, 1000), "10"),
    row("max-new-tls-connections-per-cycle", NONE, Kind::number(1, 1000), "1"),
    row("aclfile", IMMUTABLE, Kind::text(), "\"\""),
    row("acllog-max-len", NONE, Kind::number(0, LONG_MAX), "128"),
    row(
        "acl-pubsub-default",
        NONE,
        Kind::Choice(&["allchannels", "resetchannels"]),
        "resetchannels",
    ),
    row("enable-module-command", IMMUTABLE, Kind::Choice(&["no", "yes", "local"]), "no"),
    row("lua-enable-insecure-api", HIDDEN, Kind::Bool, "no"),
];

/// Directives of older versions that have long had no effect; they are passed over in silence, as
/// Valkey does.
pub(super) const OBSOLETE: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "io-threads-do-reads",
];
