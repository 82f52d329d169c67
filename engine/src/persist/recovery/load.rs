//! From what counts of the logs to the shards that they describe.
//!
//! Each log of a generation is replayed, in order, into a shard of its own, all of them at once. If
//! the next generation has as many shards, its logs go on with these; otherwise every key moves to
//! the shard that owns it now, at the cost of one look-up, before the next generation begins. So
//! records never have to be split, whatever keys they name.
#![forbid(unsafe_code)]

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use super::{Plan, RecoveryError};
use crate::{
    journal::record::peek,
    keyspace::Keyspace,
    persist::{
        replay::{FunctionCommand, Replay},
        scan::{Scan, read_group_ahead},
    },
    shard::{Settings, Shard},
    sys::disk::Directory,
};

/// How many records ahead keys are asked for.
const LOOK_AHEAD: usize = 8;
/// How many keys are looked up at a time when they move to other shards.
const MOVED_AT_ONCE: usize = 256;

/// What was loaded.
#[derive(Default)]
pub struct Loaded {
    /// The shards.
    pub shards: Vec<Shard>,
    /// What was done to the libraries of functions, in order.
    pub functions: Vec<FunctionCommand>,
}

/// The slots whose keys a shard owns, by its number and how many there are.
pub type SlotsOf = fn(usize, usize) -> RangeInclusive<u16>;

/// The shards into which is loaded.
#[derive(Clone, Copy, Debug)]
pub struct NewShards {
    /// How many there will be.
    pub count: usize,
    /// What decides their hashes and random choices.
    pub seed: u64,
    /// Now, in microseconds since the Unix epoch: keys that records make or use are of this time. No
    /// deadline passes while keys are loaded; [`Shard::end_loading`] ends that.
    pub now_us: i64,
    /// Who owns which slots, if slots decide who owns a key: then each reads no more of a base than it
    /// must.
    pub slots_of: Option<SlotsOf>,
}

impl NewShards {
    /// The shards into which the base in front of `plans` is loaded: as many as the first log behind it
    /// has, so that no key moves twice.
    pub fn for_base(self, plans: &[Plan]) -> Self {
        let first = plans.iter().find(|plan| plan.bytes > 0);
        Self { count: first.map_or(self.count, |plan| plan.scans.len()), ..self }
    }

    /// The shard of that number, empty.
    pub(in super::super) fn make(self, number: usize, settings: &Settings) -> Shard {
        let mut shard = Shard::new(self.seed.wrapping_add(number as u64), settings.clone());
        shard.begin_loading(self.now_us);
        shard
    }
}

/// How far loading is; shared with whoever tells.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes loaded.
    pub loaded_bytes: AtomicU64,
    /// Records done again.
    pub records: AtomicU64,
}

/// Loads the generations of `plans`, the oldest first, on top of what was `loaded` before, into `new`
/// shards. `owner_of` says which of so many shards owns a key.
///
/// Uses a thread a log.
///
/// # Errors
///
/// What was durable is damaged, or the file system fails.
pub fn load(
    directory: &dyn Directory,
    loaded: Loaded,
    plans: &[Plan],
    settings: &Settings,
    new: NewShards,
    owner_of: &dyn Fn(&[u8], usize) -> usize,
    progress: &Progress,
) -> Result<Loaded, RecoveryError> {
    let Loaded { shards: mut loaded, mut functions } = loaded;
    let empty = |count: usize| -> Vec<Shard> {
        (0..count).map(|number| new.make(number, settings)).collect()
    };
    for plan in plans.iter().filter(|plan| plan.bytes > 0) {
        if loaded.len() != plan.scans.len() {
            loaded = redistribute(loaded, empty(plan.scans.len()), |key| {
                owner_of(key, plan.scans.len())
            });
        }
        thread::scope(|scope| {
            let threads: Vec<_> = (plan.scans.iter().zip(&mut loaded))
                .map(|(scan, shard)| scope.spawn(|| replay(directory, scan, shard, progress)))
                .collect();
            let mut joined = threads.into_iter().map(|thread| thread.join());
            joined.try_for_each(|outcome| {
                let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                // All of a run are in the log of one shard.
                outcome.map(|of_log| functions.extend(of_log))
            })
        })?;
    }
    if loaded.len() != new.count {
        loaded = redistribute(loaded, empty(new.count), |key| owner_of(key, new.count));
    }
    settle(&mut loaded);
    Ok(Loaded { shards: loaded, functions })
}

/// Gives back what memory was only for loading.
fn settle(shards: &mut [Shard]) {
    thread::scope(|scope| {
        for shard in shards {
            scope.spawn(|| while shard.keyspace.settle_slice() {});
        }
    });
}

/// Does the records of one log again; answers what was done to the libraries of functions.
fn replay(
    directory: &dyn Directory,
    scan: &Scan,
    shard: &mut Shard,
    progress: &Progress,
) -> Result<Vec<FunctionCommand>, RecoveryError> {
    let (mut replay, mut payload) = (Replay::default(), Vec::new());
    for group in &scan.groups {
        let mut ahead = Ahead::default();
        let outcome = read_group_ahead(directory, scan, group, &mut payload, |record, rest| {
            ahead.look(rest, &shard.keyspace);
            if record.head.sequence <= scan.start_sequence {
                // The base has it.
                return Ok(());
            }
            replay.apply(shard, record).map_err(|error| error.to_string())
        });
        outcome?;
        progress.loaded_bytes.fetch_add(group.header.payload_bytes, Relaxed);
        let records = group.header.last_sequence - group.header.first_sequence + 1;
        progress.records.fetch_add(records, Relaxed);
        // What is thrown away while loading is freed at once.
        while shard.keyspace.free_slice() {}
    }
    Ok(replay.into_functions())
}

/// Looks ahead in the bytes of records: asks the processor for the places of the keys that come next,
/// as waiting for memory is much of what a record takes.
#[derive(Default)]
struct Ahead {
    /// How many records behind the present one have been looked at.
    records: usize,
    /// Where the next one begins, counted from the end of the group, which stays in place.
    to_end: Option<usize>,
}

impl Ahead {
    /// The present record is followed by `rest`.
    fn look(&mut self, rest: &[u8], keyspace: &Keyspace) {
        self.records = self.records.saturating_sub(1);
        let mut to_end = self.to_end.unwrap_or(rest.len()).min(rest.len());
        while self.records < LOOK_AHEAD {
            let Some((len, database, key)) = peek(&rest[rest.len() - to_end..]) else { break };
            if database < keyspace.database_count() {
                keyspace.prefetch_to_insert(database, key);
            }
            to_end -= len;
            self.records += 1;
        }
        self.to_end = Some(to_end);
    }
}

/// Moves every key to the shard that owns it among `new`.
fn redistribute(
    old: Vec<Shard>,
    mut new: Vec<Shard>,
    owner: impl Fn(&[u8]) -> usize,
) -> Vec<Shard> {
    for mut shard in old {
        let keyspace = &mut shard.keyspace;
        let mut keys = Vec::new();
        for database in 0..keyspace.database_count() {
            keyspace.select(database, true);
            let mut cursor = 0;
            loop {
                cursor =
                    keyspace.scan(cursor, MOVED_AT_ONCE, |entry| keys.push(entry.key().to_vec()));
                for key in keys.drain(..) {
                    if let Some(held) = keyspace.take(database, &key) {
                        new[owner(&key)].keyspace.put(database, &key, held);
                    }
                }
                if cursor == 0 {
                    break;
                }
            }
        }
    }
    new
}
