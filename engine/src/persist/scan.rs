//! Reading a log: its groups in order, over all its segments, as far as they go.
//!
//! A scan looks at headers alone, and says where the log ends and why. Whether that end is the end of
//! what was written, a torn tail or damage in the middle is for `recovery` to judge, which knows what
//! is durable; for that the scan goes on behind a damaged place and notes what the headers there
//! claim.
//!
//! Invariant: whatever the files hold, a scan ends, and allocates no more than what it reads.
#![forbid(unsafe_code)]

use std::io;

use super::{
    envelope::EnvelopeError,
    manifest::{LogStart, segment_name},
    segment::{Extent, GroupHeader, read_group_header, read_segment_block},
};
use crate::{
    journal::record::{BLOCK_BYTES, Record},
    sys::disk::Directory,
};

/// How much is read at a time, in bytes: little where groups are long, as their headers alone are
/// looked at, and yet many groups where they are short.
const WINDOW_BYTES: usize = 64 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A group where it stands.
#[derive(Clone, Debug)]
pub struct Group {
    /// The segment's number.
    pub segment: u32,
    /// The first byte of the group.
    pub offset: u64,
    /// What it says of itself.
    pub header: GroupHeader,
    /// Where its records and the next group begin.
    pub extent: Extent,
    /// Earlier attempts to write the same group: their segments and first bytes, the last one last.
    /// The disk has reported of none of them that it was durable.
    pub attempts: Vec<(u32, u64)>,
}

/// A place in a log that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// The byte at which it begins.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// What a scan has found.
#[derive(Debug)]
pub struct Scan {
    /// The run and the shard of the log.
    pub run: u64,
    /// The shard.
    pub shard: u32,
    /// The groups, from the first one that counts to the last one that can be reached.
    pub groups: Vec<Group>,
    /// The number of the record before the first one.
    pub start_sequence: u64,
    /// What stands where the next group would, if that is not the end of what was written.
    pub damage: Option<Damage>,
    /// The greatest number that a header, reachable or not, calls durable in this log.
    pub durable_sequence: u64,
    /// The greatest epoch that a header, reachable or not, calls durable in all logs.
    pub durable_epoch: u64,
    /// The greatest number and the greatest epoch of a record that a header, reachable or not, says
    /// it has written.
    pub last_seen: (u64, u64),
    /// Segments that were looked at.
    pub segments: u32,
    /// Bytes of all segments that were looked at.
    pub bytes: u64,
}

impl Scan {
    /// Where the log ends whose first segment is `first`; nowhere, if no group can be reached.
    pub fn end(&self, first: u32) -> Option<LogEnd> {
        let last = self.groups.last()?;
        let bytes = last.offset + last.extent.len;
        Some(LogEnd { segments: (first, last.segment), bytes })
    }

    /// The number of the last record that can be reached.
    pub fn last_sequence(&self) -> u64 {
        self.groups.last().map_or(self.start_sequence, |group| group.header.last_sequence)
    }
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The segments from the first one that counts to the last.
    pub segments: (u32, u32),
    /// Bytes of the last one that count.
    pub bytes: u64,
}

/// Scans the log of `shard` in `run` from `start` on, where `shards` shards have run.
///
/// # Errors
///
/// Of the file system.
pub fn scan_log(
    directory: &dyn Directory,
    run: u64,
    shard: u32,
    shards: usize,
    start: LogStart,
) -> io::Result<Scan> {
    let mut scan = Scan {
        run,
        shard,
        groups: Vec::new(),
        start_sequence: start.sequence,
        damage: None,
        durable_sequence: 0,
        durable_epoch: 0,
        last_seen: (0, 0),
        segments: 0,
        bytes: 0,
    };
    for number in start.segment..=u32::MAX {
        let file = SegmentFile::open(directory, segment_name(run, shard, number))?;
        let Some(mut file) = file else { break };
        scan.segments += 1;
        scan.bytes += file.len;
        scan_segment(&mut scan, &mut file, number, shards)?;
    }
    Ok(scan)
}

