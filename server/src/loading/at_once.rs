//! Loading an RDB file into shards that are all at one worker: for DEBUG RELOAD at once, for the base
//! of an append-only file in slices.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use tessera_engine::{
    persist::rdb::{Collision, Load, LoadStats, LoadStep, Portion},
    transaction::{Gathered, ShardId},
};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Loads one file, shard after shard: each passes by what belongs to the others.
#[derive(Debug)]
pub struct GatheredLoad {
    path: PathBuf,
    checksum: bool,
    collision: Collision,
    shard: ShardId,
    under_way: Option<UnderWay>,
    stats: LoadStats,
    /// Where in the file the RDB part ends, once a shard has been loaded.
    end: u64,
    /// Code of libraries, for the caller.
    functions: Vec<Vec<u8>>,
}

/// The load of one shard.
#[derive(Debug)]
struct UnderWay {
    file: File,
    portion: Portion,
    load: Load,
}

impl GatheredLoad {
    /// Loads the file at `path`.
    pub fn new(path: &Path, checksum: bool, collision: Collision) -> Self {
        Self {
            path: path.to_owned(),
            checksum,
            collision,
            shard: 0,
            under_way: None,
            stats: LoadStats::default(),
            end: 0,
            functions: Vec::new(),
        }
    }

    /// What has been loaded.
    pub fn stats(&self) -> LoadStats {
        self.stats
    }

    /// The libraries of functions that have been found since this was asked last.
    pub fn take_functions(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.functions)
    }

    /// Bytes of the file's RDB part; known when all is loaded.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Goes on by about a chunk; whether all is loaded.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, or what the system says; what was loaded before stays.
    pub fn step(&mut self, shards: &mut Gathered) -> Result<bool, String> {
        let map = shards.map();
        let (id, Some(shard)) = (self.shard, shards.get_mut(self.shard)) else { return Ok(true) };
        let UnderWay { file, portion, load } = match &mut self.under_way {
            Some(under_way) => under_way,
            None => {
                let file = File::open(&self.path).map_err(in_words)?;
                let total = file.metadata().map_err(in_words)?.len();
                let read_at = |at: u64, buffer: &mut [u8]| file.read_at(buffer, at);
                let slots = Some(map.slots_of(id));
                let portion =
                    Portion::find(total, slots, self.checksum, read_at).map_err(in_words)?;
                // One look at the file's checksum is enough.
                let reader = portion.reader(self.checksum && id == 0);
                let load = Load::new(reader, self.collision);
                self.under_way.insert(UnderWay { file, portion, load })
            }
        };
        let thresholds = shard.thresholds().clone();
        let step = load.step(&mut shard.keyspace, &thresholds, |key| map.owner(key) == id);
        match step.map_err(|error| portion.located(error).to_string())? {
            LoadStep::NeedMore(_) => {
                let read_at = |at: u64, buffer: &mut [u8]| file.read_at(buffer, at);
                let read = load.supply_from(CHUNK_BYTES, |chunk| portion.read(chunk, read_at));
                if read.map_err(|error| error.to_string())? == 0 {
                    return Err("the file has become shorter while it was read".into());
                }
            }
            LoadStep::Function(code) if id == 0 => self.functions.push(code),
            LoadStep::Aux { .. } | LoadStep::Function(_) => {}
            LoadStep::Done => {
                let stats = load.stats();
                self.stats.loaded += stats.loaded;
                self.stats.expired += stats.expired;
                self.stats.empty += stats.empty;
                self.end = portion.offset_in_file(load.offset());
                (self.shard, self.under_way) = (id + 1, None);
            }
        }
        Ok(false)
    }
}

