//! A worker's part of loading: slices of the file, one a turn.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tessera_engine::{
    persist::rdb::{
        Collision, Load, LoadError, LoadStats, LoadStep, Portion, PortionError, RdbError, ReadError,
    },
    shard::Shard,
    transaction::{Gathered, ShardMap},
};

use super::{Loading, Plan, Source, import::Import};
use crate::{
    libraries,
    metrics::unix_time,
    saving::{self, Why},
    server::Shared,
    worker::Worker,
};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// After so long a slice ends, and the network gets its turn. What a chunk holds is loaded whole, so
/// a slice may take a few times as long.
const SLICE: Duration = Duration::from_millis(2);
/// How often a worker looks whether its shard is filled.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How often the log tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a worker does to load.
pub(crate) enum Loader {
    /// It reads an RDB file for the keys of its own shard.
    Own(Box<OwnPart>),
    /// It fills all shards with what Redis's append-only files say.
    Host(Box<Host>),
    /// It waits for its shard to be filled.
    Guest,
}

impl Loader {
    /// The part of `worker`, if there is something to load.
    pub(crate) fn new(shared: &Arc<Shared>, worker: usize) -> Option<Self> {
        let plan = shared.loading.plan.as_ref()?;
        match &plan.source {
            Source::Rdb(path) => {
                let part = OwnPart::new(shared, plan, path, worker)?;
                Some(Self::Own(Box::new(part)))
            }
            Source::Aof(files) if worker == 0 => {
                let import = Import::new(files, plan.may_be_torn, plan.checksum);
                Some(Self::Host(Box::new(Host { import, shards: None })))
            }
            Source::Aof(_) => Some(Self::Guest),
        }
    }

    /// How long the worker may sleep before the next slice.
    pub(crate) fn due(&self) -> Duration {
        match self {
            Self::Own(_) | Self::Host(_) => Duration::ZERO,
            Self::Guest => LOOK_AGAIN,
        }
    }
}

/// What the first worker fills.
pub(crate) struct Host {
    import: Import,
    /// The shards, made when they are needed. Their clocks stand at 0.
    shards: Option<Gathered>,
}

/// One worker's part of an RDB file.
pub(crate) struct OwnPart {
    shared: Arc<Shared>,
    file: File,
    load: Load,
    /// What of the file this worker reads.
    portion: Portion,
    /// The file is loaded; the keyspace settles.
    is_loaded: bool,
    /// This worker tells of what concerns all.
    is_speaker: bool,
    told: Instant,
}

