//! What is told of a directory that was inspected.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use tessera_engine::persist::{
    cure::Cure,
    export::libraries_after,
    inspect::{Inspection, LogFigures, RdbFigures, RunFigures},
    recovery::Loaded,
};

/// Commands that are named; the rest is summed up.
const COMMANDS_NAMED: usize = 20;

/// Tells what was found, and what it was loaded into.
pub(super) fn tell(
    found: &Inspection,
    loaded: Option<&Loaded>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut text = String::new();
    if let Some(base) = &found.base {
        tell_rdb(base, &mut text);
    }
    for run in &found.runs {
        tell_run(run, &mut text);
    }
    if !found.runs.is_empty() {
        tell_commands(found, &mut text);
    }
    if let Some(loaded) = loaded {
        tell_loaded(loaded, found.databases(), &mut text);
    }
    if loaded.is_some() || found.is_read() {
        let _ = writeln!(text, "{}", verdict(found, loaded.is_some()));
    }
    out.write_all(text.as_bytes())
}

fn verdict(found: &Inspection, is_loaded: bool) -> String {
    let how = if is_loaded { "whole" } else { "whole, as far as can be seen without loading it" };
    let tail = if found.has_torn_tail() {
        "; the next start cuts off a torn tail, which nobody was told is durable"
    } else {
        ""
    };
    format!("It is {how}{tail}.")
}

// Writing to a String cannot fail.
fn tell_rdb(rdb: &RdbFigures, text: &mut String) {
    let _ = writeln!(
        text,
        "  {}: RDB version {}{}, {} bytes; {} keys, {} of them with a deadline",
        rdb.file,
        rdb.version,
        rdb.writer.as_ref().map(|writer| format!(" ({writer})")).unwrap_or_default(),
        grouped(rdb.bytes),
        grouped(rdb.keys()),
        grouped(rdb.volatile)
    );
    let _ = match (rdb.types.is_empty(), rdb.databases.len()) {
        (true, _) => writeln!(text, "    no keys"),
        (false, 0..=1) => writeln!(text, "    {}", named(rdb.types.iter())),
        (false, databases) => {
            writeln!(text, "    {}; in {databases} databases", named(rdb.types.iter()))
        }
    };
    if !rdb.libraries.is_empty() {
        let _ = writeln!(text, "    libraries of functions: {}", rdb.libraries.len());
    }
    if rdb.empty > 0 {
        let _ = writeln!(text, "    keys that hold nothing, and are left out: {}", rdb.empty);
    }
}

fn tell_run(run: &RunFigures, text: &mut String) {
    let (first, last) = run.epochs;
    let state = if run.is_open { "not ended, or ended by a crash" } else { "ended" };
    let epochs = if last < first {
        format!("no epoch yet (the first is {})", grouped(first))
    } else {
        format!("epochs {} to {}", grouped(first), grouped(last))
    };
    let durable = match run.durable_epoch {
        0 => String::new(),
        epoch => format!(", known to be durable to {}", grouped(epoch)),
    };
    let _ = writeln!(text, "  Run {:016x}, {state}: {epochs}{durable}", run.run);
    for (shard, log) in run.logs.iter().enumerate() {
        tell_log(shard, log, text);
    }
    for cut in &run.cuts {
        let _ =
            writeln!(text, "    torn tail: {}, at byte {}: {}", cut.file, cut.offset, cut.reason);
    }
}

fn tell_log(shard: usize, log: &LogFigures, text: &mut String) {
    let _ = writeln!(
        text,
        "    shard {shard}: {} records of {} bytes in {} groups, the last is number {} (durable to \
         {} at least); {} segments of {} bytes",
        grouped(log.records),
        grouped(log.bytes),
        grouped(log.groups),
        grouped(log.last_sequence),
        grouped(log.durable_sequence),
        log.segments,
        grouped(log.segment_bytes)
    );
}

fn tell_commands(found: &Inspection, text: &mut String) {
    let mut commands: Vec<_> = found.commands.iter().collect();
    commands.sort_by_key(|&(name, count)| (std::cmp::Reverse(*count), *name));
    let rest = commands.split_off(commands.len().min(COMMANDS_NAMED));
    let _ = write!(text, "  Records: {}", grouped(found.records()));
    if !commands.is_empty() {
        let _ = write!(text, " ({}", named(commands.into_iter()));
        if !rest.is_empty() {
            let count = rest.iter().map(|(_, count)| **count).sum();
            let _ = write!(text, ", {} of {} other commands", grouped(count), rest.len());
        }
        text.push(')');
    }
    text.push('\n');
}

fn tell_loaded(loaded: &Loaded, databases: usize, text: &mut String) {
    let count = |database: usize| -> usize {
        loaded.shards.iter().map(|shard| shard.keyspace.len(database)).sum()
    };
    let used: Vec<_> =
        (0..databases).map(|number| (number, count(number))).filter(|it| it.1 > 0).collect();
    let all: usize = used.iter().map(|(_, keys)| keys).sum();
    let _ = write!(text, "  Loaded: {} keys", grouped(all as u64));
    let parts: Vec<_> =
        used.iter().map(|&(number, keys)| format!("db{number} {}", grouped(keys as u64))).collect();
    if !parts.is_empty() {
        let _ = write!(text, " ({})", parts.join(", "));
    }
    let libraries = libraries_after(&loaded.functions).len();
    let _ = match libraries {
        0 => writeln!(text),
        _ => writeln!(text, ", {libraries} libraries of functions"),
    };
}

/// What mending would give up, line by line.
pub(super) fn losses(cure: &Cure) -> String {
    let mut text = String::new();
    let (last, known) = cure.epochs;
    if cure.losses.is_empty() {
        text.push_str(if cure.cuts.is_empty() {
            "No record is lost, and nothing is cut off: the last run gets its end.\n"
        } else {
            "No record is lost: what is cut off is the remainder of a torn write.\n"
        });
    } else {
        let _ = writeln!(
            text,
            "LOST would be {} records at least, of epochs {} to {}; what is left is what was there at \
             the end of epoch {}:",
            grouped(cure.records_lost()),
            grouped(last + 1),
            grouped(known.max(last + 1)),
            grouped(last)
        );
    }
    for loss in &cure.losses {
        let _ = writeln!(
            text,
            "  run {:016x}, shard {}: records {} to {}",
            loss.run,
            loss.shard,
            grouped(loss.last_kept + 1),
            grouped(loss.last_known)
        );
    }
    if cure.runs_lost > 0 {
        let _ = writeln!(text, "  {} later runs of the server as a whole", cure.runs_lost);
    }
    for cut in &cure.cuts {
        let _ = match cut.keep {
            0 => writeln!(text, "  {} goes", cut.file),
            keep => writeln!(text, "  {} is cut at byte {keep}", cut.file),
        };
    }
    text
}

/// `name 1,234` for each, with commas in between.
fn named<'n>(counts: impl Iterator<Item = (&'n &'static str, &'n u64)>) -> String {
    let parts: Vec<_> = counts.map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    parts.join(", ")
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_groups_of_three() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
