//! Load tools of others: redis-benchmark and memtier_benchmark.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::servers::{Running, locate, spawn_pinned};

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// `get` or `set`; for redis-benchmark alone also a whole command, in which `__rand_int__` stands
    /// for a random number.
    pub(crate) command: &'static str,
    pub(crate) value_bytes: u64,
    /// Keys to choose from at random.
    pub(crate) keys: u64,
    pub(crate) connections: u64,
    pub(crate) pipeline: u64,
    /// Database: values of another size lie in another one.
    pub(crate) database: u32,
    pub(crate) requests: u64,
}

/// A command line that redis-benchmark sends again and again, `__rand_int__` in it being a number
/// drawn anew each time.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) words: Vec<String>,
    /// Numbers are drawn from 0 to this, this not included.
    pub(crate) keys: u64,
    pub(crate) connections: u64,
    pub(crate) pipeline: u64,
    pub(crate) requests: u64,
}

/// What one run showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) requests_per_s: f64,
    /// CPU of the server, user and kernel, nanoseconds a request.
    pub(crate) cpu_ns: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The highest percentile that the tool tells: p99.9, or the maximum.
    pub(crate) tail_ms: f64,
}

/// A load tool of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Tool {
    RedisBenchmark(PathBuf),
    Memtier(PathBuf),
}

impl Tool {
    /// The tools that were found, redis-benchmark first.
    pub(crate) fn find(options: &Options) -> Result<Vec<Tool>, BenchError> {
        let redis = locate("redis-benchmark", &options.redis_benchmark).map(Tool::RedisBenchmark);
        let memtier = locate("memtier_benchmark", &options.memtier).map(Tool::Memtier);
        let tools: Vec<_> = redis.into_iter().chain(memtier).collect();
        if tools.is_empty() {
            return Err(BenchError::Usage(
                "no load tool was found: redis-benchmark is in Debian's redis-tools".into(),
            ));
        }
        Ok(tools)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Tool::RedisBenchmark(_) => "redis-benchmark",
            Tool::Memtier(_) => "memtier",
        }
    }

    /// What the tool calls its [`Run::tail_ms`].
    pub(crate) fn tail(&self) -> &'static str {
        match self {
            Tool::RedisBenchmark(_) => "max",
            Tool::Memtier(_) => "p99.9",
        }
    }

    /// Runs the load on `cpus`.
    pub(crate) fn run(
        &self,
        server: &Running,
        point: &Point,
        cpus: &[usize],
    ) -> Result<Run, BenchError> {
        let command = match self {
            Tool::RedisBenchmark(program) => redis_benchmark(program, server.port, point),
            Tool::Memtier(program) => memtier(program, server.port, point),
        };
        self.measure(server, command, self.sent(point), cpus)
    }

    /// Sends one line again and again. Only redis-benchmark can; `None` from the others.
    pub(crate) fn run_line(
        &self,
        server: &Running,
        line: &Line,
        cpus: &[usize],
    ) -> Option<Result<Run, BenchError>> {
        let Tool::RedisBenchmark(program) = self else { return None };
        let command = redis_benchmark_line(program, server.port, line);
        Some(self.measure(server, command, line.requests, cpus))
    }

    /// Runs `command`, which sends so many requests to `server`.
    fn measure(
        &self,
        server: &Running,
        command: Command,
        requests: u64,
        cpus: &[usize],
    ) -> Result<Run, BenchError> {
        let before = probe::cpu_ns(server.process_id())?;
        let output = self.output(command, cpus)?;
        let used = probe::cpu_ns(server.process_id())? - before;
        let cpu_ns = used as f64 / requests as f64;
        let parsed = match self {
            Tool::RedisBenchmark(_) => parse_redis_benchmark(&output),
            Tool::Memtier(_) => parse_memtier(&output),
        };
        let run = parsed.ok_or_else(|| self.failure(&output))?;
        Ok(Run { cpu_ns, ..run })
    }

    /// Requests that the tool really sends: memtier's are a multiple of the connections.
    fn sent(&self, point: &Point) -> u64 {
        match self {
            Tool::RedisBenchmark(_) => point.requests,
            Tool::Memtier(_) => each(point) * point.connections,
        }
    }

    fn output(&self, mut command: Command, cpus: &[usize]) -> Result<String, BenchError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = spawn_pinned(&mut command, cpus)?;
        let mut output = String::new();
        if let Some(pipe) = &mut child.stdout {
            pipe.read_to_string(&mut output)?;
        }
        let status = child.wait()?;
        if status.success() { Ok(output) } else { Err(self.failure(&output)) }
    }

    fn failure(&self, output: &str) -> BenchError {
        let last = output.lines().last().unwrap_or("it printed nothing");
        BenchError::Load { tool: self.name().into(), what: last.into() }
    }
}

