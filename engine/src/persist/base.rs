//! Loading a base: the snapshot that stands for everything up to an epoch, an RDB file.
//!
//! Every shard reads the file for itself and takes its own keys, all of them at once. No deadline passes
//! meanwhile, as none does while records are done again. What the file says of the use of keys, which
//! it does under a policy that evicts by it, counts from now.
#![forbid(unsafe_code)]

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use super::{
    rdb::{Collision, Load, LoadStep, Reader},
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
                scope.spawn(move || {
                    load_part(directory, name, new.make(number, settings), is_own, progress)
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

/// Loads the keys of one shard, and the libraries of functions if it is the one that tells of its
/// `progress`.
fn load_part(
    directory: &dyn Directory,
    name: &str,
    mut shard: Shard,
    is_own: impl Fn(&[u8]) -> bool,
    progress: Option<&AtomicU64>,
) -> Result<(Shard, Vec<FunctionCommand>), RecoveryError> {
    let mut functions = Vec::new();
    let broken = |reason: String| RecoveryError::Base { file: name.to_owned(), reason };
    let len = directory.len(name)?.ok_or_else(|| broken("it is not there".into()))?;
    let mut load = Load::new(Reader::new(Some(len), progress.is_some()), Collision::Refuse);
    let thresholds = shard.thresholds().clone();
    let mut offset = 0;
    loop {
        let step = load.step(&mut shard.keyspace, &thresholds, &is_own);
        match step.map_err(|error| broken(error.to_string()))? {
            LoadStep::NeedMore(_) => {
                let read = load.supply_from(CHUNK_BYTES, |chunk| {
                    directory.read_at(name, offset, chunk)
                })?;
                if read == 0 {
                    return Err(broken("it ends too early".into()));
                }
                offset += read as u64;
                if let Some(progress) = progress {
                    progress.fetch_add(read as u64, Relaxed);
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
