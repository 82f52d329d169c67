//! Instructions of the hot path: parse, look up, reply, without a network, of a GET and a SET and of
//! commands on collections.
//!
//! Valgrind's callgrind counts what one process executes, and does not care how busy the machine
//! is. The program is run twice, with N and with 2 N repetitions; the difference leaves out the
//! start. A recorded count that differs by more than 3 % is a failure in both directions: a gain
//! is to be recorded, so that it cannot be lost again.

use std::path::Path;
use std::process::Command;
use std::{env, fs, hint};

use tessera_engine::command::table;
use tessera_engine::shard::{Call, Caller, Settings, Shard};
use tessera_proto::{Args, Limits, Protocol, ReplyBuffer, RequestParser, Step};

use crate::client::{encode, key};
use crate::error::BenchError;

/// The commands that are counted, each with its repetitions: few for those that cost much.
const COMMANDS: [(&str, u64); 13] = [
    ("get", 20_000),
    ("set", 20_000),
    ("lpush", 5_000),
    ("rpush", 5_000),
    ("lpop", 5_000),
    ("sadd", 5_000),
    ("spop", 5_000),
    ("hset", 5_000),
    ("zadd", 5_000),
    ("zpopmin", 5_000),
    ("lrange", 2_000),
    ("hgetall", 2_000),
    ("zrange", 2_000),
];
/// Those that must stand in the file of recorded counts.
const ALWAYS_RECORDED: [&str; 2] = ["get", "set"];
/// Keys, and members of the collections: enough for all pops.
const KEYS: u64 = 10_000;
/// Elements of the small hash that is read whole.
const SMALL: u64 = 20;
const VALUE: &[u8; 64] = &[b'x'; 64];
const SEED: u64 = 7;
const TOLERANCE: f64 = 0.03;

/// Counts, prints, and compares with the file when there is one.
pub(crate) fn count(check: Option<&Path>) -> Result<(), BenchError> {
    let recorded = match check {
        None => String::new(),
        Some(path) => fs::read_to_string(path)
            .map_err(|error| BenchError::File { path: path.into(), error })?,
    };
    let mut failed = Vec::new();
    for (command, repetitions) in COMMANDS {
        let once = instructions(command, repetitions)?;
        let twice = instructions(command, 2 * repetitions)?;
        let counted = (twice - once) as f64 / repetitions as f64;
        let expected = find(&recorded, command);
        crate::print(&line(command, counted, expected))?;
        let is_good = match expected {
            Some(known) => (counted / known - 1.0).abs() <= TOLERANCE,
            // The hot path proper must be recorded; of other commands, those that are.
            None => !ALWAYS_RECORDED.contains(&command),
        };
        if check.is_some() && !is_good {
            failed.push(command);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(BenchError::Instructions(format!(
        "{} differs from the recorded count by more than {} %; if that is meant, record the new one",
        failed.join(", "),
        TOLERANCE * 100.0
    )))
}

fn line(command: &str, counted: f64, expected: Option<f64>) -> String {
    match expected {
        None => format!("{command} {counted:.0}\n"),
        Some(known) => {
            let percent = (counted / known - 1.0) * 100.0;
            format!("{command} {counted:.0} instructions, recorded {known:.0}: {percent:+.1} %\n")
        }
    }
}

/// The recorded count: lines are `command count`, and comments from `#` on.
fn find(recorded: &str, command: &str) -> Option<f64> {
    let mut lines = recorded.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == command)?.1.trim().parse().ok()
}

/// Instructions of this program with so many repetitions.
fn instructions(command: &str, times: u64) -> Result<u64, BenchError> {
    let own = env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["instructions", "--repeat", command, &times.to_string()])
        .output()
        .map_err(|error| BenchError::Program { program: "valgrind".into(), error })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted =
        text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    counted.filter(|_| output.status.success()).ok_or_else(|| BenchError::Load {
        tool: "valgrind".into(),
        what: text.lines().last().unwrap_or("it printed nothing").into(),
    })
}

