//! Turning the log on and off while the server runs: CONFIG SET appendonly.
//!
//! ```text
//!          turn_on              a base is there            turn_off           all logs are settled
//!   Off ───────────▶ Beginning ────────────────▶ On ───────────────────▶ Ending ──────────────▶ Off
//!                        └─────────────────────────────────────────────────▲
//! ```
//!
//! **On.** A log is worth nothing without what was there before it, so it begins with a rewrite: at its
//! place in the cut of that snapshot every worker begins to record, and captures its shard. Only when
//! the snapshot is the base does the manifest name the log; until then what an earlier log has left
//! stays as it was. If the rewrite fails it is tried again, while the log goes on.
//!
//! **Off.** At its place in a cut every worker stops to record; what it has recorded is still written
//! and made durable, by epochs as ever, so what stays behind is whole up to the cut. A log that cannot
//! be written is given up instead. When all have come to their ends they are dropped together: before
//! that each is needed to close the others' epochs.
//!
//! Invariants:
//! - a worker begins to record at the place of the rewrite that was made for this log, and of no other;
//! - epochs never go back, from one log to the next neither: so no output waits for an epoch that
//!   another log has made durable;
//! - every log has files of its own: the number of its run is in their names.
#![forbid(unsafe_code)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    thread,
    time::Duration,
};

use tessera_engine::{
    persist::{
        epoch::Epochs,
        manifest::{Generation, LogStart, Manifest},
    },
    sys::random::Random,
};

use super::{Aof, DataDirectory, Figures, Open, WorkerLog, keeper::Keeper, locked, log_path};
use crate::{config::Config, worker::Worker};

/// How often and how soon a directory that is in use is tried again.
const TRIES: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// Whether there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// There is none.
    Off,
    /// It is on, and has no base yet.
    Beginning,
    /// It is on.
    On,
    /// Nothing is recorded any more; what was is being written.
    Ending,
}

impl Stage {
    fn of(number: u8) -> Self {
        [Self::Off, Self::Beginning, Self::On, Self::Ending][usize::from(number) % 4]
    }
}

impl Aof {
    pub(super) fn stage(&self) -> Stage {
        Stage::of(self.stage.load(SeqCst))
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
    }

    /// Goes from one stage to another; answers whether it was there.
    fn change_stage(&self, from: Stage, to: Stage) -> bool {
        self.stage.compare_exchange(from as u8, to as u8, SeqCst, SeqCst).is_ok()
    }

    /// Whether the log is on, and not yet everything in it.
    pub fn is_beginning(&self) -> bool {
        self.stage() == Stage::Beginning
    }

    /// Whether everything that the server holds is in the log.
    pub fn is_complete(&self) -> bool {
        self.stage() == Stage::On
    }

    /// Turns the log on for the options `config`; a rewrite must follow.
    ///
    /// # Errors
    ///
    /// The directory cannot be used, or the log before has not come to its end.
    pub(crate) fn turn_on(&self, config: &Config, seed: u64) -> Result<(), String> {
        let mut log = locked(&self.log);
        if self.stage() != Stage::Off {
            return Err("the log has not come to its end yet".into());
        }
        let path: PathBuf = log_path(config);
        let directory = open_patiently(&path).map_err(|error| {
            format!("Can't open or create append-only dir {}: {error}", path.display())
        })?;
        let keeper = Keeper::start(directory.clone())
            .map_err(|error| format!("Can't start the thread that makes segments: {error}"))?;
        let first_epoch = self.epoch() + 1;
        let generation = Generation {
            run: Random::from_seed(seed).next_u64(),
            first_epoch,
            logs: vec![LogStart::default(); self.figures.len()],
            end_epoch: None,
            ends: Vec::new(),
        };
        let manifest = Manifest { base: None, generations: vec![generation.clone()] };
        *log = Some(Arc::new(Open {
            generation,
            directory,
            manifest: Mutex::new(manifest),
            loaded_bytes: 0,
            keeper,
        }));
        self.begin_anew(first_epoch);
        self.set_stage(Stage::Beginning);
        self.wants_start.store(true, SeqCst);
        Ok(())
    }

