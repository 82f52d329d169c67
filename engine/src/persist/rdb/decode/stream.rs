//! Reading streams, as `encode::stream` describes them, and the two versions before and behind.
//!
//! Deleted entries, which Redis keeps as gaps in its listpacks, are left out: what matters of them
//! (the greatest deleted id, the number of entries ever added) stands apart.
//!
//! Redis names the fields that entries share once a listpack, blocks here do so once a block of at
//! most 64 KiB: hostile bytes could let few of them stand for very many. So the memory of the entries
//! is held against the bytes that made them.
//!
//! Invariants, checked before anything is taken into the stream: ids ascend over all blocks; counts
//! are what is there; every pending entry belongs to exactly one consumer.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::super::{
    Input, RdbError, Stop, kind,
    packed::{Walk, listpack},
};
use crate::types::{
    Element, Stream, StreamId,
    stream::{BlockLimits, ConsumerId, Group, Pending},
};

const MALFORMED: RdbError = RdbError::Corrupt("a block of a stream is malformed");
const NO_ORDER: RdbError = RdbError::Corrupt("the ids of a stream do not ascend");
const MISCOUNTED: RdbError = RdbError::Corrupt("the entries of a stream are miscounted");
const OVERSIZED: RdbError =
    RdbError::Corrupt("a stream repeats long fields more often than it could");
const DUPLICATE: RdbError = RdbError::Corrupt("a stream has a group or a consumer twice");
const BAD_PENDING: RdbError =
    RdbError::Corrupt("a pending entry of a stream belongs to no consumer, or to two");

const FLAG_DELETED: i64 = 1;
const FLAG_SAME_FIELDS: i64 = 2;
/// No entry count is known.
const UNKNOWN: u64 = u64::MAX;

/// Nothing may be added to the block that was read before.
const NEW_BLOCK: BlockLimits = BlockLimits { bytes_max: 1, entries_max: 1 };
/// Everything may be added to the block that is being read.
const SAME_BLOCK: BlockLimits = BlockLimits { bytes_max: 0, entries_max: 0 };

/// The entries may take so many times the bytes that they were read from, and a few on top. In
/// earnest they take about as many.
const EXPANSION_MAX: usize = 8;
const EXPANSION_ROOM: usize = 4 << 20;

/// Reads one stream.
#[derive(Debug)]
pub(super) struct StreamDecoder {
    kind: u8,
    stream: Stream,
    stage: Stage,
    /// Bytes of the blocks taken so far.
    taken: usize,
    entry: EntryScratch,
}

#[derive(Debug)]
enum Stage {
    BlockCount,
    /// So many blocks are left.
    Blocks(u64),
    /// So many groups are left.
    Groups(u64),
    InGroup {
        groups_left: u64,
        name: Vec<u8>,
        group: Box<Group>,
        part: GroupPart,
    },
}

/// What of a group comes next.
#[derive(Debug)]
enum GroupPart {
    PendingCount,
    Pending { left: u64, pending: Unowned },
    Consumers { left: u64, pending: Unowned },
    Ids { left: u64, consumers_left: u64, consumer: ConsumerId, pending: Unowned },
}

/// Pending entries whose consumer is not known yet: times and numbers of delivery.
type Unowned = BTreeMap<StreamId, (i64, u64)>;

impl StreamDecoder {
    pub(super) fn new(kind: u8) -> Self {
        let (stream, entry) = (Stream::new(), EntryScratch::default());
        Self { kind, stream, stage: Stage::BlockCount, taken: 0, entry }
    }

