//! Streams: each block as Redis's listpack, then figures, then groups.
//!
//! ```text
//! number of blocks; of each: first id, listpack
//! entries; last, first and greatest deleted id; entries ever added
//! number of groups; of each: name, last id, entries read,
//!     number of pending entries; of each: id, time, deliveries,
//!     number of consumers; of each: name, time seen, number of ids, ids
//! ```
//!
//! Ids that are keys are 16 bytes, big endian; others are two lengths; times are 8 bytes of
//! milliseconds. The listpack of a block:
//!
//! ```text
//! live entries, deleted entries, number of fields, fields, 0,
//! of each entry: flags, ms and number against the first id, [number of fields], values or
//!     fields and values, number of these elements
//! ```
#![forbid(unsafe_code)]

use bytes::Bytes;

use super::{Encoder, State, Work};
use crate::{
    persist::rdb::{
        output::{put_length, put_text},
        packed::listpack,
    },
    types::{
        Element, Stream, StreamId,
        stream::{Block, Consumer, Entry, Group},
    },
};

const FLAG_DELETED: i64 = 1;
const FLAG_SAME_FIELDS: i64 = 2;
/// Bytes of an id and its time, and a few of its count.
const PENDING_BYTES: usize = 26;

/// What of a stream comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum StreamPart {
    /// The block of that index.
    Block(usize),
    /// What is behind the blocks.
    Figures,
    /// The group of that index.
    Group(usize),
    /// A group's pending entries from that id on.
    Pending(usize, StreamId),
    /// A group's consumer of that index.
    Consumer(usize, usize),
    /// A consumer's ids from that id on.
    Ids(usize, usize, StreamId),
}

impl Encoder {
    /// Goes on with a stream.
    pub(super) fn stream(
        &mut self,
        stream: &Stream,
        part: StreamPart,
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> State {
        let group = |index| stream.groups().nth(index);
        let next = match part {
            StreamPart::Block(index) => self.blocks(stream, index, out, work),
            StreamPart::Figures => {
                put_figures(stream, out);
                StreamPart::Group(0)
            }
            StreamPart::Group(index) => match group(index) {
                None => return State::Done,
                Some((name, group)) => {
                    put_text(out, name, self.compressor());
                    put_group(group, out);
                    StreamPart::Pending(index, StreamId::MIN)
                }
            },
            StreamPart::Pending(index, from) => match group(index) {
                None => return State::Done,
                Some((_, group)) => put_pending(group, index, from, out, work),
            },
            StreamPart::Consumer(index, number) => {
                match group(index).and_then(|(_, group)| group.consumers().nth(number)) {
                    None => StreamPart::Group(index + 1),
                    Some(consumer) => {
                        put_text(out, consumer.name(), self.compressor());
                        out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
                        put_length(out, consumer.pending_len() as u64);
                        StreamPart::Ids(index, number, StreamId::MIN)
                    }
                }
            }
            StreamPart::Ids(index, number, from) => {
                match group(index).and_then(|(_, group)| group.consumers().nth(number)) {
                    None => return State::Done,
                    Some(consumer) => put_ids(consumer, (index, number), from, out, work),
                }
            }
        };
        State::Stream(next)
    }

    fn blocks(
        &mut self,
        stream: &Stream,
        mut index: usize,
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> StreamPart {
        for block in stream.entries.blocks_from(index) {
            if self.long.is_some() {
                return StreamPart::Block(index);
            }
            let pack = listpack_of(block);
            if !work.admits(pack.len()) {
                return StreamPart::Block(index);
            }
            put_text(out, &key_of(block.first()), None);
            self.put(&Element::Shared(&Bytes::from(pack)), out);
            index += 1;
        }
        StreamPart::Figures
    }
}

fn put_figures(stream: &Stream, out: &mut Vec<u8>) {
    let entries = &stream.entries;
    put_length(out, entries.len());
    for id in [entries.last_id, entries.first_id(), entries.max_deleted_id] {
        put_length(out, id.ms);
        put_length(out, id.seq);
    }
    put_length(out, entries.added);
    put_length(out, stream.group_count() as u64);
}

fn put_group(group: &Group, out: &mut Vec<u8>) {
    put_length(out, group.last_id.ms);
    put_length(out, group.last_id.seq);
    // What is not known is -1.
    put_length(out, group.entries_read.unwrap_or(u64::MAX));
    put_length(out, group.pending_len() as u64);
}

fn put_pending(
    group: &Group,
    index: usize,
    from: StreamId,
    out: &mut Vec<u8>,
    work: &mut Work,
) -> StreamPart {
    for (id, pending) in group.pending_from(from) {
        if !work.admits(PENDING_BYTES) {
            return StreamPart::Pending(index, id);
        }
        out.extend_from_slice(&key_of(id));
        out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
        put_length(out, pending.deliveries);
    }
    put_length(out, group.consumer_count() as u64);
    StreamPart::Consumer(index, 0)
}

fn put_ids(
    consumer: &Consumer,
    (index, number): (usize, usize),
    from: StreamId,
    out: &mut Vec<u8>,
    work: &mut Work,
) -> StreamPart {
    for id in consumer.pending_from(from) {
        if !work.admits(PENDING_BYTES) {
            return StreamPart::Ids(index, number, id);
        }
        out.extend_from_slice(&key_of(id));
    }
    StreamPart::Consumer(index, number + 1)
}

/// An id as Redis's key of a block or a pending entry.
fn key_of(id: StreamId) -> [u8; 16] {
    id.to_number().to_be_bytes()
}

fn listpack_of(block: Block<'_>) -> Vec<u8> {
    let mut pack = listpack::Builder::new();
    let mut put = |number: i64| pack.push(&Element::Int(number));
    put(block.live() as i64);
    put(block.deleted() as i64);
    put(block.fields().count() as i64);
    block.fields().for_each(|field| pack.push(&field));
    pack.push(&Element::Int(0));
    block.entries().for_each(|entry| push_entry(&mut pack, block.first(), &entry));
    pack.finish()
}

fn push_entry(pack: &mut listpack::Builder, first: StreamId, entry: &Entry<'_>) {
    let flags =
        i64::from(entry.deleted) * FLAG_DELETED + i64::from(entry.same_fields) * FLAG_SAME_FIELDS;
    let len = entry.len() as i64;
    // Flags, and both parts of the id.
    let mut elements = 3 + len;
    pack.push(&Element::Int(flags));
    pack.push(&Element::Int(entry.id.ms.wrapping_sub(first.ms) as i64));
    pack.push(&Element::Int(entry.id.seq.wrapping_sub(first.seq) as i64));
    if !entry.same_fields {
        pack.push(&Element::Int(len));
        elements += len + 1;
    }
    for (field, value) in entry.pairs() {
        if !entry.same_fields {
            pack.push(&field);
        }
        pack.push(&value);
    }
    pack.push(&Element::Int(elements));
}
