//! Taking many entries at a time, as long as they are strings.
//!
//! Why: most keys are, and then most of the time of loading is waiting for memory, once a key, where it
//! belongs in the table. Whoever knows the next keys can ask for all these places at once. So entries
//! come as they stand in the buffer, without copies.
//!
//! Everything that is not simple (another type, an entry that is not whole in the buffer, anything wrong)
//! is left where it is, for [`Reader::next`] to meet.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    super::{
        Stop, Usage,
        input::{Input, Text},
        kind, opcode,
    },
    Reader, Stage,
};

/// Entries that are taken at a time: about as many reads as a core can have under way, twice.
pub(in super::super) const STRINGS_MAX: usize = 24;
/// Entries that are passed by at a time.
const PASSED_MAX: usize = 256;
/// The longest key that is made anew without an allocation: a number of four bytes.
const DIGITS_MAX: usize = 11;

/// Entries that are strings.
pub(in super::super) type Strings<'a> = SmallVec<[StringEntry<'a>; STRINGS_MAX]>;

/// A key that holds a string.
#[derive(Debug)]
pub(in super::super) struct StringEntry<'a> {
    /// Its database.
    pub(in super::super) database: u32,
    /// The key.
    pub(in super::super) key: Key<'a>,
    /// Its deadline in Unix milliseconds.
    pub(in super::super) deadline: Option<i64>,
    /// Its use, if the file says so.
    pub(in super::super) usage: Option<Usage>,
    /// The string.
    pub(in super::super) value: Text<'a>,
}

/// The bytes of a key.
#[derive(Debug)]
pub(in super::super) enum Key<'a> {
    /// As they stand in the file.
    Plain(&'a [u8]),
    /// They stand there as a number, or compressed.
    Made(SmallVec<[u8; DIGITS_MAX]>),
}

impl Key<'_> {
    pub(in super::super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

impl<'a> From<Text<'a>> for Key<'a> {
    fn from(text: Text<'a>) -> Self {
        match text {
            Text::Plain(bytes) => Self::Plain(bytes),
            text => Self::Made(text.with_bytes(SmallVec::from_slice)),
        }
    }
}

/// What stands before a key.
#[derive(Clone, Copy)]
struct Head {
    database: u32,
    deadline: Option<i64>,
    usage: Option<Usage>,
}

impl Reader {
    /// The next entries that are strings, of those that `wants` wants by their key and deadline; the
    /// others are passed by. None if something else comes next.
    pub(in super::super) fn strings(
        &mut self,
        mut wants: impl FnMut(&[u8], Option<i64>) -> bool,
    ) -> Strings<'_> {
        let mut entries = Strings::new();
        if !matches!(self.stage, Stage::Opcode) {
            return entries;
        }
        let beyond = self.beyond();
        let Self { buffer, end, at, offset, database, deadline, usage, .. } = self;
        let mut head = Head { database: *database, deadline: deadline.take(), usage: usage.take() };
        let mut input = Input::part(&buffer[*at..*end], beyond);
        let mut passed = 0;
        while entries.len() < STRINGS_MAX && passed < PASSED_MAX {
            if let Some(plain) = Plain::read(input.rest()) {
                let deadline = plain.deadline.or(head.deadline.take());
                let usage = head.usage.take();
                if wants(plain.key, deadline) {
                    let (key, value) = (Key::Plain(plain.key), Text::Plain(plain.value));
                    let database = head.database;
                    entries.push(StringEntry { database, key, deadline, usage, value });
                } else {
                    passed += 1;
                }
                input.advance(plain.len);
                continue;
            }
            let mut next = head;
            // Whatever stops it is met again by the reader.
            let Ok(Some(key)) = key_of_string(&mut input, &mut next) else { break };
            let mut behind = input.clone();
            let Ok(_) = behind.text_head().and_then(|len| behind.take(len as usize)) else { break };
            if wants(key.bytes(), next.deadline) {
                let Ok(value) = input.text() else { break };
                let Head { database, deadline, usage } = next;
                entries.push(StringEntry { database, key, deadline, usage, value });
            } else {
                input = behind;
                passed += 1;
            }
            input.commit();
            head = Head { database: next.database, deadline: None, usage: None };
        }
        (*database, *deadline, *usage) = (head.database, head.deadline, head.usage);
        *at += input.committed();
        *offset += input.committed() as u64;
        entries
    }
}

/// The usual entry: a string as it is under a key as it is, both of at most 16 KiB, perhaps with a
/// deadline, all of it there. Most of a file are such entries, so they are read in a few steps.
struct Plain<'a> {
    deadline: Option<i64>,
    key: &'a [u8],
    value: &'a [u8],
    /// Bytes of the whole entry.
    len: usize,
}

impl<'a> Plain<'a> {
    /// The entry at the beginning of `bytes`, if it is such a one.
    #[inline]
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (deadline, entry) = match bytes {
            [opcode::EXPIRE_TIME_MS, rest @ ..] => {
                let (deadline, rest) = rest.split_first_chunk()?;
                (Some(i64::from_le_bytes(*deadline)), rest)
            }
            _ => (None, bytes),
        };
        let [kind::STRING, entry @ ..] = entry else { return None };
        let (key, behind) = plain_text(entry)?;
        let (value, behind) = plain_text(behind)?;
        Some(Self { deadline, key, value, len: bytes.len() - behind.len() })
    }
}

/// The string at the beginning of `bytes` and what is behind it, if its length takes one byte or two.
#[inline]
fn plain_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match bytes {
        [len @ 0..0x40, rest @ ..] => (usize::from(*len), rest),
        [high @ 0x40..0x80, low, rest @ ..] => {
            (usize::from(high & 0x3F) << 8 | usize::from(*low), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// Takes what stands before the value of the next entry; nothing if that is no string.
fn key_of_string<'a>(input: &mut Input<'a>, head: &mut Head) -> Result<Option<Key<'a>>, Stop> {
    loop {
        match input.byte()? {
            kind::STRING => return Ok(Some(input.text()?.into())),
            opcode::EXPIRE_TIME_MS => head.deadline = Some(input.i64_le()?),
            opcode::FREQ => head.usage = Some(Usage::Frequency(input.byte()?)),
            opcode::IDLE => head.usage = Some(Usage::IdleSeconds(input.length()?)),
            opcode::SELECT_DB => match u32::try_from(input.length()?) {
                Ok(database) => head.database = database,
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
}
