//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::error::BenchError;
use crate::progress::Progress;
use crate::report::Figures;
use crate::servers::Server;
use crate::{
    collections, connections, durability, growth, memory, pubsub, recovery, several, snapshot,
    throughput,
};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
tessera-bench [OPTION...] [SCENARIO...]
tessera-bench instructions [--check FILE]

Measures Tessera and the rivals found on this machine, run by run in turn, each pinned to one CPU
with the load on another. Without a SCENARIO all run:
  throughput     GET and SET, pipelines of 1, 16 and 64, 50 and 500 connections, GET of 64 KiB
  collections    commands on lists, hashes, sets, sorted sets and streams; RSS of collections
  shards         one shard against two, CPU of load and server shared
  several        MGET and MSET of 10 keys, scripts of two keys, pipelines of 1 and 16
  several-shards the same on one shard against two, CPU of load and server shared
  memory         RSS a key: ten sizes, values of 8 and 32 bytes, deadlines, churn
  growth         from 0 to 20 million keys: the slowest commands
  snapshot       a BGSAVE under load: latency, duration, memory
  recovery       the start over 3 million keys: from the log and from snapshots
  durability     SET with appendfsync always and everysec
  connections    10,000 connections; CPU with 1,000 idle ones
  pubsub         PUBLISH to 100 subscribers: CPU a message delivered
instructions     instructions of a GET and a SET, counted by valgrind; --check compares them with
                 FILE and fails where they differ by more than 3 %

Servers (found on the PATH and beside this program when not given; `none` leaves one out):
  --tessera PATH  --redis PATH  --valkey PATH  --dragonfly PATH
Load: --redis-benchmark PATH  --memtier PATH

  --rounds N         alternating runs a figure (default 5)
  --requests N       requests a run without pipeline (default 200000)
  --server-cpus LIST CPUs of the servers (default 0); --load-cpus LIST, of the load (default 1)
  --results FILE     append the tables to FILE; --chart FILE, write the chart as SVG
  --smoke            everything once and tiny: shows that it works, measures nothing
";

/// What to do.
pub(crate) enum Action {
    Help,
    /// Count instructions, and compare them with the file.
    CountInstructions(Option<PathBuf>),
    /// The counted part: not for users.
    RepeatForCount {
        command: String,
        times: u64,
    },
    Measure(Box<Options>),
}

/// Where a server or tool is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Place {
    #[default]
    Search,
    LeftOut,
    At(PathBuf),
}

/// How to measure.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) tessera: Place,
    pub(crate) redis: Place,
    pub(crate) valkey: Place,
    pub(crate) dragonfly: Place,
    pub(crate) redis_benchmark: Place,
    pub(crate) memtier: Place,
    pub(crate) rounds: usize,
    pub(crate) requests: u64,
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) load_cpus: Vec<usize>,
    pub(crate) results: Option<PathBuf>,
    pub(crate) chart: Option<PathBuf>,
    pub(crate) smoke: bool,
    names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            tessera: Place::Search,
            redis: Place::Search,
            valkey: Place::Search,
            dragonfly: Place::Search,
            redis_benchmark: Place::Search,
            memtier: Place::Search,
            rounds: 5,
            requests: 200_000,
            server_cpus: vec![0],
            load_cpus: vec![1],
            results: None,
            chart: None,
            smoke: false,
            names: Vec::new(),
        }
    }
}

/// A group of figures.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Options, &[Server], &mut Progress) -> Result<Figures, BenchError>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "throughput",
        about: "one shard pinned to one CPU, load on another, random keys of 100,000 preloaded",
        run: throughput::run,
    },
    Scenario {
        name: "collections",
        about: "one shard pinned to one CPU, load on another, pipeline 16, 50 connections; then RSS of \
                a million small collections and of large ones",
        run: collections::run,
    },
    Scenario {
        name: "shards",
        about: "Tessera with two shards against one, all CPUs shared with the load",
        run: throughput::run_shards,
    },
    Scenario {
        name: "several",
        about: "10 keys of 100,000 at once, and scripts; one shard pinned to one CPU, 50 connections",
        run: several::run,
    },
    Scenario {
        name: "several-shards",
        about: "the same, two shards against one, all CPUs shared with the load",
        run: several::run_shards,
    },
    Scenario {
        name: "memory",
        about: "RSS a key in bytes, keys of 16 bytes, median and worst of ten sizes",
        run: memory::run,
    },
    Scenario {
        name: "growth",
        about: "the keyspace grows from nothing; the slowest commands on the way",
        run: growth::run,
    },
    Scenario {
        name: "snapshot",
        about: "BGSAVE of 3 million strings of 256 bytes, and of one hash and one sorted set of a \
                million members, under load at a fixed rate over 20 connections",
        run: snapshot::run,
    },
    Scenario {
        name: "recovery",
        about: "the start over 3 million keys with values of 64 bytes, files in the page cache",
        run: recovery::run,
    },
    Scenario {
        name: "durability",
        about: "SET of 64 bytes, a million keys at random, one shard pinned to one CPU",
        run: durability::run,
    },
    Scenario {
        name: "connections",
        about: "many connections held, and idle ones",
        run: connections::run,
    },
    Scenario {
        name: "pubsub",
        about: "messages of 64 bytes to many subscribers, one shard pinned to one CPU",
        run: pubsub::run,
    },
];

