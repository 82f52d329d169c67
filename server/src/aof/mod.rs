//! The append-only log: what the workers share of it, and how it is driven.
//!
//! The engine knows what a log is (`persist::epoch`, `persist::log`, `persist::recovery`); here it
//! gets its files, threads and turns:
//!
//! ```text
//! directory   the files of the data directory
//! keeper      makes segments on a thread of its own, since that blocks
//! start       recovery, before and while the workers start
//! rewrite     a snapshot in the place of the log
//! segments    open segments of one worker: submissions go to its ring
//! turn        what a worker does for the log in every turn
//! ```
//!
//! # Epochs and rounds
//!
//! A worker reads the epoch between entering and leaving the cut, where it takes its places; what it
//! sends and what it executes in that round has this stamp. The epoch moves on in a cut, while nobody
//! is in there. So no place of an epoch is taken before all of the epoch before are.
//!
//! # `always`
//!
//! What leaves a worker waits until the last epoch that holds data is durable; whatever it tells is
//! of that epoch or an earlier one. [`Aof::note_data`] is called before anything that has seen the
//! data goes to another worker.
#![forbid(unsafe_code)]

mod directory;
mod keeper;
pub(crate) mod rewrite;
mod segments;
mod start;
mod turn;

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use tessera_engine::{
    persist::{
        epoch::Epochs,
        log::SyncPolicy,
        manifest::{Generation, Manifest},
    },
    shard::Shard,
};

pub use directory::DataDirectory;
pub(crate) use start::load_in_background;
pub use start::{Recovered, prepare};
pub(crate) use turn::WorkerLog;

use crate::config::{AppendFsync, Config};
use keeper::Keeper;
use rewrite::Rewrites;

/// The log as all workers see it.
pub struct Aof {
    /// Nothing while `appendonly` is off, or before what was moved in is loaded.
    log: OnceLock<Open>,
    /// The log begins when what is loaded elsewhere is there.
    follows: bool,
    /// The epoch in which rounds are; 0 without a log.
    epoch: AtomicU64,
    /// The last epoch of which some shard has records.
    data_epoch: AtomicU64,
    closed: AtomicU64,
    durable: AtomicU64,
    /// Logs that cannot be written.
    failing: AtomicUsize,
    /// Logs that fall behind what is written to them.
    behind: AtomicUsize,
    reason: Mutex<String>,
    epochs: Mutex<Epochs>,
    /// The shards that were loaded, until their workers take them.
    loaded: Mutex<Vec<Option<Shard>>>,
    is_loaded: AtomicBool,
    figures: Box<[Figures]>,
    rewrites: Mutex<Rewrites>,
}

/// What is fixed as long as the log is open.
struct Open {
    generation: Generation,
    directory: DataDirectory,
    /// The manifest as it is on disk.
    manifest: Mutex<Manifest>,
    loaded_bytes: u64,
    keeper: Keeper,
}

/// One worker's log in numbers, for INFO.
#[derive(Debug, Default)]
struct Figures {
    written_bytes: AtomicU64,
    groups: AtomicU64,
    waiting_bytes: AtomicU64,
    /// The last record that is as durable as the policy makes it.
    settled_sequence: AtomicU64,
}

impl Aof {
    /// No log.
    pub fn none(workers: usize) -> Self {
        Self::new(workers, 0)
    }

    /// A log that begins when what is loaded elsewhere is there.
    fn to_follow(workers: usize) -> Self {
        Self { follows: true, ..Self::new(workers, 1) }
    }

    /// A log that is open.
    fn of(open: Open, workers: usize) -> Self {
        let aof = Self::new(workers, open.generation.first_epoch);
        // It is the first one.
        let _ = aof.log.set(open);
        aof
    }

