//! Measures Tessera beside its rivals, on one machine, run by run in turn.
//!
//! Every figure is relative: machines differ, and one machine differs from hour to hour. So each
//! round runs every server once, one after the other, pinned to the same CPU with the load on
//! another one, and what is reported is the median over rounds with its spread, beside the ratio
//! to the first server.
//!
//! | module | what |
//! |---|---|
//! | `options` | the command line |
//! | `servers` | finds, starts, pins and stops servers |
//! | `probe` | CPU time and resident size of a process, from /proc |
//! | `client` | a small RESP client, for what load tools cannot do |
//! | `load` | runs redis-benchmark and memtier_benchmark, and reads their output |
//! | `pace` | load at a fixed rate, with the latency of every request |
//! | `throughput`, `collections`, `several`, `pubsub`, `connections` | scenarios of load |
//! | `memory`, `growth`, `snapshot`, `recovery`, `durability` | scenarios of data |
//! | `report`, `chart` | tables with ratios, and an SVG |
//! | `instructions` | instructions of the hot path, counted by valgrind |
//!
//! CPU time of a server is that of all tasks of the process: kernel workers of its rings are tasks
//! of the process too.
#![forbid(unsafe_code)]

mod chart;
mod client;
mod collections;
mod connections;
mod durability;
mod error;
mod growth;
mod instructions;
mod load;
mod memory;
mod options;
mod pace;
mod probe;
mod progress;
mod pubsub;
mod recovery;
mod report;
mod servers;
mod several;
mod snapshot;
mod throughput;

use std::io::Write as _;
use std::process::ExitCode;

pub use error::BenchError;
use options::{Action, Options, USAGE};
use progress::Progress;
use report::Report;

/// Runs the tool with the process's arguments.
pub fn main_with_args() -> ExitCode {
    match options::parse(std::env::args_os()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody can be told that standard error is closed.
            let _ = writeln!(std::io::stderr(), "tessera-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<(), BenchError> {
    match action {
        Action::Help => print(USAGE),
        Action::CountInstructions(check) => instructions::count(check.as_deref()),
        Action::RepeatForCount { command, times } => instructions::repeat(&command, times),
        Action::Measure(options) => measure(&options),
    }
}

fn measure(options: &Options) -> Result<(), BenchError> {
    let servers = servers::find(options)?;
    let mut report = Report::new(options, &servers);
    let mut progress = Progress::new(options);
    for scenario in options.scenarios() {
        progress.scenario(scenario.name);
        let figures = (scenario.run)(options, &servers, &mut progress)?;
        progress.clear();
        print(&report.add(scenario.name, scenario.about, &figures))?;
    }
    progress.clear();
    report.write(options)
}

fn print(text: &str) -> Result<(), BenchError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(BenchError::Output)
}
