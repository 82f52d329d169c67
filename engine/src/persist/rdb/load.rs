//! Loading an RDB file into a keyspace: the keys of one shard, slice by slice.
//!
//! Every shard's worker reads the file for itself and passes by what belongs to others: passing by
//! is much cheaper than building values, and the shards need not wait for each other.
//!
//! Strings are put into the keyspace several at a time, after the places of all of them in the table
//! were asked for: to wait for memory once a key is most of what loading takes.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    Event, LoadedEntry, LoadedKey, ReadError, Reader, Usage,
    reader::{STRINGS_MAX, StringEntry, Strings},
};
use crate::{
    keyspace::{Deadline, Held, KeyHash, Keyspace, usage::Policy},
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

    /// Lets `read` supply up to `len_max` bytes (see [`Reader::supply_from`]).
    ///
    /// # Errors
    ///
    /// What `read` says.
    pub fn supply_from<E>(
        &mut self,
        len_max: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.reader.supply_from(len_max, read)
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
        let Self { reader, collision, stats: LoadStats { loaded, expired, empty } } = self;
        let mut wants = |key: &[u8], deadline: Option<i64>| {
            let is_own = owns(key);
            let has_passed = deadline.is_some_and(|deadline| deadline <= now_ms);
            *expired += u64::from(is_own && has_passed);
            is_own && !has_passed
        };
        loop {
            let before = reader.offset();
            *loaded += put_strings(keyspace, reader.strings(&mut wants), *collision)?;
            if reader.offset() > before {
                continue;
            }
            match reader.next(thresholds, |key| wants(&key.key, key.deadline))? {
                Event::NeedMore(bytes) => return Ok(LoadStep::NeedMore(bytes)),
                Event::Aux { name, value } => return Ok(LoadStep::Aux { name, value }),
                Event::Function(code) => return Ok(LoadStep::Function(code)),
                Event::End => return Ok(LoadStep::Done),
                Event::Sizes { .. } => {}
                Event::EmptyKey(_) => *empty += 1,
                Event::Entry(entry) => {
                    let LoadedEntry { key, value } = *entry;
                    let LoadedKey { database, key, deadline, usage } = key;
                    let usage = usage_bits(usage, keyspace.usage_policy(), keyspace.clock());
                    let held = Held { value, deadline, usage };
                    check_database(keyspace, database)?;
                    put(keyspace, database, &key, held, *collision)?;
                    *loaded += 1;
                }
            }
        }
    }
}

fn check_database(keyspace: &Keyspace, database: u32) -> Result<(), LoadError> {
    if (database as usize) < keyspace.database_count() {
        Ok(())
    } else {
        Err(LoadError::Database(database))
    }
}

/// Puts several strings into the keyspace; how many.
fn put_strings(
    keyspace: &mut Keyspace,
    entries: Strings<'_>,
    collision: Collision,
) -> Result<u64, LoadError> {
    let count = entries.len() as u64;
    let mut hashes = SmallVec::<[KeyHash; STRINGS_MAX]>::new();
    for entry in &entries {
        check_database(keyspace, entry.database)?;
        hashes.push(keyspace.prefetch_to_insert(entry.database as usize, entry.key.bytes()));
    }
    let (policy, clock) = (keyspace.usage_policy(), keyspace.clock());
    for (entry, hash) in entries.into_iter().zip(hashes) {
        let StringEntry { database, key, deadline, usage, value } = entry;
        let usage = usage_bits(usage, policy, clock);
        match keyspace.vacant_slot(database as usize, hash, key.bytes()) {
            Some(slot) => {
                let deadline = deadline.map_or(Deadline::Never, Deadline::At);
                value.with_string(|body| slot.put_used(body, deadline, usage));
            }
            None => {
                let held = Held { value: value.into_string(), deadline, usage };
                put(keyspace, database, key.bytes(), held, collision)?;
            }
        }
    }
    Ok(count)
}

fn put(
    keyspace: &mut Keyspace,
    database: u32,
    key: &[u8],
    held: Held,
    collision: Collision,
) -> Result<(), LoadError> {
    let number = database as usize;
    let slot = keyspace.slot_of(number, key);
    if slot.is_vacant() {
        slot.put_held(held);
    } else if collision == Collision::Replace {
        slot.remove();
        keyspace.slot_of(number, key).put_held(held);
    } else {
        return Err(LoadError::Duplicate { database, key: key.to_vec() });
    }
    Ok(())
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