    /// Forgets the figures of the log before. Nobody records, so nobody has an eye on the epochs.
    fn begin_anew(&self, first_epoch: u64) {
        self.figures.iter().for_each(Figures::reset);
        self.change_rewrites(|rewrites| rewrites.base = None);
        self.data_epoch.store(0, SeqCst);
        self.wanted.store(0, SeqCst);
        self.ended.store(0, SeqCst);
        self.dropped.store(0, SeqCst);
        self.with_epochs(|epochs| {
            *epochs = Epochs::new(first_epoch, &vec![0; self.figures.len()]);
        });
        self.begin_epoch(first_epoch);
    }

    /// Whether a rewrite is to be begun for a log that has just been turned on; said once.
    pub(crate) fn take_start(&self) -> bool {
        self.wants_start.swap(false, SeqCst)
    }

    /// Whether `open` is the log that is on and has no base yet.
    pub(super) fn is_begun_by(&self, open: &Arc<Open>) -> bool {
        let is_it = |own: &Arc<Open>| Arc::ptr_eq(own, open);
        self.is_beginning() && locked(&self.log).as_ref().is_some_and(is_it)
    }

    /// The log is complete: it has a base.
    pub(super) fn is_based(&self) {
        self.change_stage(Stage::Beginning, Stage::On);
    }

    /// Turns the log off, if it is on; answers whether it was. Every worker must be told.
    pub(crate) fn turn_off(&self) -> bool {
        self.wants_start.store(false, SeqCst);
        self.change_stage(Stage::On, Stage::Ending)
            || self.change_stage(Stage::Beginning, Stage::Ending)
    }

    /// Whether the log comes to its end.
    pub(crate) fn is_ending(&self) -> bool {
        self.stage() == Stage::Ending
    }

    /// One more log has nothing left to write. Answers whether it was the last.
    fn log_ends(&self) -> bool {
        self.ended.fetch_add(1, SeqCst) + 1 == self.figures.len()
    }

    /// Whether no log has anything left to write.
    fn all_have_ended(&self) -> bool {
        self.ended.load(SeqCst) == self.figures.len()
    }

    /// One more worker has dropped its log; with the last one there is none any more.
    fn log_is_dropped(&self) {
        if self.dropped.fetch_add(1, SeqCst) + 1 < self.figures.len() {
            return;
        }
        *locked(&self.log) = None;
        self.figures.iter().for_each(Figures::reset);
        tracing::info!("The append-only log is turned off");
        self.set_stage(Stage::Off);
    }
}

/// Opens the directory of a log. The last thread of the log before may be about to let go of it.
fn open_patiently(path: &Path) -> io::Result<DataDirectory> {
    for _ in 0..TRIES {
        match DataDirectory::open(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(TRY_AGAIN),
            outcome => return outcome,
        }
    }
    DataDirectory::open(path)
}

/// How far a worker has come with the end of its log.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Nothing is recorded any more.
    is_asked: bool,
    /// It has said that it has nothing left to write.
    has_said: bool,
}

impl Ending {
    /// Whether the log is to come to its end.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }
}

impl Worker {
    /// The log is turned off: records nothing from here on. Runs at this worker's place in a cut.
    pub(crate) fn stop_logging(&mut self) {
        if self.log.is_none() {
            // It had not begun.
            self.shared.aof.log_ends();
            return self.shared.aof.log_is_dropped();
        }
        // Whoever resumes a journal is the one that suspended it: this one stays off.
        let _ = self.shard.keyspace.journal.suspend();
        if let Some(log) = &mut self.log {
            log.ending.is_asked = true;
        }
    }

    /// Whether the own log has come to its end, and all others have: then it may be dropped.
    pub(super) fn may_drop_log(&mut self, log: &mut WorkerLog) -> bool {
        if !log.ending.is_asked || !self.shard.is_here() {
            return false;
        }
        let aof = &self.shared.aof;
        if !log.ending.has_said && (log.is_settled(&self.shard) || log.is_given_up()) {
            log.ending.has_said = true;
            if aof.log_ends() {
                self.outboxes.wake_all_but(|_| false);
            }
        }
        aof.all_have_ended() && (log.is_settled(&self.shard) || log.is_given_up())
    }

    /// Drops the own log, which has come to its end. All that waited for it goes on.
    pub(super) fn drop_log(&mut self, log: Box<WorkerLog>) {
        self.shard.keyspace.journal.stop();
        log.withdraw(&self.shared.aof);
        let epoch = self.shared.aof.epoch();
        self.shard.keyspace.journal.set_stamp(epoch);
        self.network.set_gate(0, epoch);
        self.shared.aof.log_is_dropped();
    }
}
