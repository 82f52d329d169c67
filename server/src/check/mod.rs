//! `tessera-check`: what a data directory holds, whether the server will start with it, and what can
//! be made of it without a server.
//!
//! ```text
//! arguments   the command line
//! target      what the path is: a log's directory, or an RDB file
//! report      what is told of it
//! mend        --fix: what stands behind the first damage is given up, and kept aside
//! export      --to-rdb, --to-aof
//! copy        --copy-to: a copy that is whole, of a directory that a server goes on writing
//! ```
//!
//! What is verified is not this module's business: it asks the code that recovers at the start (see
//! `engine::persist::{inspect, cure, export}`).
//!
//! # Invariants
//!
//! - a directory that a server uses is only ever copied;
//! - nothing is written but what an option asks for, and `--fix` asks once more;
//! - whatever `--fix` takes out of the directory is kept in a directory beside its files. No file is
//!   changed in place: one may be linked to from elsewhere, even from where a server runs.
#![forbid(unsafe_code)]

mod arguments;
mod copy;
mod export;
mod mend;
mod report;
mod target;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tessera_engine::{
    persist::{
        inspect::{Inspection, inspect},
        recovery::{Loaded, RecoveryError},
    },
    transaction::ShardMap,
};

use arguments::{Asked, Job, USAGE};
use target::{Kind, Target};

/// Everything is whole; what was asked for is done.
const WHOLE: u8 = 0;
/// Something is damaged.
const DAMAGED: u8 = 1;
/// The command line is wrong, something cannot be read or written, or a server is there.
const UNUSABLE: u8 = 2;

/// Why the program cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Damaged,
}

/// Runs the program with the process's arguments.
pub fn main_with_args() -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match arguments::parse(std::env::args_os().skip(1)) {
        Asked::Text(text) => say(&mut out, &text).map(|()| Verdict::Whole),
        Asked::Refused(reason) => Err(Failure(format!("{reason}\n\n{USAGE}"))),
        Asked::Job(job) => run(&job, &mut out),
    };
    // Who reads the output may be gone; there is nobody to tell.
    let _ = out.flush();
    ExitCode::from(match outcome {
        Ok(Verdict::Whole) => WHOLE,
        Ok(Verdict::Damaged) => DAMAGED,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "tessera-check: {failure}");
            UNUSABLE
        }
    })
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{}", text.trim_end()).map_err(Failure::from)
}

fn run(job: &Job, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let target = Target::find(&job.path)?;
    if let Some(to) = &job.copy_to {
        return copy::run(&target, to, job.link, out);
    }
    let _lock = target.lock(job.fix)?;
    say(out, &target.title())?;
    let mut found = Inspection::default();
    match examine(&target, job, &mut found) {
        Ok(loaded) => {
            report::tell(&found, loaded.as_ref(), out)?;
            conclude_whole(&target, job, &found, loaded, out)
        }
        Err(RecoveryError::Io(error)) => {
            Err(Failure(format!("{}: {error}", target.path().display())))
        }
        Err(error) => {
            report::tell(&found, None, out)?;
            say(out, &format!("DAMAGED: {error}"))?;
            match (job.fix, &error) {
                (true, RecoveryError::Corrupt(damage)) => {
                    mend::run(&target, &found, Some(damage), job.yes, out)
                }
                (true, _) => {
                    say(out, mend::INCURABLE)?;
                    Ok(Verdict::Damaged)
                }
                (false, _) => Ok(Verdict::Damaged),
            }
        }
    }
}

/// Reads everything, and loads it unless that is not wanted.
fn examine(
    target: &Target,
    job: &Job,
    found: &mut Inspection,
) -> Result<Option<Loaded>, RecoveryError> {
    let directory = target.directory();
    match target.kind() {
        Kind::Log => inspect(directory, found)?,
        Kind::Rdb(name) => *found = Inspection::of_rdb(directory, name)?,
    }
    if job.quick && job.to_rdb.is_none() && job.to_aof.is_none() {
        return Ok(None);
    }
    let owner_of = |key: &[u8], shards: usize| ShardMap::new(shards).owner(key) as usize;
    found.load(directory, &owner_of).map(Some)
}

/// Everything is whole: exports what is to be exported, and tidies what may be tidied.
fn conclude_whole(
    target: &Target,
    job: &Job,
    found: &Inspection,
    loaded: Option<Loaded>,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    if let Some(mut loaded) = loaded {
        export::run(job, &mut loaded, out)?;
    }
    // A run without an end may yet be written to, if its files are links.
    if job.fix && found.has_open_run() {
        return mend::run(target, found, None, job.yes, out);
    }
    Ok(Verdict::Whole)
}
