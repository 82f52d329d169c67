//! Recovery at the start of the server.
//!
//! What counts of the files is found out before anything else starts, and the manifest says so before
//! a segment of this run is made. The records are then done again on threads of their own, while the
//! workers answer `-LOADING`.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    fmt::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    thread,
    time::Duration,
};

use tessera_engine::{
    persist::{
        manifest::{FILE_NAME, Manifest},
        recovery::{Plan, Progress, RecoveryError, load, plan, read_manifest},
        scan::Damage,
    },
    shard::Shard,
    sys::{disk::Directory as _, random::Random},
    transaction::ShardMap,
};

use super::{Aof, DataDirectory, Open, keeper::Keeper};
use crate::{config::Config, runtime::wake::Doorbell, server::Shared, worker::settings};

/// How often the progress of loading is told.
const PROGRESS_STEP: Duration = Duration::from_millis(50);

/// What was found in the data directory, to be loaded.
pub struct Recovered {
    directory: DataDirectory,
    plans: Vec<Plan>,
    bytes: u64,
}

impl Recovered {
    /// Bytes of records.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Opens the log that the configuration asks for: the log, and what is to be loaded first.
///
/// # Errors
///
/// The files cannot be used; the text says why and what to do.
pub fn prepare(
    config: &Config,
    workers: usize,
    seed: u64,
) -> Result<(Aof, Option<Recovered>), String> {
    if !config.appendonly {
        return Ok((Aof::none(workers), None));
    }
    let path =
        Path::new(OsStr::from_bytes(&config.dir)).join(OsStr::from_bytes(&config.appenddirname));
    let failed = |error: &dyn std::fmt::Display| {
        format!("Can't open or create append-only dir {}: {error}", path.display())
    };
    let directory = DataDirectory::open(&path).map_err(|error| failed(&error))?;
    refuse_foreign(&directory)?;
    let complain = |error: RecoveryError| {
        format!("Bad file format reading the append only files in {}: {error}", path.display())
    };
    let mut manifest = read_manifest(&directory).map_err(complain)?;
    let mut plans = Vec::with_capacity(manifest.generations.len());
    for generation in &mut manifest.generations {
        let plan = plan(&directory, generation).map_err(complain)?;
        for cut in &plan.cuts {
            if !config.aof_load_truncated {
                return Err(complain(RecoveryError::Truncated(cut.clone())));
            }
            tell_of_cut(cut);
        }
        generation.end_epoch = Some(plan.end_epoch);
        generation.ends.clone_from(&plan.ends);
        plans.push(plan);
    }
    let generation = manifest.begin(Random::from_seed(seed).next_u64(), workers).clone();
    write_manifest(&directory, &manifest)?;
    let keeper = Keeper::start(directory.clone()).map_err(|error| failed(&error))?;
    let first_epoch = generation.first_epoch;
    let bytes = plans.iter().map(|plan| plan.bytes).sum();
    let open = Open { generation, loaded_bytes: bytes, keeper };
    let aof = Aof::new(Some(open), workers, first_epoch);
    Ok((aof, Some(Recovered { directory, plans, bytes })))
}

fn write_manifest(directory: &DataDirectory, manifest: &Manifest) -> Result<(), String> {
    directory.replace(FILE_NAME, &manifest.to_bytes()).map_err(|error| {
        format!("Can't write {}: {error}", directory.path().join(FILE_NAME).display())
    })
}

/// Redis's own append-only files are neither read nor overwritten: who starts with them would
/// otherwise find an empty server.
fn refuse_foreign(directory: &DataDirectory) -> Result<(), String> {
    let names = directory.names().map_err(|error| error.to_string())?;
    let own = names.iter().any(|name| name == FILE_NAME);
    let foreign = names.iter().find(|name| name.ends_with(".aof.manifest"));
    match foreign {
        Some(foreign) if !own => Err(format!(
            "{} holds an append-only file of Redis ({foreign}), which this server does not read. \
             Name another directory with 'appenddirname', or make Redis save a dump.rdb, which is \
             loaded at the start",
            directory.path().display()
        )),
        _ => Ok(()),
    }
}

fn tell_of_cut(cut: &Damage) {
    tracing::warn!(
        "!!! Warning: short read while loading the AOF file {} at byte {}: {}. What was written \
         behind that is cut off: it was on its way when the server ended.",
        cut.file,
        cut.offset,
        cut.reason
    );
}

/// Loads what was found, on a thread of its own, and rings the workers' bells when it is done.
pub(crate) fn load_in_background(
    shared: &Arc<Shared>,
    recovered: Recovered,
    seed: u64,
    bells: Vec<Doorbell>,
) -> Result<(), std::io::Error> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name("log-loader".into()).spawn(move || {
        match load_all(&shared, &recovered, seed) {
            Ok(shards) => {
                let aof = &shared.aof;
                let mut loaded = aof.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                *loaded = shards.into_iter().map(Some).collect();
                drop(loaded);
                aof.is_loaded.store(true, SeqCst);
            }
            Err(error) => {
                let mut reason = String::from("Bad file format reading the append only files: ");
                // Writing to a String cannot fail.
                let _ = write!(reason, "{error}");
                shared.loading.fail(reason);
                shared.stop.shutdown().request();
            }
        }
        bells.iter().for_each(Doorbell::ring);
    })?;
    Ok(())
}

fn load_all(
    shared: &Shared,
    recovered: &Recovered,
    seed: u64,
) -> Result<Vec<Shard>, RecoveryError> {
    let progress = Progress::default();
    let settings = settings(&shared.config.current());
    let owner_of = |key: &[u8], shards: usize| ShardMap::new(shards).owner(key) as usize;
    let Recovered { directory, plans, .. } = recovered;
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            load(directory, plans, &settings, shared.workers, seed, &owner_of, &progress)
        });
        while !loader.is_finished() {
            shared.loading.note_bytes(progress.loaded_bytes.load(SeqCst));
            thread::park_timeout(PROGRESS_STEP);
        }
        loader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
