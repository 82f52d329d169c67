//! The slow log: the last commands whose execution took longer than `slowlog-log-slower-than`.
//!
//! One log for all workers, behind a lock: what gets here has just taken milliseconds, so the lock
//! costs nothing that anyone could notice. A worker compares one number for each command.
//!
//! Arguments are cut as in Redis, 32 of at most 128 bytes each, so an entry's size is bounded; no
//! password enters: commands that carry one are kept without their arguments.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tessera_engine::command::{Command, table::flag};
use tessera_proto::{Args, RequestBatch};

use crate::{
    config::{self, Config},
    server::Shared,
};

/// The most arguments of an entry.
const ARGUMENTS_MAX: usize = 32;

/// The most bytes of an argument.
const ARGUMENT_BYTES_MAX: usize = 128;

/// What stands in place of a secret.
const REDACTED: &[u8] = b"(redacted)";

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Grows with every entry and is never given again.
    pub id: i64,
    /// When it ran, in seconds since the Unix epoch.
    pub at_s: i64,
    /// How long it took.
    pub took_us: i64,
    /// Its arguments, cut.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address; empty when another worker's client sent it.
    pub peer: String,
    /// The client's name.
    pub name: String,
}

/// The log. Newest entries first.
#[derive(Debug, Default)]
pub struct SlowLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    list: VecDeque<SlowCommand>,
    next_id: i64,
}

/// From when on a worker takes note of a command: for the slow log, for the latency monitor.
#[derive(Debug)]
pub struct Watch {
    /// The lesser of the two below.
    least_ns: u64,
    slow_ns: u64,
    event_ns: u64,
    length_max: u64,
}

/// Longer than anything takes.
const NEVER: u64 = u64::MAX;

impl Default for Watch {
    /// Takes note of nothing.
    fn default() -> Self {
        Self { least_ns: NEVER, slow_ns: NEVER, event_ns: NEVER, length_max: 0 }
    }
}

impl Watch {
    /// What `config` asks for.
    pub fn new(config: &Config) -> Self {
        let slow_ns = match u64::try_from(config.slowlog_log_slower_than) {
            Ok(micros) if config.slowlog_max_len > 0 => micros.saturating_mul(1_000),
            _ => NEVER,
        };
        let event_ns = match config.latency_monitor_threshold {
            0 => NEVER,
            millis => millis.saturating_mul(1_000_000),
        };
        let length_max = config.slowlog_max_len;
        Self { least_ns: slow_ns.min(event_ns), slow_ns, event_ns, length_max }
    }

    /// Lets every command through while `is_monitored`.
    pub fn monitor(&mut self, is_monitored: bool) {
        self.least_ns = if is_monitored { 0 } else { self.slow_ns.min(self.event_ns) };
    }

    /// Whether a command that took `nanos` is to be noted.
    #[inline]
    pub fn is_slow(&self, nanos: u64) -> bool {
        nanos >= self.least_ns
    }

    /// Notes a command with the time at which it ended and the nanoseconds that it took, and the
    /// address and the name of its client.
    #[cold]
    pub fn note(
        &self,
        shared: &Shared,
        command: &Command,
        args: &Args<'_>,
        (now_us, nanos): (i64, u64),
        client: (&str, &str),
    ) {
        self.note_event(shared, command, (now_us, nanos));
        if self.is_for_log(command, nanos) {
            let shown = shown_arguments(command, args);
            shared.slowlog.add(shown, (now_us, nanos), client, self.length_max);
        }
    }

    /// The same for a command of which [`shown`](Self::shown) has kept the arguments.
    #[cold]
    pub fn note_shown(
        &self,
        shared: &Shared,
        command: &Command,
        shown: &RequestBatch,
        (now_us, nanos): (i64, u64),
        client: (&str, &str),
    ) {
        self.note_event(shared, command, (now_us, nanos));
        if self.is_for_log(command, nanos) {
            let shown = shown.get(0).iter().flat_map(Args::iter).map(<[u8]>::to_vec).collect();
            shared.slowlog.add(shown, (now_us, nanos), client, self.length_max);
        }
    }

    /// The arguments of a command as the log shows them, for one of which it is not known yet how
    /// long it takes; nothing if the log is off.
    pub fn shown(&self, command: &Command, args: &Args<'_>) -> Option<RequestBatch> {
        if self.slow_ns == NEVER || command.flags.has(flag::SKIP_SLOWLOG) {
            return None;
        }
        let mut kept = RequestBatch::new();
        show_arguments(command, args, |argument| kept.add_slice(argument));
        kept.end_request();
        Some(kept)
    }

    fn is_for_log(&self, command: &Command, nanos: u64) -> bool {
        nanos >= self.slow_ns && !command.flags.has(flag::SKIP_SLOWLOG)
    }

    fn note_event(&self, shared: &Shared, command: &Command, (now_us, nanos): (i64, u64)) {
        if nanos >= self.event_ns {
            let kind = if command.flags.has(flag::FAST) { "fast-command" } else { "command" };
            shared.latency.add(kind, now_us, (nanos / 1_000_000) as i64);
        }
    }
}

