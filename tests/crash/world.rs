//! A data directory and the lives that servers have on it: each begins with what the one before has
//! left, and ends in one of several ways, mostly with a power cut on top.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    clients::{Clients, Objection},
    power,
};
use crate::harness::{Reply, Server};

/// How long anything may take that a server does, on a busy machine too; passing it means a hang.
const PATIENCE: Duration = Duration::from_secs(180);

/// When what the server has acknowledged is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// At once: `appendfsync always`.
    Always,
    /// When the server says that its log's buffers are empty: `appendfsync everysec`.
    EverySecond,
    /// When a save that began later has ended well: no log.
    Saved,
}

/// What goes on beside the writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Rewrites,
    Saves,
}

/// How a life ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `kill -9` when the writers have gone so many steps.
    Kill { steps: i64 },
    /// The same when at least so many rewrites or saves have succeeded.
    KillAfter { rewrites: usize },
    /// The server ends itself at this sync, as `TESSERA_FAULT` names it; or it is killed at a late
    /// moment, when it has not come to it.
    AtSync(String),
    /// SIGTERM.
    Asked { steps: i64 },
}

/// One life of a server.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) shards: usize,
    pub(super) beside: Beside,
    /// Whether it is waited once until everything is durable.
    pub(super) settles: bool,
    /// Syncs that are left out: `skip-sync:…`.
    pub(super) fault: &'static str,
    pub(super) end: End,
    /// Whether the power fails with its end.
    pub(super) is_cut: bool,
}

/// A data directory, and what clients know of it.
pub(super) struct World {
    root: TempDir,
    promise: Promise,
    clients: Clients,
    random: Rng,
}

impl World {
    pub(super) fn new(promise: Promise, seed: u64) -> Self {
        let root = TempDir::new().expect("a directory");
        fs::create_dir(root.path().join("data")).expect("a directory");
        let (clients, random) = (Clients::default(), Rng::with_seed(seed));
        Self { root, promise, clients, random }
    }

    /// Where the server has its files.
    pub(super) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// One life: its beginning is compared with the end of the one before.
    pub(super) fn live(&mut self, life: &Life) -> Result<(), Objection> {
        let ledger = self.root.path().join("ledger");
        fs::create_dir_all(&ledger).expect("a directory");
        let at_sync = matches!(life.end, End::AtSync(_));
        match self.start(life, &ledger) {
            Ok(mut server) => {
                match self.clients.compare(&server, self.promise == Promise::Always) {
                    // Nobody works with it: nothing is known of what it had found.
                    Err(Objection::Gone(_)) if at_sync => _ = server.wait_for_end(),
                    compared => {
                        compared?;
                        self.clients.work(&mut server, |server| self.accompany(server, life));
                    }
                }
            }
            Err(_) if at_sync => {}
            Err(log) => {
                return Err(Objection::Wrong(format!("the server does not start: {log}")));
            }
        }
        if life.is_cut {
            power::cut(&ledger, self.random.u64(..));
        } else if self.promise != Promise::Saved {
            // What is only in the system's cache may still be lost, with a later life.
            power::go_on(&ledger);
            return Ok(());
        }
        fs::remove_dir_all(&ledger).expect("our own directory");
        Ok(())
    }

