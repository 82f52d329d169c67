//! The sections of INFO, one function each, in the order in which they are shown.
//!
//! What a field names and this server does not have stands at its idle value.
#![forbid(unsafe_code)]

use std::{fmt::Write as _, sync::Arc};

use super::{LoadingStatus, Page, REDIS_VERSION, TESSERA_VERSION};
use crate::{
    config::{Supervised, format_percentile},
    metrics::{CommandTotals, CpuTime, cpu_times, unix_time},
    saving::{Save, Why},
};

pub(super) fn server(page: &mut Page) {
    let (config, process) = (page.source.config, page.source.process);
    let now = unix_time();
    let uptime_s = now.saturating_sub(process.started).as_secs();
    page.field("redis_version", REDIS_VERSION);
    page.field("server_name", "tessera");
    page.field("tessera_version", TESSERA_VERSION);
    page.fields(&[
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", "0"),
        ("redis_build_id", "0000000000000000"),
        ("redis_mode", "standalone"),
    ]);
    page.field("os", &process.os);
    page.field("arch_bits", usize::BITS);
    page.field("monotonic_clock", "POSIX clock_gettime");
    page.field("multiplexing_api", "io_uring");
    page.field("process_id", std::process::id());
    page.field("process_supervised", supervised_name(config.supervised));
    page.field("run_id", &process.run_id);
    page.field("tcp_port", config.port);
    page.field("server_time_usec", now.as_micros());
    page.field("uptime_in_seconds", uptime_s);
    page.field("uptime_in_days", uptime_s / (24 * 3600));
    page.field("hz", config.hz);
    page.field("configured_hz", config.hz);
    page.field("lru_clock", now.as_secs() & 0xff_ffff);
    page.field("executable", &process.executable);
    let file = page.source.config_file.map(|path| path.display().to_string());
    page.field("config_file", file.unwrap_or_default());
    page.field("io_threads_active", u8::from(config.shards > 1));
    page.field("shards", config.shards);
    listeners(page);
}

fn supervised_name(supervised: Supervised) -> &'static str {
    match supervised {
        Supervised::Auto => "unknown",
        other => other.name(),
    }
}

fn listeners(page: &mut Page) {
    let config = page.source.config;
    let mut number = 0;
    if config.port != 0 {
        let mut value = "name=tcp".to_owned();
        for address in &config.bind {
            let _ = write!(value, ",bind={}", String::from_utf8_lossy(address));
        }
        page.field("listener0", format_args!("{value},port={}", config.port));
        number += 1;
    }
    if !config.unixsocket.is_empty() {
        let path = String::from_utf8_lossy(&config.unixsocket);
        page.field(&format!("listener{number}"), format_args!("name=unix,bind={path}"));
    }
}

pub(super) fn clients(page: &mut Page) {
    let totals = &page.snapshot.totals;
    page.field("connected_clients", totals.connected_clients);
    page.field("cluster_connections", 0);
    page.field("maxclients", page.source.config.maxclients);
    page.field("client_recent_max_input_buffer", 0);
    page.field("client_recent_max_output_buffer", 0);
    page.field("blocked_clients", totals.blocked_clients);
    page.field("tracking_clients", totals.tracking_clients);
    page.field("pubsub_clients", totals.pubsub_clients);
    page.field("watching_clients", totals.watching_clients);
    page.field("total_blocking_keys", totals.awaited_keys);
    page.field("clients_in_timeout_table", 0);
    page.field("total_watched_keys", totals.watched_keys);
    page.field("total_blocking_keys_on_nokey", totals.awaited_keys_on_no_key);
}

