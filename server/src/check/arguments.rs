//! The command line of `tessera-check`.
#![forbid(unsafe_code)]

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt as _};
use tessera_engine::persist::export::Target;

/// The text of `--help`.
pub(super) const USAGE: &str = "\
Usage: tessera-check [options] PATH

Says what a data directory holds, and whether the server will start with it.
PATH is the directory of the append-only log (appenddirname), the directory
that it is in (dir), or an RDB file.

Everything is read, every checksum compared, and then loaded as the server
would; that takes as much memory as the server.
       --quick             does not load: little memory, and finds all damage
                           but records that contradict each other

       --fix               gives up what stands behind the first damage, after
                           asking; what is cut off is kept beside it
       --yes               does not ask

       --to-rdb FILE       writes the data as an RDB file
       --to-aof FILE       writes the data as requests, which redis-server
                           loads as its append-only file and
                           `redis-cli --pipe < FILE` sends to any server
       --rdb-version N     10 (default): for Redis from 7.0 on, and Valkey;
                           deadlines of hash fields are left out
                           12: for Redis from 7.4 on, with these deadlines

       --copy-to DIR       copies the log's directory, also while a server
                           uses it: what is there at one instant
       --link              makes hard links, where files do not change any more

       --help, --version

Exit status: 0 whole (and done what was asked), 1 damaged, 2 unusable.";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To print this.
    Text(String),
    /// Nothing that makes sense, for this reason.
    Refused(String),
    /// To do this.
    Job(Job),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) quick: bool,
    pub(super) fix: bool,
    pub(super) yes: bool,
    pub(super) to_rdb: Option<PathBuf>,
    pub(super) to_aof: Option<PathBuf>,
    pub(super) export_for: Target,
    pub(super) copy_to: Option<PathBuf>,
    pub(super) link: bool,
}

/// Reads the arguments, without the program's name.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Asked {
    read(arguments).unwrap_or_else(|error| Asked::Refused(error.to_string()))
}

fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let mut job = Job {
        path: PathBuf::new(),
        quick: false,
        fix: false,
        yes: false,
        to_rdb: None,
        to_aof: None,
        export_for: Target::Any,
        copy_to: None,
        link: false,
    };
    let mut path: Option<PathBuf> = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Text(USAGE.into())),
            Arg::Short('v') | Arg::Long("version") => {
                return Ok(Asked::Text(format!("tessera-check {}", env!("CARGO_PKG_VERSION"))));
            }
            Arg::Long("quick") => job.quick = true,
            Arg::Long("fix") => job.fix = true,
            Arg::Long("yes") => job.yes = true,
            Arg::Long("link") => job.link = true,
            Arg::Long("to-rdb") => job.to_rdb = Some(parser.value()?.into()),
            Arg::Long("to-aof") => job.to_aof = Some(parser.value()?.into()),
            Arg::Long("copy-to") => job.copy_to = Some(parser.value()?.into()),
            Arg::Long("rdb-version") => job.export_for = target(&parser.value()?.string()?)?,
            Arg::Value(value) if path.is_none() => path = Some(value.into()),
            argument => return Err(argument.unexpected()),
        }
    }
    job.path = path.ok_or("no PATH is given")?;
    let exports = job.to_rdb.is_some() || job.to_aof.is_some();
    if job.copy_to.is_some() && (job.fix || exports || job.quick) {
        return Err("--copy-to goes with --link alone: check, mend and export the copy".into());
    }
    if job.link && job.copy_to.is_none() {
        return Err("--link is for --copy-to".into());
    }
    if job.yes && !job.fix {
        return Err("--yes is for --fix".into());
    }
    Ok(Asked::Job(job))
}

/// Who loads files of that version.
fn target(version: &str) -> Result<Target, lexopt::Error> {
    match version {
        "10" => Ok(Target::Any),
        "12" => Ok(Target::Newer),
        _ => Err("--rdb-version is 10 (Redis 7.0, Valkey) or 12 (Redis 7.4)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    #[test]
    fn options_stand_before_and_behind_the_path() {
        let Asked::Job(job) = asked("--fix data --yes --rdb-version 12 --to-rdb=out.rdb") else {
            panic!("it makes sense");
        };
        assert_eq!((job.path, job.fix, job.yes), ("data".into(), true, true));
        assert_eq!((job.to_rdb, job.export_for), (Some("out.rdb".into()), Target::Newer));
        assert!(matches!(asked("--help"), Asked::Text(text) if text == USAGE));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, text) in [
            ("", "PATH"),
            ("a b", "b"),
            ("--frobnicate a", "frobnicate"),
            ("a --to-rdb", "to-rdb"),
            ("a --rdb-version 9", "--rdb-version"),
            ("a --copy-to b --fix", "--copy-to"),
            ("a --link", "--link"),
            ("a --yes", "--yes"),
        ] {
            let Asked::Refused(reason) = asked(line) else { panic!("{line} is taken") };
            assert!(reason.contains(text), "{line}: {reason}");
        }
    }
}
