//! INFO: the server's state as text, with Redis's section and field names.
//!
//! Sections and fields are those of Redis 7.2 as Valkey 8 gives them, so that exporters and
//! dashboards read them unchanged; what a field names and this server does not have stands at its
//! idle value. `shards` is Tessera's own section: it shows whether the load is spread evenly and
//! where messages wait.

#![forbid(unsafe_code)]

mod debug;
pub(crate) mod memory;
mod sections;

use std::fmt::{Display, Write as _};
use std::path::Path;

use tessera_engine::keyspace::budget::Budget;

use crate::aof::Aof;
use crate::config::Config;
use crate::loading::LoadingStatus;
use crate::memory::OverLimit;
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
const ALL_SECTIONS: [(&str, WriteSection); 15] = [
    ("server", sections::server),
    ("clients", sections::clients),
    ("memory", memory::memory),
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
    ("debug", debug::debug),
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
    /// `maxmemory`, and what is used of it.
    pub memory: &'a Budget,
    /// For how long that has been too much.
    pub over_limit: &'a OverLimit,
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
        // As in Redis, it must be asked for by its name.
        b"all" | b"everything" => name != "debug",
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
mod tests;