pub(super) fn persistence(page: &mut Page) {
    let loading = page.source.loading;
    let (saves, changes) = (page.source.saves, page.snapshot.totals.changes);
    let (record, current) = (saves.record(), saves.current());
    let (keys, keys_total) = current.as_ref().map_or((0, 0), |save| save.keys());
    let preserved = current.as_ref().map_or(0, |save| save.preserved_bytes());
    let seconds = |seconds: Option<u64>| seconds.map_or(-1, |seconds| seconds as i64);
    let now_s = unix_time().as_secs();
    let since = |save: &Arc<Save>| now_s.saturating_sub(save.began_at_s());
    let rewriting = current.as_ref().filter(|save| save.why() == Why::Rewrite);
    let saving_s = current.as_ref().filter(|save| save.why() != Why::Rewrite).map(since);
    let per_cent = keys as f64 * 100.0 / keys_total.max(1) as f64;
    page.field("loading", u8::from(loading.is_active));
    page.field("async_loading", 0);
    page.field("current_cow_peak", preserved);
    page.field("current_cow_size", preserved);
    page.field("current_cow_size_age", 0);
    page.field("current_fork_perc", format_args!("{per_cent:.2}"));
    page.field("current_save_keys_processed", keys);
    page.field("current_save_keys_total", keys_total);
    page.field("rdb_changes_since_last_save", changes.saturating_sub(record.changes_saved));
    let in_background = current.as_ref().is_some_and(|save| save.why() == Why::Background);
    page.field("rdb_bgsave_in_progress", u8::from(in_background));
    page.field("rdb_last_save_time", record.saved_at_s);
    page.field("rdb_last_bgsave_status", if record.is_ok { "ok" } else { "err" });
    page.field("rdb_last_bgsave_time_sec", seconds(record.took_s));
    page.field("rdb_current_bgsave_time_sec", seconds(saving_s));
    page.field("rdb_saves", record.saves);
    page.field("rdb_last_cow_size", record.preserved_bytes);
    page.field("rdb_write_stalls", page.snapshot.totals.save_stalls);
    page.field("rdb_last_load_keys_expired", loading.keys_expired);
    page.field("rdb_last_load_keys_loaded", loading.keys);
    page.field("aof_enabled", u8::from(page.source.aof.is_on()));
    let rewrites = page.source.aof.rewrites();
    // One that waits for nothing but its turn has as good as begun.
    let is_scheduled = saves.has_scheduled_rewrite() && current.is_some();
    let has_begun = rewriting.is_some() || rewrites.is_installing;
    let is_rewriting = has_begun || (saves.has_scheduled_rewrite() && !is_scheduled);
    page.field("aof_rewrite_in_progress", u8::from(is_rewriting));
    page.field("aof_rewrite_scheduled", u8::from(is_scheduled));
    page.field("aof_last_rewrite_time_sec", seconds(rewrites.took_s));
    page.field("aof_current_rewrite_time_sec", seconds(rewriting.map(since)));
    page.field("aof_last_bgrewrite_status", if rewrites.failures == 0 { "ok" } else { "err" });
    page.field("aof_rewrites", rewrites.count);
    page.field("aof_rewrites_consecutive_failures", rewrites.failures);
    page.field("aof_last_write_status", if page.source.aof.is_failing() { "err" } else { "ok" });
    page.field("aof_last_cow_size", record.rewrite_preserved_bytes);
    page.fields(&[("module_fork_in_progress", "0"), ("module_fork_last_cow_size", "0")]);
    if page.source.aof.is_on() {
        log_figures(page);
    }
    if loading.is_active {
        loading_progress(page, &loading);
    }
}

/// What INFO says only while there is an append-only log.
fn log_figures(page: &mut Page) {
    let aof = page.source.aof;
    let (base_size, size) = aof.sizes();
    page.field("aof_current_size", size);
    page.field("aof_base_size", base_size);
    page.field("aof_pending_rewrite", u8::from(page.source.saves.has_scheduled_rewrite()));
    page.field("aof_buffer_length", aof.waiting_bytes());
    page.field("aof_pending_bio_fsync", aof.syncing());
    page.field("aof_delayed_fsync", aof.delayed_syncs());
    page.field("aof_groups_written", aof.groups());
    page.field("aof_durable_epoch", aof.durable_epoch());
}

/// What INFO says only while the server loads.
fn loading_progress(page: &mut Page, loading: &LoadingStatus) {
    let percent = loading.loaded_bytes as f64 * 100.0 / loading.total_bytes.max(1) as f64;
    page.field("loading_start_time", loading.start_s);
    page.field("loading_total_bytes", loading.total_bytes);
    page.field("loading_rdb_used_mem", loading.used_memory);
    page.field("loading_loaded_bytes", loading.loaded_bytes);
    page.field("loading_loaded_perc", format_args!("{percent:.2}"));
    page.field("loading_eta_seconds", loading.eta_s);
}

