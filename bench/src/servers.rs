//! Finds, starts, pins and stops the servers that are compared.
//!
//! Pinning: a child inherits the affinity of the thread that makes it, so this thread takes the
//! child's CPUs for the moment of the spawn. Every thread that the child starts is then pinned.

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::client::Client;
use crate::error::BenchError;
use crate::options::{Options, Place};

const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is asked whether a server answers.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Tessera,
    Redis,
    Valkey,
    Dragonfly,
}

/// A server program that was found.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    program: PathBuf,
}

/// The servers of this machine, Tessera first.
///
/// # Errors
/// When none is found, or one that was named cannot be run.
pub(crate) fn find(options: &Options) -> Result<Vec<Server>, BenchError> {
    let wanted = [
        (Kind::Tessera, "tessera", "tessera-server", &options.tessera),
        (Kind::Redis, "redis", "redis-server", &options.redis),
        (Kind::Valkey, "valkey", "valkey-server", &options.valkey),
        (Kind::Dragonfly, "dragonfly", "dragonfly", &options.dragonfly),
    ];
    let mut servers = Vec::new();
    for (kind, name, file, place) in wanted {
        if let Some(program) = locate(file, place) {
            servers.push(Server { kind, name, version: version(&program)?, program });
        }
    }
    if servers.is_empty() {
        return Err(BenchError::Usage("no server was found: name one".into()));
    }
    Ok(servers)
}

/// The program `file`: as given, beside this program, or on the PATH.
pub(crate) fn locate(file: &str, place: &Place) -> Option<PathBuf> {
    match place {
        Place::LeftOut => return None,
        Place::At(path) => return Some(path.clone()),
        Place::Search => {}
    }
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(file)).find(|file| file.is_file())
}

fn version(program: &Path) -> Result<String, BenchError> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| BenchError::Program { program: program.into(), error })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("unknown version").to_owned())
}

/// Makes a child process that runs on `cpus` only.
pub(crate) fn spawn_pinned(command: &mut Command, cpus: &[usize]) -> Result<Child, BenchError> {
    let as_program = |error: std::io::Error| BenchError::Program {
        program: command.get_program().into(),
        error,
    };
    let own = sched_getaffinity(None).map_err(|error| as_program(error.into()))?;
    let mut set = CpuSet::new();
    // CPUs that this machine has not are left out; without any the child runs where it may.
    cpus.iter().filter(|&&cpu| own.is_set(cpu)).for_each(|&cpu| set.set(cpu));
    if set.count() > 0 {
        sched_setaffinity(None, &set).map_err(|error| as_program(error.into()))?;
    }
    let child = command.spawn();
    let restored = sched_setaffinity(None, &own);
    let child = child
        .map_err(|error| BenchError::Program { program: command.get_program().into(), error })?;
    restored.map_err(|error| BenchError::Connection(error.into()))?;
    Ok(child)
}

/// A running server; dropping it kills it.
pub(crate) struct Running {
    child: Child,
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    log: PathBuf,
    /// Its directory, if nobody else needs that.
    dir: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts the server with `shards` threads on `cpus`, and waits until it answers.
    pub(crate) fn start(&self, shards: usize, cpus: &[usize]) -> Result<Running, BenchError> {
        let dir = tempfile::tempdir()?;
        let mut running = self.start_in(dir.path(), shards, cpus, &[])?;
        running.dir = Some(dir);
        Ok(running)
    }

    /// The same in the directory `dir`, with options `extra`. What is in the directory is loaded
    /// before it answers.
    pub(crate) fn start_in(
        &self,
        dir: &Path,
        shards: usize,
        cpus: &[usize],
        extra: &[&str],
    ) -> Result<Running, BenchError> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = dir.join("log");
        let file = File::create(&log)?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments(port, shards)).args(extra).current_dir(dir);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = spawn_pinned(&mut command, cpus)?;
        let mut running = Running { child, name: self.name, port, log, dir: None };
        running.wait_for_answer()?;
        Ok(running)
    }

    fn arguments(&self, port: u16, shards: usize) -> Vec<String> {
        let words = match self.kind {
            Kind::Tessera => format!("--port {port} --shards {shards} --maxclients 20000"),
            Kind::Redis | Kind::Valkey => {
                format!("--port {port} --appendonly no --maxclients 20000")
            }
            Kind::Dragonfly => {
                format!(
                    "--port={port} --proactor_threads={shards} --maxclients=20000 --dbfilename="
                )
            }
        };
        let mut arguments: Vec<_> = words.split(' ').map(str::to_owned).collect();
        if self.kind != Kind::Dragonfly {
            arguments.extend(["--save".to_owned(), String::new()]);
        }
        arguments
    }
}

impl Running {
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn connect(&self) -> Result<Client, BenchError> {
        Ok(Client::connect(self.address())?)
    }

    fn wait_for_answer(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.connect().is_ok_and(|mut client| client.call(&["PING"]).is_ok()) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it wrote no log").to_owned();
                let what = format!("does not start: {last}");
                return Err(BenchError::Server { server: self.name.into(), what });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Ends the server as an operator does, without saving.
    pub(crate) fn shut_down(mut self) -> Result<(), BenchError> {
        // It answers by closing the connection.
        let _ = self.connect()?.call(&["SHUTDOWN", "NOSAVE"]);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; what it did until then is in the figures or the error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