impl Options {
    /// The scenarios asked for, in the table's order.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> + '_ {
        let is_asked = |name| self.names.is_empty() || self.names.iter().any(|asked| asked == name);
        SCENARIOS.iter().filter(move |scenario| is_asked(scenario.name))
    }

    /// `time`, or the short time of a smoke run.
    pub(crate) fn lasting(&self, time: Duration) -> Duration {
        if self.smoke { Duration::from_millis(50) } else { time }
    }

    /// `amount`, or the small amount of a smoke run.
    pub(crate) fn sized(&self, amount: u64, smoke: u64) -> u64 {
        if self.smoke { smoke } else { amount }
    }
}

/// Reads the command line, the program's name first.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, BenchError> {
    let mut parser = lexopt::Parser::from_iter(args);
    parse_with(&mut parser).map_err(|error| BenchError::Usage(error.to_string()))
}

fn parse_with(parser: &mut lexopt::Parser) -> Result<Action, lexopt::Error> {
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Action::Help),
            Long("tessera") => options.tessera = place(parser)?,
            Long("redis") => options.redis = place(parser)?,
            Long("valkey") => options.valkey = place(parser)?,
            Long("dragonfly") => options.dragonfly = place(parser)?,
            Long("redis-benchmark") => options.redis_benchmark = place(parser)?,
            Long("memtier") => options.memtier = place(parser)?,
            Long("rounds") => options.rounds = parser.value()?.parse::<usize>()?.max(1),
            Long("requests") => options.requests = parser.value()?.parse::<u64>()?.max(1),
            Long("server-cpus") => options.server_cpus = parser.value()?.parse_with(cpus)?,
            Long("load-cpus") => options.load_cpus = parser.value()?.parse_with(cpus)?,
            Long("results") => options.results = Some(parser.value()?.into()),
            Long("chart") => options.chart = Some(parser.value()?.into()),
            Long("smoke") => {
                options.smoke = true;
                options.rounds = 1;
            }
            Value(name) if name == "instructions" => return parse_instructions(parser),
            Value(name) => options.names.push(scenario_name(&name)?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Action::Measure(Box::new(options)))
}

fn parse_instructions(parser: &mut lexopt::Parser) -> Result<Action, lexopt::Error> {
    match parser.next()? {
        None => Ok(Action::CountInstructions(None)),
        Some(Long("check")) => Ok(Action::CountInstructions(Some(parser.value()?.into()))),
        Some(Long("repeat")) => {
            let command = parser.value()?.string()?;
            Ok(Action::RepeatForCount { command, times: parser.value()?.parse()? })
        }
        Some(other) => Err(other.unexpected()),
    }
}

fn place(parser: &mut lexopt::Parser) -> Result<Place, lexopt::Error> {
    let value = parser.value()?;
    Ok(if value == "none" { Place::LeftOut } else { Place::At(value.into()) })
}

fn cpus(text: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    text.split(',').map(str::parse).collect()
}

fn scenario_name(name: &OsString) -> Result<String, lexopt::Error> {
    match SCENARIOS.iter().find(|scenario| name == scenario.name) {
        Some(scenario) => Ok(scenario.name.to_owned()),
        None => Err(format!("no scenario is named {}", name.to_string_lossy()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Action, BenchError> {
        parse(std::iter::once("tessera-bench").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn scenarios_and_options_are_read() {
        let Ok(Action::Measure(options)) =
            parse_words("--rounds 7 memory --valkey none --redis /r --load-cpus 2,3 throughput")
        else {
            panic!("a measurement is asked for");
        };
        let names: Vec<_> = options.scenarios().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["throughput", "memory"]);
        assert_eq!(options.rounds, 7);
        assert_eq!(options.load_cpus, [2, 3]);
        assert!(matches!(options.valkey, Place::LeftOut));
        assert!(matches!(options.redis, Place::At(path) if path == *"/r"));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for line in ["--nosuch", "nosuch", "--rounds x", "instructions --nosuch"] {
            assert!(matches!(parse_words(line), Err(BenchError::Usage(_))), "{line}");
        }
    }
}
