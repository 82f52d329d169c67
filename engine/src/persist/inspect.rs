//! Inspecting a data directory: reading all of it as recovery would, and saying what is there.
//!
//! What decides is recovery's own code (`recovery::plan`, `rdb::Reader`), so that whatever is called
//! whole here is loaded at the next start. Two steps differ in what they need: [`inspect`] reads
//! every byte and every record in the memory of one group of records and one value;
//! [`Inspection::load`] then does everything, and needs as much memory as the data. Only that finds
//! records that contradict what was before them.
//!
//! Invariant: nothing is written.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use tessera_proto::{Args, parse_i64};

use super::{
    base::load_base,
    manifest::{Generation, Manifest},
    rdb::{Event, LoadedEntry, Reader},
    recovery::{Loaded, NewShards, Plan, Progress, RecoveryError, load, plan, read_manifest},
    replay::{command_of, is_of_functions},
    scan::{Damage, Scan},
};
use crate::{
    journal::record::Record, shard::Settings, sys::disk::Directory, types::Thresholds,
    value::value_type,
};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Databases that there are at least: the default of the option `databases`.
const DATABASES_MIN: usize = 16;
/// Nobody has more databases; a greater number in a file is a mistake, and not to be allocated by.
const DATABASES_MAX: usize = 1 << 14;

/// What an RDB file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbFigures {
    /// Its name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The version that it names.
    pub version: u32,
    /// Who wrote it, as the field for information says: `redis-ver`, or `valkey-ver`.
    pub writer: Option<String>,
    /// Its keys by type, under the names that TYPE answers.
    pub types: BTreeMap<&'static str, u64>,
    /// Its keys by database.
    pub databases: BTreeMap<u32, u64>,
    /// How many of its keys have a deadline.
    pub volatile: u64,
    /// Keys that hold nothing, which loading leaves out.
    pub empty: u64,
    /// The code of its libraries of functions.
    pub libraries: Vec<Vec<u8>>,
}

impl RdbFigures {
    /// Keys that hold something.
    pub fn keys(&self) -> u64 {
        self.types.values().sum()
    }
}

/// What one log of a run holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFigures {
    /// Segments, and their bytes, room that is set aside included.
    pub segments: u32,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Groups of records that count.
    pub groups: u64,
    /// Records that count.
    pub records: u64,
    /// Bytes of these records.
    pub bytes: u64,
    /// The number of the last record that counts.
    pub last_sequence: u64,
    /// The greatest number that the log itself calls durable.
    pub durable_sequence: u64,
}

/// What one run of the server has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFigures {
    /// Its number.
    pub run: u64,
    /// Its first epoch, and the last one that counts.
    pub epochs: (u64, u64),
    /// The greatest epoch that its logs call durable.
    pub durable_epoch: u64,
    /// Whether it has not ended, or has crashed: nobody has said yet where it ends.
    pub is_open: bool,
    /// Its logs by shard.
    pub logs: Vec<LogFigures>,
    /// Where recovery cuts a tail off.
    pub cuts: Vec<Damage>,
}

/// What a data directory holds.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The manifest.
    pub manifest: Manifest,
    /// What the log begins with.
    pub base: Option<RdbFigures>,
    /// The runs of the server since then.
    pub runs: Vec<RunFigures>,
    /// Records that count, by the names of their commands.
    pub commands: BTreeMap<&'static str, u64>,
    /// The greatest number of a database that is named.
    last_database: usize,
    is_read: bool,
    plans: Vec<Plan>,
}

/// Reads everything that `directory` holds into `found`, as far as it is whole.
///
/// # Errors
///
/// What recovery would stop at; or the file system fails.
pub fn inspect(directory: &dyn Directory, found: &mut Inspection) -> Result<(), RecoveryError> {
    found.manifest = read_manifest(directory)?;
    let Manifest { base, generations } = found.manifest.clone();
    if let Some(name) = base.as_ref().and_then(|base| base.files.first()) {
        let figures = survey_rdb(directory, name)?;
        found.note_database(figures.databases.keys().max().copied().unwrap_or(0) as usize);
        found.base = Some(figures);
    }
    generations.iter().try_for_each(|generation| found.survey_run(directory, generation))?;
    found.is_read = true;
    Ok(())
}

impl Inspection {
    /// Inspects one RDB file instead of a log's directory: the data is what it holds.
    ///
    /// # Errors
    ///
    /// As [`inspect`].
    pub fn of_rdb(directory: &dyn Directory, name: &str) -> Result<Self, RecoveryError> {
        let mut found = Self::default();
        let figures = survey_rdb(directory, name)?;
        found.note_database(figures.databases.keys().max().copied().unwrap_or(0) as usize);
        (found.base, found.is_read) = (Some(figures), true);
        Ok(found)
    }

    /// Records that count.
    pub fn records(&self) -> u64 {
        self.commands.values().sum()
    }

    /// Whether everything was read, and found whole.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// Whether a run has no end yet: its files may still be written, or it has crashed.
    pub fn has_open_run(&self) -> bool {
        self.runs.iter().any(|run| run.is_open)
    }

    /// Whether recovery cuts something off.
    pub fn has_torn_tail(&self) -> bool {
        self.runs.iter().any(|run| !run.cuts.is_empty())
    }

    /// Databases that are needed to load it.
    pub fn databases(&self) -> usize {
        (self.last_database + 1).max(DATABASES_MIN)
    }

