//! Loading an RDB file into a keyspace: the keys of one shard, slice by slice.
//!
//! Every shard's worker reads the file for itself and passes by what belongs to others: passing by
//! is much cheaper than building values, and the shards need not wait for each other.
#![forbid(unsafe_code)]

use super::{Event, LoadedEntry, LoadedKey, ReadError, Reader, Usage};
use crate::{
    keyspace::{Held, Keyspace, usage::Policy},
    sys::clock::Clock,
    types::Thresholds,
};

/// Why a file cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file is wrong.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has keys in a database that the configuration does not have.
    #[error("it has keys in database {0}, and there are fewer (see the option 'databases')")]
    Database(u32),
    /// It has a key that is there already.
    #[error("key '{}' of database {database} is there twice", key.escape_ascii())]
    Duplicate {
        /// Its database.
        database: u32,
        /// The key.
        key: Vec<u8>,
    },
}

/// Whether a key may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collision {
    /// That is an error.
    Refuse,
    /// The file's value takes its place.
    Replace,
}

/// What has been loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadStats {
    /// Keys put into the keyspace.
    pub loaded: u64,
    /// Keys left out because their deadline had passed.
    pub expired: u64,
    /// Keys left out because they held nothing.
    pub empty: u64,
}

/// How a slice of loading has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// At least so many more bytes of the file are needed.
    NeedMore(usize),
    /// There was a field for information.
    Aux {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// There was a library of functions, whose code this is.
    Function(Vec<u8>),
    /// The file has ended.
    Done,
}

/// Loads one file into one shard's keyspace.
#[derive(Debug)]
pub struct Load {
    reader: Reader,
    collision: Collision,
    stats: LoadStats,
}

impl Load {
    /// Loads what `reader` reads.
    pub fn new(reader: Reader, collision: Collision) -> Self {
        Self { reader, collision, stats: LoadStats::default() }
    }

    /// The file's next bytes.
    pub fn supply(&mut self, bytes: &[u8]) {
        self.reader.supply(bytes);
    }

    /// How many bytes of the file are done with.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// What has been loaded so far.
    pub fn stats(&self) -> LoadStats {
        self.stats
    }

    /// Goes on with the bytes that were supplied. `owns` says which keys belong to `keyspace`; the
    /// others are passed by.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]; what was loaded before stays.
    pub fn step(
        &mut self,
        keyspace: &mut Keyspace,
        thresholds: &Thresholds,
        owns: impl Fn(&[u8]) -> bool,
    ) -> Result<LoadStep, LoadError> {
        let now_ms = keyspace.now_ms();
        loop {
            let expired = &mut self.stats.expired;
            let wants = |key: &LoadedKey| {
                let is_own = owns(&key.key);
                let has_passed = key.deadline.is_some_and(|deadline| deadline <= now_ms);
                *expired += u64::from(is_own && has_passed);
                is_own && !has_passed
            };
            match self.reader.next(thresholds, wants)? {
                Event::NeedMore(bytes) => return Ok(LoadStep::NeedMore(bytes)),
                Event::Aux { name, value } => return Ok(LoadStep::Aux { name, value }),
                Event::Function(code) => return Ok(LoadStep::Function(code)),
                Event::End => return Ok(LoadStep::Done),
                Event::Sizes { .. } => {}
                Event::EmptyKey(_) => self.stats.empty += 1,
                Event::Entry(entry) => self.put(keyspace, *entry)?,
            }
        }
    }

    fn put(&mut self, keyspace: &mut Keyspace, entry: LoadedEntry) -> Result<(), LoadError> {
        let LoadedEntry { key: LoadedKey { database, key, deadline, usage }, value } = entry;
        let number = database as usize;
        if number >= keyspace.database_count() {
            return Err(LoadError::Database(database));
        }
        let (policy, clock) = (keyspace.usage_policy(), keyspace.clock());
        let held = Held { value, deadline, usage: usage_bits(usage, policy, clock) };
        let slot = keyspace.slot_of(number, &key);
        if slot.is_vacant() {
            slot.put_held(held);
        } else if self.collision == Collision::Replace {
            slot.remove();
            keyspace.slot_of(number, &key).put_held(held);
        } else {
            return Err(LoadError::Duplicate { database, key });
        }
        self.stats.loaded += 1;
        Ok(())
    }
}