/// Takes up the groups of one segment.
fn scan_segment(
    scan: &mut Scan,
    file: &mut SegmentFile<'_>,
    number: u32,
    shards: usize,
) -> io::Result<()> {
    let head = read_segment_block(file.block(0)?);
    let expected = head
        .as_ref()
        .is_ok_and(|head| (head.run, head.shard, head.number) == (scan.run, scan.shard, number));
    if !expected {
        let reason = match head {
            Ok(_) => "it is a segment of another log".to_owned(),
            Err(error) => format!("the segment's header: {error}"),
        };
        scan.note_damage(file, 0, reason);
        return Ok(());
    }
    let mut offset = BLOCK;
    while offset < file.len {
        let step = match file.group(offset, scan.run, shards)? {
            Found::Nothing => return Ok(()),
            Found::Group(header, extent) => {
                let attempts = Vec::new();
                scan.take(file, Group { segment: number, offset, header, extent, attempts })
            }
            Found::Broken(reason) => {
                scan.note_damage(file, offset, reason);
                None
            }
        };
        // Behind a damaged place groups are looked for block by block.
        offset += step.unwrap_or(BLOCK);
    }
    Ok(())
}

impl Scan {
    /// Takes up a group if it follows; answers its length if what is behind it can be trusted to be a
    /// group.
    fn take(&mut self, file: &SegmentFile<'_>, group: Group) -> Option<u64> {
        let header = &group.header;
        self.durable_sequence = self.durable_sequence.max(header.durable_sequence);
        self.durable_epoch = self.durable_epoch.max(header.durable_epoch);
        let (sequence, epoch) = self.last_seen;
        self.last_seen = (sequence.max(header.last_sequence), epoch.max(header.epoch));
        let len = group.extent.len;
        let last = self.last_sequence();
        if header.last_sequence <= last {
            self.take_again(&group);
            return Some(len);
        }
        // The first group may begin before the position from which on the log counts.
        if header.first_sequence > last + 1 {
            let reason = format!("the records up to {} are missing", header.first_sequence - 1);
            self.note_damage(file, group.offset, reason);
            return Some(len);
        }
        if self.groups.last().is_some_and(|last| header.epoch <= last.header.epoch) {
            self.note_damage(file, group.offset, "its epoch is not behind the last one's".into());
            return Some(len);
        }
        if group.offset + group.extent.payload_start + header.payload_bytes > file.len {
            self.note_damage(file, group.offset, "the file ends within a group".into());
            return None;
        }
        // What could not be reached from an earlier segment can be from this one.
        self.damage = None;
        self.groups.push(group);
        Some(len)
    }

    /// Takes up a group that was written again after a failure, in the place of the attempt before.
    fn take_again(&mut self, group: &Group) {
        let sequence = |group: &Group| (group.header.first_sequence, group.header.last_sequence);
        let found = self.groups.binary_search_by_key(&sequence(group), sequence);
        if let Ok(index) = found {
            let known = &mut self.groups[index];
            known.attempts.push((known.segment, known.offset));
            (known.segment, known.offset) = (group.segment, group.offset);
        }
    }

    fn note_damage(&mut self, file: &SegmentFile<'_>, offset: u64, reason: String) {
        if self.damage.is_none() {
            self.damage = Some(Damage { file: file.name.clone(), offset, reason });
        }
    }
}

/// What stands where a group may begin.
enum Found {
    /// Zeros: nothing was written here.
    Nothing,
    Group(GroupHeader, Extent),
    Broken(String),
}

/// A segment's file, read through a window.
struct SegmentFile<'a> {
    directory: &'a dyn Directory,
    name: String,
    len: u64,
    /// Of which the first `window_len` bytes are what the file has from `window_at` on.
    window: Vec<u8>,
    window_len: usize,
    window_at: u64,
}