    /// Loads everything, as the start would, with as many shards as the last run had; `owner_of`
    /// says which of so many shards owns a key.
    ///
    /// # Errors
    ///
    /// As at the start.
    pub fn load(
        &self,
        directory: &dyn Directory,
        owner_of: &(dyn Fn(&[u8], usize) -> usize + Sync),
    ) -> Result<Loaded, RecoveryError> {
        let settings = Settings {
            databases: self.databases(),
            bulk_bytes_max: usize::MAX,
            ..Settings::default()
        };
        let count = self.runs.last().map_or(1, |run| run.logs.len());
        let (new, progress) =
            (NewShards { count, seed: 0, now_us: 0, slots_of: None }, Progress::default());
        let loaded = match &self.base {
            Some(RdbFigures { file, .. }) => {
                let bytes = &progress.loaded_bytes;
                load_base(directory, file, &settings, new, owner_of, bytes)?
            }
            None => Loaded::default(),
        };
        load(directory, loaded, &self.plans, &settings, new, owner_of, &progress)
    }

    fn survey_run(
        &mut self,
        directory: &dyn Directory,
        generation: &Generation,
    ) -> Result<(), RecoveryError> {
        let plan = plan(directory, generation)?;
        self.runs.push(RunFigures {
            run: generation.run,
            epochs: (generation.first_epoch, plan.end_epoch),
            durable_epoch: plan.scans().iter().map(|scan| scan.durable_epoch).max().unwrap_or(0),
            is_open: generation.end_epoch.is_none(),
            logs: plan.scans().iter().map(log_figures).collect(),
            cuts: plan.cuts.clone(),
        });
        plan.for_each_record(directory, |record| self.note_record(record))?;
        self.plans.push(plan);
        Ok(())
    }

    fn note_record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let args = record.args();
        if is_of_functions(&args) {
            *self.commands.entry("function").or_default() += 1;
            return Ok(());
        }
        let command = command_of(&args).map_err(|error| error.to_string())?;
        *self.commands.entry(command.full_name).or_default() += 1;
        self.note_database(record.head.database as usize);
        databases_in(command.name, &args).for_each(|database| self.note_database(database));
        Ok(())
    }

    /// What is beyond all reason is left to be refused by loading.
    fn note_database(&mut self, database: usize) {
        if database < DATABASES_MAX {
            self.last_database = self.last_database.max(database);
        }
    }
}

/// The databases that the arguments of a command name.
fn databases_in<'a>(command: &str, args: &'a Args<'a>) -> impl Iterator<Item = usize> + 'a {
    let positions = match command {
        "swapdb" => 1..3,
        "move" => 2..3,
        "copy" => {
            let option = (3..args.len()).find(|&at| args[at].eq_ignore_ascii_case(b"db"));
            option.map_or(0..0, |at| at + 1..at + 2)
        }
        _ => 0..0,
    };
    let number = |at| args.get(at).and_then(parse_i64).and_then(|it| usize::try_from(it).ok());
    positions.filter_map(number)
}

fn log_figures(scan: &Scan) -> LogFigures {
    let headers = || scan.groups.iter().map(|group| &group.header);
    LogFigures {
        segments: scan.segments,
        segment_bytes: scan.bytes,
        groups: scan.groups.len() as u64,
        records: scan.last_sequence() - scan.start_sequence,
        bytes: headers().map(|header| header.payload_bytes).sum(),
        last_sequence: scan.last_sequence(),
        durable_sequence: scan.durable_sequence,
    }
}

/// Reads a whole RDB file.
fn survey_rdb(directory: &dyn Directory, name: &str) -> Result<RdbFigures, RecoveryError> {
    let broken = |reason: String| RecoveryError::Base { file: name.to_owned(), reason };
    let len = directory.len(name)?.ok_or_else(|| broken("it is not there".into()))?;
    let mut figures = RdbFigures { file: name.to_owned(), bytes: len, ..RdbFigures::default() };
    let mut reader = Reader::new(Some(len), true);
    let thresholds = Thresholds::default();
    let (mut chunk, mut offset) = (vec![0; CHUNK_BYTES], 0);
    loop {
        match reader.next(&thresholds, |_| true).map_err(|error| broken(error.to_string()))? {
            Event::NeedMore(_) => {
                let read = directory.read_at(name, offset, &mut chunk)?;
                if read == 0 {
                    return Err(broken("it ends too early".into()));
                }
                reader.supply(&chunk[..read]);
                offset += read as u64;
            }
            Event::End => {
                figures.version = reader.version();
                return Ok(figures);
            }
            event => figures.note(event),
        }
    }
}

impl RdbFigures {
    fn note(&mut self, event: Event) {
        match event {
            Event::Aux { name, value } if matches!(&name[..], b"redis-ver" | b"valkey-ver") => {
                let version = String::from_utf8_lossy(&value);
                self.writer = Some(format!("{} {version}", String::from_utf8_lossy(&name)));
            }
            Event::Function(code) => self.libraries.push(code),
            Event::EmptyKey(_) => self.empty += 1,
            Event::Entry(entry) => {
                let LoadedEntry { key, value } = *entry;
                *self.types.entry(value_type(&value.body()).name()).or_default() += 1;
                *self.databases.entry(key.database).or_default() += 1;
                self.volatile += u64::from(key.deadline.is_some());
            }
            Event::Aux { .. } | Event::Sizes { .. } | Event::NeedMore(_) | Event::End => {}
        }
    }
}
