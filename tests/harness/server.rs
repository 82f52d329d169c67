//! A server process that belongs to one test.
//!
//! Invariants:
//! - each server has a port, a directory and a log of its own, and ends with its `Server`;
//! - only that child is ever killed, by its process id;
//! - a server that dies or panics behind a test's back fails the test; a failed test prints the
//!   end of the log.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::port::PortClaim;
use super::reply::Reply;

/// Far beyond what a start takes on a busy machine: passing it means a hang.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A graceful stop promises "within seconds".
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const LOG_LINES_SHOWN: usize = 60;

/// Which product the process is: decides what may be asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServerKind {
    Tessera,
    Redis,
}

impl ServerKind {
    /// What the suite runs against.
    pub(crate) fn under_test() -> Self {
        static KIND: OnceLock<ServerKind> = OnceLock::new();
        *KIND.get_or_init(|| match env::var_os("TESSERA_TEST_SERVER") {
            None => ServerKind::Tessera,
            Some(path) => Self::of(Path::new(&path)),
        })
    }

    pub(crate) fn is_tessera(self) -> bool {
        self == ServerKind::Tessera
    }

    fn of(program: &Path) -> Self {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let is_tessera = String::from_utf8_lossy(&output.stdout).to_lowercase().contains("tessera");
        if is_tessera { ServerKind::Tessera } else { ServerKind::Redis }
    }
}

/// The program that the suite runs against.
pub(crate) fn program_under_test() -> PathBuf {
    match env::var_os("TESSERA_TEST_SERVER") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_tessera-under-test").into(),
    }
}

/// Options of a server to be started.
pub(crate) struct Builder {
    program: PathBuf,
    kind: ServerKind,
    shards: usize,
    config: Option<String>,
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Builder {
    /// Adds `--name value`.
    pub(crate) fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.args.push(format!("--{name}"));
        self.args.push(value.to_string());
        self
    }

    /// Sets a variable of the server's environment.
    pub(crate) fn environment(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }

    /// Has the server make faults; see `server/src/faults`.
    pub(crate) fn fault(self, faults: &str) -> Self {
        self.environment("TESSERA_FAULT", faults)
    }

    /// Starts the server from a configuration file with this text.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Starts the server and waits until it takes connections, whatever it answers.
    #[track_caller]
    pub(crate) fn start_unready(self) -> Server {
        let mut server = self.spawn();
        let deadline = Instant::now() + START_TIMEOUT;
        while server.try_connect().is_err() {
            if let Some(status) = server.try_wait() {
                panic!("the server ended at its start with {status}");
            }
            assert!(Instant::now() < deadline, "the server takes no connections");
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|(status, log)| {
            panic!("the server ended at its start with {status}:\n{log}")
        })
    }

