//! Reading RDB files, chunk by chunk.
//!
//! The caller supplies bytes as it has them and asks for the next [`Event`]; it is told when more
//! are needed. Of each key it is asked whether it wants it, by key, database and deadline; a value
//! that nobody wants is passed by without being taken apart.
//!
//! Invariant: bytes are looked at once. The buffer holds what was supplied and not yet taken: a
//! chunk, or the longest string of the file. Whoever reads a file reads into the buffer itself, which
//! is so small that it stays in the processor's cache.
#![forbid(unsafe_code)]

mod strings;

use super::{
    Crc64, Decoded, Decoder, Input, RdbError, Stop, Usage, VERSION_READ_MAX, VERSION_VALKEY,
    grammar::{Skip, pass_module_data},
    kind, opcode,
};
use crate::{types::Thresholds, value::Value};

pub(super) use strings::{STRINGS_MAX, StringEntry, Strings};

/// Bytes of `REDIS` and a version of four digits.
const MAGIC_BYTES: usize = 9;
/// The first version whose files end in a checksum.
const CHECKSUM_SINCE: u32 = 5;

/// What a file says next.
#[derive(Debug)]
pub enum Event {
    /// Nothing yet: at least so many more bytes are needed.
    NeedMore(usize),
    /// A field for information, such as `redis-ver`.
    Aux {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// How many keys a database has, and how many with a deadline.
    Sizes {
        /// The database.
        database: u32,
        /// Its keys.
        keys: u64,
        /// Those of them with a deadline.
        volatile: u64,
    },
    /// A key that was wanted, with its value.
    Entry(Box<LoadedEntry>),
    /// A key that was wanted and holds an empty collection, which is as good as no key.
    EmptyKey(Vec<u8>),
    /// The end of the file; its checksum was right, absent, or not to be looked at.
    End,
}

/// A key before its value is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedKey {
    /// Its database.
    pub database: u32,
    /// The key.
    pub key: Vec<u8>,
    /// Its deadline in Unix milliseconds.
    pub deadline: Option<i64>,
    /// Its use, if the file says so.
    pub usage: Option<Usage>,
}

/// A key with its value.
#[derive(Debug)]
pub struct LoadedEntry {
    /// The key.
    pub key: LoadedKey,
    /// What it holds.
    pub value: Value,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}{}: {cause}", key.as_ref().map(|key| format!(", key '{}'", key.escape_ascii())).unwrap_or_default())]
pub struct ReadError {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// The key whose value is concerned.
    pub key: Option<Vec<u8>>,
    /// What is wrong.
    pub cause: RdbError,
}

#[derive(Debug)]
enum Stage {
    Magic,
    Opcode,
    Value(LoadedKey, Decoder),
    Skip(Skip),
    Checksum,
    Ended,
}

/// Reads one file.
#[derive(Debug)]
pub struct Reader {
    /// What was supplied, up to `end`.
    buffer: Vec<u8>,
    end: usize,
    /// Where in the buffer it goes on.
    at: usize,
    /// Bytes taken.
    offset: u64,
    /// Bytes supplied, and how many there are in all.
    supplied: u64,
    total: Option<u64>,
    crc: Option<Crc64>,
    /// Up to where in the buffer the bytes taken are summed up: at once as much as there is.
    summed: usize,
    version: u32,
    stage: Stage,
    database: u32,
    deadline: Option<i64>,
    usage: Option<Usage>,
}

impl Reader {
    /// Reads a file of `total` bytes, if that is known. With `checksum` it compares the checksum.
    pub fn new(total: Option<u64>, checksum: bool) -> Self {
        Self {
            buffer: Vec::new(),
            end: 0,
            at: 0,
            offset: 0,
            supplied: 0,
            total,
            crc: checksum.then(Crc64::new),
            summed: 0,
            version: 0,
            stage: Stage::Magic,
            database: 0,
            deadline: None,
            usage: None,
        }
    }

    /// The file's next bytes.
    pub fn supply(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.note_supplied(bytes.len());
    }

    /// Lets `read` put up to `len_max` of the file's next bytes where they are wanted; answers how many
    /// there were, as `read` says.
    ///
    /// # Errors
    ///
    /// What `read` says.
    pub fn supply_from<E>(
        &mut self,
        len_max: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let len = read(self.room(len_max))?.min(len_max);
        self.note_supplied(len);
        Ok(len)
    }

