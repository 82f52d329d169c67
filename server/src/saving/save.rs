//! One save: the file that all shards write together.
//!
//! Invariants:
//! - `end` is the length of the file so far: each piece's place is taken by adding to it, so that
//!   places do not overlap and leave no gaps;
//! - every shard reports exactly once that it is through, whatever happened; the one that is last
//!   concludes the save.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tessera_engine::{
    persist::{
        manifest::LogStart,
        rdb::{
            Options, Part,
            writer::{filler_len, put_filler, put_header},
        },
        snapshot::{SnapshotOptions, UsageKept},
    },
    transaction::{ShardId, ShardMap},
};

use super::{
    Why,
    parts::{Parts, UNSUMMED_END},
};
use crate::{
    aof::{Open, rewrite},
    config::MaxmemoryPolicy,
    faults::SyncPoint,
    info::REDIS_VERSION,
    metrics::unix_time,
    runtime::{background::yield_now, file},
    server::Shared,
};

/// Pieces whose checksums are joined in one slice: some ten µs, more where lengths differ.
const JOINS_A_SLICE: usize = 16;
/// How much of the disk is set aside for a file at a time, in bytes: no more at once than its data
/// take in memory.
const ROOM_BYTES: u64 = 64 << 20;
const ROOM_BYTES_MIN: u64 = 1 << 20;

/// What is decided before a save begins.
pub struct Plan {
    /// Why it is made.
    pub why: Why,
    /// The directory, absolute.
    pub directory: PathBuf,
    /// The name that the file gets, in that directory.
    pub name: PathBuf,
    /// The head of the file.
    pub head: Vec<u8>,
    /// How keys are written.
    pub options: SnapshotOptions,
    /// Whether the file is made durable bit by bit.
    pub syncs_on_the_way: bool,
    /// Number of shards.
    pub shards: usize,
    /// Bytes of memory that the keys and values take.
    pub memory_bytes: u64,
    /// Now, in Unix seconds.
    pub began_at_s: u64,
    /// The append-only log that the file is made for, if it is.
    pub(crate) log: Option<Arc<Open>>,
}

/// The plan of a save that begins now.
pub fn plan(shared: &Shared, why: Why) -> Plan {
    let config = shared.config.current();
    let text = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let began_at_s = unix_time().as_secs();
    let memory = shared.metrics.snapshot().totals.memory_bytes;
    let mut head = Vec::new();
    put_header(
        &mut head,
        &[
            ("redis-ver", REDIS_VERSION),
            ("redis-bits", "64"),
            ("ctime", &began_at_s.to_string()),
            ("used-mem", &memory.to_string()),
            ("aof-base", "0"),
        ],
    );
    let options = SnapshotOptions {
        values: Options {
            compress: config.rdbcompression,
            list_max_listpack_size: config.list_max_listpack_size,
        },
        checksum: config.rdbchecksum,
        usage: usage_kept(config.maxmemory_policy),
        is_alone: shared.workers == 1,
    };
    Plan {
        why,
        directory: text(&config.dir),
        name: text(&config.dbfilename),
        head,
        options,
        syncs_on_the_way: config.rdb_save_incremental_fsync,
        shards: shared.workers,
        memory_bytes: memory,
        began_at_s,
        log: None,
    }
}

/// The plan of a rewrite of the append-only log; nothing if there is none.
pub fn plan_rewrite(shared: &Shared) -> Option<Plan> {
    let (log, directory, name) = shared.aof.next_base()?;
    let (log, name) = (Some(log), PathBuf::from(name));
    Some(Plan { directory, name, log, ..plan(shared, Why::Rewrite) })
}

/// What an eviction policy will want to know of the keys when they are loaded again.
fn usage_kept(policy: MaxmemoryPolicy) -> UsageKept {
    match policy {
        MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => UsageKept::Idle,
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => UsageKept::Frequency,
        MaxmemoryPolicy::AllkeysRandom
        | MaxmemoryPolicy::VolatileRandom
        | MaxmemoryPolicy::VolatileTtl
        | MaxmemoryPolicy::NoEviction => UsageKept::Nothing,
    }
}

/// A piece that is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) sum: u64,
    /// Whose keys are in it.
    pub(super) shard: ShardId,
}

