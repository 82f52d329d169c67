//! What memory is used for: INFO's section and the figures of MEMORY STATS.
//!
//! `used_memory` is what the server accounts for: keys and values with their tables, what is
//! remembered of clients, scripts, and the buffers of clients, the log and snapshots. The latter do
//! not count towards `maxmemory` and are `mem_not_counted_for_evict`; what was removed and is not
//! freed yet counts among them.
#![forbid(unsafe_code)]

use super::{Page, Source, human_bytes};
use crate::metrics::{Snapshot, resident_bytes};

/// Memory by what it is used for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryFigures {
    /// All that the server accounts for.
    pub(crate) used: u64,
    /// What the process takes of the machine.
    pub(crate) resident: u64,
    /// The most that was ever used.
    pub(crate) peak: u64,
    /// What an empty server uses.
    pub(crate) startup: u64,
    /// Buckets and directories.
    pub(crate) structure: u64,
    /// What shards remember of clients.
    pub(crate) client_tables: u64,
    /// What clients hold.
    pub(crate) clients: u64,
    /// Records that wait for the log.
    pub(crate) log: u64,
    /// Texts of scripts.
    pub(crate) scripts: u64,
    /// Code of libraries.
    pub(crate) libraries: u64,
    /// What does not count towards `maxmemory`.
    pub(crate) not_counted: u64,
    /// Keys of all databases.
    pub(crate) keys: u64,
}

impl MemoryFigures {
    /// The figures that workers have published.
    pub(crate) fn gather(source: &Source<'_>, snapshot: &Snapshot) -> Self {
        let totals = &snapshot.totals;
        let log = source.aof.waiting_bytes();
        let not_counted =
            totals.clients_bytes + totals.garbage_bytes + totals.preserved_bytes + log;
        let used = source.memory.used() + not_counted;
        Self {
            used,
            resident: resident_bytes(),
            peak: source.metrics.note_memory(used),
            startup: totals.startup_bytes,
            structure: totals.structure_bytes,
            client_tables: totals.client_table_bytes,
            clients: totals.clients_bytes,
            log,
            scripts: source.scripts.script_bytes as u64,
            libraries: source.scripts.library_bytes as u64,
            not_counted,
            keys: totals.keys,
        }
    }

    /// What is neither keys nor values.
    pub(crate) fn overhead(&self) -> u64 {
        let tables = self.structure.max(self.startup) + self.client_tables;
        let all = tables + self.not_counted + self.scripts + self.libraries;
        all.min(self.used)
    }

    /// Keys and values.
    pub(crate) fn dataset(&self) -> u64 {
        self.used - self.overhead()
    }

    /// Of what is used beyond an empty server, the part of keys and values, in per cent.
    pub(crate) fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup)).min(100.0)
    }

    /// What is used of what ever was, in per cent.
    pub(crate) fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }

    /// Bytes that the process takes for each byte in use.
    pub(crate) fn fragmentation(&self) -> f64 {
        if self.used > 0 { self.resident as f64 / self.used as f64 } else { 0.0 }
    }

    /// How many bytes more the process takes than are in use.
    pub(crate) fn fragmentation_bytes(&self) -> i64 {
        let difference = i128::from(self.resident) - i128::from(self.used);
        i64::try_from(difference).unwrap_or(i64::MAX)
    }
}

/// The section.
pub(super) fn memory(page: &mut Page) {
    let figures = MemoryFigures::gather(page.source, page.snapshot);
    let MemoryFigures { used, resident, peak, .. } = figures;
    page.bytes("used_memory", used);
    page.bytes("used_memory_rss", resident);
    page.bytes("used_memory_peak", peak);
    page.field("used_memory_peak_perc", format_args!("{:.2}%", figures.peak_percent()));
    page.field("used_memory_overhead", figures.overhead());
    page.field("used_memory_startup", figures.startup);
    page.field("used_memory_dataset", figures.dataset());
    page.field("used_memory_dataset_perc", format_args!("{:.2}%", figures.dataset_percent()));
    page.field("allocator_allocated", used);
    page.field("allocator_active", resident);
    page.field("allocator_resident", resident);
    page.field("allocator_muzzy", 0);
    page.bytes("total_system_memory", page.source.process.machine_memory_bytes);
    script_memory(page);
    page.bytes("maxmemory", page.source.config.maxmemory);
    page.field("maxmemory_policy", page.source.config.maxmemory_policy.name());
    fragmentation(page, &figures);
    page.field("mem_not_counted_for_evict", figures.not_counted);
    page.fields(&[
        ("mem_replication_backlog", "0"),
        ("mem_total_replication_buffers", "0"),
        ("mem_clients_slaves", "0"),
    ]);
    page.field("mem_clients_normal", figures.clients);
    page.fields(&[("mem_cluster_links", "0")]);
    page.field("mem_aof_buffer", figures.log);
    page.fields(&[
        ("mem_allocator", "mimalloc"),
        ("mem_overhead_db_hashtable_rehashing", "0"),
        ("active_defrag_running", "0"),
    ]);
    page.field("lazyfree_pending_objects", page.snapshot.totals.lazyfree_pending);
    page.field("lazyfreed_objects", page.snapshot.totals.lazyfreed_objects);
}

fn script_memory(page: &mut Page) {
    let figures = page.source.scripts;
    let (machines, texts) = (page.snapshot.totals.lua_bytes, figures.script_bytes as u64);
    let for_functions = page.snapshot.totals.lua_function_bytes;
    page.field("used_memory_lua", machines);
    page.field("used_memory_vm_eval", machines);
    page.field("used_memory_lua_human", human_bytes(machines));
    page.field("used_memory_scripts_eval", texts);
    page.field("number_of_cached_scripts", figures.scripts);
    page.field("number_of_functions", figures.functions);
    page.field("number_of_libraries", figures.libraries);
    page.field("used_memory_vm_functions", for_functions);
    page.bytes("used_memory_vm_total", machines + for_functions);
    page.field("used_memory_functions", figures.library_bytes);
    page.bytes("used_memory_scripts", figures.bytes() as u64);
}

fn fragmentation(page: &mut Page, figures: &MemoryFigures) {
    let (ratio, extra) = (figures.fragmentation(), figures.fragmentation_bytes());
    page.field("allocator_frag_ratio", format_args!("{ratio:.2}"));
    page.field("allocator_frag_bytes", extra);
    page.fields(&[
        ("allocator_rss_ratio", "1.00"),
        ("allocator_rss_bytes", "0"),
        ("rss_overhead_ratio", "1.00"),
        ("rss_overhead_bytes", "0"),
    ]);
    page.field("mem_fragmentation_ratio", format_args!("{ratio:.2}"));
    page.field("mem_fragmentation_bytes", extra);
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_and_dataset_are_all_that_is_used() {
        let figures = MemoryFigures {
            used: 1_000,
            startup: 100,
            structure: 150,
            client_tables: 20,
            not_counted: 200,
            scripts: 30,
            ..MemoryFigures::default()
        };
        assert_eq!((figures.overhead(), figures.dataset()), (400, 600));
        assert!((figures.dataset_percent() - 66.67).abs() < 0.01);
        let empty = MemoryFigures { used: 100, startup: 100, ..MemoryFigures::default() };
        assert_eq!((empty.overhead(), empty.dataset()), (100, 0));
    }
}