impl OwnPart {
    fn new(shared: &Arc<Shared>, plan: &Plan, path: &Path, worker: usize) -> Option<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => {
                give_up(shared, format!("cannot open {}: {error}", path.display()));
                return None;
            }
        };
        let slots = ShardMap::new(shared.workers).slots_of(worker as u32);
        let read_at = |at: u64, buffer: &mut [u8]| file.read_at(buffer, at);
        let portion = Portion::find(plan.total_bytes, Some(slots), plan.checksum, read_at);
        let portion = match portion {
            Ok(portion) => portion,
            Err(error) => {
                give_up(shared, format!("cannot read {}: {error}", path.display()));
                return None;
            }
        };
        let is_speaker = worker == 0;
        let reader = portion.reader(plan.checksum && is_speaker);
        Some(Self {
            shared: Arc::clone(shared),
            file,
            load: Load::new(reader, Collision::Refuse),
            portion,
            is_loaded: false,
            is_speaker,
            told: Instant::now(),
        })
    }

    /// Reads the next chunk of the file.
    fn read(&mut self) -> Result<(), Failure> {
        let Self { load, portion, file, .. } = self;
        let read_at = |at: u64, buffer: &mut [u8]| file.read_at(buffer, at);
        let read = load.supply_from(CHUNK_BYTES, |chunk| portion.read(chunk, read_at));
        if read.map_err(Failure::from)? == 0 {
            return Err(Failure::Io("the file has become shorter while it was read".into()));
        }
        Ok(())
    }

    fn note_progress(&mut self) {
        if !self.is_speaker {
            return;
        }
        let loading = &self.shared.loading;
        let at = self.portion.offset_in_file(self.load.offset());
        loading.bytes.store(at, Ordering::Relaxed);
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
                used.store(number(), Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Worker {
    /// Loads a slice.
    pub(crate) fn load_slice(&mut self) {
        let goes_on = match self.loader.take() {
            None => return,
            Some(Loader::Own(part)) => self.load_own(part),
            Some(Loader::Host(host)) => self.import(host),
            Some(Loader::Guest) => self.look_for_shard(),
        };
        // Another worker may have found something wrong meanwhile.
        self.loader = goes_on.filter(|_| self.shared.loading.failure().is_none());
    }

    /// Loads a slice of the own shard's part of an RDB file.
    fn load_own(&mut self, mut part: Box<OwnPart>) -> Option<Loader> {
        let start = Instant::now();
        while start.elapsed() < SLICE {
            match self.load_step(&mut part) {
                Ok(false) => {}
                Ok(true) => {
                    part.note_progress();
                    self.publish();
                    self.shared.loading.worker_done(part.load.stats());
                    return None;
                }
                Err(cause) => {
                    give_up(&self.shared, complaint(&self.shared.loading, &cause));
                    return None;
                }
            }
        }
        part.note_progress();
        Some(Loader::Own(part))
    }

    /// Repeats a slice of Redis's append-only files.
    fn import(&mut self, mut host: Box<Host>) -> Option<Loader> {
        let mut shards = host.shards.take().unwrap_or_else(|| self.make_shards());
        let start = Instant::now();
        while start.elapsed() < SLICE {
            let step = host.import.step(&mut shards);
            let functions = host.import.take_functions();
            let repeated = functions.iter().try_for_each(|args| self.repeat_function(args));
            match repeated.and(step) {
                Ok(false) => {}
                Ok(true) => {
                    shards.iter_mut().for_each(|(_, shard)| while shard.keyspace.settle_slice() {});
                    if let Err(reason) = self.move_in(&mut shards, &host.import) {
                        give_up(&self.shared, reason);
                        return None;
                    }
                    self.shared.loading.assembly.release(shards);
                    return Some(Loader::Guest);
                }
                Err(cause) => {
                    give_up(&self.shared, complaint(&self.shared.loading, &Failure::Aof(cause)));
                    return None;
                }
            }
        }
        self.shared.loading.bytes.store(host.import.offset(), Ordering::Relaxed);
        host.shards = Some(shards);
        Some(Loader::Host(host))
    }

    /// New shards for all workers.
    fn make_shards(&mut self) -> Gathered {
        let mut gathered = Gathered::new(self.map, self.random.next_u64());
        for id in 0..self.map.shards() as u32 {
            let mut shard = Shard::new(self.random.next_u64(), self.shard.settings().clone());
            shard.keyspace.begin_filling();
            gathered.put(id, Box::new(shard));
        }
        gathered
    }

    /// Makes what was imported last: an RDB file holds it from now on, and Redis's files are kept
    /// aside.
    fn move_in(&self, shards: &mut Gathered, import: &Import) -> Result<(), String> {
        let (keys, commands) = import.counts();
        tracing::info!("Append-only files are read: {keys} keys of a base, {commands} commands");
        let plan = saving::plan(&self.shared, Why::Asked);
        let name = plan.name.display().to_string();
        let functions = libraries::in_rdb_form(&self.shared);
        saving::at_once::save_at_once(&plan, &functions, shards)
            .map_err(|error| format!("Fatal error: cannot save what was imported: {error}"))?;
        let source = self.shared.loading.plan.as_ref().map(|plan| &plan.source);
        if let Some(Source::Aof(files)) = source {
            let aside = files.keep_aside(unix_time().as_secs()).map_err(|error| {
                format!("Fatal error: cannot rename what was imported: {error}")
            })?;
            let aside = aside.display();
            tracing::info!("The data are in {name} now; the old files are kept in {aside}");
        }
        Ok(())
    }

    /// Takes the own shard, if it is filled.
    fn look_for_shard(&mut self) -> Option<Loader> {
        let Some(mut shard) = self.shared.loading.assembly.take(self.own) else {
            return Some(Loader::Guest);
        };
        shard.advance_clock_us(self.now_us);
        let keyspace = &shard.keyspace;
        let keys = (0..keyspace.database_count()).map(|database| keyspace.len(database) as u64);
        let stats = LoadStats { loaded: keys.sum(), ..LoadStats::default() };
        *self.shard = *shard;
        self.configure_shard();
        self.publish();
        self.shared.loading.worker_done(stats);
        None
    }

    /// Goes on by about a chunk; whether all is done.
    fn load_step(&mut self, loader: &mut OwnPart) -> Result<bool, Failure> {
        let (own, map) = (self.own, self.map);
        let shard = &mut *self.shard;
        if loader.is_loaded {
            return Ok(!shard.keyspace.settle_slice());
        }
        if loader.load.offset() == 0 {
            shard.keyspace.begin_filling();
        }
        let thresholds = shard.thresholds().clone();
        let step = loader.load.step(&mut shard.keyspace, &thresholds, |key| map.owner(key) == own);
        match step.map_err(|error| loader.portion.located(error))? {
            LoadStep::NeedMore(_) => loader.read()?,
            LoadStep::Aux { name, value } => loader.note_field(&name, &value),
            LoadStep::Function(code) if loader.is_speaker => {
                self.load_function(&code, false).map_err(Failure::Function)?;
            }
            LoadStep::Function(_) => {}
            LoadStep::Done => loader.is_loaded = true,
        }
        Ok(false)
    }
}

/// Why a worker cannot go on.
enum Failure {
    Io(String),
    Load(LoadError),
    Function(String),
    Aof(String),
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<PortionError> for Failure {
    fn from(error: PortionError) -> Self {
        match error {
            PortionError::Io(error) => Self::Io(error.to_string()),
            PortionError::Damaged(error) => Self::Load(error.into()),
        }
    }
}

/// Ends the start, and with it the server.
fn give_up(shared: &Shared, reason: String) {
    shared.loading.fail(reason);
    shared.stop.shutdown().request();
}

/// What is wrong with the file, and what can be done about it.
fn complaint(loading: &Loading, failure: &Failure) -> String {
    let path = loading.plan.as_ref().map_or(Path::new(""), Plan::path).display();
    let (cause, cure) = match failure {
        Failure::Io(error) => (error.clone(), "check the disk"),
        Failure::Load(error) => (error.to_string(), cure(error)),
        Failure::Function(error) => {
            (error.clone(), "delete the library on the server that wrote the file and save again")
        }
        Failure::Aof(error) => (
            error.clone(),
            "mend the file with redis-check-aof --fix, on a copy, or start with 'appendonly no'",
        ),
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