pub(super) fn stats(page: &mut Page) {
    let totals = &page.snapshot.totals;
    let rates = page.source.metrics.rates(page.now_ms);
    page.field("total_connections_received", totals.connections_received);
    page.field("total_commands_processed", totals.commands_processed);
    page.field("instantaneous_ops_per_sec", rates.commands as u64);
    page.field("total_net_input_bytes", totals.net_input_bytes);
    page.field("total_net_output_bytes", totals.net_output_bytes);
    page.field("total_net_repl_input_bytes", 0);
    page.field("total_net_repl_output_bytes", 0);
    page.field("instantaneous_input_kbps", format_args!("{:.2}", rates.input_bytes / 1024.0));
    page.field("instantaneous_output_kbps", format_args!("{:.2}", rates.output_bytes / 1024.0));
    page.field("instantaneous_input_repl_kbps", "0.00");
    page.field("instantaneous_output_repl_kbps", "0.00");
    page.field("rejected_connections", totals.connections_rejected);
    page.fields(&[("sync_full", "0"), ("sync_partial_ok", "0"), ("sync_partial_err", "0")]);
    page.field("expired_keys", totals.expired_keys);
    page.field("expired_subkeys", totals.expired_fields);
    page.field("expired_stale_perc", "0.00");
    page.field("expired_time_cap_reached_count", totals.expire_time_cap_reached);
    page.field("expire_cycle_cpu_milliseconds", totals.expire_cycle_us / 1000);
    page.field("evicted_keys", totals.evicted_keys);
    page.field("evicted_clients", totals.evicted_clients);
    let now_us = i64::try_from(page.now_ms * 1_000).unwrap_or(i64::MAX);
    let (total_ms, current_ms) = page.source.over_limit.figures_ms(now_us);
    page.field("total_eviction_exceeded_time", total_ms);
    page.field("current_eviction_exceeded_time", current_ms);
    page.field("evicted_scripts", page.source.scripts.evicted);
    page.field("keyspace_hits", totals.keyspace_hits);
    page.field("keyspace_misses", totals.keyspace_misses);
    idle_stats(page);
    page.field("unexpected_error_replies", 0);
    page.field("total_error_replies", totals.error_replies);
    page.field("dump_payload_sanitizations", 0);
    page.field("total_reads_processed", totals.reads_processed);
    page.field("total_writes_processed", totals.writes_processed);
    page.fields(&[
        ("io_threaded_reads_processed", "0"),
        ("io_threaded_writes_processed", "0"),
        ("io_threaded_freed_objects", "0"),
        ("io_threaded_poll_processed", "0"),
        ("io_threaded_total_prefetch_batches", "0"),
        ("io_threaded_total_prefetch_entries", "0"),
    ]);
    page.field("client_query_buffer_limit_disconnections", totals.query_buffer_disconnections);
    page.field("client_output_buffer_limit_disconnections", totals.output_buffer_disconnections);
    page.field("reply_buffer_shrinks", 0);
    page.field("reply_buffer_expands", 0);
    page.field("eventloop_cycles", totals.loop_turns);
    page.field("eventloop_duration_sum", page.snapshot.steps.nanos / 1000);
    let commands_us: u64 = page.snapshot.commands.iter().map(|c| c.nanos).sum::<u64>() / 1000;
    page.field("eventloop_duration_cmd_sum", commands_us);
    page.field("instantaneous_eventloop_cycles_per_sec", rates.turns as u64);
    page.field("instantaneous_eventloop_duration_usec", rates.turn_us as u64);
    page.field("acl_access_denied_auth", totals.auth_failures);
    page.fields(&[
        ("acl_access_denied_cmd", "0"),
        ("acl_access_denied_key", "0"),
        ("acl_access_denied_channel", "0"),
    ]);
}

/// Fields of parts that Redis has and this server has not, or not yet.
fn idle_stats(page: &mut Page) {
    let totals = &page.snapshot.totals;
    page.field("pubsub_channels", totals.pubsub_channels);
    page.field("pubsub_patterns", totals.pubsub_patterns);
    page.field("pubsubshard_channels", totals.pubsub_sharded);
    page.fields(&[
        ("latest_fork_usec", "0"),
        ("total_forks", "0"),
        ("migrate_cached_sockets", "0"),
        ("slave_expires_tracked_keys", "0"),
        ("active_defrag_hits", "0"),
        ("active_defrag_misses", "0"),
        ("active_defrag_key_hits", "0"),
        ("active_defrag_key_misses", "0"),
        ("total_active_defrag_time", "0"),
        ("current_active_defrag_time", "0"),
    ]);
    page.field("tracking_total_keys", totals.tracking_keys);
    page.field("tracking_total_items", totals.tracking_items);
    page.field("tracking_total_prefixes", totals.tracking_prefixes);
}

