//! CLIENT PAUSE, and what else makes commands wait: a log or a save that cannot keep up.
//!
//! While clients are paused nothing changes by itself either: keys whose deadline passes are hidden and
//! not removed, and none is evicted. So whoever compares or hands over the data finds it at rest.
//!
//! Invariants:
//! - a pause is in force at every worker when it is answered, and so is its end;
//! - a worker looks at the pause once a turn: all commands of a turn see the same one.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, Ordering};

use tessera_engine::{
    command::{Command, Run, table::flag},
    script::ScriptFlags,
};

use crate::{session::Session, worker::Worker};

/// What waits in this turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Everything goes on.
    #[default]
    Off,
    /// Commands that write wait, and those whose effects reach replicas: PUBLISH, PFCOUNT, and
    /// scripts that do not promise to write nothing.
    Writes,
    /// A save has too much to preserve: commands wait that would change what it has not captured yet.
    Uncaptured,
    /// All commands wait.
    All,
}

impl Pause {
    /// Whether a command waits. What is known of it is its row: a script may yet have to wait for
    /// what it declares ([`Pause::holds_script`]), and a command of one shard need not wait for a
    /// save (see `in_place`).
    #[inline]
    pub(crate) fn holds(self, command: &Command) -> bool {
        match self {
            Self::Off => false,
            Self::Writes | Self::Uncaptured => {
                let may_change = command.flags.has(flag::WRITE | flag::MAY_REPLICATE);
                may_change && !matches!(command.run, Run::Script)
            }
            Self::All => true,
        }
    }

    /// Whether a script waits that is called by `command` and declares `flags`.
    pub(crate) fn holds_script(self, command: &Command, flags: ScriptFlags) -> bool {
        match self {
            Self::Off => false,
            Self::Writes | Self::Uncaptured if flags.is_declared() => !flags.forbids_writes(),
            Self::Writes | Self::Uncaptured => command.flags.has(flag::WRITE | flag::MAY_REPLICATE),
            Self::All => true,
        }
    }
}

/// CLIENT PAUSE for all workers: two ends, since clients may pause writes for longer than the rest.
#[derive(Debug, Default)]
pub struct PauseState {
    all_until_us: AtomicI64,
    writes_until_us: AtomicI64,
}

impl PauseState {
    /// Pauses until `until_us`, microseconds since the Unix epoch; a pause already in force is
    /// only made longer.
    pub fn set(&self, only_writes: bool, until_us: i64) {
        let end = if only_writes { &self.writes_until_us } else { &self.all_until_us };
        end.fetch_max(until_us, Ordering::SeqCst);
    }

    /// CLIENT UNPAUSE.
    pub fn clear(&self) {
        self.all_until_us.store(0, Ordering::SeqCst);
        self.writes_until_us.store(0, Ordering::SeqCst);
    }

    /// When the last pause ends, in microseconds since the Unix epoch.
    pub(crate) fn end_us(&self) -> i64 {
        let all = self.all_until_us.load(Ordering::Relaxed);
        all.max(self.writes_until_us.load(Ordering::Relaxed))
    }

    /// What is paused at `now_us`.
    #[inline]
    pub(crate) fn at(&self, now_us: i64) -> Pause {
        if now_us < self.all_until_us.load(Ordering::Relaxed) {
            Pause::All
        } else if now_us < self.writes_until_us.load(Ordering::Relaxed) {
            Pause::Writes
        } else {
            Pause::Off
        }
    }
}

impl Worker {
    /// Takes up what clients have paused.
    pub(crate) fn look_at_pause(&mut self) {
        self.pause = self.shared.pause.at(self.now_us);
        let is_held = self.pause != Pause::Off;
        if self.shard.is_here() && self.shard.keyspace.holds_expiry() != is_held {
            self.shard.keyspace.hold_expiry(is_held);
            // What has expired meanwhile goes now.
            self.shard_due_us = self.now_us;
        }
    }

    /// Has writes wait while the log cannot take more, or a save has too much to preserve.
    pub(crate) fn pause_for_storage(&mut self) {
        if self.pause == Pause::Off {
            self.pause = match (self.shared.aof.holds_writes(), self.shared.saves.holds_writes()) {
                (true, _) => Pause::Writes,
                (false, true) => Pause::Uncaptured,
                (false, false) => Pause::Off,
            };
        }
    }

    /// Clients whose next command waits for the end of CLIENT PAUSE.
    pub(crate) fn paused_clients(&self) -> usize {
        if self.pause == Pause::Off {
            return 0;
        }
        let waits = |session: &Session| session.held.is_some_and(|held| held.is_paused);
        self.network.connections().filter(|(_, connection)| waits(&connection.session)).count()
    }
}
