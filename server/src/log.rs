//! The log: lines in the form of redis-server's, so that what watches such logs goes on working.
//!
//! `pid:role day month year hour:minute:second.millisecond mark message`, where the role is `M`
//! (master) and the mark one of `.` (debug), `-` (verbose), `*` (notice), `#` (warning). Time is
//! local. The rest of the server writes through `tracing`: `trace!` is debug here, `debug!`
//! verbose, `info!` notice, `warn!` and `error!` warning.
//!
//! Why the log file is opened for each line: log rotation as Debian sets it up for redis-server
//! moves the file and sends no signal. Lines are rare; a level that is off costs one comparison.
//!
//! Invariant: one line is one write, and no message can make a second line look like one of ours:
//! control characters in it are escaped.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::TimeZone};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Config, LogLevel};

/// The running log; changes its level.
#[derive(Clone)]
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
}

/// Another logger is set already.
#[derive(Debug, thiserror::Error)]
#[error("the log was started twice")]
pub struct LogStartedTwice;

impl Log {
    /// Starts the log with the level and the file that `config` names. Once in a process.
    pub fn start(config: &Config) -> Result<Log, LogStartedTwice> {
        let (filter, level) = reload::Layer::new(filter_of(config.loglevel));
        let subscriber = Registry::default().with(filter).with(Lines::new(output_of(config)));
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogStartedTwice)?;
        Ok(Log { level })
    }

    /// Lets lines of `level` and above through from now on.
    pub fn set_level(&self, level: LogLevel) {
        // This fails only when the log is gone, and it lives as long as the process.
        let _ = self.level.reload(filter_of(level));
    }
}

/// Says what starts and how, in a few lines.
pub fn announce_start(config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    if config.always_show_logo {
        for line in LOGO {
            tracing::info!("{line}");
        }
    }
    tracing::info!(
        "Tessera is starting: version={version}, bits={}, pid={}",
        usize::BITS,
        std::process::id()
    );
    tracing::info!("Running mode=standalone, port={}, shards={}.", config.port, config.shards);
}

const LOGO: [&str; 3] =
    ["+--+--+--+", "|##|  |##|   Tessera: each core owns one tile of the keyspace", "+--+--+--+"];

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

/// Where lines go.
enum Output {
    Stdout,
    File(PathBuf),
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>),
}

fn output_of(config: &Config) -> Output {
    if config.logfile.is_empty() {
        return Output::Stdout;
    }
    // Absolute from the start, so that a later CONFIG SET dir does not move the log.
    let directory = Path::new(OsStr::from_bytes(&config.dir));
    Output::File(directory.join(OsStr::from_bytes(&config.logfile)))
}

impl Output {
    fn write(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout => io::stdout().lock().write_all(line),
            Output::File(path) => {
                OpenOptions::new().append(true).create(true).open(path)?.write_all(line)
            }
            #[cfg(test)]
            Output::Memory(lines) => {
                lines.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(line);
                Ok(())
            }
        }
    }
}

/// Turns events into lines.
struct Lines {
    output: Output,
    pid: u32,
    zone: TimeZone,
}

impl Lines {
    fn new(output: Output) -> Lines {
        Lines { output, pid: std::process::id(), zone: TimeZone::system() }
    }

    fn format(&self, level: &Level, message: &str, now: Timestamp) -> String {
        let now = now.to_zoned(self.zone.clone()).strftime("%d %b %Y %H:%M:%S%.3f").to_string();
        let mut line = format!("{}:M {now} {} ", self.pid, mark_of(level));
        for character in message.chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        line.push('\n');
        line
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let line = self.format(event.metadata().level(), &message.assemble(), Timestamp::now());
        // Nothing is left to tell when the log itself cannot be written; serving goes on.
        let _ = self.output.write(line.as_bytes());
    }
}

fn mark_of(level: &Level) -> char {
    match *level {
        Level::TRACE => '.',
        Level::DEBUG => '-',
        Level::INFO => '*',
        Level::WARN | Level::ERROR => '#',
    }
}

/// The text of an event: its message, then its other fields as `name=value`.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Message {
    fn assemble(mut self) -> String {
        self.text.push_str(&self.fields);
        self.text
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.text.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Runs `work` with a log of its own and gives back the lines.
    fn captured(level: LogLevel, work: impl FnOnce(&Log)) -> Vec<String> {
        let memory = Arc::new(Mutex::new(Vec::new()));
        let (filter, handle) = reload::Layer::new(filter_of(level));
        let lines = Lines::new(Output::Memory(memory.clone()));
        let subscriber = Registry::default().with(filter).with(lines);
        tracing::subscriber::with_default(subscriber, || work(&Log { level: handle }));
        let bytes = memory.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_have_the_form_of_redis() {
        let zone = TimeZone::UTC;
        let lines = Lines { output: Output::Stdout, pid: 42, zone };
        let now: Timestamp = "2026-11-02T03:04:05.006Z".parse().unwrap();
        assert_eq!(
            lines.format(&Level::INFO, "Ready to accept connections", now),
            "42:M 02 Nov 2026 03:04:05.006 * Ready to accept connections\n"
        );
    }

    #[test]
    fn each_level_has_its_mark() {
        let lines = captured(LogLevel::Debug, |_| {
            tracing::trace!("a");
            tracing::debug!("b");
            tracing::info!("c");
            tracing::warn!("d");
        });
        let ends: Vec<&str> = lines.iter().map(|line| &line[line.len() - 3..]).collect();
        assert_eq!(ends, [". a", "- b", "* c", "# d"]);
    }

    #[test]
    fn the_level_changes_while_running() {
        let lines = captured(LogLevel::Warning, |log| {
            tracing::info!("unseen");
            log.set_level(LogLevel::Notice);
            tracing::info!(port = 1, name = "x", "seen");
            log.set_level(LogLevel::Nothing);
            tracing::error!("unseen");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("* seen port=1 name=x"), "{}", lines[0]);
    }

    #[test]
    fn a_message_stays_one_line() {
        let lines = captured(LogLevel::Notice, |_| tracing::info!("a\n1:M fake\r\u{1b}[0m"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("* a\\n1:M fake\\r\\u{1b}[0m"), "{}", lines[0]);
    }

    #[test]
    fn a_rotated_file_is_made_anew() {
        let path = std::env::temp_dir().join(format!("tessera-log-{}", std::process::id()));
        let output = Output::File(path.clone());
        output.write(b"one\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        output.write(b"two\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "two\n");
    }
}