    fn new(workers: usize, first_epoch: u64) -> Self {
        Self {
            log: OnceLock::new(),
            follows: false,
            epoch: AtomicU64::new(first_epoch),
            data_epoch: AtomicU64::new(0),
            closed: AtomicU64::new(first_epoch.saturating_sub(1)),
            durable: AtomicU64::new(first_epoch.saturating_sub(1)),
            failing: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            reason: Mutex::default(),
            epochs: Mutex::new(Epochs::new(first_epoch.max(1), &vec![0; workers])),
            loaded: Mutex::default(),
            is_loaded: AtomicBool::new(false),
            figures: (0..workers).map(|_| Figures::default()).collect(),
            rewrites: Mutex::new(Rewrites::NONE),
        }
    }

    /// Whether there is a log.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.log.get().is_some()
    }

    /// The epoch in which rounds are now; 0 without a log. Read it within the cut.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// What a worker has to look at when it has changed: the present epoch, the last closed one and
    /// the last durable one.
    #[inline]
    pub(crate) fn state(&self) -> [u64; 3] {
        [&self.epoch, &self.closed, &self.durable].map(|word| word.load(SeqCst))
    }

    /// Notes that a shard has records of `epoch`.
    #[inline]
    pub fn note_data(&self, epoch: Option<u64>) {
        if let Some(epoch) = epoch
            && self.data_epoch.load(SeqCst) < epoch
        {
            self.data_epoch.fetch_max(epoch, SeqCst);
        }
    }

    /// The last epoch of which some shard has records.
    pub(crate) fn data_epoch(&self) -> u64 {
        self.data_epoch.load(SeqCst)
    }

    /// Why writes are refused, if they are.
    pub fn failure(&self) -> Option<String> {
        self.is_failing()
            .then(|| self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whether some log cannot be written.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.failing.load(SeqCst) > 0
    }

    /// Whether writes wait, since a log falls behind.
    #[inline]
    pub fn holds_writes(&self) -> bool {
        self.behind.load(SeqCst) > 0
    }

    /// Bytes of records that were loaded at the start.
    pub fn loaded_bytes(&self) -> u64 {
        self.log.get().map_or(0, |open| open.loaded_bytes)
    }

    /// The last epoch that is durable.
    pub fn durable_epoch(&self) -> u64 {
        self.durable.load(SeqCst)
    }

    /// Bytes that all workers have written in this run.
    pub fn written_bytes(&self) -> u64 {
        self.sum(|figures| &figures.written_bytes)
    }

    /// Bytes of records that are in memory alone, or not known to be durable.
    pub fn waiting_bytes(&self) -> u64 {
        self.sum(|figures| &figures.waiting_bytes)
    }

    /// Groups that all workers have written in this run.
    pub fn groups(&self) -> u64 {
        self.sum(|figures| &figures.groups)
    }

    fn sum(&self, of: impl Fn(&Figures) -> &AtomicU64) -> u64 {
        self.figures.iter().map(|figures| of(figures).load(SeqCst)).sum()
    }

    /// Looks at the epochs of all workers, or moves them on.
    pub(crate) fn with_epochs<T>(&self, work: impl FnOnce(&mut Epochs) -> T) -> T {
        let mut epochs: MutexGuard<'_, Epochs> =
            self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut epochs);
        self.closed.store(epochs.closed(), SeqCst);
        self.durable.store(epochs.durable(), SeqCst);
        done
    }

    /// Begins the epoch `epoch`; called within a cut.
    pub(crate) fn begin_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, SeqCst);
    }

    fn open(&self) -> Option<&Open> {
        self.log.get()
    }

    /// The shard that was loaded for `worker`, once all are.
    pub(crate) fn take_loaded(&self, worker: usize) -> Option<Shard> {
        if !self.is_loaded.load(SeqCst) {
            return None;
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get_mut(worker)?.take()
    }
}

/// The policy that the configuration names.
pub(crate) fn policy(config: &Config) -> SyncPolicy {
    match config.appendfsync {
        AppendFsync::Always => SyncPolicy::Always,
        AppendFsync::EverySec => SyncPolicy::EverySecond,
        AppendFsync::No => SyncPolicy::Never,
    }
}