    /// Goes on to the end of the stream.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Result<Stream, Stop> {
        while !matches!(self.stage, Stage::Groups(0)) {
            if let Some(stage) = self.piece(input)? {
                self.stage = stage;
            }
            input.commit();
        }
        Ok(std::mem::take(&mut self.stream))
    }

    /// Takes the next piece; what comes after it, if that is something else.
    fn piece(&mut self, input: &mut Input<'_>) -> Result<Option<Stage>, Stop> {
        match &mut self.stage {
            Stage::BlockCount => return Ok(Some(Stage::Blocks(input.length()?))),
            Stage::Blocks(0) => {
                self.figures(input)?;
                return Ok(Some(Stage::Groups(input.length()?)));
            }
            Stage::Blocks(left) => {
                let (key, blob) = (input.text()?, input.text()?);
                *left -= 1;
                let first = key.with_bytes(key_id)?;
                blob.with_bytes(|blob| self.block(first, blob))?;
            }
            Stage::Groups(left) => {
                let groups_left = left.saturating_sub(1);
                let (name, group) = self.group(input)?;
                let part = GroupPart::PendingCount;
                return Ok(Some(Stage::InGroup { groups_left, name, group, part }));
            }
            Stage::InGroup { groups_left, name, group, part } => {
                if part.step(group, self.kind, input)? {
                    let group = std::mem::replace(&mut **group, Group::new(StreamId::MIN, None));
                    if !self.stream.add_group(name, group) {
                        return Err(DUPLICATE.into());
                    }
                    return Ok(Some(Stage::Groups(*groups_left)));
                }
            }
        }
        Ok(None)
    }

    /// Takes a block, which begins at the id `first`.
    fn block(&mut self, first: StreamId, blob: &[u8]) -> Result<(), RdbError> {
        self.taken += blob.len();
        let memory_max = EXPANSION_ROOM + EXPANSION_MAX * self.taken;
        let Self { stream: Stream { entries, .. }, entry, .. } = self;
        let mut walk = listpack::Reader::new(blob)?;
        let counted = (count(&mut walk)?, count(&mut walk)?);
        let fields = take_fields(&mut walk)?;
        let (before, mut deleted) = (entries.len(), 0);
        // Whether the block that grows names the fields that are shared here.
        let (mut limits, mut shares_fields) = (NEW_BLOCK, false);
        while let Some(flags) = walk.next()? {
            let flags = whole(&flags)?;
            let id = take_entry(&mut walk, flags, first, &fields, entry)?;
            if flags & FLAG_DELETED != 0 {
                deleted += 1;
                continue;
            }
            // The least id is no entry's, so an empty stream's last id stands before all.
            if id <= entries.last_id {
                return Err(NO_ORDER);
            }
            if flags & FLAG_SAME_FIELDS != 0 && !shares_fields {
                entries.end_block();
                (limits, shares_fields) = (NEW_BLOCK, true);
            }
            entries.append(id, entry.pairs(), limits);
            limits = SAME_BLOCK;
            if entries.memory_bytes() > memory_max {
                return Err(OVERSIZED);
            }
        }
        entries.end_block();
        let found = (entries.len() - before, deleted);
        if found == counted { Ok(()) } else { Err(MISCOUNTED) }
    }

    /// Takes what is known of the entries besides themselves.
    fn figures(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        let len = input.length()?;
        let last_id = id(input)?;
        let (max_deleted_id, added) = if self.kind == kind::STREAM_LISTPACKS {
            (StreamId::MIN, len)
        } else {
            let _first_id = id(input)?;
            (id(input)?, input.length()?)
        };
        let entries = &mut self.stream.entries;
        if len != entries.len() {
            return Err(MISCOUNTED.into());
        }
        if last_id < entries.last_id {
            return Err(NO_ORDER.into());
        }
        (entries.last_id, entries.max_deleted_id, entries.added) = (last_id, max_deleted_id, added);
        Ok(())
    }

    /// Takes the beginning of a group.
    fn group(&self, input: &mut Input<'_>) -> Result<(Vec<u8>, Box<Group>), Stop> {
        let name = input.text()?.element().to_vec();
        let last_id = id(input)?;
        let read = match self.kind {
            kind::STREAM_LISTPACKS => self.stream.entries.count_up_to(last_id),
            _ => Some(input.length()?).filter(|&read| read != UNKNOWN),
        };
        Ok((name, Box::new(Group::new(last_id, read))))
    }
}

impl GroupPart {
    /// Takes the next piece of a group; whether that was the last.
    fn step(&mut self, group: &mut Group, kind: u8, input: &mut Input<'_>) -> Result<bool, Stop> {
        match self {
            Self::PendingCount => {
                let left = input.length()?;
                *self = Self::Pending { left, pending: Unowned::new() };
            }
            Self::Pending { left: 0, pending } => {
                let left = input.length()?;
                *self = Self::Consumers { left, pending: std::mem::take(pending) };
            }
            Self::Pending { left, pending } => {
                let id = key_id(input.take(16)?)?;
                let delivery = (input.i64_le()?, input.length()?);
                if pending.insert(id, delivery).is_some() {
                    return Err(BAD_PENDING.into());
                }
                *left -= 1;
            }
            Self::Consumers { left: 0, pending } if pending.is_empty() => return Ok(true),
            Self::Consumers { left: 0, .. } => return Err(BAD_PENDING.into()),
            Self::Consumers { left, pending } => {
                let consumers_left = *left - 1;
                let (consumer, left) = take_consumer(group, kind, input)?;
                let pending = std::mem::take(pending);
                *self = Self::Ids { left, consumers_left, consumer, pending };
            }
            Self::Ids { left: 0, consumers_left, pending, .. } => {
                let (left, pending) = (*consumers_left, std::mem::take(pending));
                *self = Self::Consumers { left, pending };
            }
            Self::Ids { left, consumer, pending, .. } => {
                let id = key_id(input.take(16)?)?;
                let (delivered_ms, deliveries) = pending.remove(&id).ok_or(BAD_PENDING)?;
                group.assign(id, Pending { consumer: *consumer, delivered_ms, deliveries });
                *left -= 1;
            }
        }
        Ok(false)
    }
}

