//! Loading: the RDB file in the working directory becomes the keyspace when the server starts.
//!
//! Every worker reads the file for itself and loads the keys of its own shard, a slice a turn (see
//! [`drive`]; of a file with an index it reads only the parts that may hold such keys); between the slices it serves its network, so that clients read `-LOADING`, and INFO
//! shows how far it is. What one worker does for all (the checksum, the progress, lines in the log)
//! the first one does.
//!
//! With `appendonly yes` the append-only files of a redis-server that are in the directory are moved
//! in instead (see [`import`]): the first worker loads their base over all shards ([`at_once`]) and
//! repeats their commands (`aof`). Libraries of functions are collected on the way ([`functions`]).
//! The server's own log is not loaded here but in `aof::start`.
//!
//! Invariants:
//! - commands that read or write keys are refused until every shard is loaded, so nobody sees a part
//!   of the file;
//! - what is wrong with the file stops the start: a server that went on without its data would be
//!   saved over them.
#![forbid(unsafe_code)]

mod aof;
pub mod at_once;
mod drive;
mod functions;
mod import;

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tessera_engine::persist::rdb::LoadStats;

use crate::{config::Config, metrics::unix_time};

pub(crate) use drive::Loader;
use import::{AofFiles, Assembly, setting};

/// How often whoever waits for the end of loading looks whether the server is to stop.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// What to load.
#[derive(Clone, Debug)]
struct Plan {
    source: Source,
    total_bytes: u64,
    checksum: bool,
    /// `aof-load-truncated`.
    may_be_torn: bool,
}

#[derive(Clone, Debug)]
enum Source {
    /// An RDB file.
    Rdb(PathBuf),
    /// Redis's append-only files.
    Aof(AofFiles),
}

/// Whether there are append-only files of a redis-server to move in from.
///
/// # Errors
///
/// They are there and cannot be read.
pub(crate) fn finds_append_only_files(config: &Config) -> Result<bool, String> {
    Ok(AofFiles::find(config)?.is_some())
}

impl Plan {
    /// What log lines call it.
    fn path(&self) -> &Path {
        match &self.source {
            Source::Rdb(path) => path,
            Source::Aof(files) => files.root(),
        }
    }
}

/// What has been loaded, or is being.
#[derive(Debug)]
pub struct Loading {
    plan: Option<Plan>,
    /// Length of what is loaded, in bytes.
    total_bytes: u64,
    is_active: AtomicBool,
    workers_left: AtomicUsize,
    start_s: u64,
    started: Instant,
    bytes: AtomicU64,
    used_memory: AtomicU64,
    keys: AtomicU64,
    keys_expired: AtomicU64,
    failure: OnceLock<String>,
    /// Whether loading has ended, for whoever waits.
    end: (Mutex<bool>, Condvar),
    /// Shards that were filled by the first worker.
    assembly: Assembly,
    workers: usize,
    /// Commands are let in only when the log has begun too.
    is_log_to_follow: bool,
    is_loaded: AtomicBool,
}

/// What INFO shows of loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadingStatus {
    /// Whether the server loads.
    pub is_active: bool,
    /// When it began, in Unix seconds.
    pub start_s: u64,
    /// Length of the file, in bytes.
    pub total_bytes: u64,
    /// How much of it is loaded.
    pub loaded_bytes: u64,
    /// The memory that the server which wrote the file used, in bytes.
    pub used_memory: u64,
    /// How long it will take yet, if it goes on so; in seconds.
    pub eta_s: u64,
    /// Keys loaded by the last load.
    pub keys: u64,
    /// Keys that the last load left out because they had expired.
    pub keys_expired: u64,
}

impl Loading {
    /// What `workers` workers are to load: the files that the configuration names, if they are there.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be read.
    pub fn plan(config: &Config, workers: usize) -> Result<Self, String> {
        let checksum = config.rdbchecksum;
        let may_be_torn = setting(config, "aof-load-truncated") == b"yes";
        let plan = |source, total_bytes| Plan { source, total_bytes, checksum, may_be_torn };
        if let Some(files) = AofFiles::find(config)? {
            let total_bytes = files.total_bytes();
            return Ok(Self::new(Some(plan(Source::Aof(files), total_bytes)), workers));
        }
        let directory = Path::new(OsStr::from_bytes(&config.dir));
        let path = directory.join(OsStr::from_bytes(&config.dbfilename));
        let plan = match fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(data) if data.is_file() => Some(plan(Source::Rdb(path), data.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                return Err(format!(
                    "Fatal error: can't open the RDB file {path} for reading: {error}"
                ));
            }
            Ok(_) => {
                let path = path.display();
                return Err(format!(
                    "Fatal error: {path} is not a file: name another one by 'dbfilename'"
                ));
            }
        };
        Ok(Self::new(plan, workers))
    }