    /// Room for `len` bytes behind those that were not yet taken, which move to the front.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.at > 0 {
            self.sum_up();
            self.buffer.copy_within(self.at..self.end, 0);
            (self.end, self.at, self.summed) = (self.end - self.at, 0, 0);
        }
        let needed = self.end + len;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        &mut self.buffer[self.end..needed]
    }

    fn note_supplied(&mut self, len: usize) {
        self.end += len;
        self.supplied += len as u64;
    }

    /// How many bytes of the file have been taken.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's version, once its beginning was read.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What comes next. `wants` says of each key whether its value is wanted.
    ///
    /// # Errors
    ///
    /// The bytes are wrong; the reader is of no more use.
    pub fn next(
        &mut self,
        thresholds: &Thresholds,
        mut wants: impl FnMut(&LoadedKey) -> bool,
    ) -> Result<Event, ReadError> {
        loop {
            if matches!(self.stage, Stage::Checksum) {
                self.sum_up();
            }
            let beyond = self.beyond();
            // The buffer is lent out while `self` is worked on.
            let buffer = std::mem::take(&mut self.buffer);
            let mut input = Input::part(&buffer[self.at..self.end], beyond);
            let outcome = self.step(&mut input, thresholds, &mut wants);
            let committed = input.committed();
            self.buffer = buffer;
            self.at += committed;
            self.offset += committed as u64;
            match outcome {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(Stop::NeedMore(missing)) => return Ok(Event::NeedMore(missing)),
                Err(Stop::Broken(cause)) => {
                    let key = match &self.stage {
                        Stage::Value(key, _) => Some(key.key.clone()),
                        _ => None,
                    };
                    return Err(ReadError { offset: self.offset, key, cause });
                }
            }
        }
    }

    /// How many bytes may come after those that were supplied.
    fn beyond(&self) -> u64 {
        self.total.map_or(u64::MAX, |total| total.saturating_sub(self.supplied))
    }

    /// Sums up what was taken.
    fn sum_up(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
    }

    /// Takes one piece; an event, if it makes one.
    fn step(
        &mut self,
        input: &mut Input<'_>,
        thresholds: &Thresholds,
        wants: &mut impl FnMut(&LoadedKey) -> bool,
    ) -> Result<Option<Event>, Stop> {
        match &mut self.stage {
            Stage::Magic => {
                self.version = version(input.take(MAGIC_BYTES)?)?;
                self.stage = Stage::Opcode;
            }
            Stage::Opcode => {
                let event = self.opcode(input, wants)?;
                input.commit();
                return Ok(event);
            }
            Stage::Value(_, decoder) => {
                let decoded = decoder.step(input, thresholds)?;
                let stage = std::mem::replace(&mut self.stage, Stage::Opcode);
                let Stage::Value(key, _) = stage else { return Ok(None) };
                return Ok(Some(match decoded {
                    Decoded::Value(value) => Event::Entry(Box::new(LoadedEntry { key, value })),
                    Decoded::Empty => Event::EmptyKey(key.key),
                }));
            }
            Stage::Skip(skip) => {
                skip.step(input)?;
                self.stage = Stage::Opcode;
            }
            Stage::Checksum => {
                let found = input.i64_le()? as u64;
                let expected = self.crc.as_ref().map_or(found, Crc64::value);
                // Zero says that none was made.
                if found != 0 && found != expected {
                    return Err(RdbError::Checksum { found, expected }.into());
                }
                self.stage = Stage::Ended;
            }
            Stage::Ended => return Ok(Some(Event::End)),
        }
        input.commit();
        Ok(None)
    }

    fn opcode(
        &mut self,
        input: &mut Input<'_>,
        wants: &mut impl FnMut(&LoadedKey) -> bool,
    ) -> Result<Option<Event>, Stop> {
        match input.byte()? {
            opcode::EXPIRE_TIME_MS => self.deadline = Some(input.i64_le()?),
            opcode::EXPIRE_TIME => self.deadline = Some(i64::from(input.i32_le()?) * 1_000),
            opcode::FREQ => self.usage = Some(Usage::Frequency(input.byte()?)),
            opcode::IDLE => self.usage = Some(Usage::IdleSeconds(input.length()?)),
            opcode::SELECT_DB => {
                self.database = u32::try_from(input.length()?)
                    .map_err(|_| RdbError::Corrupt("the number of a database is too great"))?;
            }
            opcode::RESIZE_DB => {
                let (keys, volatile) = (input.length()?, input.length()?);
                return Ok(Some(Event::Sizes { database: self.database, keys, volatile }));
            }
            opcode::SLOT_INFO => {
                for _number_slot_keys_volatile in 0..3 {
                    input.length()?;
                }
            }
            opcode::AUX => {
                let [name, value] = [input.text()?, input.text()?];
                let [name, value] = [name, value].map(|text| text.element().to_vec());
                return Ok(Some(Event::Aux { name, value }));
            }
            opcode::FUNCTION_2 => {
                return Ok(Some(Event::Function(input.text()?.element().to_vec())));
            }
            opcode::FUNCTION_PRE_GA => {
                return Err(RdbError::Corrupt("functions of a version before 7.0").into());
            }
            opcode::MODULE_AUX => {
                input.length()?;
                pass_module_data(input)?;
            }
            opcode::EOF if self.version < CHECKSUM_SINCE => self.stage = Stage::Ended,
            opcode::EOF => self.stage = Stage::Checksum,
            kind => self.begin_entry(kind, input, wants)?,
        }
        Ok(None)
    }

    /// Takes a key; what follows is its value.
    fn begin_entry(
        &mut self,
        kind: u8,
        input: &mut Input<'_>,
        wants: &mut impl FnMut(&LoadedKey) -> bool,
    ) -> Result<(), Stop> {
        let is_module = matches!(kind, kind::MODULE_2 | kind::MODULE_PRE_GA);
        let skip = Skip::new(kind);
        if skip.is_none() && !is_module {
            return Err(RdbError::UnknownKind(kind).into());
        }
        let key = LoadedKey {
            database: self.database,
            key: input.text()?.element().to_vec(),
            deadline: self.deadline.take(),
            usage: self.usage.take(),
        };
        self.stage = match skip {
            Some(skip) if !wants(&key) => Stage::Skip(skip),
            // What cannot be passed by is refused, with its name.
            _ => Stage::Value(key, Decoder::new(kind)?),
        };
        Ok(())
    }
}

/// The version that the first bytes of a file name.
fn version(magic: &[u8]) -> Result<u32, RdbError> {
    let number = |digits: &[u8]| {
        let text = str::from_utf8(digits).ok()?;
        text.parse::<u32>().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
    };
    if let Some(version) = magic.strip_prefix(b"VALKEY").and_then(number) {
        return if version == u32::from(VERSION_VALKEY) {
            Ok(version)
        } else {
            Err(RdbError::Version(version))
        };
    }
    let version = magic.strip_prefix(b"REDIS").and_then(number).ok_or(RdbError::NotRdb)?;
    match version {
        1.. if version <= u32::from(VERSION_READ_MAX) => Ok(version),
        _ => Err(RdbError::Version(version)),
    }
}
