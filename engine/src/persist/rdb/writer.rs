//! Writing RDB files: pieces that make a file when they are put one behind the other.
//!
//! ```text
//! header     "REDIS0010", auxiliary fields, libraries of functions      put_header, put_function
//! chunks     entries, each chunk naming its databases                    Writer
//! end        a mark and the checksum of all before                       Trailer
//! ```
//!
//! Entries come one at a time from any source, in any order. A [`Writer`] names a database where
//! another one begins; after [`Writer::begin_chunk`] it names it anew, so that chunks of several
//! writers (shards) can follow each other in any order, cut between entries.
#![forbid(unsafe_code)]

use super::{
    Crc64, Options, Progress, VERSION_WRITTEN,
    encode::{Encoder, kind_of},
    opcode,
    output::{put_length, put_plain},
};
use crate::{journal::record::BLOCK_BYTES, keyspace::Body, value::Object};

/// What is remembered of a key's use, in the form that files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Seconds since its last use, under an LRU policy.
    IdleSeconds(u64),
    /// The counter of its use, under an LFU policy.
    Frequency(u8),
}

/// What stands before an entry's value.
#[derive(Clone, Copy, Debug)]
pub struct EntryHead<'a> {
    /// Its database.
    pub database: u32,
    /// Its key.
    pub key: &'a [u8],
    /// Its deadline in Unix milliseconds.
    pub deadline: Option<i64>,
    /// Its use; nothing where no policy asks for it.
    pub usage: Option<Usage>,
}

/// Writes entries.
#[derive(Debug)]
pub struct Writer {
    encoder: Encoder,
    /// The database of the entry before, in this chunk.
    database: Option<u32>,
}

impl Writer {
    /// A writer at the beginning of a chunk.
    pub fn new(options: Options) -> Self {
        Self { encoder: Encoder::new(options), database: None }
    }

    /// What comes next may follow upon anything.
    pub fn begin_chunk(&mut self) {
        self.database = None;
    }

    /// Appends how many keys a database has, and how many of them have a deadline: a hint for the
    /// reader's tables.
    pub fn put_sizes(&mut self, database: u32, keys: u64, volatile: u64, out: &mut Vec<u8>) {
        self.select(database, out);
        out.push(opcode::RESIZE_DB);
        put_length(out, keys);
        put_length(out, volatile);
    }

    /// Appends the beginning of an entry whose value is `body`. [`step`](Self::step) appends the
    /// value itself.
    pub fn begin(&mut self, head: &EntryHead<'_>, body: &Body<'_, Object>, out: &mut Vec<u8>) {
        self.select(head.database, out);
        if let Some(deadline) = head.deadline {
            out.push(opcode::EXPIRE_TIME_MS);
            out.extend_from_slice(&deadline.to_le_bytes());
        }
        match head.usage {
            Some(Usage::IdleSeconds(seconds)) => {
                out.push(opcode::IDLE);
                put_length(out, seconds);
            }
            Some(Usage::Frequency(frequency)) => out.extend_from_slice(&[opcode::FREQ, frequency]),
            None => {}
        }
        out.push(kind_of(body));
        put_plain(out, head.key);
        self.encoder.start();
    }

    /// Appends more of the value of the entry that was begun, for about `budget` bytes of work. The
    /// value must be as it was.
    pub fn step(&mut self, body: &Body<'_, Object>, out: &mut Vec<u8>, budget: usize) -> Progress {
        self.encoder.step(body, out, budget)
    }

    /// Appends an entry whole.
    pub fn entry(&mut self, head: &EntryHead<'_>, body: &Body<'_, Object>, out: &mut Vec<u8>) {
        self.begin(head, body, out);
        while self.step(body, out, usize::MAX) == Progress::More {}
    }

    fn select(&mut self, database: u32, out: &mut Vec<u8>) {
        if self.database.replace(database) != Some(database) {
            out.push(opcode::SELECT_DB);
            put_length(out, u64::from(database));
        }
    }
}

/// Appends the beginning of a file with auxiliary fields, which readers look at only for
/// information.
pub fn put_header(out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    put_header_of(VERSION_WRITTEN, out, fields);
}

