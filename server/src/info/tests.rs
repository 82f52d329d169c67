//! INFO: sections, fields and their forms.

use super::*;
use crate::metrics::DatabaseKeys;

/// The fields of Valkey 8.1, which are those of Redis 7.2 and some more, by section. Those that stand
/// there only for replicas, and in the hidden section `debug`, are left out.
const FIELDS: [(&str, &str); 8] = [
    (
        "server",
        "redis_version server_name valkey_version redis_git_sha1 redis_git_dirty \
         redis_build_id redis_mode os arch_bits monotonic_clock multiplexing_api gcc_version \
         process_id process_supervised run_id tcp_port server_time_usec uptime_in_seconds \
         uptime_in_days hz configured_hz lru_clock executable config_file io_threads_active \
         availability_zone shutdown_in_milliseconds",
    ),
    (
        "clients",
        "connected_clients cluster_connections maxclients client_recent_max_input_buffer \
         client_recent_max_output_buffer blocked_clients tracking_clients pubsub_clients \
         watching_clients clients_in_timeout_table total_watched_keys total_blocking_keys \
         total_blocking_keys_on_nokey",
    ),
    (
        "memory",
        "used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak \
         used_memory_peak_human used_memory_peak_perc used_memory_overhead \
         used_memory_startup used_memory_dataset used_memory_dataset_perc allocator_allocated \
         allocator_active allocator_resident allocator_muzzy total_system_memory \
         total_system_memory_human used_memory_lua used_memory_vm_eval used_memory_lua_human \
         used_memory_scripts_eval number_of_cached_scripts number_of_functions \
         number_of_libraries used_memory_vm_functions used_memory_vm_total \
         used_memory_vm_total_human used_memory_functions used_memory_scripts \
         used_memory_scripts_human maxmemory maxmemory_human maxmemory_policy \
         allocator_frag_ratio allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes \
         rss_overhead_ratio rss_overhead_bytes mem_fragmentation_ratio \
         mem_fragmentation_bytes mem_not_counted_for_evict mem_replication_backlog \
         mem_total_replication_buffers mem_clients_slaves mem_clients_normal \
         mem_cluster_links mem_aof_buffer mem_allocator mem_overhead_db_hashtable_rehashing \
         active_defrag_running lazyfree_pending_objects lazyfreed_objects",
    ),
    (
        "persistence",
        "loading async_loading current_cow_peak current_cow_size current_cow_size_age \
         current_fork_perc current_save_keys_processed current_save_keys_total \
         rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time \
         rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec \
         rdb_saves rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded \
         aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled aof_last_rewrite_time_sec \
         aof_current_rewrite_time_sec aof_last_bgrewrite_status aof_rewrites \
         aof_rewrites_consecutive_failures aof_last_write_status aof_last_cow_size \
         module_fork_in_progress module_fork_last_cow_size aof_current_size aof_base_size \
         aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync",
    ),
    (
        "stats",
        "total_connections_received total_commands_processed instantaneous_ops_per_sec \
         total_net_input_bytes total_net_output_bytes total_net_repl_input_bytes \
         total_net_repl_output_bytes instantaneous_input_kbps instantaneous_output_kbps \
         instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections \
         sync_full sync_partial_ok sync_partial_err expired_keys expired_stale_perc \
         expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys \
         evicted_clients evicted_scripts total_eviction_exceeded_time \
         current_eviction_exceeded_time keyspace_hits keyspace_misses pubsub_channels \
         pubsub_patterns pubsubshard_channels latest_fork_usec total_forks \
         migrate_cached_sockets slave_expires_tracked_keys active_defrag_hits \
         active_defrag_misses active_defrag_key_hits active_defrag_key_misses \
         total_active_defrag_time current_active_defrag_time tracking_total_keys \
         tracking_total_items tracking_total_prefixes unexpected_error_replies \
         total_error_replies dump_payload_sanitizations total_reads_processed \
         total_writes_processed io_threaded_reads_processed io_threaded_writes_processed \
         io_threaded_freed_objects io_threaded_poll_processed \
         io_threaded_total_prefetch_batches io_threaded_total_prefetch_entries \
         client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections \
         reply_buffer_shrinks reply_buffer_expands eventloop_cycles eventloop_duration_sum \
         eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec \
         instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd \
         acl_access_denied_key acl_access_denied_channel",
    ),
    (
        "replication",
        "role replicas_repl_buffer_size replicas_repl_buffer_peak connected_slaves \
         min_slaves_good_slaves replicas_waiting_psync master_failover_state master_replid \
         master_replid2 master_repl_offset second_repl_offset repl_backlog_active \
         repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen",
    ),
    (
        "cpu",
        "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children \
         used_cpu_sys_main_thread used_cpu_user_main_thread",
    ),
    ("cluster", "cluster_enabled"),
];

/// Fields that are not shown here, and why.
const NOT_SHOWN: [(&str, &str); 7] = [
    (
        "valkey_version",
        "clients would take the server for Valkey; `tessera_version` and `server_name` say what it is",
    ),
    ("gcc_version", "it is not made by gcc"),
    ("availability_zone", "there is no such option"),
    ("shutdown_in_milliseconds", "only while a shutdown waits for replicas"),
    (
        "aof_current_size aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync",
        "only with `appendonly yes`",
    ),
    ("min_slaves_good_slaves", "only where `min-replicas-to-write` is set"),
    ("replicas_repl_buffer_size replicas_repl_buffer_peak", "replicas read the backlog itself"),
];

