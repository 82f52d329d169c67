//! Moving in from redis-server's append-only file: its data becomes the keyspace and an RDB file, and
//! its own files are kept aside.
//!
//! Which files there are, a manifest in `appenddirname` says: a base (RDB or commands) and what was
//! appended since. Before Redis 7 it was one file, `appendfilename`, perhaps with an RDB file at its
//! front.
//!
//! Commands over several keys are repeated over all shards, so the first worker makes all shards while
//! it imports, and every worker takes its own from the [`Assembly`] in the end.
//!
//! Invariant: Redis's files stay where they are until everything in them is in an RDB file that is
//! durable; then they get another name, so that the next start does not take old data for new.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tessera_engine::{
    persist::rdb::Collision,
    shard::Shard,
    transaction::{Gathered, ShardId},
};

use super::{
    aof::{AofReplay, AofStep},
    at_once::GatheredLoad,
};
use crate::{
    config::{Config, get, split_line},
    faults::SyncPoint,
    storage,
};

const CHUNK_BYTES: usize = 256 << 10;
/// What a file begins with that has an RDB file at its front.
const RDB_MAGIC: &[u8] = b"REDIS";

/// Redis's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AofFiles {
    /// What is renamed in the end: the directory, or the one file.
    root: PathBuf,
    /// The files in the order in which they are read.
    files: Vec<PathBuf>,
}

impl AofFiles {
    /// The append-only files that a redis-server with this configuration would read, if there are
    /// any.
    pub(super) fn find(config: &Config) -> Result<Option<Self>, String> {
        let text = |name: &str| setting(config, name);
        if text("appendonly") != b"yes" {
            return Ok(None);
        }
        let directory = Path::new(OsStr::from_bytes(&config.dir));
        let name = text("appendfilename");
        let folder = directory.join(OsStr::from_bytes(&text("appenddirname")));
        let manifest = folder.join(OsStr::from_bytes(&[&name[..], b".manifest"].concat()));
        match fs::read(&manifest) {
            Ok(lines) => {
                let files = parse_manifest(&lines)
                    .map_err(|what| format!("{}: {what}", manifest.display()))?;
                let files = files.iter().map(|file| folder.join(OsStr::from_bytes(file))).collect();
                return Ok(Some(Self { root: folder, files }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {}: {error}", manifest.display())),
        }
        let single = directory.join(OsStr::from_bytes(&name));
        Ok(single.is_file().then(|| Self { root: single.clone(), files: vec![single] }))
    }

    /// Bytes of all files.
    pub(super) fn total_bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| fs::metadata(file).ok()).map(|data| data.len()).sum()
    }

    /// Where the files are.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Gives the files a name by which the next start does not find them; the new one.
    pub(super) fn keep_aside(&self, now_s: u64) -> io::Result<PathBuf> {
        let mut name = self.root.as_os_str().to_owned();
        name.push(format!(".imported-{now_s}"));
        storage::rename(&self.root, Path::new(&name))?;
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        storage::sync_directory(parent, SyncPoint::AsideDirectory)?;
        Ok(name.into())
    }
}

/// The value of an option, as CONFIG GET shows it.
pub(super) fn setting(config: &Config, name: &str) -> Vec<u8> {
    get(config, &[name.as_bytes()]).pop().map_or_else(Vec::new, |(_, value)| value)
}

/// The names of the files that a manifest lists, the base first.
fn parse_manifest(lines: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut base = None;
    let mut appended: Vec<(u64, Vec<u8>)> = Vec::new();
    for (number, line) in (1..).zip(lines.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let broken = || format!("line {number} is malformed");
        let words = split_line(line).map_err(|_| broken())?;
        let value = |name: &[u8]| {
            let mut pairs = words.chunks_exact(2);
            pairs.find(|pair| pair[0].eq_ignore_ascii_case(name)).map(|pair| pair[1].clone())
        };
        let (file, kind) = value(b"file").zip(value(b"type")).ok_or_else(broken)?;
        let sequence = value(b"seq").as_deref().and_then(tessera_proto::number::parse_u64);
        let sequence = sequence.ok_or_else(broken)?;
        if file.contains(&b'/') {
            return Err(broken());
        }
        match kind.as_slice() {
            b"b" if base.is_none() => base = Some(file),
            b"i" => appended.push((sequence, file)),
            // What a rewrite has made superfluous.
            b"h" => {}
            _ => return Err(broken()),
        }
    }
    if !appended.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("its files are out of order".into());
    }
    Ok(base.into_iter().chain(appended.into_iter().map(|(_, file)| file)).collect())
}

/// Where the workers find the shards that the first one has filled.
#[derive(Default)]
pub(super) struct Assembly(Mutex<Vec<(ShardId, Box<Shard>)>>);

impl Assembly {
    fn shards(&self) -> MutexGuard<'_, Vec<(ShardId, Box<Shard>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards may be taken.
    pub(super) fn release(&self, mut gathered: Gathered) {
        let ids = 0..gathered.map().shards() as ShardId;
        self.shards().extend(ids.filter_map(|id| Some((id, gathered.take(id)?))));
    }

    /// The shard `id`, once it is released.
    pub(super) fn take(&self, id: ShardId) -> Option<Box<Shard>> {
        let mut shards = self.shards();
        let at = shards.iter().position(|(released, _)| *released == id)?;
        Some(shards.swap_remove(at).1)
    }
}

impl std::fmt::Debug for Assembly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Assembly of {} shards", self.shards().len())
    }
}