    /// `total_bytes` bytes of records of the append-only log, which are done again elsewhere: each
    /// worker says when it has taken over what came of them.
    pub fn of_log(total_bytes: u64, workers: usize) -> Self {
        let mut loading = Self::new(None, workers);
        loading.total_bytes = total_bytes;
        loading.is_active = AtomicBool::new(true);
        loading.end = (Mutex::new(false), Condvar::new());
        loading
    }

    /// The log begins when all is loaded, and only then commands are let in: each worker says when
    /// it has begun.
    pub fn followed_by_log(mut self) -> Self {
        self.is_log_to_follow = true;
        self
    }

    /// Whether all is loaded and the log is to begin.
    pub(crate) fn awaits_log(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// So many bytes of the log are done again.
    pub(crate) fn note_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// A worker has taken over its shard with `keys` keys, made from the log.
    pub(crate) fn worker_took_over(&self, keys: u64) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        if self.workers_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
        self.is_active.store(false, Ordering::Release);
        self.finish();
    }

    /// Nothing to load.
    pub fn nothing() -> Self {
        Self::new(None, 0)
    }

    fn new(plan: Option<Plan>, workers: usize) -> Self {
        let is_active = plan.is_some();
        Self {
            total_bytes: plan.as_ref().map_or(0, |plan| plan.total_bytes),
            plan,
            is_active: AtomicBool::new(is_active),
            workers_left: AtomicUsize::new(workers),
            start_s: unix_time().as_secs(),
            started: Instant::now(),
            bytes: AtomicU64::new(0),
            used_memory: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            keys_expired: AtomicU64::new(0),
            failure: OnceLock::new(),
            end: (Mutex::new(!is_active), Condvar::new()),
            assembly: Assembly::default(),
            workers,
            is_log_to_follow: false,
            is_loaded: AtomicBool::new(false),
        }
    }

    /// Whether commands on keys are refused.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    /// What stopped the start.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// For INFO.
    pub fn status(&self) -> LoadingStatus {
        let total_bytes = self.total_bytes;
        let loaded_bytes = self.bytes.load(Ordering::Relaxed);
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let left = total_bytes.saturating_sub(loaded_bytes) as f64;
        LoadingStatus {
            is_active: self.is_active(),
            start_s: self.start_s,
            total_bytes,
            loaded_bytes,
            used_memory: self.used_memory.load(Ordering::Relaxed),
            eta_s: (elapsed_s * left / loaded_bytes.max(1) as f64) as u64,
            keys: self.keys.load(Ordering::Relaxed),
            keys_expired: self.keys_expired.load(Ordering::Relaxed),
        }
    }

    /// Waits until loading has ended, well or not, or `is_over` says that nobody waits any more.
    pub fn wait(&self, is_over: impl Fn() -> bool) {
        let (ended, changed) = &self.end;
        let mut guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*guard && !is_over() {
            let waited = changed.wait_timeout(guard, WAIT_STEP);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A worker has loaded its part.
    fn worker_done(&self, stats: LoadStats) {
        let keys = self.keys.fetch_add(stats.loaded, Ordering::Relaxed) + stats.loaded;
        let expired = self.keys_expired.fetch_add(stats.expired, Ordering::Relaxed) + stats.expired;
        if self.workers_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        match self.plan.as_ref().map(|plan| &plan.source) {
            Some(Source::Aof(_)) => {
                tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
            }
            _ => {
                tracing::info!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}.");
                tracing::info!("DB loaded from disk: {seconds:.3} seconds");
            }
        }
        if self.is_log_to_follow {
            self.workers_left.store(self.workers, Ordering::Release);
            self.is_loaded.store(true, Ordering::Release);
            return;
        }
        self.is_active.store(false, Ordering::Release);
        self.finish();
    }

    /// The start has failed. The first reason counts.
    pub(crate) fn fail(&self, reason: String) {
        // A later failure follows from the first one, or is the same.
        let _ = self.failure.set(reason);
        self.finish();
    }

    fn finish(&self) {
        let mut guard: MutexGuard<'_, bool> =
            self.end.0.lock().unwrap_or_else(PoisonError::into_inner);
        *guard = true;
        self.end.1.notify_all();
    }
}