/// A save under way, or one that has ended.
pub struct Save {
    plan: Plan,
    temporary: PathBuf,
    end: AtomicU64,
    /// Up to where the disk was set aside for the file.
    set_aside: AtomicU64,
    extents: Mutex<Vec<Extent>>,
    shards_left: AtomicUsize,
    failure: OnceLock<io::Error>,
    outcome: OnceLock<bool>,
    keys: AtomicU64,
    keys_total: AtomicU64,
    changes: AtomicU64,
    preserved_bytes: AtomicU64,
    /// The libraries of functions at the cut, which stand behind all keys.
    functions: OnceLock<Vec<u8>>,
    /// Where the logs were at the cut, by shard; for a rewrite.
    positions: Mutex<Vec<(u32, LogStart)>>,
    started: Instant,
}

impl Save {
    pub(super) fn new(mut plan: Plan) -> Self {
        // Pieces begin with blocks.
        let filler = filler_len(plan.head.len() as u64);
        put_filler(&mut plan.head, filler);
        // As Redis names it, so that an operator knows what a process that was killed left behind.
        let kind = if plan.why == Why::Rewrite { "rewriteaof-bg-" } else { "" };
        let temporary = plan.directory.join(format!("temp-{kind}{}.rdb", std::process::id()));
        Self {
            temporary,
            end: AtomicU64::new(plan.head.len() as u64),
            set_aside: AtomicU64::new(0),
            extents: Mutex::default(),
            shards_left: AtomicUsize::new(plan.shards),
            failure: OnceLock::new(),
            outcome: OnceLock::new(),
            keys: AtomicU64::new(0),
            keys_total: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            preserved_bytes: AtomicU64::new(0),
            functions: OnceLock::new(),
            positions: Mutex::default(),
            started: Instant::now(),
            plan,
        }
    }

    /// Why it is made.
    pub fn why(&self) -> Why {
        self.plan.why
    }

    /// The append-only log that it is made for, if it is.
    pub(crate) fn log(&self) -> Option<&Arc<Open>> {
        self.plan.log.as_ref()
    }

    /// How keys are written.
    pub fn options(&self) -> &SnapshotOptions {
        &self.plan.options
    }

    /// Whether the file is made durable bit by bit.
    pub(super) fn syncs_on_the_way(&self) -> bool {
        self.plan.syncs_on_the_way
    }

    /// What the syncs of its file and of its name are for.
    pub(super) fn sync_points(&self) -> (SyncPoint, SyncPoint) {
        match self.plan.why {
            Why::Rewrite => (SyncPoint::Base, SyncPoint::BaseDirectory),
            Why::Background | Why::Asked => (SyncPoint::Dump, SyncPoint::DumpDirectory),
        }
    }

    /// When it began, in Unix seconds.
    pub fn began_at_s(&self) -> u64 {
        self.plan.began_at_s
    }

    /// The file's name as long as it is not whole.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// A shard has begun, with so many keys and so many changes behind it.
    pub fn shard_begins(&self, keys: u64, changes: u64) {
        self.keys_total.fetch_add(keys, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
    }

    /// The libraries of functions at the cut, in the form of RDB files; told by one shard's worker.
    pub(crate) fn note_functions(&self, functions: Vec<u8>) {
        // One worker says it, once.
        let _ = self.functions.set(functions);
    }

    /// Where the log of a shard was when the shard was captured. Without that a rewrite fails.
    pub(crate) fn note_position(&self, shard: u32, position: Option<LogStart>) {
        match position {
            Some(at) => self.positions().push((shard, at)),
            None => self.fail(io::Error::other("the append-only log cannot be written")),
        }
    }

    fn positions(&self) -> MutexGuard<'_, Vec<(u32, LogStart)>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file the base of the append-only log, if that is what it was made for.
    pub(super) fn hand_over(&self, shared: &Arc<Shared>, is_ok: bool) {
        let Some(log) = &self.plan.log else { return };
        if !is_ok {
            return shared.aof.rewrite_failed();
        }
        let mut positions = std::mem::take(&mut *self.positions());
        positions.sort_unstable_by_key(|&(shard, _)| shard);
        let starts = positions.into_iter().map(|(_, start)| start).collect();
        let name = self.plan.name.display().to_string();
        rewrite::install(shared, Arc::clone(log), name, starts, self.started);
    }

    /// A shard has written so many more keys, and commands have preserved so many more bytes.
    pub fn note_progress(&self, keys: u64, preserved_bytes: u64) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.preserved_bytes.fetch_add(preserved_bytes, Ordering::Relaxed);
    }