/// Takes the beginning of a consumer: its number, and how many pending ids follow.
fn take_consumer(
    group: &mut Group,
    kind: u8,
    input: &mut Input<'_>,
) -> Result<(ConsumerId, u64), Stop> {
    let name = input.text()?;
    let seen_ms = input.i64_le()?;
    let active_ms = match kind {
        kind::STREAM_LISTPACKS_3 => Some(input.i64_le()?).filter(|&active_ms| active_ms >= 0),
        // The best that is known.
        _ => Some(seen_ms),
    };
    let pending = input.length()?;
    let (consumer, is_new) = name.with_bytes(|name| group.consumer_or_new(name, seen_ms));
    if !is_new {
        return Err(DUPLICATE.into());
    }
    group.set_times(consumer, seen_ms, active_ms);
    Ok((consumer, pending))
}

/// An id of two lengths.
fn id(input: &mut Input<'_>) -> Result<StreamId, Stop> {
    Ok(StreamId { ms: input.length()?, seq: input.length()? })
}

/// An id of 16 bytes, big-endian.
fn key_id(bytes: &[u8]) -> Result<StreamId, RdbError> {
    let number = bytes.try_into().map(u128::from_be_bytes).map_err(|_| MALFORMED)?;
    Ok(StreamId::from_number(number))
}

/// The texts of one entry's pairs, one behind the other.
#[derive(Debug, Default)]
struct EntryScratch {
    bytes: Vec<u8>,
    /// Where each field and each value ends.
    ends: Vec<usize>,
}

impl EntryScratch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, text: &Element<'_>) {
        text.with_bytes(|text| self.bytes.extend_from_slice(text));
        self.ends.push(self.bytes.len());
    }

    fn text(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        (0..self.ends.len() / 2).map(|pair| (self.text(2 * pair), self.text(2 * pair + 1)))
    }
}

/// Takes the fields that the entries of a block share.
fn take_fields<'a>(walk: &mut impl Walk<'a>) -> Result<Vec<Element<'a>>, RdbError> {
    let count = count(walk)?;
    let mut fields = Vec::new();
    for _ in 0..count {
        fields.push(walk.next()?.ok_or(MALFORMED)?);
    }
    // An entry that is none marks their end.
    if int(walk)? == 0 { Ok(fields) } else { Err(MALFORMED) }
}

/// Takes an entry behind its flags; its id. Its pairs are in `scratch` then.
fn take_entry<'a>(
    walk: &mut impl Walk<'a>,
    flags: i64,
    first: StreamId,
    fields: &[Element<'a>],
    scratch: &mut EntryScratch,
) -> Result<StreamId, RdbError> {
    let (ms, seq) = (int(walk)? as u64, int(walk)? as u64);
    let id = StreamId { ms: first.ms.wrapping_add(ms), seq: first.seq.wrapping_add(seq) };
    scratch.clear();
    let mut elements = 3;
    if flags & FLAG_SAME_FIELDS != 0 {
        for field in fields {
            scratch.push(field);
            scratch.push(&walk.next()?.ok_or(MALFORMED)?);
        }
        elements += fields.len() as u64;
    } else {
        let pairs = count(walk)?;
        for _ in 0..pairs {
            let (field, value) = walk.next_pair()?.ok_or(MALFORMED)?;
            scratch.push(&field);
            scratch.push(&value);
        }
        elements += 2 * pairs + 1;
    }
    if count(walk)? == elements { Ok(id) } else { Err(MALFORMED) }
}

/// An integer of a block.
fn int<'a>(walk: &mut impl Walk<'a>) -> Result<i64, RdbError> {
    whole(&walk.next()?.ok_or(MALFORMED)?)
}

/// A count of a block.
fn count<'a>(walk: &mut impl Walk<'a>) -> Result<u64, RdbError> {
    u64::try_from(int(walk)?).map_err(|_| MALFORMED)
}

fn whole(element: &Element<'_>) -> Result<i64, RdbError> {
    match element {
        Element::Int(int) => Ok(*int),
        Element::Bytes(_) | Element::Shared(_) => Err(MALFORMED),
    }
}
