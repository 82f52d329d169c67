//! Other programs that tests need: where they are, and how a test without them is skipped.

use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::server::Server;

/// What a program left behind.
pub(crate) struct Finished {
    pub(crate) success: bool,
    /// The exit status, unless a signal has ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The first program `name` on the PATH, unless the variable `TESSERA_<NAME>` names another.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let variable = format!("TESSERA_{}", name.to_uppercase().replace('-', "_"));
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// A redis-server to compare with, or `None` after a line that says what is missing.
pub(crate) fn redis_server() -> Option<Server> {
    match find_program("redis-server") {
        Some(program) => Some(Server::redis(&program)),
        None => {
            skip("redis-server is not installed (./tests/run installs it, with apt as root)");
            None
        }
    }
}

/// The servers of others that are installed: redis-server and valkey-server.
pub(crate) fn rivals() -> Vec<Server> {
    let programs = ["redis-server", "valkey-server"].into_iter().filter_map(find_program);
    let servers: Vec<Server> = programs.map(|program| Server::redis(&program)).collect();
    if servers.is_empty() {
        skip("neither redis-server nor valkey-server is installed");
    }
    servers
}

/// Says, past the test runner's capture, why a test does nothing.
pub(crate) fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    // The line is for the person who reads the run: no error can be reported better than this.
    let _ = writeln!(std::io::stderr(), "skipped {name}: {why}");
}

/// Runs `command` to its end. What it has started, and has left, ends with it.
///
/// # Panics
/// When it takes longer than `limit`; it is killed first.
#[track_caller]
pub(crate) fn run_to_end(command: &mut Command, limit: Duration) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [out, err] = ["out", "err"].map(|name| dir.path().join(name));
    let file = |path: &Path| fs::File::create(path).expect("a file for output");
    command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err)).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    let deadline = Instant::now() + limit;
    while !has_ended(id) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let is_in_time = has_ended(id);
    // The child is not waited for yet, so the number of its group is still its own.
    kill_process_group(id, Signal::KILL).expect("our own children can be killed");
    let status = child.wait().expect("the state of our own child");
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let (stdout, stderr) = (text(&out), text(&err));
    assert!(is_in_time, "{command:?} did not end within {limit:?}\n{stdout}\n{stderr}");
    Finished { success: status.success(), code: status.code(), stdout, stderr }
}

/// Whether our own child has ended; it is not waited for, so its number stays its own.
fn has_ended(id: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(id), options).expect("the state of our own child").is_some()
}