impl SlowLog {
    /// Enters a command that took `nanos`, with its arguments as they are shown, and forgets what is
    /// beyond `length_max` entries.
    fn add(
        &self,
        arguments: Vec<Vec<u8>>,
        (now_us, nanos): (i64, u64),
        (peer, name): (&str, &str),
        length_max: u64,
    ) {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push_front(SlowCommand {
            id,
            at_s: now_us / 1_000_000,
            took_us: (nanos / 1_000) as i64,
            arguments,
            peer: peer.to_owned(),
            name: name.to_owned(),
        });
        entries.list.truncate(usize::try_from(length_max).unwrap_or(usize::MAX));
    }

    /// The newest `count` entries, newest first.
    pub fn newest(&self, count: usize) -> Vec<SlowCommand> {
        self.lock().list.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.lock().list.len()
    }

    /// Whether nothing was slow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SLOWLOG RESET.
    pub fn clear(&self) {
        self.lock().list.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Each critical section leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown_arguments(command: &Command, args: &Args<'_>) -> Vec<Vec<u8>> {
    let mut shown = Vec::new();
    show_arguments(command, args, |argument| shown.push(argument.to_vec()));
    shown
}

/// Gives the arguments as they are shown to `show`, one after the other.
fn show_arguments(command: &Command, args: &Args<'_>, mut show: impl FnMut(&[u8])) {
    let kept = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    for (at, argument) in args.iter().enumerate().take(kept) {
        if is_secret(command, args, at) {
            show(REDACTED);
        } else if argument.len() <= ARGUMENT_BYTES_MAX {
            show(argument);
        } else {
            show(&cut(argument));
        }
    }
    if kept < args.len() {
        show(format!("... ({} more arguments)", args.len() - kept).as_bytes());
    }
}

fn cut(argument: &[u8]) -> Vec<u8> {
    let rest = argument.len() - ARGUMENT_BYTES_MAX;
    [&argument[..ARGUMENT_BYTES_MAX], format!("... ({rest} more bytes)").as_bytes()].concat()
}

/// Whether an argument may be a password.
pub(crate) fn is_secret(command: &Command, args: &Args<'_>, at: usize) -> bool {
    match command.full_name {
        "auth" => at > 0,
        "hello" => at > 1,
        // An option's value stands at an odd place, behind its name.
        "config|set" if at > 2 && at % 2 == 1 => config::find(&args[at - 1])
            .is_some_and(|option| option.flags.has(config::Flags::SENSITIVE)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::command::table;
    use tessera_proto::RequestBatch;

    use super::*;

    fn logged(words: &[&str]) -> Vec<String> {
        let mut batch = RequestBatch::new();
        batch.push_slices(words.iter().map(|word| word.as_bytes()));
        let args = batch.get(0).unwrap();
        let command = table().resolve(&args).unwrap();
        let log = SlowLog::default();
        log.add(shown_arguments(command, &args), (5_000_000, 7_000), ("peer", "name"), 10);
        let entry = log.newest(1).remove(0);
        let kept = Watch::new(&Config::default()).shown(command, &args).expect("the log is on");
        let kept: Vec<_> = kept.get(0).unwrap().iter().map(<[u8]>::to_vec).collect();
        assert_eq!(kept, entry.arguments);
        assert_eq!((entry.id, entry.at_s, entry.took_us), (0, 5, 7));
        entry.arguments.into_iter().map(|a| String::from_utf8(a).unwrap()).collect()
    }

    #[test]
    fn long_arguments_and_lines_are_cut() {
        let long = "x".repeat(130);
        let shown = logged(&["set", "k", &long]);
        assert_eq!(shown[2], format!("{}... (2 more bytes)", "x".repeat(128)));
        let mut words = vec!["del"];
        words.extend(["k"; 40]);
        let shown = logged(&words);
        assert_eq!(shown.len(), 32);
        assert_eq!(shown[31], "... (10 more arguments)");
    }

    #[test]
    fn passwords_are_not_kept() {
        assert_eq!(logged(&["auth", "secret"]), ["auth", "(redacted)"]);
        assert_eq!(
            logged(&["config", "set", "hz", "5", "requirepass", "secret"]),
            ["config", "set", "hz", "5", "requirepass", "(redacted)"]
        );
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let log = SlowLog::default();
        for _ in 0..5 {
            log.add(vec![b"ping".to_vec()], (0, 0), ("", ""), 3);
        }
        let ids: Vec<i64> = log.newest(usize::MAX).iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [4, 3, 2]);
        assert_eq!(log.newest(1).len(), 1);
        log.clear();
        assert!(log.is_empty());
    }

    #[test]
    fn a_negative_threshold_or_no_length_turns_the_log_off() {
        let mut config = Config::default();
        assert!(Watch::new(&config).is_slow(10_000_000));
        assert!(!Watch::new(&config).is_slow(9_999_999));
        config.slowlog_log_slower_than = 0;
        assert!(Watch::new(&config).is_slow(0));
        config.slowlog_max_len = 0;
        assert!(!Watch::new(&config).is_slow(1 << 60));
        config.slowlog_max_len = 1;
        config.slowlog_log_slower_than = -1;
        assert!(!Watch::new(&config).is_slow(1 << 60));
    }

    #[test]
    fn the_latency_monitor_has_its_own_threshold() {
        let mut config = Config::default();
        config.slowlog_log_slower_than = -1;
        config.latency_monitor_threshold = 5;
        assert!(Watch::new(&config).is_slow(5_000_000));
        assert!(!Watch::new(&config).is_slow(4_999_999));
    }
}
