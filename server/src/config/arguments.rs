//! The command line: `tessera-server [/path/redis.conf] [--option value …] [-]`.
//!
//! As in redis-server, `--name value value …` is a line of a configuration file that comes after
//! the file's own lines, and a lone `-` as the first or last argument reads more lines from
//! standard input, before those of the command line. A word that starts with two dashes is a value
//! when it directly follows a name that has none yet.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::split::{quote, split_line};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Invocation {
    /// Print the version.
    Version,
    /// Print how the program is used.
    Help,
    /// Something that this server does not do; the text says what instead.
    Refused(String),
    /// Start the server.
    Run(Sources),
}

/// Where the configuration comes from, in the order in which it is read.
#[derive(Debug, Default, PartialEq)]
pub struct Sources {
    /// A configuration file.
    pub file: Option<PathBuf>,
    /// Standard input is read after the file.
    pub stdin: bool,
    /// Lines made of the command line's options, read last.
    pub lines: Vec<Vec<u8>>,
}

/// Reads the arguments, without the program's name.
pub fn parse_arguments(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let arguments: Vec<Vec<u8>> = arguments.into_iter().map(OsString::into_vec).collect();
    match arguments.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Invocation::Version,
        Some(b"-h" | b"--help") => return Invocation::Help,
        Some(b"--test-memory") => return refuse("--test-memory", "use memtest86+ or memtester"),
        Some(b"--check-system") => return refuse("--check-system", "start the server: it says"),
        _ => {}
    }
    if arguments.iter().any(|argument| argument.eq_ignore_ascii_case(b"--sentinel")) {
        return refuse("--sentinel", "run redis-sentinel: it can watch this server");
    }
    Invocation::Run(parse_sources(arguments))
}

fn refuse(option: &str, instead: &str) -> Invocation {
    Invocation::Refused(format!("{option} is not supported: {instead}"))
}

fn parse_sources(mut arguments: Vec<Vec<u8>>) -> Sources {
    let mut sources = Sources::default();
    let names_file = arguments.first().is_some_and(|first| first.first() != Some(&b'-'));
    if names_file {
        let path = PathBuf::from(OsString::from_vec(arguments.remove(0)));
        sources.file = Some(std::path::absolute(&path).unwrap_or(path));
    }
    let last = arguments.len().saturating_sub(1);
    // Whether the option read last has all it needs, so that two dashes start another one.
    let mut complete = true;
    for (index, argument) in arguments.iter().enumerate() {
        let starts_line = sources.lines.is_empty();
        let at_edge = index == last || (index == 0 && !names_file);
        if argument == b"-" && at_edge {
            sources.stdin = true;
        } else if complete && argument.starts_with(b"--") {
            let next = arguments.get(index + 1);
            let (line, done) = start_line(argument, next);
            sources.lines.push(line);
            complete = done;
        } else {
            if starts_line {
                sources.lines.push(Vec::new());
            }
            if let Some(line) = sources.lines.last_mut() {
                quote(line, argument);
                line.push(b' ');
            }
            complete = true;
        }
    }
    sources
}

/// The line that an option's name starts, and whether it is complete already: when the argument
/// holds values too (`"--port 7000"`), and for a bare `--save`, which means none at all.
fn start_line(argument: &[u8], next: Option<&Vec<u8>>) -> (Vec<u8>, bool) {
    let mut line = argument[2..].to_vec();
    line.push(b' ');
    let bare = split_line(argument).is_ok_and(|words| words.len() == 1);
    if !bare {
        return (line, true);
    }
    let nothing_follows = next.is_none_or(|next| next.starts_with(b"--"));
    if nothing_follows && argument.eq_ignore_ascii_case(b"--save") {
        line.extend(b"\"\"");
        return (line, true);
    }
    (line, false)
}

/// The text of `--help`.
pub const USAGE: &str = "\
Usage: tessera-server [/path/to/redis.conf] [options] [-]
       tessera-server - (read config from stdin)
       tessera-server -v or --version
       tessera-server -h or --help

Every option of the configuration file is also one of the command line: `--name value`.
The options of Redis keep their names; new is:
       --shards <number>     worker threads, each owning a part of the keyspace
                             (default: the CPUs that the process may use)

Examples:
       tessera-server (run the server with default conf)
       echo 'maxmemory 128mb' | tessera-server -
       tessera-server /etc/redis/redis.conf
       tessera-server --port 7777 --shards 4
       tessera-server /etc/redis/redis.conf --loglevel verbose -
       tessera-server /etc/redis/redis.conf --loglevel verbose
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Invocation {
        parse_arguments(words.iter().map(OsString::from))
    }

    fn lines(words: &[&str]) -> Vec<String> {
        match parse(words) {
            Invocation::Run(sources) => {
                sources.lines.iter().map(|l| String::from_utf8_lossy(l).trim().into()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_option_makes_a_line() {
        assert_eq!(
            lines(&["--port", "7000", "--save", "900", "1", "--bind", "127.0.0.1", "-::1"]),
            ["port \"7000\"", "save \"900\" \"1\"", "bind \"127.0.0.1\" \"-::1\""]
        );
    }

    #[test]
    fn the_first_word_may_name_a_file() {
        let Invocation::Run(sources) = parse(&["/etc/x.conf", "--port", "1", "-"]) else {
            panic!("not a run")
        };
        assert_eq!(sources.file, Some("/etc/x.conf".into()));
        assert!(sources.stdin);
        assert_eq!(sources.lines.len(), 1);
    }

    #[test]
    fn a_lone_dash_inside_is_a_value() {
        let Invocation::Run(sources) = parse(&["--requirepass", "-", "--port", "1"]) else {
            panic!("not a run")
        };
        assert!(!sources.stdin);
        assert_eq!(sources.lines[0], b"requirepass \"-\" ");
    }

    #[test]
    fn a_value_may_start_with_dashes() {
        assert_eq!(lines(&["--requirepass", "--secret"]), ["requirepass \"--secret\""]);
    }

    #[test]
    fn name_and_value_may_share_an_argument() {
        assert_eq!(lines(&["--port 7000", "--hz", "5"]), ["port 7000", "hz \"5\""]);
    }

    #[test]
    fn a_bare_save_means_none() {
        assert_eq!(lines(&["--save", "--port", "1"]), ["save \"\"", "port \"1\""]);
        assert_eq!(lines(&["--port", "1", "--save"]), ["port \"1\"", "save \"\""]);
    }

    #[test]
    fn other_modes_are_told_apart() {
        assert_eq!(parse(&["-v"]), Invocation::Version);
        assert_eq!(parse(&["--help"]), Invocation::Help);
        assert!(matches!(parse(&["--test-memory", "10"]), Invocation::Refused(_)));
        assert!(matches!(parse(&["x.conf", "--sentinel"]), Invocation::Refused(_)));
    }
}
