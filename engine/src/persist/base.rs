//! Loading a base: the snapshot that stands for everything up to an epoch, an RDB file.
//!
//! Every shard reads the file for itself, all of them at once, and takes its own keys; where the file
//! has an index it reads only the parts that may hold some (see `rdb::index`). No deadline passes
//! meanwhile, as none does while records are done again. What the file says of the use of keys, which
//! it does under a policy that evicts by it, counts from now.
#![forbid(unsafe_code)]

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use super::{
    rdb::{Collision, Load, LoadStep, Portion, PortionError},
    recovery::{Loaded, NewShards, RecoveryError},
    replay::FunctionCommand,
};
use crate::{
    shard::{Settings, Shard},
    sys::disk::Directory,
};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Loads the base `name` into `new` shards; `owner_of` says which of them owns a key.
///
/// # Errors
///
/// The file is not there, or is damaged.
pub fn load_base(
    directory: &dyn Directory,
    name: &str,
    settings: &Settings,
    new: NewShards,
    owner_of: &(dyn Fn(&[u8], usize) -> usize + Sync),
    loaded_bytes: &AtomicU64,
) -> Result<Loaded, RecoveryError> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..new.count)
            .map(|number| {
                let is_own = move |key: &[u8]| owner_of(key, new.count) == number;
                // One compares the checksum, and tells how far it is.
                let progress = (number == 0).then_some(loaded_bytes);
                let slots = new.slots_of.map(|slots_of| slots_of(number, new.count));
                scope.spawn(move || {
                    let shard = new.make(number, settings);
                    load_part(directory, name, shard, (is_own, slots), progress)
                })
            })
            .collect();
        let mut loaded = Loaded::default();
        for thread in threads {
            let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            loaded.shards.push(part.0);
            loaded.functions.extend(part.1);
        }
        Ok(loaded)
    })
}

/// Loads the keys of one shard, which owns those of `slots` if slots decide that, and the libraries of functions if it is the one that tells of its
/// `progress`.
fn load_part(
    directory: &dyn Directory,
    name: &str,
    mut shard: Shard,
    (is_own, slots): (impl Fn(&[u8]) -> bool, Option<RangeInclusive<u16>>),
    progress: Option<&AtomicU64>,
) -> Result<(Shard, Vec<FunctionCommand>), RecoveryError> {
    let mut functions = Vec::new();
    let broken = |reason: String| RecoveryError::Base { file: name.to_owned(), reason };
    let len = directory.len(name)?.ok_or_else(|| broken("it is not there".into()))?;
    let read_at = |at: u64, buffer: &mut [u8]| directory.read_at(name, at, buffer);
    let mut portion = Portion::find(len, slots, true, read_at)?;
    let mut load = Load::new(portion.reader(progress.is_some()), Collision::Refuse);
    let thresholds = shard.thresholds().clone();
    let mut told = 0;
    loop {
        let step = load.step(&mut shard.keyspace, &thresholds, &is_own);
        match step.map_err(|error| broken(portion.located(error).to_string()))? {
            LoadStep::NeedMore(_) => {
                let read = load.supply_from(CHUNK_BYTES, |chunk| portion.read(chunk, read_at));
                if read.map_err(|error| broken_portion(error, broken))? == 0 {
                    return Err(broken("it ends too early".into()));
                }
                if let Some(progress) = progress {
                    let at = portion.offset_in_file(load.offset());
                    progress.fetch_add(at - told, Relaxed);
                    told = at;
                }
            }
            LoadStep::Done => return Ok((shard, functions)),
            LoadStep::Function(code) if progress.is_some() => {
                functions.push(vec![b"FUNCTION".to_vec(), b"LOAD".to_vec(), code]);
            }
            LoadStep::Aux { .. } | LoadStep::Function(_) => {}
        }
    }
}

fn broken_portion(error: PortionError, broken: impl Fn(String) -> RecoveryError) -> RecoveryError {
    match error {
        PortionError::Io(error) => error.into(),
        PortionError::Damaged(error) => broken(error.to_string()),
    }
}