impl<'a> SegmentFile<'a> {
    fn open(directory: &'a dyn Directory, name: String) -> io::Result<Option<Self>> {
        let len = directory.len(&name)?;
        let window = vec![0; WINDOW_BYTES];
        let (window_len, window_at) = (0, 0);
        Ok(len.map(|len| Self { directory, name, len, window, window_len, window_at }))
    }

    /// The block at `offset`, which is a block's beginning; shorter at the end of the file.
    fn block(&mut self, offset: u64) -> io::Result<&[u8]> {
        let end = self.window_at + self.window_len as u64;
        if offset < self.window_at || offset + BLOCK > end {
            self.window_len = fill(self.directory, &self.name, offset, &mut self.window)?;
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        let to = (from + BLOCK_BYTES).min(self.window_len);
        Ok(self.window.get(from..to).unwrap_or_default())
    }

    fn group(&mut self, offset: u64, run: u64, shards: usize) -> io::Result<Found> {
        let block = self.block(offset)?;
        Ok(match read_group_header(block) {
            Ok((header, _)) if header.run != run || header.vector.len() != shards => {
                Found::Broken("the group is of another log".into())
            }
            Ok((header, extent)) => Found::Group(header, extent),
            Err(_) if block.iter().all(|&byte| byte == 0) => Found::Nothing,
            Err(EnvelopeError::Magic) => Found::Broken("no group begins here".into()),
            Err(error) => Found::Broken(format!("the group's header: {error}")),
        })
    }
}

/// Reads until the buffer is full or the file ends; answers how much.
fn fill(
    directory: &dyn Directory,
    name: &str,
    offset: u64,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match directory.read_at(name, offset + read as u64, &mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Why the records of a group could not all be used.
#[derive(Debug)]
pub enum GroupError {
    /// Of the file system.
    Io(io::Error),
    /// They are not what was written.
    Damage(Damage),
}

impl From<io::Error> for GroupError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Calls `each` with every record of a group of `scan`, in order; stops where it answers with a
/// reason.
///
/// # Errors
///
/// The records are not those that the header promises, or `each` has refused one.
pub fn read_group(
    directory: &dyn Directory,
    scan: &Scan,
    group: &Group,
    payload: &mut Vec<u8>,
    mut each: impl FnMut(&Record<'_>) -> Result<(), String>,
) -> Result<(), GroupError> {
    read_group_ahead(directory, scan, group, payload, |record, _| each(record))
}

/// The same; `each` also gets the bytes behind the record, which are not checked yet.
///
/// # Errors
///
/// As [`read_group`].
pub fn read_group_ahead(
    directory: &dyn Directory,
    scan: &Scan,
    group: &Group,
    payload: &mut Vec<u8>,
    mut each: impl FnMut(&Record<'_>, &[u8]) -> Result<(), String>,
) -> Result<(), GroupError> {
    let name = segment_name(scan.run, scan.shard, group.segment);
    let start = group.offset + group.extent.payload_start;
    // The scan has seen that the file is as long.
    payload.resize(group.header.payload_bytes as usize, 0);
    let read = fill(directory, &name, start, payload)?;
    let mut rest = &payload[..read];
    let mut spans = Vec::new();
    let damage = |at: usize, reason: String| {
        GroupError::Damage(Damage { file: name.clone(), offset: start + at as u64, reason })
    };
    for sequence in group.header.first_sequence..=group.header.last_sequence {
        let at = read - rest.len();
        let (record, len) =
            Record::read(rest, &mut spans).map_err(|error| damage(at, error.to_string()))?;
        if (record.head.sequence, record.head.stamp) != (sequence, group.header.epoch) {
            return Err(damage(at, format!("record {sequence} should stand here")));
        }
        rest = &rest[len..];
        each(&record, rest).map_err(|reason| damage(at, format!("record {sequence}: {reason}")))?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(damage(read - rest.len(), "bytes are left over".into()))
    }
}