fn text(sections: &[&str], prepare: impl FnOnce(&Metrics)) -> String {
    let metrics = Metrics::new(2, 2);
    prepare(&metrics);
    let saves = Saves::new(0, 1);
    let source = Source {
        memory: &Budget::new(2),
        over_limit: &OverLimit::default(),
        aof: &Aof::none(1),
        saves: &saves,
        config: &Config::default(),
        config_file: Some(Path::new("/etc/redis.conf")),
        process: &ProcessInfo::gather(),
        replication_id: "0123456789012345678901234567890123456789",
        loading: LoadingStatus::default(),
        scripts: ScriptFigures::default(),
        metrics: &metrics,
        command_name: &|row| ["get", "config|set"][row].to_owned(),
    };
    let sections: Vec<&[u8]> = sections.iter().map(|section| section.as_bytes()).collect();
    info(&source, &sections)
}

fn titles(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# ")).collect()
}

#[test]
fn sections_come_in_order_whatever_was_asked() {
    assert_eq!(titles(&text(&["keyspace", "SERVER"], |_| {})), ["Server", "Keyspace"]);
    assert_eq!(titles(&text(&["nothing"], |_| {})), Vec::<&str>::new());
}

#[test]
fn default_and_all_differ_by_the_long_sections() {
    let default = text(&[], |_| {});
    assert_eq!(titles(&default).len(), DEFAULT_SECTIONS.len());
    assert_eq!(titles(&default), titles(&text(&["default"], |_| {})));
    let all = text(&["all"], |_| {});
    // `debug` is shown only to those who ask for it.
    assert_eq!(titles(&all).len(), ALL_SECTIONS.len() - 1);
    assert!(titles(&all).contains(&"Commandstats"));
    assert_eq!(titles(&text(&["everything"], |_| {})), titles(&all));
}

#[test]
fn every_line_is_a_title_a_field_or_empty() {
    for line in text(&["all"], |m| m.worker(0).record_call(0, 1, false)).split("\r\n") {
        let is_field = line.split_once(':').is_some_and(|(name, _)| !name.contains(' '));
        assert!(line.is_empty() || line.starts_with("# ") || is_field, "{line}");
    }
}

#[test]
fn clients_find_the_version_they_gate_on() {
    let text = text(&["server"], |_| {});
    assert!(text.contains("redis_version:7.2.4\r\nserver_name:tessera\r\n"));
    assert!(text.contains("redis_mode:standalone\r\n"));
    assert!(text.contains("listener0:name=tcp,bind=127.0.0.1,bind=-::1,port=6379\r\n"));
    assert!(text.contains("config_file:/etc/redis.conf\r\n"));
}

#[test]
fn commands_that_ran_or_were_refused_have_a_line() {
    let text = text(&["commandstats", "latencystats"], |metrics| {
        metrics.worker(0).record_call(0, 2_000, false);
        metrics.worker(1).record_call(0, 1_000, true);
        metrics.worker(1).record_latency(0, 1_000);
        metrics.worker(0).record_rejected(1);
    });
    let get = "cmdstat_get:calls=2,usec=3,usec_per_call=1.50,rejected_calls=0,failed_calls=1";
    assert!(text.contains(get), "{text}");
    assert!(text.contains("cmdstat_config|set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1"));
    assert!(text.contains("latency_percentiles_usec_get:p50=1.007,p99=1.007,p99.9=1.007\r\n"));
}

#[test]
fn keyspace_and_shards_show_what_workers_published() {
    let text = text(&["keyspace", "shards"], |metrics| {
        let keys = DatabaseKeys { database: 0, keys: 3, expires: 1, average_ttl_ms: 9 };
        metrics.worker(1).publish_databases([keys]);
        metrics.worker(1).counters.mailbox_depth.set(4);
    });
    assert!(text.contains("db0:keys=3,expires=1,avg_ttl=9,subexpiry=0\r\n"));
    assert!(text.contains("shard1:keys=3,"));
    assert!(text.contains("mailbox_depth=4,"));
}

#[test]
fn error_prefixes_cannot_forge_fields() {
    let text = text(&["errorstats"], |metrics| metrics.worker(0).record_error(b"A:\x01B c"));
    assert!(text.contains("errorstat_A__B:count=1\r\n"), "{text}");
}

#[test]
fn bytes_for_people_have_two_decimals() {
    assert_eq!(human_bytes(1023), "1023B");
    assert_eq!(human_bytes(1536), "1.50K");
    assert_eq!(human_bytes(3 << 30), "3.00G");
}

#[test]
fn fields_are_those_that_dashboards_know() {
    let not_shown: Vec<&str> =
        NOT_SHOWN.iter().flat_map(|(names, _)| names.split_ascii_whitespace()).collect();
    for (section, names) in FIELDS {
        let text = text(&[section], |_| {});
        let shown: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
        for name in names.split_ascii_whitespace() {
            assert_eq!(shown.contains(&name), !not_shown.contains(&name), "{section}: {name}");
        }
    }
}
