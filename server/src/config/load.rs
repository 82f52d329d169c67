//! Reading the configuration: files, `include`, standard input and the command line's lines.
//!
//! Later lines win. A mistake anywhere stops the start with the place, the line and the reason,
//! in the form in which redis-server prints them. Options that are known and not built are
//! accepted with one warning each.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::arguments::Sources;
use super::glob::glob_paths;
use super::options::Config;
use super::special::os_error_text;
use super::split::split_line;
use super::table::{Flags, Row, find};
use super::unbuilt::OBSOLETE;

/// How deep files may include one another; a file that includes itself must end somewhere.
const INCLUDE_DEPTH_MAX: u32 = 32;

/// A configuration that was read, and what to tell the user about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The configuration file, absolute; CONFIG REWRITE writes it.
    pub file: Option<PathBuf>,
    /// Lines for the log, at level warning.
    pub warnings: Vec<String>,
}

/// Why the configuration could not be read. `Display` is what the user sees.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A line is wrong.
    #[error(
        "\n*** FATAL CONFIG FILE ERROR (Tessera {}) ***\n\
         Reading the configuration file, at line {number} of {source_name}\n>>> '{line}'\n{reason}",
        env!("CARGO_PKG_VERSION")
    )]
    Line {
        /// The file, "standard input" or "the command line".
        source_name: String,
        /// Counted from 1.
        number: usize,
        /// The line, without surrounding blanks.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("Fatal error, can't open config file '{path}': {reason}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// The log file cannot be written.
    #[error(
        "\n*** FATAL CONFIG FILE ERROR (Tessera {}) ***\nCan't open the log file: {reason}",
        env!("CARGO_PKG_VERSION")
    )]
    LogFile {
        /// What the operating system says.
        reason: String,
    },
}

/// Reads everything that `sources` name, on top of the defaults.
pub fn load(sources: &Sources) -> Result<Loaded, LoadError> {
    let mut loader = Loader { config: Config::default(), warnings: Vec::new(), warned: Vec::new() };
    if let Some(path) = &sources.file {
        loader.read_file(path, 0)?;
    }
    if sources.stdin {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map_err(|error| LoadError::File {
            path: "standard input".into(),
            reason: os_error_text(&error),
        })?;
        loader.read_text(&text, "standard input", 0)?;
    }
    loader.read_text(&sources.lines.join(&b'\n'), "the command line", 0)?;
    loader.finish(sources.file.clone())
}

struct Loader {
    config: Config,
    warnings: Vec<String>,
    /// Unbuilt options that were warned of.
    warned: Vec<&'static str>,
}

