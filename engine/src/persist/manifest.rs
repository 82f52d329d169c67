//! The manifest: what the files of the data directory are together.
//!
//! Every run of the server adds a *generation*: the logs of its shards, from one epoch on. What the
//! data is, is what the generations say one after the other. A generation that has ended says where,
//! so that what a crash has left behind that point never comes back; the number of shards may differ
//! from one to the next. A rewrite puts a *base* at the front, a snapshot that stands for everything
//! up to an epoch, and what was before goes.
//!
//! The manifest is replaced as a whole: written beside, made durable, renamed, and the directory made
//! durable. A segment is not listed here; its name says whose it is, and it exists durably before
//! anything in it counts.
#![forbid(unsafe_code)]

use rkyv::{Archive, Deserialize, Serialize};

use super::{
    envelope::{EnvelopeError, Kind, Sealable, open, seal},
    segment::NUMBER_MAX,
};

/// The most logs that a run has: no server has more shards.
const SHARDS_MAX: usize = 256;

/// The name of the manifest in its directory. It is not Redis's, whose files are left alone.
pub const FILE_NAME: &str = "tessera.manifest";

/// What the data directory holds.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What the data was at the end of an epoch, if it was ever rewritten.
    pub base: Option<Base>,
    /// The runs since then, the oldest first.
    pub generations: Vec<Generation>,
}

/// A snapshot that stands for all that was before it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// It holds what was true at the end of this epoch.
    pub epoch: u64,
    /// Its files, in any order.
    pub files: Vec<String>,
}

/// The logs of one run.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The run: a random number that no other run has. Clients cannot know it, so no value that
    /// they store can be taken for a group of records.
    pub run: u64,
    /// The first epoch that was not there before.
    pub first_epoch: u64,
    /// For every shard where its log begins.
    pub logs: Vec<LogStart>,
    /// The last epoch that counts; open while the run goes on, and after a crash.
    pub end_epoch: Option<u64>,
    /// For every shard the number of the last record that counts, known with `end_epoch`.
    pub ends: Vec<u64>,
}

/// Where a log begins.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The first segment that is still needed.
    pub segment: u32,
    /// The number of the record before the first one that counts.
    pub sequence: u64,
}

impl Sealable for Manifest {
    const KIND: Kind = Kind { magic: *b"TMAN", version: 1 };
}

impl Manifest {
    /// The manifest as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        seal(self).to_vec()
    }

    /// The manifest that a file is.
    ///
    /// # Errors
    ///
    /// The file is none, or is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let (manifest, len): (Self, usize) = open(bytes)?;
        let ordered = manifest.generations.is_sorted_by_key(|each| each.first_epoch);
        let sound = manifest.generations.iter().all(Generation::is_sound)
            && manifest.base.iter().all(Base::is_sound);
        if len != bytes.len() || !ordered || !sound {
            return Err(EnvelopeError::Malformed);
        }
        Ok(manifest)
    }

    /// Begins the logs of the run `run` with `shards` shards. Every generation before has an end.
    pub fn begin(&mut self, run: u64, shards: usize) -> &Generation {
        debug_assert!(self.generations.iter().all(|each| each.end_epoch.is_some()));
        let last = self.generations.last();
        let end =
            last.and_then(|last| last.end_epoch).max(self.base.as_ref().map(|base| base.epoch));
        self.generations.push(Generation {
            run,
            first_epoch: end.unwrap_or(0) + 1,
            logs: vec![LogStart::default(); shards],
            end_epoch: None,
            ends: Vec::new(),
        });
        self.generations.last().expect("one has just been added")
    }
}

impl Generation {
    /// Whether it does not contradict itself, and nothing can be meant that a server has not done.
    fn is_sound(&self) -> bool {
        let epochs = [self.first_epoch, self.end_epoch.map_or(1, |end| end.saturating_add(1))];
        (1..=SHARDS_MAX).contains(&self.logs.len())
            && epochs.iter().all(|epoch| (1..=NUMBER_MAX).contains(epoch))
            && self.logs.iter().all(|log| log.sequence <= NUMBER_MAX)
            && (self.end_epoch.is_none() || self.ends.len() == self.logs.len())
    }
}

impl Base {
    /// Whether its files can be files of the directory.
    fn is_sound(&self) -> bool {
        let is_name = |name: &String| !name.is_empty() && !name.contains(['/', '\0']);
        self.epoch <= NUMBER_MAX && self.files.iter().all(is_name)
    }
}

/// The name of a segment's file.
pub fn segment_name(run: u64, shard: u32, number: u32) -> String {
    format!("tessera-{run:016x}-{shard}-{number}.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        manifest.begin(11, 2);
        manifest.generations[0].end_epoch = Some(17);
        manifest.generations[0].ends = vec![100, 5];
        manifest.base = Some(Base { epoch: 3, files: vec!["tessera-1.base".into()] });
        manifest.begin(7, 4);
        manifest
    }

    #[test]
    fn a_generation_follows_the_one_before() {
        let manifest = manifest();
        let [first, second] = manifest.generations.as_slice() else { panic!("two generations") };
        assert_eq!((first.run, first.first_epoch, first.logs.len()), (11, 1, 2));
        assert_eq!((second.run, second.first_epoch, second.logs.len()), (7, 18, 4));
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        assert_eq!(Manifest::from_bytes(&Manifest::default().to_bytes()), Ok(Manifest::default()));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = manifest().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::from_bytes(&bytes).is_err(), "bit {bit}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Manifest::from_bytes(&longer), Err(EnvelopeError::Malformed));
        assert!(Manifest::from_bytes(b"file appendonly.aof.1.base.rdb seq 1 type b").is_err());
    }

    /// The bytes of version 1. They change with the form, and then the version must too.
    #[test]
    fn the_form_is_the_one_that_earlier_servers_have_written() {
        let shown: String =
            manifest().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, include_str!("golden/manifest-1.hex").trim());
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let mut wrong = manifest();
        wrong.generations[0].ends.pop();
        assert_eq!(Manifest::from_bytes(&wrong.to_bytes()), Err(EnvelopeError::Malformed));
        let wrongs: [fn(&mut Manifest); 7] = [
            |it| it.generations.swap(0, 1),
            |it| it.generations[0].first_epoch = 0,
            |it| it.generations[0].end_epoch = Some(u64::MAX),
            |it| it.generations[1].logs.clear(),
            |it| it.generations[1].logs = vec![LogStart::default(); SHARDS_MAX + 1],
            |it| it.generations[1].logs[0].sequence = u64::MAX,
            |it| it.base.as_mut().expect("a base").files = vec!["../../etc/passwd".into()],
        ];
        for change in wrongs {
            let mut wrong = manifest();
            change(&mut wrong);
            assert_eq!(Manifest::from_bytes(&wrong.to_bytes()), Err(EnvelopeError::Malformed));
        }
    }
}