/// Reads Redis's files, one after the other.
pub(super) struct Import {
    files: VecDeque<PathBuf>,
    /// `aof-load-truncated`: a torn tail of the last file is left out.
    may_be_torn: bool,
    checksum: bool,
    stage: Stage,
    /// Bytes of the files before the present one.
    bytes_before: u64,
    chunk: Vec<u8>,
    /// Commands repeated, and keys of a base.
    commands: u64,
    keys: u64,
    functions: Vec<Vec<Vec<u8>>>,
}

enum Stage {
    NextFile,
    Base { path: PathBuf, load: Box<GatheredLoad> },
    Commands { path: PathBuf, file: File, replay: Box<AofReplay> },
}

impl Import {
    pub(super) fn new(files: &AofFiles, may_be_torn: bool, checksum: bool) -> Self {
        Self {
            files: files.files.iter().cloned().collect(),
            may_be_torn,
            checksum,
            stage: Stage::NextFile,
            bytes_before: 0,
            chunk: vec![0; CHUNK_BYTES],
            commands: 0,
            keys: 0,
            functions: Vec::new(),
        }
    }

    /// How many bytes of all files are done with.
    pub(super) fn offset(&self) -> u64 {
        let here = match &self.stage {
            Stage::Commands { replay, .. } => replay.done(),
            Stage::NextFile | Stage::Base { .. } => 0,
        };
        self.bytes_before + here
    }

    /// The FUNCTION commands that have been found since this was asked last; libraries of a base as
    /// commands that load them.
    pub(super) fn take_functions(&mut self) -> Vec<Vec<Vec<u8>>> {
        std::mem::take(&mut self.functions)
    }

    /// Keys that came from an RDB file, and commands repeated.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.keys, self.commands)
    }

    /// Goes on by about a chunk; whether all is read.
    pub(super) fn step(&mut self, shards: &mut Gathered) -> Result<bool, String> {
        match &mut self.stage {
            Stage::NextFile => {
                let Some(path) = self.files.pop_front() else { return Ok(true) };
                self.stage = open(path, self.checksum)?;
            }
            Stage::Base { path, load } => {
                let step = load.step(shards);
                let load_command = |code| vec![b"FUNCTION".to_vec(), b"LOAD".to_vec(), code];
                self.functions.extend(load.take_functions().into_iter().map(load_command));
                if step.map_err(|what| format!("{}: {what}", path.display()))? {
                    self.keys += load.stats().loaded;
                    let (path, end) = (path.clone(), load.end());
                    self.stage = commands(path, end)?;
                }
            }
            Stage::Commands { path, file, replay } => {
                let in_file = |what| format!("{}: {what}", path.display());
                let step = replay.step(shards);
                self.functions.extend(replay.take_functions());
                if step.map_err(in_file)? == AofStep::More {
                    return Ok(false);
                }
                let read =
                    file.read(&mut self.chunk).map_err(|error| in_file(error.to_string()))?;
                if read > 0 {
                    replay.supply(&self.chunk[..read]);
                } else {
                    self.end_file()?;
                }
            }
        }
        Ok(false)
    }

    /// The present file has ended.
    fn end_file(&mut self) -> Result<(), String> {
        let stage = std::mem::replace(&mut self.stage, Stage::NextFile);
        let Stage::Commands { path, file, replay } = stage else { return Ok(()) };
        let len = file.metadata().map_err(|error| error.to_string())?.len();
        self.commands += replay.counts().0;
        self.bytes_before += len;
        if replay.done() == len {
            return Ok(());
        }
        let (path, done) = (path.display(), replay.done());
        if !self.files.is_empty() || !self.may_be_torn {
            return Err(format!(
                "{path}: it ends in the middle of a command or transaction that begins at byte {done}"
            ));
        }
        tracing::warn!(
            "{path} ends in the middle of a command or transaction: its last {} bytes, from byte \
             {done} on, are left out",
            len - done
        );
        Ok(())
    }
}

/// Begins with a file.
fn open(path: PathBuf, checksum: bool) -> Result<Stage, String> {
    let mut file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut magic = [0; RDB_MAGIC.len()];
    let has_base = match file.read_exact(&mut magic) {
        Ok(()) => magic == *RDB_MAGIC,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if has_base {
        let load = Box::new(GatheredLoad::new(&path, checksum, Collision::Refuse));
        return Ok(Stage::Base { path, load });
    }
    commands(path, 0)
}

/// Goes on with the commands of a file from its byte `start` on.
fn commands(path: PathBuf, start: u64) -> Result<Stage, String> {
    let in_file = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(&path).map_err(in_file)?;
    file.seek(SeekFrom::Start(start)).map_err(in_file)?;
    Ok(Stage::Commands { file, replay: Box::new(AofReplay::new(start)), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_as_redis_writes_them() {
        let text = b"file appendonly.aof.2.base.rdb seq 2 type b\n\
            file appendonly.aof.1.incr.aof seq 1 type h\n\
            file \"odd name\\x21\" seq 4 type i startoffset 0\n\
            # a note\n\
            file appendonly.aof.5.incr.aof seq 5 type i\n";
        let names = ["appendonly.aof.2.base.rdb", "odd name!", "appendonly.aof.5.incr.aof"];
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(parse_manifest(text), Ok(names));
        assert_eq!(parse_manifest(b""), Ok(vec![]));
        for bad in [
            "file a seq 1",
            "file a seq x type b",
            "file ../a seq 1 type b",
            "file a seq 1 type z",
            "file a seq 1 type b\nfile b seq 2 type b",
            "file a seq 2 type i\nfile b seq 1 type i",
            "file \"a seq 1 type b",
        ] {
            assert!(parse_manifest(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