fn each(point: &Point) -> u64 {
    (point.requests / point.connections).max(point.pipeline)
}

fn redis_benchmark(program: &Path, port: u16, point: &Point) -> Command {
    let words = format!(
        "-h 127.0.0.1 -p {port} --csv -c {} -P {} -n {} -r {} -d {} --dbnum {}",
        point.connections,
        point.pipeline,
        point.requests,
        point.keys,
        point.value_bytes,
        point.database
    );
    let mut command = Command::new(program);
    command.args(words.split(' '));
    if matches!(point.command, "get" | "set") {
        command.arg("-t");
    }
    command.args(point.command.split(' '));
    command
}

fn redis_benchmark_line(program: &Path, port: u16, line: &Line) -> Command {
    let words = format!(
        "-h 127.0.0.1 -p {port} --csv -c {} -P {} -n {} -r {}",
        line.connections, line.pipeline, line.requests, line.keys
    );
    let mut command = Command::new(program);
    command.args(words.split(' ')).args(&line.words);
    command
}

fn memtier(program: &Path, port: u16, point: &Point) -> Command {
    let ratio = if point.command == "get" { "0:1" } else { "1:0" };
    let words = format!(
        "-s 127.0.0.1 -p {port} -t 1 -c {} --pipeline {} -n {} --ratio {ratio} -d {} \
         --key-prefix key: --key-minimum 100000000000 --key-maximum {} --select-db {} \
         --hide-histogram",
        point.connections,
        point.pipeline,
        each(point),
        point.value_bytes,
        MEMTIER_FIRST_KEY + point.keys - 1,
        point.database
    );
    let mut command = Command::new(program);
    command.args(words.split(' '));
    command
}

/// memtier pads no numbers: keys of twelve digits begin here.
pub(crate) const MEMTIER_FIRST_KEY: u64 = 100_000_000_000;

/// The second line: test, requests a second, then latencies: mean, least, p50, p95, p99, most. The
/// test may be a whole command line with commas in it.
fn parse_redis_benchmark(output: &str) -> Option<Run> {
    let line = output.lines().find(|line| !line.starts_with("\"test\"") && line.contains(','))?;
    let fields: Vec<&str> = line.split(',').collect();
    let figures: Vec<f64> = fields
        .last_chunk::<7>()?
        .iter()
        .map(|text| text.trim_matches('"').parse())
        .collect::<Result<_, _>>()
        .ok()?;
    let &[requests_per_s, _mean, _least, p50_ms, _p95, p99_ms, tail_ms] = &figures[..] else {
        return None;
    };
    Some(Run { requests_per_s, cpu_ns: 0.0, p50_ms, p99_ms, tail_ms })
}

/// The line of totals ends in: mean latency, p50, p99, p99.9, KB a second.
fn parse_memtier(output: &str) -> Option<Run> {
    let line = output.lines().find(|line| line.starts_with("Totals"))?;
    let fields: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    let number = |text: &&str| text.parse::<f64>().ok();
    let requests_per_s = fields.first().and_then(number)?;
    let [p50, p99, tail, _kilobytes] = fields.last_chunk::<4>()?;
    let [p50_ms, p99_ms, tail_ms] = [number(p50)?, number(p99)?, number(tail)?];
    Some(Run { requests_per_s, cpu_ns: 0.0, p50_ms, p99_ms, tail_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_redis_benchmark_is_read() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
                      \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                      \"GET\",\"83333.34\",\"0.336\",\"0.136\",\"0.311\",\"0.495\",\"0.615\",\"0.9\"\n";
        let run = parse_redis_benchmark(output).expect("known output");
        assert_eq!(run.requests_per_s, 83333.34);
        assert_eq!((run.p50_ms, run.p99_ms, run.tail_ms), (0.311, 0.615, 0.9));
        let whole_line = output.replace("GET", "eval return call('get', KEYS[1]) 1 k");
        assert_eq!(parse_redis_benchmark(&whole_line), Some(run));
    }

    #[test]
    fn output_of_memtier_is_read() {
        let output = "Type  Ops/sec\n\
                      Sets  0.00 --- --- --- --- --- --- 0.00\n\
                      Totals 68000.5 68000.5 0.00 0.73 0.71 1.50 2.05 6000.00\n";
        let run = parse_memtier(output).expect("known output");
        assert_eq!(run.requests_per_s, 68000.5);
        assert_eq!((run.p50_ms, run.p99_ms, run.tail_ms), (0.71, 1.5, 2.05));
    }

    #[test]
    fn unknown_output_is_no_figure() {
        assert_eq!(parse_redis_benchmark("Could not connect\n"), None);
        assert_eq!(parse_memtier("connection refused\n"), None);
    }
}