/// The usage bits of a key that comes with `usage`; what the policy in force cannot use is passed
/// over, and the key is as if made now.
pub fn usage_bits(usage: Option<Usage>, policy: Policy, clock: Clock) -> u32 {
    let kept = match usage {
        Some(Usage::IdleSeconds(seconds)) => policy.idle_for(seconds, clock),
        Some(Usage::Frequency(frequency)) => policy.with_frequency(frequency, clock),
        None => None,
    };
    kept.unwrap_or_else(|| policy.fresh(clock))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{EntryHead, Options, Trailer, Writer, writer::put_header},
        *,
    };
    use crate::value::Value;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn file(entries: &[(u32, &str, Option<i64>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_header(&mut bytes, &[("redis-ver", "7.2.4")]);
        let mut writer = Writer::new(Options::default());
        for &(database, key, deadline) in entries {
            let usage = Some(Usage::IdleSeconds(50));
            let head = EntryHead { database, key: key.as_bytes(), deadline, usage };
            writer.entry(&head, &Value::string(b"v").body(), &mut bytes);
        }
        let mut trailer = Trailer::new(true);
        trailer.update(&bytes);
        bytes.extend_from_slice(&trailer.finish());
        bytes
    }

    fn load(
        keyspace: &mut Keyspace,
        bytes: &[u8],
        collision: Collision,
    ) -> Result<LoadStats, LoadError> {
        let mut load = Load::new(Reader::new(Some(bytes.len() as u64), true), collision);
        let mut chunks = bytes.chunks(10);
        loop {
            let owns = |key: &[u8]| !key.starts_with(b"other");
            match load.step(keyspace, &Thresholds::default(), owns)? {
                LoadStep::NeedMore(_) => load.supply(chunks.next().expect("more bytes")),
                LoadStep::Aux { name, .. } => assert_eq!(name, b"redis-ver"),
                LoadStep::Function(_) => panic!("no function was written"),
                LoadStep::Done => return Ok(load.stats()),
            }
        }
    }

    fn keyspace() -> Keyspace {
        let mut keyspace = Keyspace::new(1, 4);
        keyspace.advance_clock_us(NOW_MS * 1_000);
        keyspace
    }

    #[test]
    fn own_keys_that_have_not_expired_are_loaded() {
        let mut keyspace = keyspace();
        let bytes = file(&[
            (0, "a", None),
            (0, "other", None),
            (3, "b", Some(NOW_MS + 1)),
            (3, "gone", Some(NOW_MS)),
            (3, "other gone", Some(5)),
        ]);
        let stats = load(&mut keyspace, &bytes, Collision::Refuse).expect("it is well-formed");
        assert_eq!(stats, LoadStats { loaded: 2, expired: 1, empty: 0 });
        assert_eq!((keyspace.len(0), keyspace.len(3), keyspace.volatile_len(3)), (1, 1, 1));
        let usage = keyspace.peek(b"a").map(|entry| entry.lru());
        assert_eq!(usage, Policy::Recency.idle_for(50, keyspace.clock()));
        assert!(keyspace.events.is_empty());
        keyspace.check();
    }

    #[test]
    fn what_does_not_fit_the_keyspace_is_refused() {
        let mut keyspace = keyspace();
        let twice = file(&[(1, "a", None), (1, "a", None)]);
        let error = load(&mut keyspace, &twice, Collision::Refuse).expect_err("twice");
        assert_eq!(error.to_string(), "key 'a' of database 1 is there twice");
        assert!(load(&mut keyspace, &twice, Collision::Replace).is_ok());
        let beyond = file(&[(4, "a", None)]);
        let error = load(&mut keyspace, &beyond, Collision::Refuse).expect_err("no database 4");
        assert_eq!(error, LoadError::Database(4));
    }
}
