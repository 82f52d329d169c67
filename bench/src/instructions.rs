//! Instructions of the hot path: parse, look up, reply, of a GET and a SET, without a network.
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

const COMMANDS: [&str; 2] = ["get", "set"];
const REPETITIONS: u64 = 20_000;
const KEYS: u64 = 10_000;
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
    for command in COMMANDS {
        let once = instructions(command, REPETITIONS)?;
        let twice = instructions(command, 2 * REPETITIONS)?;
        let counted = (twice - once) as f64 / REPETITIONS as f64;
        let expected = find(&recorded, command);
        crate::print(&line(command, counted, expected))?;
        let is_good = expected.is_some_and(|known| (counted / known - 1.0).abs() <= TOLERANCE);
        if check.is_some() && !is_good {
            failed.push(command);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(BenchError::Instructions(format!(
        "{} differs from the recorded count by more than {} %; if that is meant, record the new one",
        failed.join(" and "),
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

/// The program that is counted: `times` requests of 16-byte keys and 64-byte values.
pub(crate) fn repeat(command: &str, times: u64) -> Result<(), BenchError> {
    let mut worker = Bare::new();
    (0..KEYS).try_for_each(|n| worker.run(&request("set", n)))?;
    let requests: Vec<_> = (0..KEYS).map(|n| request(command, n * 7_919 % KEYS)).collect();
    for n in 0..times {
        worker.run(&requests[(n % KEYS) as usize])?;
    }
    Ok(())
}

fn request(command: &str, n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = key(n);
    match command {
        "get" => encode(&mut bytes, [&b"GET"[..], key.as_bytes()]),
        _ => encode(&mut bytes, [&b"SET"[..], key.as_bytes(), VALUE]),
    }
    bytes
}

/// What a worker does with a request, less the network.
struct Bare {
    parser: RequestParser,
    limits: Limits,
    shard: Shard,
    reply: ReplyBuffer,
}

impl Bare {
    fn new() -> Self {
        Bare {
            parser: RequestParser::new(),
            limits: Limits::default(),
            shard: Shard::new(SEED, Settings::default()),
            reply: ReplyBuffer::default(),
        }
    }

    fn run(&mut self, request: &[u8]) -> Result<(), BenchError> {
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
        repeat("get", 100).expect("GETs run");
        repeat("set", 100).expect("SETs run");
    }
}
