//! A worker's part of loading: slices of the file, one a turn.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_engine::persist::rdb::{
    Collision, Load, LoadError, LoadStep, RdbError, ReadError, Reader,
};

use super::{Loading, Plan};
use crate::{metrics::unix_time, server::Shared, worker::Worker};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// After so long a slice ends, and the network gets its turn. What a chunk holds is loaded whole, so
/// a slice may take a few times as long.
const SLICE: Duration = Duration::from_millis(2);
/// How often the log tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a worker loads.
pub(crate) struct Loader {
    shared: Arc<Shared>,
    file: File,
    load: Load,
    chunk: Vec<u8>,
    /// This worker tells of what concerns all.
    is_speaker: bool,
    told: Instant,
}

impl Loader {
    /// The part of `worker`, if there is something to load.
    pub(crate) fn new(shared: &Arc<Shared>, worker: usize) -> Option<Self> {
        let plan = shared.loading.plan.as_ref()?;
        let file = match File::open(&plan.path) {
            Ok(file) => file,
            Err(error) => {
                give_up(shared, format!("cannot open {}: {error}", plan.path.display()));
                return None;
            }
        };
        let is_speaker = worker == 0;
        let reader = Reader::new(Some(plan.total_bytes), plan.checksum && is_speaker);
        Some(Self {
            shared: Arc::clone(shared),
            file,
            load: Load::new(reader, Collision::Refuse),
            chunk: vec![0; CHUNK_BYTES],
            is_speaker,
            told: Instant::now(),
        })
    }

    /// Reads the next chunk of the file.
    fn read(&mut self) -> Result<(), String> {
        let read = self.file.read(&mut self.chunk).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the file has become shorter while it was read".into());
        }
        self.load.supply(&self.chunk[..read]);
        Ok(())
    }

    fn note_progress(&mut self) {
        if !self.is_speaker {
            return;
        }
        let loading = &self.shared.loading;
        loading.bytes.store(self.load.offset(), std::sync::atomic::Ordering::Relaxed);
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            let status = loading.status();
            let percent = status.loaded_bytes * 100 / status.total_bytes.max(1);
            tracing::info!("Loading RDB: {percent} %, about {} seconds left", status.eta_s);
        }
    }

    /// Tells of a field for information.
    fn note_field(&self, name: &[u8], value: &[u8]) {
        if !self.is_speaker {
            return;
        }
        let text = String::from_utf8_lossy(value);
        let number = || text.parse::<u64>().unwrap_or(0);
        match name {
            b"redis-ver" => tracing::info!("Loading RDB produced by Redis version {text}"),
            b"valkey-ver" => tracing::info!("Loading RDB produced by Valkey version {text}"),
            b"ctime" => {
                let age = unix_time().as_secs().saturating_sub(number());
                tracing::info!("RDB age {age} seconds");
            }
            b"used-mem" => {
                let mib = number() as f64 / (1024.0 * 1024.0);
                tracing::info!("RDB memory usage when created {mib:.2} Mb");
                let used = &self.shared.loading.used_memory;
                used.store(number(), std::sync::atomic::Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Worker {
    /// Loads a slice of the own shard's part of the file.
    pub(crate) fn load_slice(&mut self) {
        let Some(mut loader) = self.loader.take() else { return };
        let start = Instant::now();
        while start.elapsed() < SLICE {
            match self.load_step(&mut loader) {
                Ok(true) => {
                    loader.note_progress();
                    self.publish();
                    return self.shared.loading.worker_done(loader.load.stats());
                }
                Ok(false) => {}
                Err(cause) => {
                    return give_up(&self.shared, complaint(&self.shared.loading, &cause));
                }
            }
        }
        loader.note_progress();
        // Another worker may have found something wrong meanwhile.
        if self.shared.loading.failure().is_none() {
            self.loader = Some(loader);
        }
    }

    /// Goes on by about a chunk; whether the file has ended.
    fn load_step(&mut self, loader: &mut Loader) -> Result<bool, Failure> {
        let (own, map) = (self.own, self.map);
        let shard = &mut *self.shard;
        let thresholds = shard.thresholds().clone();
        let step =
            loader.load.step(&mut shard.keyspace, &thresholds, |key| map.owner(key) == own)?;
        match step {
            LoadStep::NeedMore(_) => loader.read().map_err(Failure::Io)?,
            LoadStep::Aux { name, value } => loader.note_field(&name, &value),
            LoadStep::Function(_) => {
                if loader.is_speaker {
                    tracing::warn!(
                        "The RDB file has a library of functions, which are not supported yet: it \
                         is left out"
                    );
                }
            }
            LoadStep::Done => return Ok(true),
        }
        Ok(false)
    }
}

/// Why a worker cannot go on.
enum Failure {
    Io(String),
    Load(LoadError),
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// Ends the start, and with it the server.
fn give_up(shared: &Shared, reason: String) {
    shared.loading.fail(reason);
    shared.stop.shutdown().request();
}

/// What is wrong with the file, and what can be done about it.
fn complaint(loading: &Loading, failure: &Failure) -> String {
    let path = loading.plan.as_ref().map_or(Path::new(""), |Plan { path, .. }| path).display();
    let (cause, cure) = match failure {
        Failure::Io(error) => (error.clone(), "check the disk"),
        Failure::Load(error) => (error.to_string(), cure(error)),
    };
    format!("Fatal error loading the DB from {path}: {cause}. Cure: {cure}.")
}

fn cure(error: &LoadError) -> &'static str {
    match error {
        LoadError::Database(_) => "start with as many 'databases' as the server that wrote it had",
        LoadError::Read(ReadError { cause: RdbError::Version(_), .. }) => {
            "save it again on a server of an older version, or start a newer version of this one"
        }
        LoadError::Read(ReadError { cause: RdbError::Checksum { .. }, .. }) => {
            "restore the file from a backup; 'rdbchecksum no' loads it as it is"
        }
        LoadError::Read(ReadError { cause: RdbError::Module(_), .. }) => {
            "delete keys of that type on the server that wrote the file and save again"
        }
        LoadError::Read(_) | LoadError::Duplicate { .. } => {
            "restore the file from a backup, or move it away to start without data"
        }
    }
}
