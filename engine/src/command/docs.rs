//! What COMMAND DOCS says of a command besides its row: costs, history, and the tree of arguments
//! from which clients make hints.
//!
//! It is asked for once in a while by a person's terminal, so it is kept as text, which is parsed
//! when it is asked for, and nothing of it lies in the rows. A file a family, and an entry for each
//! command, or for several that are alike:
//!
//! ```text
//! getset: O(1)
//!   key#0 value
//!   6.2.0: what came with this version
//!   deprecated 6.2.0: `SET` with `GET`
//!   tips nondeterministic_output
//!   system
//! ```
//!
//! The first line names commands (subcommands as `container|name`) and their cost. Of the indented
//! ones, a line that begins with a digit is history, `deprecated` tells since when and what is to be
//! used instead, `system` marks commands for the server's own use, `tips` are COMMAND INFO's words for
//! clients of clusters, and all others together are the arguments, in the notation of [`usage`].
//!
//! Invariants (tested): every row has one entry; every entry parses; the arguments agree with the
//! row's arity.
#![forbid(unsafe_code)]

mod usage;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::LazyLock};

pub use usage::{Argument, Kind, UsageError};

/// The files of the families.
const FAMILIES: [&str; 16] = [
    include_str!("docs/bitmap.txt"),
    include_str!("docs/cluster.txt"),
    include_str!("docs/connection.txt"),
    include_str!("docs/generic.txt"),
    include_str!("docs/geo.txt"),
    include_str!("docs/hash.txt"),
    include_str!("docs/hyperloglog.txt"),
    include_str!("docs/list.txt"),
    include_str!("docs/pubsub.txt"),
    include_str!("docs/scripting.txt"),
    include_str!("docs/server.txt"),
    include_str!("docs/set.txt"),
    include_str!("docs/stream.txt"),
    include_str!("docs/string.txt"),
    include_str!("docs/transactions.txt"),
    include_str!("docs/zset.txt"),
];

/// How a line of tips begins.
const TIPS: &str = "tips ";

/// What is said of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Docs {
    /// How the time that it takes grows.
    pub complexity: &'static str,
    /// It is for the server's own use.
    pub is_system: bool,
    /// Since when it should not be used any more, and what instead.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Versions, and what came with each.
    pub history: Vec<(&'static str, &'static str)>,
    /// The arguments behind the name, in their order.
    pub arguments: Vec<Argument>,
}

/// The entries as text, by the names of commands.
static ENTRIES: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| FAMILIES.into_iter().flat_map(named_entries).collect());

/// What is said of the command called `full_name` (`set`, `client|kill`), if anything is.
pub fn docs(full_name: &str) -> Option<Docs> {
    // That every entry parses is tested.
    ENTRIES.get(full_name).and_then(|entry| parse(entry).ok())
}

/// What COMMAND INFO tells clients that spread the command called `full_name` over the nodes of a
/// cluster and merge the answers, or compare these.
pub fn tips(full_name: &str) -> impl Iterator<Item = &'static str> {
    let entry = ENTRIES.get(full_name).copied().unwrap_or_default();
    let line = entry.lines().find_map(|line| line.trim_start().strip_prefix(TIPS));
    line.unwrap_or_default().split_ascii_whitespace()
}

/// The entries of one file, each under all its names.
fn named_entries(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let starts = |(at, line): (usize, &str)| (!line.starts_with(' ')).then_some(at);
    let mut begin = 0;
    let starts: Vec<usize> = file
        .split_inclusive('\n')
        .map(|line| {
            let at = begin;
            begin += line.len();
            (at, line)
        })
        .filter_map(starts)
        .chain([file.len()])
        .collect();
    let entries: Vec<&'static str> =
        starts.windows(2).map(|bounds| &file[bounds[0]..bounds[1]]).collect();
    entries.into_iter().flat_map(|entry| {
        let names = entry.split_once(": ").map_or("", |(names, _)| names);
        names.split(' ').map(move |name| (name, entry))
    })
}

/// Reads one entry.
fn parse(entry: &'static str) -> Result<Docs, UsageError> {
    let (head, body) = entry.split_once('\n').unwrap_or((entry, ""));
    let complexity = head.split_once(": ").map_or("", |(_, complexity)| complexity);
    let mut docs = Docs { complexity, ..Docs::default() };
    let mut usage = Vec::new();
    for line in body.lines().map(str::trim_start) {
        if line == "system" {
            docs.is_system = true;
        } else if line.starts_with(TIPS) {
            // See `tips`.
        } else if let Some(deprecated) = line.strip_prefix("deprecated ") {
            docs.deprecated = deprecated.split_once(": ");
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            docs.history.extend(line.split_once(": "));
        } else {
            usage.push(line);
        }
    }
    docs.arguments = usage::parse(&usage)?;
    Ok(docs)
}