/// The program that is counted: `times` requests of 16-byte keys, and 64-byte values of strings.
pub(crate) fn repeat(command: &str, times: u64) -> Result<(), BenchError> {
    let mut worker = Bare::new();
    let (filler, count) = filler(command);
    (0..count).try_for_each(|n| worker.run(&request(filler, n)))?;
    let requests: Vec<_> = (0..KEYS).map(|n| request(command, n * 7_919 % KEYS)).collect();
    for n in 0..times {
        worker.run(&requests[(n % KEYS) as usize])?;
    }
    Ok(())
}

/// The command that fills the shard first, and how often.
fn filler(command: &str) -> (&str, u64) {
    match command {
        "lpop" | "lrange" => ("rpush", KEYS),
        "spop" => ("sadd", KEYS),
        "zpopmin" | "zadd" | "zrange" => ("zadd first", KEYS),
        "hgetall" => ("hset", SMALL),
        "get" | "set" => ("set", KEYS),
        written => (written, KEYS),
    }
}

fn request(command: &str, n: u64) -> Vec<u8> {
    let key = key(n);
    // The order by score is not that of the members, and changes.
    let score = if command == "zadd" { n * 17 % KEYS } else { n * 31 % KEYS }.to_string();
    let words: &[&[u8]] = match command {
        "get" => &[b"GET", key.as_bytes()],
        "lpush" => &[b"LPUSH", b"list", key.as_bytes()],
        "rpush" => &[b"RPUSH", b"list", key.as_bytes()],
        "lpop" => &[b"LPOP", b"list"],
        "sadd" => &[b"SADD", b"set", key.as_bytes()],
        "spop" => &[b"SPOP", b"set"],
        "hset" => &[b"HSET", b"hash", key.as_bytes(), key.as_bytes()],
        "zadd" | "zadd first" => &[b"ZADD", b"zset", score.as_bytes(), key.as_bytes()],
        "zpopmin" => &[b"ZPOPMIN", b"zset"],
        "lrange" => &[b"LRANGE", b"list", b"0", b"99"],
        "hgetall" => &[b"HGETALL", b"hash"],
        "zrange" => &[b"ZRANGE", b"zset", b"0", b"99"],
        _ => &[b"SET", key.as_bytes(), VALUE],
    };
    let mut bytes = Vec::new();
    encode(&mut bytes, words.iter().copied());
    bytes
}

/// What a worker does with a request, less the network.
pub(crate) struct Bare {
    parser: RequestParser,
    limits: Limits,
    shard: Shard,
    reply: ReplyBuffer,
}

impl Bare {
    pub(crate) fn new() -> Self {
        Bare {
            parser: RequestParser::new(),
            limits: Limits::default(),
            shard: Shard::new(SEED, Settings::default()),
            reply: ReplyBuffer::default(),
        }
    }

    pub(crate) fn run(&mut self, request: &[u8]) -> Result<(), BenchError> {
        let broken = |what: String| BenchError::Instructions(what);
        match self.parser.parse(request, &self.limits) {
            Ok(Step::Request { consumed }) if consumed == request.len() => {}
            other => return Err(broken(format!("the request was not parsed: {other:?}"))),
        }
        let args = Args::new(request, self.parser.spans());
        let command = table().resolve(&args).map_err(|error| broken(error.to_string()))?;
        let call = Call {
            command,
            args,
            database: 0,
            protocol: Protocol::Resp2,
            no_touch: false,
            caller: Caller::default(),
        };
        let effect = self.shard.execute(&call, &mut self.reply);
        let _effect = hint::black_box(effect.map_err(|error| broken(error.to_string()))?);
        hint::black_box(self.reply.chunks().count());
        self.reply.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_counts_are_found_by_name() {
        let recorded = "# date\nget 410\nset 600.5\n";
        assert_eq!(find(recorded, "get"), Some(410.0));
        assert_eq!(find(recorded, "set"), Some(600.5));
        assert_eq!(find(recorded, "del"), None);
    }

    #[test]
    fn the_counted_program_runs() {
        for (command, _) in COMMANDS {
            repeat(command, 100).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }
}
