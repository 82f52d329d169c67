//! The append-only log: what the workers share of it, and how it is driven.
//!
//! The engine knows what a log is (`persist::epoch`, `persist::log`, `persist::recovery`); here it
//! gets its files, threads and turns:
//!
//! ```text
//! directory   the files of the data directory
//! doubt       what may be told while a log cannot be written
//! epoch_word  the epoch in which rounds are, as all workers read it
//! lock        one process at a time works on a data directory
//! keeper      makes segments on a thread of its own, since that blocks
//! start       recovery, before and while the workers start
//! rewrite     a snapshot in the place of the log
//! segments    open segments of one worker: submissions go to its ring
//! switch      turning the log on and off while the server runs
//! rest        workers that sleep with nothing to log
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
//! data goes to another worker. What is known to tell nothing that may be lost does not wait: see
//! `doubt`.
#![forbid(unsafe_code)]

mod directory;
pub(crate) mod doubt;
mod epoch_word;
mod keeper;
mod lock;
mod rest;
pub(crate) mod rewrite;
mod segments;
mod start;
mod switch;
mod turn;

use std::{
    ffi::OsStr,
    mem,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use tessera_engine::{
    persist::{
        epoch::Epochs,
        log::SyncPolicy,
        manifest::{Generation, Manifest},
        replay::FunctionCommand,
    },
    shard::Shard,
};

pub use directory::DataDirectory;
pub(crate) use directory::sync_directory;
pub(crate) use epoch_word::EpochWord;
pub use lock::{DirectoryLock, Use};
pub(crate) use start::load_in_background;
pub use start::{Recovered, prepare};
pub(crate) use turn::WorkerLog;

use crate::config::{AppendFsync, Config};
use keeper::Keeper;
use rest::Rest;
use rewrite::Rewrites;
use switch::Stage;

/// The log as all workers see it.
pub struct Aof {
    /// See [`switch`].
    stage: AtomicU8,
    /// Nothing while there is no log, or before what was moved in is loaded.
    log: Mutex<Option<Arc<Open>>>,
    /// The log has been turned on, and its first rewrite not been asked for.
    wants_start: AtomicBool,
    /// Workers whose logs have come to their ends, and those that have dropped them.
    ended: AtomicUsize,
    dropped: AtomicUsize,
    /// The log begins when what is loaded elsewhere is there.
    follows: bool,
    /// The epoch in which rounds are; 0 before the first log.
    epoch: EpochWord,
    /// The last epoch of which some shard has records.
    data_epoch: AtomicU64,
    closed: AtomicU64,
    durable: AtomicU64,
    /// Somebody waits for this epoch to be durable, whatever the policy.
    wanted: AtomicU64,
    /// Logs that cannot be written.
    failing: AtomicUsize,
    /// Logs that fall behind what is written to them.
    behind: AtomicUsize,
    reason: Mutex<String>,
    epochs: Mutex<Epochs>,
    /// The shards that were loaded, until their workers take them.
    loaded: Mutex<Vec<Option<Shard>>>,
    /// What was done to the libraries of functions, until the first worker repeats it.
    functions: Mutex<Vec<FunctionCommand>>,
    is_loaded: AtomicBool,
    figures: Box<[Figures]>,
    rests: Box<[Rest]>,
    rewrites: Mutex<Rewrites>,
}

/// What is fixed as long as the log is open.
pub(crate) struct Open {
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
    /// Syncs under way.
    syncing: AtomicU64,
    /// Syncs that took so long that the next was due before they were done.
    delayed_syncs: AtomicU64,
    /// The first segment that is still needed: a base stands for those before it.
    first_segment: AtomicU32,
}

impl Figures {
    /// There is no log, or a new one.
    fn reset(&self) {
        let words = [
            &self.written_bytes,
            &self.groups,
            &self.waiting_bytes,
            &self.settled_sequence,
            &self.syncing,
        ];
        words.into_iter().for_each(|word| word.store(0, SeqCst));
        self.first_segment.store(0, SeqCst);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the log is for the options `config`.
fn log_path(config: &Config) -> PathBuf {
    Path::new(OsStr::from_bytes(&config.dir)).join(OsStr::from_bytes(&config.appenddirname))
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
        aof.set_open(open);
        aof
    }

    fn new(workers: usize, first_epoch: u64) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Off as u8),
            log: Mutex::default(),
            wants_start: AtomicBool::new(false),
            ended: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            follows: false,
            epoch: EpochWord::new(first_epoch),
            data_epoch: AtomicU64::new(0),
            closed: AtomicU64::new(first_epoch.saturating_sub(1)),
            durable: AtomicU64::new(first_epoch.saturating_sub(1)),
            wanted: AtomicU64::new(0),
            failing: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            reason: Mutex::default(),
            epochs: Mutex::new(Epochs::new(first_epoch.max(1), &vec![0; workers])),
            loaded: Mutex::default(),
            functions: Mutex::default(),
            is_loaded: AtomicBool::new(false),
            figures: (0..workers).map(|_| Figures::default()).collect(),
            rests: (0..workers).map(|_| Rest::default()).collect(),
            rewrites: Mutex::new(Rewrites::NONE),
        }
    }

    /// Whether the log is on.
    #[inline]
    pub fn is_on(&self) -> bool {
        matches!(self.stage(), Stage::Beginning | Stage::On)
    }

    /// A log that holds everything is there.
    fn set_open(&self, open: Open) {
        *locked(&self.log) = Some(Arc::new(open));
        self.set_stage(Stage::On);
    }

    /// The epoch in which rounds are now. Read it within the cut.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.now()
    }

    /// What a worker has to look at when it has changed: the present epoch, the last closed one, the
    /// last durable one, and the last one that somebody waits for.
    #[inline]
    pub(crate) fn state(&self) -> [u64; 4] {
        let [closed, durable, wanted] =
            [&self.closed, &self.durable, &self.wanted].map(|word| word.load(SeqCst));
        [self.epoch(), closed, durable, wanted]
    }

    /// Somebody waits for `epoch`, which is not over yet, to be durable.
    pub(crate) fn want(&self, epoch: u64) {
        self.wanted.fetch_max(epoch, SeqCst);
    }

    /// The last epoch that somebody waits for to be durable, if it is not.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let wanted = self.wanted.load(SeqCst);
        (wanted > self.durable_epoch()).then_some(wanted)
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

    /// Whether all that has been recorded, and noted, is durable.
    pub(crate) fn has_all_durable(&self) -> bool {
        self.is_complete() && self.data_epoch() <= self.durable_epoch()
    }

    /// The last epoch of which some shard has records.
    pub(crate) fn data_epoch(&self) -> u64 {
        self.data_epoch.load(SeqCst)
    }

    /// Why writes are refused, if they are.
    pub fn failure(&self) -> Option<String> {
        self.is_failing().then(|| locked(&self.reason).clone())
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
        self.open().map_or(0, |open| open.loaded_bytes)
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

    /// Syncs under way.
    pub fn syncing(&self) -> u64 {
        self.sum(|figures| &figures.syncing)
    }

    /// Syncs of this run that took so long that the next was due before they were done.
    pub fn delayed_syncs(&self) -> u64 {
        self.sum(|figures| &figures.delayed_syncs)
    }

    fn sum(&self, of: impl Fn(&Figures) -> &AtomicU64) -> u64 {
        self.figures.iter().map(|figures| of(figures).load(SeqCst)).sum()
    }

    /// Looks at the epochs of all workers, or moves them on.
    pub(crate) fn with_epochs<T>(&self, work: impl FnOnce(&mut Epochs) -> T) -> T {
        let mut epochs = locked(&self.epochs);
        let done = work(&mut epochs);
        self.closed.store(epochs.closed(), SeqCst);
        self.durable.store(epochs.durable(), SeqCst);
        done
    }

    /// Begins the epoch `epoch`; called within a cut.
    pub(crate) fn begin_epoch(&self, epoch: u64) {
        self.epoch.begin(epoch);
    }

    fn open(&self) -> Option<Arc<Open>> {
        locked(&self.log).clone()
    }

    /// The shard that was loaded for `worker`, once all are.
    pub(crate) fn take_loaded(&self, worker: usize) -> Option<Shard> {
        if !self.is_loaded.load(SeqCst) {
            return None;
        }
        let mut loaded = locked(&self.loaded);
        loaded.get_mut(worker)?.take()
    }

    /// What was done to the libraries of functions before the server started, once it is loaded.
    pub(crate) fn take_functions(&self) -> Vec<FunctionCommand> {
        mem::take(&mut locked(&self.functions))
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
