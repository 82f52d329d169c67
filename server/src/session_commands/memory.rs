//! MEMORY STATS, DOCTOR, MALLOC-STATS and PURGE.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::CommandError;
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Asked, Code, Everywhere, SessionContext, config::publish_part, server::with_source};
use crate::{
    gather::Merge,
    info::memory::MemoryFigures,
    metrics::{DatabaseKeys, Snapshot},
    server::Shared,
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("memory|doctor", Code::Everywhere(&Everywhere { ask: ask_doctor, part: publish_part })),
    ("memory|malloc-stats", Code::Local(malloc_stats)),
    ("memory|purge", Code::Local(purge)),
    ("memory|stats", Code::Everywhere(&Everywhere { ask: ask_stats, part: publish_part })),
];

/// From how many bytes on figures say anything.
const TELLING_BYTES: u64 = 5 << 20;
/// Fragmentation below so many bytes is nobody's trouble.
const FRAGMENTATION_BYTES: i64 = 10 << 20;
/// Bytes that a client may hold on average.
const CLIENT_BYTES: u64 = 200 << 10;
/// Scripts that one may have.
const SCRIPTS: usize = 1_000;

/// Has every worker publish its figures; then `finish` answers.
fn ask(
    cx: &SessionContext<'_>,
    finish: impl FnOnce(&Shared, &mut ReplyWriter<'_>) + Send + 'static,
) -> Asked {
    let shared = Arc::clone(cx.shared);
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| finish(&shared, reply);
    Asked::Workers { args: vec![b"publish".to_vec()], merge: Merge::Custom(Box::new(finish)) }
}

/// The figures of all workers.
fn figures(shared: &Shared) -> (MemoryFigures, Snapshot) {
    let snapshot = shared.metrics.snapshot();
    (with_source(shared, |source| MemoryFigures::gather(source, &snapshot)), snapshot)
}

/// MEMORY STATS.
fn ask_stats(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(ask(cx, |shared, reply| {
        let (figures, snapshot) = figures(shared);
        write_stats(&figures, &snapshot, reply);
    }))
}

/// A value of MEMORY STATS.
enum Figure {
    Bytes(u64),
    Signed(i64),
    Ratio(f64),
}

fn write_stats(figures: &MemoryFigures, snapshot: &Snapshot, reply: &mut ReplyWriter<'_>) {
    let databases = &snapshot.databases;
    let (before, behind) = stats(figures);
    reply.map(before.len() + databases.len() + behind.len());
    before.into_iter().for_each(|(name, figure)| write_figure(name, figure, reply));
    for &DatabaseKeys { database, keys, expires, .. } in databases {
        reply.bulk(format!("db.{database}").as_bytes());
        reply.map(2);
        // A slot of the table is eight bytes and a fingerprint; deadlines stand in the entries.
        write_figure("overhead.hashtable.main", Figure::Bytes(keys * 9), reply);
        write_figure("overhead.hashtable.expires", Figure::Bytes(expires * 8), reply);
    }
    behind.into_iter().for_each(|(name, figure)| write_figure(name, figure, reply));
}

type Figures = Vec<(&'static str, Figure)>;

/// The figures before and behind those of the databases, in Redis's order.
fn stats(figures: &MemoryFigures) -> (Figures, Figures) {
    use Figure::{Bytes, Ratio, Signed};
    let (extra, ratio) = (figures.fragmentation_bytes(), figures.fragmentation());
    let per_key = figures.used.saturating_sub(figures.startup) / figures.keys.max(1);
    let before = vec![
        ("peak.allocated", Bytes(figures.peak)),
        ("total.allocated", Bytes(figures.used)),
        ("startup.allocated", Bytes(figures.startup)),
        ("replication.backlog", Bytes(0)),
        ("clients.slaves", Bytes(0)),
        ("clients.normal", Bytes(figures.clients)),
        ("cluster.links", Bytes(0)),
        ("aof.buffer", Bytes(figures.log)),
        ("lua.caches", Bytes(figures.scripts)),
        ("functions.caches", Bytes(figures.libraries)),
    ];
    let behind = vec![
        ("overhead.db.hashtable.lut", Bytes(figures.structure)),
        ("overhead.db.hashtable.rehashing", Bytes(0)),
        ("db.dict.rehashing.count", Bytes(0)),
        ("overhead.total", Bytes(figures.overhead())),
        ("keys.count", Bytes(figures.keys)),
        ("keys.bytes-per-key", Bytes(if figures.keys == 0 { 0 } else { per_key })),
        ("dataset.bytes", Bytes(figures.dataset())),
        ("dataset.percentage", Ratio(figures.dataset_percent())),
        ("peak.percentage", Ratio(figures.peak_percent())),
        ("allocator.allocated", Bytes(figures.used)),
        ("allocator.active", Bytes(figures.resident)),
        ("allocator.resident", Bytes(figures.resident)),
        ("allocator.muzzy", Bytes(0)),
        ("allocator-fragmentation.ratio", Ratio(ratio)),
        ("allocator-fragmentation.bytes", Signed(extra)),
        ("allocator-rss.ratio", Ratio(1.0)),
        ("allocator-rss.bytes", Bytes(0)),
        ("rss-overhead.ratio", Ratio(1.0)),
        ("rss-overhead.bytes", Bytes(0)),
        ("fragmentation", Ratio(ratio)),
        ("fragmentation.bytes", Signed(extra)),
    ];
    (before, behind)
}

fn write_figure(name: &str, figure: Figure, reply: &mut ReplyWriter<'_>) {
    reply.bulk(name.as_bytes());
    match figure {
        Figure::Bytes(bytes) => reply.integer(i64::try_from(bytes).unwrap_or(i64::MAX)),
        Figure::Signed(bytes) => reply.integer(bytes),
        Figure::Ratio(ratio) => reply.double(ratio),
    }
}

/// MEMORY DOCTOR.
fn ask_doctor(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(ask(cx, |shared, reply| {
        let (figures, snapshot) = figures(shared);
        let clients = snapshot.totals.connected_clients;
        let text = diagnosis(&figures, clients, shared.scripts.figures().scripts);
        reply.verbatim("txt", text.as_bytes());
    }))
}

/// What is wrong with the use of memory, in words.
fn diagnosis(figures: &MemoryFigures, clients: u64, scripts: usize) -> String {
    if figures.used < TELLING_BYTES {
        return "Hi Sam, this instance is empty or is using very little memory: there is nothing \
                to find yet. Come back when it holds some data.\n"
            .into();
    }
    let mut issues = Vec::new();
    if figures.peak > figures.used / 2 * 3 {
        issues.push(
            "Peak memory: more than 150% of the memory in use now was in use once. What was given \
             back may stay with the process until it is needed again, which makes its size larger \
             than what it holds; that does no harm.",
        );
    }
    if figures.fragmentation() > 1.4 && figures.fragmentation_bytes() > FRAGMENTATION_BYTES {
        issues.push(
            "High total RSS: the process takes more than 1.4 times the memory that it uses. Either \
             there was a peak, or values of ever different sizes leave gaps between those that \
             stay. BGSAVE and a restart close them.",
        );
    }
    if figures.clients / clients.max(1) > CLIENT_BYTES {
        issues.push(
            "Big client buffers: clients hold more than 200K each on average. They send long \
             requests in pieces, or do not read their replies; see omem and qbuf in CLIENT LIST, \
             and the options client-output-buffer-limit and maxmemory-clients.",
        );
    }
    if scripts > SCRIPTS {
        issues.push(
            "Many scripts: more than a thousand are kept. Scripts that are made at run time should \
             take what changes as arguments.",
        );
    }
    if issues.is_empty() {
        return "Hi Sam, I can't find any memory issue in your instance.\n".into();
    }
    let list: String = issues.iter().map(|issue| format!(" * {issue}\n\n")).collect();
    format!("Sam, I detected a few issues in this instance's memory:\n\n{list}")
}

/// MEMORY MALLOC-STATS.
fn malloc_stats(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let text = "Stats not supported for the current allocator";
    cx.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

/// MEMORY PURGE: what can be given back to the system is given back as it gets free.
fn purge(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_doctor_names_what_he_finds() {
        let healthy = MemoryFigures {
            used: 100 * MIB,
            peak: 110 * MIB,
            resident: 120 * MIB,
            ..MemoryFigures::default()
        };
        assert!(diagnosis(&healthy, 10, 0).contains("can't find any memory issue"));
        let small = MemoryFigures { used: MIB, ..healthy };
        assert!(diagnosis(&small, 10, 0).contains("very little memory"));
        for (figures, clients, scripts, found) in [
            (MemoryFigures { peak: 300 * MIB, ..healthy }, 10, 0, "Peak memory"),
            (MemoryFigures { resident: 300 * MIB, ..healthy }, 10, 0, "High total RSS"),
            (MemoryFigures { clients: 50 * MIB, ..healthy }, 10, 0, "Big client buffers"),
            (healthy, 0, 5_000, "Many scripts"),
        ] {
            let text = diagnosis(&figures, clients, scripts);
            assert!(text.starts_with("Sam, I detected") && text.contains(found), "{text}");
            assert_eq!(text.matches(" * ").count(), 1);
        }
    }
}
