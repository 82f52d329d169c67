//! SLOWLOG and LATENCY: what took long.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::{CommandError, table};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter, parse_i64};

use super::{Asked, Code, Everywhere, SessionContext, config::publish_part};
use crate::{gather::Merge, latency::Series, metrics::Counts, server::Shared};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("latency|doctor", Code::Local(doctor)),
    ("latency|graph", Code::Local(graph)),
    ("latency|histogram", Code::Everywhere(&HISTOGRAM)),
    ("latency|history", Code::Local(history)),
    ("latency|latest", Code::Local(latest)),
    ("latency|reset", Code::Local(latency_reset)),
    ("slowlog|get", Code::Local(slowlog_get)),
    ("slowlog|len", Code::Local(slowlog_len)),
    ("slowlog|reset", Code::Local(slowlog_reset)),
];

const HISTOGRAM: Everywhere = Everywhere { ask: ask_histogram, part: publish_part };

/// Entries that SLOWLOG GET shows unless it is told how many.
const SHOWN_BY_DEFAULT: usize = 10;

fn slowlog_get(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let count = match args.get(2) {
        None => SHOWN_BY_DEFAULT,
        Some(text) => match parse_i64(text) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => {
                return Err(CommandError::text("ERR count should be greater than or equal to -1"));
            }
        },
    };
    let entries = cx.shared.slowlog.newest(count);
    let mut reply = cx.reply();
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id);
        reply.integer(entry.at_s);
        reply.integer(entry.took_us);
        reply.array(entry.arguments.len());
        entry.arguments.iter().for_each(|argument| reply.bulk(argument));
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
    Ok(())
}

fn slowlog_len(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let len = cx.shared.slowlog.len();
    cx.reply().count(len);
    Ok(())
}

fn slowlog_reset(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.shared.slowlog.clear();
    cx.reply().ok();
    Ok(())
}

/// LATENCY LATEST: of each kind of event the last, and the longest ever.
fn latest(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let events = cx.shared.latency.events();
    let mut reply = cx.reply();
    reply.array(events.len());
    for (kind, series) in events {
        let (at_s, took_ms) = series.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(kind.as_bytes());
        reply.integer(at_s);
        reply.integer(took_ms);
        reply.integer(series.longest_ms);
    }
    Ok(())
}

/// LATENCY HISTORY event.
fn history(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let series = cx.shared.latency.event(&args[2]).unwrap_or_default();
    let mut reply = cx.reply();
    reply.array(series.samples.len());
    for (at_s, took_ms) in series.samples {
        reply.array(2);
        reply.integer(at_s);
        reply.integer(took_ms);
    }
    Ok(())
}

/// LATENCY RESET [event …].
fn latency_reset(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let monitor = &cx.shared.latency;
    let forgotten = match args.len() {
        2 => monitor.forget(None),
        _ => args.iter().skip(2).map(|kind| monitor.forget(Some(kind))).sum(),
    };
    cx.reply().count(forgotten);
    Ok(())
}

/// LATENCY GRAPH event: a column for each sample, oldest first, scaled to the longest.
fn graph(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let name = String::from_utf8_lossy(&args[2]);
    let series = cx.shared.latency.event(&args[2]).ok_or_else(|| {
        CommandError::text(format!("ERR No samples available for event '{name}'"))
    })?;
    let text = draw(&name, &series);
    cx.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

/// Columns of a graph.
const GRAPH_WIDTH: usize = 80;
/// Lines of a graph.
const GRAPH_HEIGHT: i64 = 4;

fn draw(name: &str, series: &Series) -> String {
    let times: Vec<i64> = series.samples.iter().map(|(_, took_ms)| *took_ms).collect();
    let times = &times[times.len().saturating_sub(GRAPH_WIDTH)..];
    let high = times.iter().copied().max().unwrap_or(0);
    let low = times.iter().copied().min().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.longest_ms,
        "-".repeat(GRAPH_WIDTH)
    );
    for line in (1..=GRAPH_HEIGHT).rev() {
        let reaches = |took: &i64| took * GRAPH_HEIGHT >= high * line;
        text.extend(times.iter().map(|took| if reaches(took) { '#' } else { ' ' }));
        text.push('\n');
    }
    text
}

/// LATENCY DOCTOR: what was seen, and what to look at next.
fn doctor(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let threshold_ms = cx.shared.config.current().latency_monitor_threshold;
    let events = cx.shared.latency.events();
    let mut text = String::new();
    if threshold_ms == 0 {
        text.push_str(
            "The latency monitor is off. Turn it on with \
             \"CONFIG SET latency-monitor-threshold <milliseconds>\".\n",
        );
    } else if events.is_empty() {
        text.push_str("No event has taken longer than the threshold.\n");
    }
    for (kind, series) in events {
        text.push_str(&format!(
            "{kind}: {} samples, longest {} ms. SLOWLOG GET shows which commands they were.\n",
            series.samples.len(),
            series.longest_ms
        ));
    }
    cx.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

/// LATENCY HISTOGRAM [command …].
fn ask_histogram(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let shared = Arc::clone(cx.shared);
    let names: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_ascii_lowercase).collect();
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        write_histograms(&shared, &names, reply);
    };
    let args = vec![b"publish".to_vec()];
    Ok(Asked::Workers { args, merge: Merge::Custom(Box::new(finish)) })
}

fn write_histograms(shared: &Shared, names: &[Vec<u8>], reply: &mut ReplyWriter<'_>) {
    let is_asked = |full_name: &str| {
        let container = full_name.split('|').next().unwrap_or_default();
        names.is_empty()
            || names.iter().any(|name| name == full_name.as_bytes() || name == container.as_bytes())
    };
    let commands = shared.metrics.snapshot().commands;
    let rows: Vec<(&str, &Counts)> = table()
        .all()
        .filter(|row| is_asked(row.full_name))
        .filter_map(|row| Some((row.full_name, &commands.get(usize::from(row.id))?.latency)))
        .filter(|(_, counts)| counts.total() > 0)
        .collect();
    reply.map(rows.len());
    for (name, counts) in rows {
        reply.bulk(name.as_bytes());
        write_histogram(reply, counts);
    }
}

/// Calls up to each power of two of microseconds, where there are any between it and the last.
fn write_histogram(reply: &mut ReplyWriter<'_>, counts: &Counts) {
    let mut buckets: Vec<(i64, u64)> = Vec::new();
    for power in 0..=30 {
        let within = counts.at_most((1_024 << power) - 1);
        if within > buckets.last().map_or(0, |(_, before)| *before) {
            buckets.push((1 << power, within));
        }
    }
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(counts.total() as i64);
    reply.bulk(b"histogram_usec");
    reply.map(buckets.len());
    for (micros, within) in buckets {
        reply.integer(micros);
        reply.integer(within as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_as_high_as_its_longest_sample() {
        let samples = [(1, 10), (2, 40), (3, 20)].into_iter().collect();
        let text = draw("command", &Series { samples, longest_ms: 50 });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 40 ms, low 10 ms (all time high 50 ms)");
        assert_eq!(&lines[2..], [" # ", " # ", " ##", "###"]);
    }
}