    /// Starts the server and waits until it answers; its exit status and its output if it has ended
    /// before.
    #[track_caller]
    pub(crate) fn try_start(self) -> Result<Server, (ExitStatus, String)> {
        let mut server = self.spawn();
        let deadline = Instant::now() + START_TIMEOUT;
        while !server.answers() {
            if let Some(status) = server.try_wait() {
                return Err((status, server.log()));
            }
            assert!(Instant::now() < deadline, "the server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Starts a server that is expected to refuse its options: its exit status and its output.
    #[track_caller]
    pub(crate) fn start_refused(self) -> (ExitStatus, String) {
        let mut server = self.spawn();
        let status = server.wait(START_TIMEOUT).expect("the server refuses to start");
        (status, server.log())
    }

    fn spawn(self) -> Server {
        let claim = PortClaim::new();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = File::create(dir.path().join("log")).expect("a log file");
        let mut command = Command::new(&self.program);
        if let Some(text) = &self.config {
            let path = dir.path().join("server.conf");
            fs::write(&path, text).expect("a configuration file");
            command.arg(path);
        }
        command.args(["--port", &claim.port().to_string(), "--save", ""]);
        command.arg("--dir").arg(dir.path());
        if self.kind.is_tessera() {
            command.args(["--shards", &self.shards.to_string()]);
        }
        command.args(["--enable-debug-command", "yes"]).args(&self.args);
        command.envs(self.environment);
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        Server { child, kind: self.kind, claim, dir, ended: None }
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    kind: ServerKind,
    claim: PortClaim,
    dir: tempfile::TempDir,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Starts the server under test with `shards` shards.
    #[track_caller]
    pub(crate) fn start(shards: usize) -> Self {
        Self::builder(shards).start()
    }

    pub(crate) fn builder(shards: usize) -> Builder {
        Builder {
            program: program_under_test(),
            kind: ServerKind::under_test(),
            shards,
            config: None,
            args: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// A redis-server, to compare with.
    pub(crate) fn redis(program: &Path) -> Self {
        Self::redis_builder(program).start()
    }

    /// A redis-server that works in `directory`, and loads what it finds there.
    pub(crate) fn redis_in(program: &Path, directory: &Path) -> Self {
        Self::redis_in_with(program, directory, &[])
    }

    /// The same with options.
    pub(crate) fn redis_in_with(
        program: &Path,
        directory: &Path,
        options: &[(&str, &str)],
    ) -> Self {
        let builder = Self::redis_builder(program).option("dir", directory.display());
        let with = |builder: Builder, (name, value): &(&str, &str)| builder.option(name, value);
        options.iter().fold(builder, with).start()
    }

    fn redis_builder(program: &Path) -> Builder {
        Builder { program: program.into(), kind: ServerKind::Redis, ..Self::builder(1) }
    }

    /// The directory in which the server works, unless an option named another.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        self.try_connect().expect("a connection to the server")
    }

    pub(crate) fn try_connect(&self) -> std::io::Result<Client> {
        Client::connect(self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.claim.port()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// All that the server has written to its standard output and error.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The value of one field of INFO.
    #[track_caller]
    pub(crate) fn info(&self, field: &str) -> String {
        let text = self.connect().run("INFO everything").into_text();
        let prefix = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("INFO has no field {field}:\n{text}")).to_owned()
    }

    /// Waits until so many clients wait.
    #[track_caller]
    pub(crate) fn wait_for_blocked(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.info("blocked_clients") != count.to_string() {
            assert!(Instant::now() < deadline, "{count} clients should wait");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client whose command waits, when this returns, as the `count`th.
    #[track_caller]
    pub(crate) fn waiting(&self, line: &str, count: usize) -> Client {
        let mut client = self.connect();
        client.push(line.split(' '));
        client.flush();
        self.wait_for_blocked(count);
        client
    }

    /// File descriptors that the server holds open.
    pub(crate) fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process_id());
        fs::read_dir(folder).expect("a running server").count()
    }

    /// Sends `signal` to the server alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process_id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("a running server");
    }

    /// Whether the server has ended by itself, as it was asked to.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.try_wait().is_some()
    }

    /// Waits for a server that has been told to stop.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        self.wait(STOP_TIMEOUT).expect("the server ends within seconds")
    }

    fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while self.try_wait().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.ended
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the state of our own child");
        }
        self.ended
    }

    /// Whether the server serves: PONG, or the demand for a password.
    fn answers(&self) -> bool {
        let Ok(mut client) = self.try_connect() else { return false };
        client.push(["PING"]);
        client.flush();
        match client.try_receive() {
            Ok(Reply::Error(text)) => text.starts_with("NOAUTH"),
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let died_alone = self.ended.is_none() && self.try_wait().is_some();
        if self.ended.is_none() {
            self.child.kill().expect("our own child can be killed");
            self.child.wait().expect("our own child ends");
        }
        let log = self.log();
        let bad = died_alone || log.contains("panicked at");
        if bad || thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- end of the {:?} server's log ---\n{}\n---", self.kind, shown.join("\n"));
        }
        if bad && !thread::panicking() {
            panic!("the server died or panicked during the test: {:?}", self.ended);
        }
    }
}
