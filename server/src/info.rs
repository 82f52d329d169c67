//! INFO: the server's state as text, with Redis's section and field names.
//!
//! Sections and fields are those of Redis 7.2 as Valkey 8 gives them, so that exporters and
//! dashboards read them unchanged; what a field names and this server does not have stands at its
//! idle value. `shards` is Tessera's own section: it shows whether the load is spread evenly and
//! where messages wait.

#![forbid(unsafe_code)]

mod sections;

use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::aof::Aof;
use crate::config::Config;
use crate::loading::LoadingStatus;
use crate::metrics::{Metrics, ProcessInfo, Snapshot, unix_time};
use crate::saving::Saves;
use crate::scripts::shared::ScriptFigures;

/// The version of Redis that clients may take this server for.
pub use tessera_engine::script::REDIS_VERSION;

/// This server's own version.
pub const TESSERA_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Sections of a plain INFO.
const DEFAULT_SECTIONS: [&str; 11] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
];

type WriteSection = fn(&mut Page);

/// All sections, in the order in which they are shown.
const ALL_SECTIONS: [(&str, WriteSection); 14] = [
    ("server", sections::server),
    ("clients", sections::clients),
    ("memory", sections::memory),
    ("persistence", sections::persistence),
    ("stats", sections::stats),
    ("replication", sections::replication),
    ("cpu", sections::cpu),
    ("modules", sections::modules),
    ("commandstats", sections::command_stats),
    ("errorstats", sections::error_stats),
    ("latencystats", sections::latency_stats),
    ("cluster", sections::cluster),
    ("keyspace", sections::keyspace),
    ("shards", sections::shards),
];

/// What INFO is made of.
pub struct Source<'a> {
    /// The running configuration.
    pub config: &'a Config,
    /// The configuration file, if there is one.
    pub config_file: Option<&'a Path>,
    /// Facts about the process.
    pub process: &'a ProcessInfo,
    /// The replication's identity: 40 hexadecimal digits.
    pub replication_id: &'a str,
    /// How far the start has come.
    pub loading: LoadingStatus,
    /// The append-only log.
    pub aof: &'a Aof,
    /// Saves, past and under way.
    pub saves: &'a Saves,
    /// Scripts and libraries.
    pub scripts: ScriptFigures,
    /// The counters.
    pub metrics: &'a Metrics,
    /// The full name (`get`, `config|set`) of a row of the command table.
    pub command_name: &'a dyn Fn(usize) -> String,
}

/// The text for the sections that a client asks for; none named means the default ones.
pub fn info(source: &Source, sections: &[&[u8]]) -> String {
    let mut page = Page {
        source,
        snapshot: &source.metrics.snapshot(),
        now_ms: u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX),
        text: String::with_capacity(4096),
    };
    for (name, write) in ALL_SECTIONS {
        if is_wanted(name, sections) {
            if !page.text.is_empty() {
                page.text.push_str("\r\n");
            }
            page.title(name);
            write(&mut page);
        }
    }
    page.text
}

fn is_wanted(name: &str, sections: &[&[u8]]) -> bool {
    let by_default = DEFAULT_SECTIONS.contains(&name);
    if sections.is_empty() {
        return by_default;
    }
    sections.iter().any(|section| match section.to_ascii_lowercase().as_slice() {
        b"all" | b"everything" => true,
        b"default" => by_default,
        b"module_list" => name == "modules",
        named => named == name.as_bytes(),
    })
}

/// The text that grows, with what it is made of.
struct Page<'a> {
    source: &'a Source<'a>,
    snapshot: &'a Snapshot,
    now_ms: u64,
    text: String,
}

impl Page<'_> {
    /// `# Name`, with a capital first letter, as dashboards know the sections.
    fn title(&mut self, name: &str) {
        let title = match name {
            "cpu" => "CPU".to_owned(),
            _ => name[..1].to_ascii_uppercase() + &name[1..],
        };
        let _ = write!(self.text, "# {title}\r\n");
    }

    fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    /// Fields whose values stand fixed.
    fn fields(&mut self, fields: &[(&str, &str)]) {
        fields.iter().for_each(|(name, value)| self.field(name, value));
    }

    /// Bytes, once exactly and once for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human_bytes(bytes));
    }
}

/// Bytes for people, as Redis writes them: two decimals and K, M, G, T or P.
pub fn human_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", ["", "K", "M", "G", "T", "P"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::DatabaseKeys;

    fn text(sections: &[&str], prepare: impl FnOnce(&Metrics)) -> String {
        let metrics = Metrics::new(2, 2);
        prepare(&metrics);
        let saves = Saves::new(0);
        let source = Source {
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
        assert_eq!(titles(&all).len(), ALL_SECTIONS.len());
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
        assert!(
            text.contains("cmdstat_config|set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1")
        );
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
}