    /// Leaves the directory as it is, to be looked at; where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.root.keep()
    }

    /// A last start, to compare.
    pub(super) fn conclude(&mut self, shards: usize) -> Result<(), Objection> {
        let end = End::Kill { steps: 0 };
        let (beside, settles) = (Beside::Nothing, false);
        self.live(&Life { shards, beside, settles, fault: "", end, is_cut: false })
    }

    fn start(&self, life: &Life, ledger: &std::path::Path) -> Result<Server, String> {
        let (log, policy) = match self.promise {
            Promise::Always => ("yes", "always"),
            Promise::EverySecond => ("yes", "everysec"),
            Promise::Saved => ("no", "no"),
        };
        let crash = match &life.end {
            End::AtSync(sync) => format!("crash-at:{sync},"),
            _ => String::new(),
        };
        Server::builder(life.shards)
            .option("dir", self.data().display())
            .option("appendonly", log)
            .option("appendfsync", policy)
            .environment("TESSERA_LEDGER", ledger.display())
            .fault(&format!("{crash}{}", life.fault))
            .try_start()
            .map_err(|(_, log)| log)
    }

    /// What happens while the clients work; the server is gone afterwards.
    fn accompany(&self, server: &mut Server, life: &Life) {
        if life.settles {
            self.clients.open_gate(40);
            self.settle(server);
        }
        self.clients.open_gate(1_000_000);
        let deadline = Instant::now() + PATIENCE;
        let mut successes = 0;
        loop {
            assert!(Instant::now() < deadline, "nothing comes on: {life:?}");
            if server.has_ended() {
                assert!(matches!(life.end, End::AtSync(_)), "the server has ended by itself");
                return;
            }
            let is_time = match &life.end {
                End::Kill { steps } | End::Asked { steps } => self.clients.have_gone(*steps),
                End::KillAfter { rewrites } => successes >= *rewrites,
                End::AtSync(_) => self.clients.have_gone(LATE_STEPS),
            };
            if is_time {
                break;
            }
            match life.beside {
                Beside::Nothing => thread::sleep(Duration::from_millis(1)),
                _ => successes += usize::from(self.run_beside(server, life.beside).is_some()),
            }
        }
        let signal =
            if matches!(life.end, End::Asked { .. }) { Signal::TERM } else { Signal::KILL };
        if !server.has_ended() {
            server.signal(signal);
        }
        server.wait_for_end();
    }

    /// Waits until the server says that everything is durable; nothing is under way meanwhile.
    fn settle(&self, server: &mut Server) {
        let deadline = Instant::now() + PATIENCE;
        while !self.clients.are_at_gate() {
            if server.has_ended() {
                return;
            }
            assert!(Instant::now() < deadline, "the writers do not come on");
            thread::sleep(Duration::from_millis(1));
        }
        let steps = self.clients.acknowledged();
        let mut quiet = 0;
        // Twice, as what is shown may be a turn old.
        while quiet < 2 {
            if server.has_ended() {
                return;
            }
            assert!(Instant::now() < deadline, "what was written does not become durable");
            thread::sleep(Duration::from_millis(10));
            let is_quiet = ask(server, "INFO persistence")
                .is_some_and(|reply| reply.into_text().contains("aof_buffer_length:0\r"));
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
        self.clients.settle(steps);
    }

    /// A rewrite or a save; nothing if the server has not lived to see its end.
    fn run_beside(&self, server: &mut Server, beside: Beside) -> Option<()> {
        match beside {
            Beside::Nothing => {}
            Beside::Rewrites => rewrite(server)?,
            Beside::Saves => {
                let steps = self.clients.acknowledged();
                let reply = ask(server, "SAVE")?;
                assert_eq!(reply, Reply::ok());
                if self.promise == Promise::Saved {
                    self.clients.settle(steps);
                }
            }
        }
        Some(())
    }
}

/// After so many steps a server is killed that should have ended at a sync.
const LATE_STEPS: i64 = 120;

/// A rewrite from its beginning to its end.
fn rewrite(server: &Server) -> Option<()> {
    let count = |reply: Reply| {
        let text = reply.into_text();
        let line = text.lines().find_map(|line| line.strip_prefix("aof_rewrites:"));
        line.expect("INFO tells of rewrites").parse::<u64>().expect("a number")
    };
    let before = count(ask(server, "INFO persistence")?);
    ask(server, "BGREWRITEAOF")?;
    let deadline = Instant::now() + PATIENCE;
    while count(ask(server, "INFO persistence")?) == before {
        assert!(Instant::now() < deadline, "the log is not rewritten");
        thread::sleep(Duration::from_millis(5));
    }
    Some(())
}

/// The reply to a line, from a server that may be gone.
fn ask(server: &Server, line: &str) -> Option<Reply> {
    let mut client = server.try_connect().ok()?;
    client.push(line.split(' '));
    client.try_flush().ok()?;
    client.try_receive().ok()
}