/// The same for a file that says it has another version: it holds types of that version.
pub fn put_header_of(version: u16, out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    out.extend_from_slice(format!("REDIS{version:04}").as_bytes());
    for (name, value) in fields {
        out.push(opcode::AUX);
        put_plain(out, name.as_bytes());
        put_plain(out, value.as_bytes());
    }
}

/// Appends the code of a library of functions.
pub fn put_function(out: &mut Vec<u8>, code: &[u8]) {
    out.push(opcode::FUNCTION_2);
    super::output::put_raw(out, code);
}

/// The name of a field that only takes room.
const FILLER_NAME: &[u8] = b"filler";
/// Bytes of a filler besides its value, if that is short.
const FILLER_BYTES_MIN: u64 = 3 + FILLER_NAME.len() as u64;
/// Longest value whose length takes one byte.
const FILLER_SHORT_MAX: usize = 63;

/// How many bytes of filler must follow `len` bytes, for whole blocks to come of them; none if they
/// are whole blocks, and at most a block and the shortest filler.
pub fn filler_len(len: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    match len.next_multiple_of(block) - len {
        0 => 0,
        gap if gap < FILLER_BYTES_MIN => gap + block,
        gap => gap,
    }
}

/// Appends a field for information that says nothing and takes `len` bytes, as [`filler_len`] gives
/// them. It may stand between any two entries; readers pass over fields whose name they do not know.
pub fn put_filler(out: &mut Vec<u8>, len: u64) {
    if len == 0 {
        return;
    }
    out.push(opcode::AUX);
    put_plain(out, FILLER_NAME);
    let value_len = (len - FILLER_BYTES_MIN) as usize;
    if value_len <= FILLER_SHORT_MAX {
        out.push(value_len as u8);
        out.resize(out.len() + value_len, b' ');
    } else {
        // The longer form, which a value of one byte less than its shortest has, too.
        let value_len = value_len - 1;
        out.extend_from_slice(&[0x40 | (value_len >> 8) as u8, value_len as u8]);
        out.resize(out.len() + value_len, b' ');
    }
}

/// The mark of the end, which the checksum of the file follows, itself included: eight bytes,
/// little-endian. For those who sum up by themselves.
pub const END: u8 = opcode::EOF;

/// The end of a file, which depends on all that stands before it.
#[derive(Clone, Debug)]
pub struct Trailer {
    crc: Option<Crc64>,
}

impl Trailer {
    /// Of a file of no bytes so far. Without a checksum (`rdbchecksum no`) zeros stand for it.
    pub fn new(checksum: bool) -> Self {
        Self { crc: checksum.then(Crc64::new) }
    }

    /// These bytes go into the file.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
    }

    /// The bytes that end the file.
    pub fn finish(mut self) -> [u8; 9] {
        self.update(&[opcode::EOF]);
        let sum = self.crc.map_or(0, |crc| crc.value());
        let mut end = [opcode::EOF; 9];
        end[1..].copy_from_slice(&sum.to_le_bytes());
        end
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::reader::{Event, Reader},
        *,
    };
    use crate::types::Thresholds;

    #[test]
    fn fillers_of_every_length_make_whole_blocks_that_are_read() {
        for len in 0..2 * BLOCK_BYTES as u64 {
            let filler = filler_len(len);
            let mut bytes = Vec::new();
            put_filler(&mut bytes, filler);
            assert_eq!(bytes.len() as u64, filler);
            assert!((len + filler).is_multiple_of(BLOCK_BYTES as u64), "{len} + {filler}");
            assert_eq!(filler == 0, len.is_multiple_of(BLOCK_BYTES as u64));
            if filler == 0 {
                continue;
            }
            let mut file = Vec::new();
            put_header(&mut file, &[]);
            file.extend_from_slice(&bytes);
            let mut reader = Reader::new(None, false);
            reader.supply(&file);
            let event = reader.next(&Thresholds::default(), |_| true).expect("a field");
            let Event::Aux { name, value } = event else { panic!("a field: {event:?}") };
            assert_eq!(name, FILLER_NAME);
            assert!(value.iter().all(|&byte| byte == b' '));
            assert_eq!(reader.offset(), file.len() as u64);
        }
    }
}