fn in_words(error: std::io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use tessera_engine::{
        persist::{
            rdb::{Index, Options, writer::put_header},
            snapshot::{SnapshotOptions, UsageKept},
        },
        shard::{Settings, Shard},
        transaction::ShardMap,
        value::Value,
    };

    use super::*;
    use crate::saving::{Why, at_once::save_at_once, save::Plan};

    /// Loads the file at `path` into the shards that are here.
    fn load_at_once(
        path: &Path,
        checksum: bool,
        collision: Collision,
        shards: &mut Gathered,
    ) -> Result<LoadStats, String> {
        let mut load = GatheredLoad::new(path, checksum, collision);
        while !load.step(shards)? {}
        Ok(load.stats())
    }

    fn gathered(seed: u64) -> Gathered {
        let mut gathered = Gathered::new(ShardMap::new(3), seed);
        for id in 0..3 {
            gathered.put(id, Box::new(Shard::new(seed + u64::from(id), Settings::default())));
        }
        gathered.align_clocks(1_700_000_000_000_000);
        gathered
    }

    fn fill(gathered: &mut Gathered, keys: usize) {
        let map = gathered.map();
        for number in 0..keys {
            let key = format!("key:{number}");
            let shard = gathered.get_mut(map.owner(key.as_bytes())).expect("all are here");
            let slot = shard.keyspace.slot_of(number % 4, key.as_bytes());
            let deadline = tessera_engine::keyspace::Deadline::At(1_800_000_000_000);
            let text = "v".repeat(number % 500);
            Value::string(text.as_bytes()).put_with(|body| slot.put(body, deadline));
        }
    }

    fn plan(directory: &Path) -> Plan {
        let mut head = Vec::new();
        put_header(&mut head, &[("redis-ver", "7.2.4")]);
        Plan {
            why: Why::Asked,
            directory: directory.to_owned(),
            name: "dump.rdb".into(),
            head,
            options: SnapshotOptions {
                values: Options::default(),
                checksum: true,
                usage: UsageKept::Idle,
                is_alone: false,
            },
            syncs_on_the_way: false,
            shards: 3,
            memory_bytes: 0,
            began_at_s: 0,
            log: None,
        }
    }

    fn lens(gathered: &mut Gathered) -> Vec<[usize; 4]> {
        let databases = |keyspace: &tessera_engine::keyspace::Keyspace| {
            std::array::from_fn(|database| keyspace.len(database))
        };
        gathered.iter_mut().map(|(_, shard)| databases(&shard.keyspace)).collect()
    }

    #[test]
    fn what_was_saved_is_loaded_by_the_shards_that_own_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("dump.rdb");
        let (mut before, mut after) = (gathered(1), gathered(9));
        fill(&mut before, 5_000);
        save_at_once(&plan(dir.path()), &[], &mut before).expect("a file");
        let stats = load_at_once(&path, true, Collision::Refuse, &mut after).expect("it is whole");
        assert_eq!(stats, LoadStats { loaded: 5_000, expired: 0, empty: 0 });
        assert_eq!(lens(&mut after), lens(&mut before));
        assert!(load_at_once(&path, true, Collision::Refuse, &mut after).is_err());
        assert!(load_at_once(&path, true, Collision::Replace, &mut after).is_ok());
        assert_eq!(lens(&mut after), lens(&mut before));
        let files: Vec<_> = std::fs::read_dir(dir.path()).expect("a directory").collect();
        assert_eq!(files.len(), 1, "nothing is left behind");
    }

    #[test]
    fn each_shard_reads_its_own_part_of_a_file_and_finds_the_damage_in_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("dump.rdb");
        let mut before = gathered(1);
        fill(&mut before, 3_000);
        save_at_once(&plan(dir.path()), &[], &mut before).expect("a file");
        let mut bytes = std::fs::read(&path).expect("it was written");
        let read_at = |at: u64, buffer: &mut [u8]| {
            let rest = &bytes[at as usize..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        };
        let index = Index::find(bytes.len() as u64, read_at).expect("bytes").expect("an index");
        let lens: Vec<u64> = index.parts().iter().map(|part| part.len).collect();
        assert_eq!(lens.len(), 4, "a head and a part for each of three shards");
        // A byte of a value of the second shard.
        let at = bytes[(lens[0] + lens[1]) as usize..].iter().position(|&byte| byte == b'v');
        let at = (lens[0] + lens[1]) as usize + at.expect("values consist of it");
        bytes[at] = b'w';
        std::fs::write(&path, &bytes).expect("a file");
        let load = |checksum| {
            load_at_once(&path, checksum, Collision::Refuse, &mut gathered(9)).map(|it| it.loaded)
        };
        let error = load(true).expect_err("a part is damaged");
        let place = format!("at byte {}: the checksum is", lens[0] + lens[1]);
        assert!(error.starts_with(&place), "{error}");
        assert_eq!(load(false), Ok(3_000));
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut shards = gathered(1);
        let plan = Plan { name: "no/such/directory".into(), ..plan(dir.path()) };
        save_at_once(&plan, &[], &mut shards).expect_err("no such directory");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }
}