    /// Keys written, and keys to be written in all.
    pub fn keys(&self) -> (u64, u64) {
        (self.keys.load(Ordering::Relaxed), self.keys_total.load(Ordering::Relaxed))
    }

    /// Changes that the shards had behind them at the cut.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Bytes that commands have had to preserve.
    pub fn preserved_bytes(&self) -> u64 {
        self.preserved_bytes.load(Ordering::Relaxed)
    }

    /// The place of the next `len` bytes.
    pub(super) fn reserve(&self, len: u64) -> u64 {
        self.end.fetch_add(len, Ordering::Relaxed)
    }

    /// The part of the disk that is to be set aside next, as an offset and a length, if the file
    /// has come near the end of what was.
    pub(super) fn next_room(&self) -> Option<(u64, u64)> {
        let room = self.plan.memory_bytes.clamp(ROOM_BYTES_MIN, ROOM_BYTES);
        let at = self.set_aside.load(Ordering::Relaxed);
        let is_far = self.end.load(Ordering::Relaxed) + room / 2 <= at;
        let (relaxed, next) = (Ordering::Relaxed, at + room);
        let is_ours =
            !is_far && self.set_aside.compare_exchange(at, next, relaxed, relaxed).is_ok();
        is_ours.then_some((at, room))
    }

    /// The save cannot succeed any more. The first reason counts.
    pub fn fail(&self, error: io::Error) {
        // A later failure follows from the first one.
        let _ = self.failure.set(error);
    }

    /// Whether it cannot succeed any more.
    pub fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Whether it has ended, and then whether it has succeeded.
    pub fn outcome(&self) -> Option<bool> {
        self.outcome.get().copied()
    }

    pub(super) fn set_outcome(&self, is_ok: bool) {
        // Only the last shard concludes.
        let _ = self.outcome.set(is_ok);
    }

    /// A shard is through, and has written `extents`. Answers whether it was the last.
    pub(super) fn shard_ends(&self, extents: Vec<Extent>) -> bool {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner).extend(extents);
        self.shards_left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Makes the file whole and gives it its name, or removes it if something has failed.
    pub(super) async fn conclude(&self) -> io::Result<()> {
        let outcome = match self.failure.get() {
            Some(error) => Err(copy_of(error)),
            None => self.complete().await,
        };
        if outcome.is_err()
            && let Err(error) = file::remove(&self.temporary).await
        {
            tracing::warn!("Cannot remove {}: {error}", self.temporary.display());
        }
        outcome
    }

    /// Makes the file whole, and gives it its name once it is durable.
    async fn complete(&self) -> io::Result<()> {
        let file = file::File::open(&self.temporary, self.sync_points().0).await?;
        let written = self.write_ends(&file).await;
        // Closed in any case: a file that is removed takes its place on the disk until then.
        let closed = file.close().await;
        written.and(closed)?;
        let name = self.plan.directory.join(&self.plan.name);
        file::rename_durably(&self.temporary, &name, self.sync_points().1).await
    }

    /// Writes head and end, and waits until everything is durable.
    async fn write_ends(&self, file: &file::File) -> io::Result<()> {
        let end = self.end.load(Ordering::Relaxed);
        let mut last = self.functions.get().cloned().unwrap_or_default();
        if self.plan.options.checksum {
            let parts = self.parts(&last).await;
            parts.put_end(self.plan.shards > 1, &mut last);
        } else {
            last.extend_from_slice(&UNSUMMED_END);
        }
        let len = end + last.len() as u64;
        file.write(self.plan.head.clone(), 0).await?;
        file.write(last, end).await?;
        file.finish(len).await
    }

    /// What the file is made of: its head, the shards' pieces, those of one shard in a row as one, and
    /// `functions`.
    async fn parts(&self, functions: &[u8]) -> Parts {
        let map = ShardMap::new(self.plan.shards);
        let mut extents =
            std::mem::take(&mut *self.extents.lock().unwrap_or_else(PoisonError::into_inner));
        extents.sort_unstable();
        let mut parts = Parts::default();
        parts.push_for_all(&self.plan.head);
        for slice in extents.chunks(JOINS_A_SLICE) {
            for &Extent { len, sum, shard, .. } in slice {
                parts.push(Part { slots: map.slots_of(shard), len, sum });
            }
            yield_now().await;
        }
        parts.push_for_all(functions);
        parts
    }
}

/// An error that can be handed on; the original stays with the save.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
