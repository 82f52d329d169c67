//! BGREWRITEAOF: a snapshot takes the place of the log up to a cut.
//!
//! The snapshot is made as BGSAVE makes one (see `crate::saving`), into the log's directory. At its
//! place in the cut every worker notes how far its log is at the instant of its capture. When the file
//! is whole, and every log is durable up to there, the manifest is replaced: the data is the file,
//! and what the logs hold behind these positions. Then what was before is removed.
//!
//! Invariants:
//! - the manifest names a base only when the base is durable, and so is every log up to the cut: else
//!   a crash could leave a base that knows more of one shard than the logs know of another;
//! - nothing is removed that the manifest names, or would name after a crash.
#![forbid(unsafe_code)]

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use tessera_engine::{
    persist::manifest::{Base, FILE_NAME, LogStart, Manifest, segment_name},
    sys::disk::Directory as _,
};

use super::{Aof, DataDirectory, Open};
use crate::server::Shared;

/// How often it is looked whether the logs are durable up to the cut.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long after a failure no rewrite is begun by itself.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The same for the first rewrite of a log, which is worth nothing without.
const REST_BEFORE_FIRST: Duration = Duration::from_secs(5);

/// What INFO shows of rewrites.
#[derive(Clone, Copy, Debug)]
pub struct Rewrites {
    /// Rewrites that have succeeded in this run.
    pub count: u64,
    /// Rewrites in a row that have failed.
    pub failures: u64,
    /// Seconds that the last one took.
    pub took_s: Option<u64>,
    /// Length of the last base, and bytes that had been written to the logs then.
    pub(super) base: Option<(u64, u64)>,
    /// The snapshot is there, and waits to become the base.
    pub is_installing: bool,
    /// When the last one failed.
    failed_at: Option<Instant>,
}

impl Rewrites {
    pub(super) const NONE: Self = Self {
        count: 0,
        failures: 0,
        took_s: None,
        base: None,
        is_installing: false,
        failed_at: None,
    };
}