impl Loader {
    /// Reads a file, or all files that a pattern matches; a pattern may match none.
    fn read_file(&mut self, path: &Path, depth: u32) -> Result<(), LoadError> {
        let is_pattern = path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte));
        if !is_pattern {
            return self.read_one_file(path, depth);
        }
        for path in glob_paths(path) {
            self.read_one_file(&path, depth)?;
        }
        Ok(())
    }

    fn read_one_file(&mut self, path: &Path, depth: u32) -> Result<(), LoadError> {
        let text = std::fs::read(path).map_err(|error| LoadError::File {
            path: path.display().to_string(),
            reason: os_error_text(&error),
        })?;
        self.read_text(&text, &path.display().to_string(), depth)
    }

    fn read_text(&mut self, text: &[u8], name: &str, depth: u32) -> Result<(), LoadError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            match self.read_line(line, depth) {
                Ok(()) => {}
                Err(LineError::Here(reason)) => {
                    return Err(LoadError::Line {
                        source_name: name.to_owned(),
                        number: index + 1,
                        line: String::from_utf8_lossy(line).into_owned(),
                        reason,
                    });
                }
                Err(LineError::Included(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], depth: u32) -> Result<(), LineError> {
        let words = split_line(line).map_err(|error| error.to_string())?;
        let Some((name, arguments)) = words.split_first() else { return Ok(()) };
        if let Some(row) = find(name) {
            self.warn_if_unbuilt(row.is_unbuilt(), row.name);
            return assign(&mut self.config, row, arguments).map_err(LineError::Here);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        match (name.as_str(), arguments) {
            ("include", [path]) => self.include(path, depth),
            ("sentinel", []) => Ok(()),
            ("sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            ("loadmodule", [_, ..]) => Err("modules are not supported".into()),
            ("rename-command", [_, _]) | ("user", [_, ..]) => {
                // Passing these over would open what the user meant to close.
                Err(format!("'{name}' is known to Redis but not supported yet").into())
            }
            (old, [_]) if OBSOLETE.contains(&old) => Ok(()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn include(&mut self, path: &[u8], depth: u32) -> Result<(), LineError> {
        if depth >= INCLUDE_DEPTH_MAX {
            return Err(format!("more than {INCLUDE_DEPTH_MAX} files include one another").into());
        }
        self.read_file(Path::new(OsStr::from_bytes(path)), depth + 1).map_err(LineError::Included)
    }

    fn warn_if_unbuilt(&mut self, unbuilt: bool, name: &'static str) {
        if unbuilt && !self.warned.contains(&name) {
            self.warned.push(name);
            self.warnings.push(format!(
                "option '{name}' is known to Redis but not supported yet and is ignored"
            ));
        }
    }

    /// The checks that need the whole configuration.
    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, LoadError> {
        self.config.normalise();
        if !self.config.logfile.is_empty() {
            check_log_file(&self.config)?;
        }
        if self.config.daemonize {
            self.warnings.push(
                "option 'daemonize' is set, but the server stays in the foreground; \
                 let a service manager keep it in the background"
                    .into(),
            );
        }
        Ok(Loaded { config: self.config, file, warnings: self.warnings })
    }
}

/// Gives a line's arguments to an option. The one argument of an option that takes several may
/// hold them all, so that `--save "900 1"` works.
fn assign(config: &mut Config, row: &Row, arguments: &[Vec<u8>]) -> Result<(), String> {
    if !row.flags.has(Flags::MULTI) {
        return row.assign(config, arguments);
    }
    match arguments {
        [only] if !only.is_empty() => {
            let words = split_line(only).map_err(|error| error.to_string())?;
            row.assign(config, &words)
        }
        _ => row.assign(config, arguments),
    }
}

fn check_log_file(config: &Config) -> Result<(), LoadError> {
    let path = Path::new(OsStr::from_bytes(&config.dir)).join(OsStr::from_bytes(&config.logfile));
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| LoadError::LogFile { reason: os_error_text(&error) })
}

/// What is wrong with a line: itself, or something in the file that it includes.
enum LineError {
    Here(String),
    Included(LoadError),
}

impl From<String> for LineError {
    fn from(reason: String) -> Self {
        LineError::Here(reason)
    }
}

impl From<&str> for LineError {
    fn from(reason: &str) -> Self {
        LineError::Here(reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_lines(lines: &[&str]) -> Result<Loaded, LoadError> {
        let lines = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        load(&Sources { file: None, stdin: false, lines })
    }

    /// A directory of its own for each test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("tessera-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn later_lines_win() {
        let loaded = load_lines(&["port 1", "PORT 2", "# port 3", ""]).unwrap();
        assert_eq!(loaded.config.port, 2);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn unknown_options_are_refused_by_name_and_line() {
        let error = load_lines(&["port 1", "no-such-thing 1"]).unwrap_err().to_string();
        assert!(error.contains("*** FATAL CONFIG FILE ERROR"), "{error}");
        assert!(error.contains("at line 2 of the command line\n>>> 'no-such-thing 1'\n"));
        assert!(error.ends_with("Bad directive or wrong number of arguments"));
    }

    #[test]
    fn values_out_of_bounds_name_the_bounds() {
        let error = load_lines(&["port 65536"]).unwrap_err().to_string();
        assert!(error.ends_with("argument must be between 0 and 65535 inclusive"), "{error}");
    }

    #[test]
    fn unbuilt_options_warn_once_each() {
        let lines = ["aof-use-rdb-preamble yes", "aof-use-rdb-preamble no", "replica-priority 1"];
        let loaded = load_lines(&lines).unwrap();
        assert_eq!(loaded.warnings.len(), 2);
        assert_eq!(
            loaded.warnings[0],
            "option 'aof-use-rdb-preamble' is known to Redis but not supported yet and is ignored"
        );
    }

    #[test]
    fn several_arguments_may_stand_in_one() {
        let loaded = load_lines(&["bind \"127.0.0.1 -::1\""]).unwrap();
        assert_eq!(loaded.config.bind, [b"127.0.0.1".to_vec(), b"-::1".to_vec()]);
        let loaded = load_lines(&["bind \"\""]).unwrap();
        assert!(loaded.config.bind.is_empty());
    }

    #[test]
    fn output_limits_add_up_over_lines() {
        let loaded = load_lines(&[
            "client-output-buffer-limit normal 1mb 0 0",
            "client-output-buffer-limit pubsub 2mb 0 0",
        ])
        .unwrap();
        let [normal, replica, pubsub] = loaded.config.client_output_buffer_limit;
        assert_eq!((normal.hard_bytes, pubsub.hard_bytes), (1 << 20, 2 << 20));
        assert_eq!(replica.hard_bytes, 256 << 20);
    }

    #[test]
    fn includes_are_read_where_they_stand() {
        let scratch = Scratch::new("include");
        let inner = scratch.write("inner.conf", "port 7001\ntimeout 5\n");
        let text = format!("port 1\ninclude {}\ntimeout 6\n", inner.display());
        let outer = scratch.write("outer.conf", &text);
        let sources = Sources { file: Some(outer), stdin: false, lines: Vec::new() };
        let config = load(&sources).unwrap().config;
        assert_eq!((config.port, config.timeout), (7001, 6));
    }

    #[test]
    fn patterns_include_all_that_match_or_nothing() {
        let scratch = Scratch::new("pattern");
        scratch.write("a.conf", "port 1\n");
        scratch.write("b.conf", "port 2\n");
        let line = format!("include {}/*.conf", scratch.0.display());
        assert_eq!(load_lines(&[&line]).unwrap().config.port, 2);
        let line = format!("include {}/*.none", scratch.0.display());
        assert_eq!(load_lines(&[&line]).unwrap().config.port, 6379);
    }

    #[test]
    fn an_error_inside_an_include_names_that_file() {
        let scratch = Scratch::new("include-error");
        let inner = scratch.write("inner.conf", "\nwrong\n");
        let line = format!("include {}", inner.display());
        let error = load_lines(&[&line]).unwrap_err().to_string();
        assert!(error.contains(&format!("at line 2 of {}", inner.display())), "{error}");
    }

    #[test]
    fn a_file_that_includes_itself_ends_in_an_error() {
        let scratch = Scratch::new("circle");
        let path = scratch.0.join("self.conf");
        std::fs::write(&path, format!("include {}\n", path.display())).unwrap();
        let sources = Sources { file: Some(path), stdin: false, lines: Vec::new() };
        let error = load(&sources).unwrap_err().to_string();
        assert!(error.contains("files include one another"), "{error}");
    }

    #[test]
    fn missing_files_are_named() {
        let error = load_lines(&["include /no/such.conf"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "Fatal error, can't open config file '/no/such.conf': No such file or directory"
        );
    }

    #[test]
    fn what_would_weaken_security_is_refused_not_ignored() {
        for line in ["user alice on >secret ~* +@all", "rename-command FLUSHALL \"\""] {
            let error = load_lines(&[line]).unwrap_err().to_string();
            assert!(error.contains("not supported yet"), "{error}");
        }
    }
}