pub(super) fn replication(page: &mut Page) {
    page.fields(&[
        ("role", "master"),
        ("connected_slaves", "0"),
        ("replicas_waiting_psync", "0"),
        ("master_failover_state", "no-failover"),
    ]);
    page.field("master_replid", page.source.replication_id);
    page.field("master_replid2", "0".repeat(40));
    page.fields(&[
        ("master_repl_offset", "0"),
        ("second_repl_offset", "-1"),
        ("repl_backlog_active", "0"),
        ("repl_backlog_size", "10485760"),
        ("repl_backlog_first_byte_offset", "0"),
        ("repl_backlog_histlen", "0"),
    ]);
}

pub(super) fn cpu(page: &mut Page) {
    let (process, thread) = cpu_times();
    page.field("used_cpu_sys", seconds(process.system_us));
    page.field("used_cpu_user", seconds(process.user_us));
    // There are never child processes: snapshots are written without fork.
    page.field("used_cpu_sys_children", seconds(0));
    page.field("used_cpu_user_children", seconds(0));
    let CpuTime { user_us, system_us } = thread;
    page.field("used_cpu_sys_main_thread", seconds(system_us));
    page.field("used_cpu_user_main_thread", seconds(user_us));
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

pub(super) fn modules(_: &mut Page) {}

pub(super) fn command_stats(page: &mut Page) {
    for (row, command) in page.snapshot.commands.iter().enumerate() {
        if command.calls > 0 || command.rejected > 0 || command.failed > 0 {
            let name = format!("cmdstat_{}", (page.source.command_name)(row));
            page.field(&name, command_line(command));
        }
    }
}

fn command_line(command: &CommandTotals) -> String {
    let usec = command.nanos / 1000;
    let per_call =
        if command.calls > 0 { command.nanos as f64 / 1000.0 / command.calls as f64 } else { 0.0 };
    format!(
        "calls={},usec={usec},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
        command.calls, command.rejected, command.failed
    )
}

pub(super) fn error_stats(page: &mut Page) {
    for (prefix, count) in &page.snapshot.errors {
        // The prefix may come from a script; nothing in it may start a field of its own.
        let prefix: String =
            prefix.chars().map(|c| if c == ':' || c.is_control() { '_' } else { c }).collect();
        page.field(&format!("errorstat_{prefix}"), format_args!("count={count}"));
    }
}

pub(super) fn latency_stats(page: &mut Page) {
    if !page.source.config.latency_tracking {
        return;
    }
    let percentiles = &page.source.config.latency_tracking_info_percentiles;
    for (row, command) in page.snapshot.commands.iter().enumerate() {
        if command.latency.total() == 0 {
            continue;
        }
        let shown: Vec<String> = percentiles
            .iter()
            .map(|&p| {
                let micros = command.latency.percentile(p) as f64 / 1000.0;
                format!("p{}={micros:.3}", format_percentile(p))
            })
            .collect();
        let name = format!("latency_percentiles_usec_{}", (page.source.command_name)(row));
        page.field(&name, shown.join(","));
    }
}

pub(super) fn cluster(page: &mut Page) {
    page.field("cluster_enabled", 0);
}

pub(super) fn keyspace(page: &mut Page) {
    for database in &page.snapshot.databases {
        page.field(
            &format!("db{}", database.database),
            format_args!(
                "keys={},expires={},avg_ttl={},subexpiry=0",
                database.keys, database.expires, database.average_ttl_ms
            ),
        );
    }
}

pub(super) fn shards(page: &mut Page) {
    page.field("shards", page.snapshot.workers.len());
    for (number, worker) in page.snapshot.workers.iter().enumerate() {
        page.field(
            &format!("shard{number}"),
            format_args!(
                "keys={},memory={},clients={},operations={},remote_operations={},\
                 guest_operations={},mailbox_depth={},credit_stalls={},unfilled_stalls={},turns={}",
                worker.keys,
                worker.memory_bytes,
                worker.connected_clients,
                worker.commands_processed,
                worker.remote_commands,
                worker.guest_commands,
                worker.mailbox_depth,
                worker.credit_stalls,
                worker.unfilled_stalls,
                worker.loop_turns,
            ),
        );
    }
}
