//! Recovery at the start of the server.
//!
//! What counts of the files is found out before anything else starts, and the manifest says so before
//! a segment of this run is made. The records are then done again on threads of their own, while the
//! workers answer `-LOADING`.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tessera_engine::{
    persist::{
        base::load_base,
        manifest::{Base, FILE_NAME, Manifest},
        recovery::{
            Loaded, NewShards, Plan, Progress, RecoveryError, SlotsOf, load, plan, read_manifest,
        },
        scan::Damage,
    },
    sys::{clock::wall_clock_us, disk::Directory as _, random::Random},
    transaction::ShardMap,
};

use super::{Aof, DataDirectory, Open, keeper::Keeper, log_path, rewrite::base_name};
use crate::{
    config::Config, loading, runtime::wake::Doorbell, server::Shared, shard_settings::settings,
};

/// What a start says that the log's files stop.
pub(super) const BAD_FORMAT: &str = "Bad file format reading the append only files";

/// How often the progress of loading is told.
const PROGRESS_STEP: Duration = Duration::from_millis(50);

/// What was found in the data directory, to be loaded.
pub struct Recovered {
    directory: DataDirectory,
    base: Option<String>,
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
    let path = log_path(config);
    let failed = |error: &dyn std::fmt::Display| {
        format!("Can't open or create append-only dir {}: {error}", path.display())
    };
    if !path.join(FILE_NAME).exists() && loading::finds_append_only_files(config)? {
        return Ok((Aof::to_follow(workers), None));
    }
    let directory = DataDirectory::open(&path).map_err(|error| failed(&error))?;
    let complain = |error: RecoveryError| {
        format!("Bad file format reading the append only files in {}: {error}", path.display())
    };
    let mut manifest = read_manifest(&directory).map_err(complain)?;
    if manifest == Manifest::default() {
        manifest.base = adopt_dump(config, &directory).map_err(|error| failed(&error))?;
    }
    let mut plans = Vec::with_capacity(manifest.generations.len());
    for generation in &mut manifest.generations {
        let plan = plan(&directory, generation).map_err(complain)?;
        if generation.end_epoch.is_none() {
            // What counts from now on must not be lost any more.
            directory.sync_segments(generation.run).map_err(|error| failed(&error))?;
        }
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
    let base = manifest.base.as_ref().and_then(|base| base.files.first().cloned());
    let base_bytes = match &base {
        Some(name) => directory.len(name).map_err(|error| failed(&error))?.unwrap_or(0),
        None => 0,
    };
    let bytes = base_bytes + plans.iter().map(|plan| plan.bytes).sum::<u64>();
    let open = open_log(&directory, &mut manifest, workers, seed, bytes)?;
    Ok((Aof::of(open, workers), Some(Recovered { directory, base, plans, bytes })))
}

/// Begins the logs of this run.
fn open_log(
    directory: &DataDirectory,
    manifest: &mut Manifest,
    workers: usize,
    seed: u64,
    loaded_bytes: u64,
) -> Result<Open, String> {
    let generation = manifest.begin(Random::from_seed(seed).next_u64(), workers).clone();
    write_manifest(directory, manifest)?;
    let keeper = Keeper::start(directory.clone())
        .map_err(|error| format!("Can't start the thread that makes segments: {error}"))?;
    let (directory, manifest) = (directory.clone(), Mutex::new(manifest.clone()));
    Ok(Open { generation, directory, manifest, loaded_bytes, keeper })
}

/// What is in the RDB file of `dir` when the log begins is its base. The file is linked, so that
/// later saves, which put another in its place, do not change it.
fn adopt_dump(config: &Config, directory: &DataDirectory) -> std::io::Result<Option<Base>> {
    let dump =
        Path::new(OsStr::from_bytes(&config.dir)).join(OsStr::from_bytes(&config.dbfilename));
    if !dump.is_file() {
        return Ok(None);
    }
    let name = base_name(0);
    directory.adopt(&dump, &name)?;
    tracing::info!("The append-only log begins with what is in {}", dump.display());
    Ok(Some(Base { epoch: 0, files: vec![name] }))
}

impl Aof {
    /// Whether the log begins when what is loaded elsewhere is there.
    pub(crate) fn follows(&self) -> bool {
        self.follows
    }

    /// Begins the log with what was loaded elsewhere and saved as the RDB file; once, whoever comes
    /// first.
    pub(crate) fn begin_with_dump(
        &self,
        config: &Config,
        workers: usize,
        seed: u64,
    ) -> Result<(), String> {
        // Taken here to let one worker do it; the others find it done.
        let guard = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_on() {
            return Ok(());
        }
        let path = log_path(config);
        let begin = || -> Result<Open, String> {
            let directory = DataDirectory::open(&path).map_err(|error| error.to_string())?;
            let base = adopt_dump(config, &directory).map_err(|error| error.to_string())?;
            let mut manifest = Manifest { base, ..Manifest::default() };
            open_log(&directory, &mut manifest, workers, seed, 0)
        };
        let open = begin().map_err(|error| {
            format!("Can't open or create append-only dir {}: {error}", path.display())
        })?;
        self.set_open(open);
        drop(guard);
        Ok(())
    }
}

fn write_manifest(directory: &DataDirectory, manifest: &Manifest) -> Result<(), String> {
    directory.replace(FILE_NAME, &manifest.to_bytes()).map_err(|error| {
        format!("Can't write {}: {error}", directory.path().join(FILE_NAME).display())
    })
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
            Ok(Loaded { shards, functions }) => {
                let aof = &shared.aof;
                let mut loaded = aof.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                *loaded = shards.into_iter().map(Some).collect();
                drop(loaded);
                *aof.functions.lock().unwrap_or_else(PoisonError::into_inner) = functions;
                aof.is_loaded.store(true, SeqCst);
            }
            Err(error) => {
                let path = recovered.directory.path().display();
                shared.loading.fail(format!("{BAD_FORMAT} in {path}: {error}"));
                shared.stop.shutdown().request();
            }
        }
        bells.iter().for_each(Doorbell::ring);
    })?;
    Ok(())
}

fn load_all(shared: &Shared, recovered: &Recovered, seed: u64) -> Result<Loaded, RecoveryError> {
    let progress = Progress::default();
    let settings = settings(&shared.config.current());
    let owner_of = |key: &[u8], shards: usize| ShardMap::new(shards).owner(key) as usize;
    let Recovered { directory, base, plans, .. } = recovered;
    let slots_of: SlotsOf = |shard, shards| ShardMap::new(shards).slots_of(shard as u32);
    let new = NewShards {
        count: shared.workers,
        seed,
        now_us: wall_clock_us(),
        slots_of: Some(slots_of),
    };
    let bytes = &progress.loaded_bytes;
    let load_both = || {
        let loaded = match base {
            Some(base) => {
                let new = new.for_base(plans);
                load_base(directory, base, &settings, new, &owner_of, bytes)?
            }
            None => Loaded::default(),
        };
        load(directory, loaded, plans, &settings, new, &owner_of, &progress)
    };
    let (is_done, teller) = (AtomicBool::new(false), thread::current());
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let loaded = load_both();
            is_done.store(true, SeqCst);
            teller.unpark();
            loaded
        });
        while !is_done.load(SeqCst) && !loader.is_finished() {
            shared.loading.note_bytes(progress.loaded_bytes.load(SeqCst));
            thread::park_timeout(PROGRESS_STEP);
        }
        loader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