impl Aof {
    /// What INFO shows of rewrites.
    pub fn rewrites(&self) -> Rewrites {
        *self.rewrites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log, if there is one, with the directory and the name of its next base.
    pub(crate) fn next_base(&self) -> Option<(Arc<Open>, PathBuf, String)> {
        let open = self.open().filter(|_| self.is_on())?;
        // Also of a log that was turned off, and of which nothing is known but its files.
        let names = open.directory.names().unwrap_or_default();
        let last = names.iter().filter_map(|name| base_number(name)).max().unwrap_or(0);
        let path = open.directory.path().to_owned();
        Some((open, path, base_name(last + 1)))
    }

    /// Bytes of the last base, and of everything that would be loaded now.
    pub fn sizes(&self) -> (u64, u64) {
        let written = self.written_bytes();
        match self.rewrites().base {
            Some((base, before)) => (base, base + written.saturating_sub(before)),
            None => (self.loaded_bytes(), self.loaded_bytes() + written),
        }
    }

    /// Whether the log has grown by `percentage` since the last rewrite, and to `bytes_min` at least.
    pub(crate) fn wants_rewrite(&self, percentage: u64, bytes_min: u64) -> bool {
        let rewrites = self.rewrites();
        let is_first = self.is_beginning();
        let rest = if is_first { REST_BEFORE_FIRST } else { REST_AFTER_FAILURE };
        let rests = rewrites.failed_at.is_some_and(|since| since.elapsed() < rest);
        if is_first {
            return !rewrites.is_installing && rewrites.failed_at.is_some() && !rests;
        }
        let (base, size) = self.sizes();
        let growth = size.saturating_sub(base).saturating_mul(100) / base.max(1);
        percentage > 0
            && !rewrites.is_installing
            && !rests
            && size >= bytes_min.max(1)
            && growth >= percentage
    }

    pub(super) fn change_rewrites(&self, change: impl FnOnce(&mut Rewrites)) {
        change(&mut self.rewrites.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A rewrite has failed, or the log that it was made for comes to its end.
    pub(crate) fn rewrite_failed(&self) {
        if !self.is_on() {
            tracing::info!("Background AOF rewrite given up: the log is turned off");
            return self.change_rewrites(|rewrites| rewrites.is_installing = false);
        }
        tracing::warn!("Background AOF rewrite terminated with an error");
        self.change_rewrites(|rewrites| {
            rewrites.failures += 1;
            rewrites.failed_at = Some(Instant::now());
            rewrites.is_installing = false;
        });
    }
}

/// Makes the file `name` the base of the log `open`, from `starts` on, on a thread of its own.
pub(crate) fn install(
    shared: &Arc<Shared>,
    open: Arc<Open>,
    name: String,
    starts: Vec<LogStart>,
    began_at: Instant,
) {
    shared.aof.change_rewrites(|rewrites| rewrites.is_installing = true);
    let for_thread = Arc::clone(shared);
    let spawned = thread::Builder::new().name("log-rewrite".into()).spawn(move || {
        let aof = &for_thread.aof;
        while !aof.is_durable_up_to(&starts) {
            if for_thread.stop.is_asked() || aof.is_ending() {
                return aof.rewrite_failed();
            }
            thread::sleep(LOOK_AGAIN);
        }
        let before = aof.written_bytes();
        match replace_base(&open, name, &starts) {
            Ok(bytes) => {
                tracing::info!("Background AOF rewrite finished successfully");
                for (figures, start) in aof.figures.iter().zip(&starts) {
                    figures.first_segment.store(start.segment, SeqCst);
                }
                aof.change_rewrites(|rewrites| {
                    *rewrites = Rewrites {
                        count: rewrites.count + 1,
                        failures: 0,
                        took_s: Some(began_at.elapsed().as_secs()),
                        base: Some((bytes, before)),
                        is_installing: false,
                        failed_at: None,
                    };
                    // Not before it is counted, nor can anybody think that it has failed.
                    aof.is_based();
                });
                // Whoever waits for the log with WAITAOF has it now.
                (0..for_thread.workers).for_each(|worker| for_thread.board.bell(worker).ring());
            }
            Err(error) => {
                tracing::warn!("Cannot replace {FILE_NAME}: {error}");
                aof.rewrite_failed();
            }
        }
    });
    if spawned.is_err() {
        shared.aof.rewrite_failed();
    }
}

impl Aof {
    fn is_durable_up_to(&self, starts: &[LogStart]) -> bool {
        let pairs = self.figures.iter().zip(starts);
        pairs.into_iter().all(|(log, start)| log.settled_sequence.load(SeqCst) >= start.sequence)
    }
}

/// Replaces the manifest, and removes what it does not name any more; the base's length.
fn replace_base(open: &Open, name: String, starts: &[LogStart]) -> io::Result<u64> {
    let mut manifest = open.manifest.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = open.directory.len(&name)?.ok_or(io::ErrorKind::NotFound)?;
    let mut current = manifest.generations.pop().ok_or(io::ErrorKind::NotFound)?;
    let epoch = current.first_epoch - 1;
    starts.clone_into(&mut current.logs);
    let next = Manifest {
        base: Some(Base { epoch, files: vec![name.clone()] }),
        generations: vec![current.clone()],
    };
    if let Err(error) = open.directory.replace(FILE_NAME, &next.to_bytes()) {
        manifest.generations.push(current);
        return Err(error);
    }
    *manifest = next;
    let is_needed = |file: &str| {
        let of_log = (0..).zip(starts).any(|(shard, start)| {
            let prefix = segment_name(current.run, shard, 0);
            let prefix = prefix.trim_end_matches("0.log");
            let number = file.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".log"));
            number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|n| n >= start.segment)
        });
        of_log || file == name || file == FILE_NAME
    };
    remove_others(&open.directory, is_needed);
    Ok(bytes)
}

/// Removes files of logs and bases that are not needed. One that cannot be removed does no harm, and
/// the next rewrite tries again.
fn remove_others(directory: &DataDirectory, is_needed: impl Fn(&str) -> bool) {
    let Ok(names) = directory.names() else { return };
    let is_own = |name: &String| {
        name.starts_with("tessera-") && (name.ends_with(".log") || name.ends_with(".base.rdb"))
    };
    for name in names.iter().filter(|name| is_own(name) && !is_needed(name)) {
        if let Err(error) = directory.remove(name) {
            tracing::warn!("Cannot remove {name}: {error}");
        }
    }
}

/// The name of a base's file.
pub(super) fn base_name(number: u64) -> String {
    format!("tessera-{number}.base.rdb")
}

fn base_number(name: &str) -> Option<u64> {
    name.strip_prefix("tessera-")?.strip_suffix(".base.rdb")?.parse().ok()
}
