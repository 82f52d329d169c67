//! MONITOR: shows every command to the clients that asked for it.
//!
//! A command is shown by the worker of its connection, when its turn has come there: lines of one
//! connection stand in the order of its commands. While nobody monitors, a command costs nothing: the
//! worker's threshold for slow commands is simply never zero; while somebody does, it is, and the
//! commands that it lets through are shown.
//!
//! Invariants:
//! - commands for operators, and those whose rows say so, are never shown, nor are passwords;
//! - the count of monitoring clients of a worker is written by that worker alone; it may be too high
//!   for a moment, never too low once MONITOR is answered.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use tessera_engine::command::{Command, Way, table::flag};
use tessera_proto::{Args, ReplyBuffer};

use crate::{
    net::ConnectionId, pubsub::News, replies::NO_SHARD, slowlog::is_secret, worker::Worker,
};

/// How many clients monitor at each worker.
#[derive(Debug)]
pub struct Monitors(Box<[AtomicU32]>);

impl Monitors {
    /// None, at so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether there are any.
    #[inline]
    pub fn any(&self) -> bool {
        self.0.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    fn set(&self, worker: u32, count: usize) {
        self.0[worker as usize].store(count as u32, Ordering::SeqCst);
    }
}

/// The line for a command; nothing if it is not to be shown. `source` is the client's address, or
/// `lua` for a script.
pub fn line(
    now_us: i64,
    database: u32,
    source: &str,
    command: &Command,
    args: &Args<'_>,
) -> Option<Bytes> {
    // Scripts have the flag because Redis shows them itself, before their commands; so they are here.
    let is_skipped = command.flags.has(flag::SKIP_MONITOR) && command.way != Way::Script;
    if command.flags.has(flag::ADMIN) || is_skipped {
        return None;
    }
    let unix = if source.starts_with('/') { "unix:" } else { "" };
    let source = if unix.is_empty() { source } else { source.trim_end_matches(":0") };
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    let mut line = format!("+{seconds}.{micros:06} [{database} {unix}{source}]");
    for (at, argument) in args.iter().enumerate() {
        line.push(' ');
        let hidden: &[u8] = b"(redacted)";
        quote(&mut line, if is_secret(command, args, at) { hidden } else { argument });
    }
    line.push_str("\r\n");
    Some(Bytes::from(line))
}

/// Appends `text` in double quotes, with escapes for all that is not printable.
fn quote(line: &mut String, text: &[u8]) {
    line.push('"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => line.extend(['\\', char::from(byte)]),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            7 => line.push_str("\\a"),
            8 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(line, "\\x{byte:02x}"),
        }
    }
    line.push('"');
}

impl Worker {
    /// Shows a line to all clients that monitor.
    #[cold]
    pub(crate) fn show(&mut self, line: Option<Bytes>) {
        let Some(line) = line else { return };
        for worker in 0..self.map.shards() as u32 {
            if self.shared.monitors.0[worker as usize].load(Ordering::Relaxed) > 0 {
                self.tell(worker, News::Command(line.clone()));
            }
        }
    }

    /// Shows a line, if commands are monitored and this one is to be shown.
    #[inline]
    pub(crate) fn show_if_any(&mut self, line: Option<Option<Bytes>>) {
        if let Some(line) = line {
            self.show(line);
        }
    }

    /// Shows the lines that were made while commands executed in place.
    #[inline]
    pub(crate) fn show_all(&mut self) {
        if !self.shown.is_empty() {
            let mut shown = std::mem::take(&mut self.shown);
            shown.drain(..).for_each(|line| self.show(Some(line)));
            self.shown = shown;
        }
    }

    /// Lets one of the own connections monitor from now on.
    pub(crate) fn add_monitor(&mut self, id: ConnectionId) {
        if !self.monitoring.contains(&id) {
            self.monitoring.push(id);
        }
        self.count_monitors();
    }

    /// Forgets those that are gone, or want to see no more.
    pub(crate) fn count_monitors(&mut self) {
        let network = &mut self.network;
        self.monitoring.retain(|&id| {
            network.connection(id).is_some_and(|open| open.session.monitors && !open.is_closing())
        });
        self.shared.monitors.set(self.own, self.monitoring.len());
    }

    /// Writes a line to the own clients that monitor.
    pub(crate) fn hand_on_line(&mut self, line: &Bytes) {
        self.count_monitors();
        for id in self.monitoring.clone() {
            self.push(id, NO_SHARD, |out: &mut ReplyBuffer, _| out.splice(line.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::command::table;
    use tessera_proto::RequestBatch;

    use super::*;

    fn shown(source: &str, words: &[&[u8]]) -> Option<String> {
        let mut batch = RequestBatch::new();
        batch.push_slices(words.iter().copied());
        let args = batch.get(0).unwrap();
        let command = table().resolve(&args).unwrap();
        let line = line(1_500_000_000_000_042, 3, source, command, &args)?;
        Some(String::from_utf8(line.to_vec()).unwrap())
    }

    #[test]
    fn lines_have_the_form_of_redis() {
        assert_eq!(
            shown("127.0.0.1:5000", &[b"SET", b"a \"b\"", b"\x00\r\n\\\xff"]).unwrap(),
            "+1500000000.000042 [3 127.0.0.1:5000] \"SET\" \"a \\\"b\\\"\" \
             \"\\x00\\r\\n\\\\\\xff\"\r\n"
        );
        assert!(shown("/tmp/s:0", &[b"PING"]).unwrap().contains(" [3 unix:/tmp/s] \"PING\""));
        assert!(shown("lua", &[b"PING"]).unwrap().contains(" [3 lua] "));
    }

    #[test]
    fn secrets_and_the_operators_commands_are_not_shown() {
        assert!(
            shown("x", &[b"AUTH", b"secret"]).unwrap().ends_with("\"AUTH\" \"(redacted)\"\r\n")
        );
        assert_eq!(shown("x", &[b"CONFIG", b"SET", b"requirepass", b"secret"]), None);
        assert_eq!(shown("x", &[b"MONITOR"]), None);
    }
}
