//! The form of a log: segments, and groups of records in them.
//!
//! A log is a row of *segments*, files of limited size. A segment begins with a block that holds a
//! sealed [`SegmentHeader`]. Behind it stand *groups*, each from a new block on: a sealed
//! [`GroupHeader`], padded to its room, then the records of one epoch (see `journal::record`), then
//! zeros up to the end of the block. A block of zeros where a group would begin is the end of what
//! was written; the rest of the segment was only set aside.
//!
//! ```text
//! block 0          block 1 …                      block n …
//! ┌──────────────┬──────────────────────────────┬──────────────────────────────┬─────────
//! │ SegmentHeader│ GroupHeader │ records │ 0 0 0 │ GroupHeader │ records │ 0 0 0 │ 0 0 0 …
//! └──────────────┴──────────────────────────────┴──────────────────────────────┴─────────
//! ```
//!
//! # Invariants
//!
//! - a block is written once: a group that has failed is written again into a new segment, and what
//!   its first attempt has left in the old one is followed by nothing;
//! - groups of one log are in the order of their epochs, and their records are numbered without a
//!   gap, over the borders of segments too. A new segment may begin with groups that the old one
//!   already has: then they are the same;
//! - a group's header says what was known to be durable when it was written. So damage in front of
//!   that is told apart from a torn end.
#![forbid(unsafe_code)]

use rkyv::{Archive, Deserialize, Serialize};

use super::envelope::{EnvelopeError, Kind, Sealable, open, seal};
use crate::journal::{
    Chunk,
    record::{BLOCK_BYTES, RECORD_BYTES_MIN, RecordBuffer},
};

/// No number of a record, an epoch or a byte is greater: whoever says so does harm, and what is
/// computed with such numbers stays within 64 bits.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// What the first block of a segment says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The run of the server in which it was made; no two runs have the same.
    pub run: u64,
    /// The shard whose log it is.
    pub shard: u32,
    /// How many shards there were.
    pub shards: u32,
    /// Its place in the log, from 0.
    pub number: u32,
    /// No record in it has a lower number.
    pub first_sequence: u64,
}

impl Sealable for SegmentHeader {
    const KIND: Kind = Kind { magic: *b"TSEG", version: 1 };
}

/// What a group says of itself and of the others.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The run of the server in which it was written.
    pub run: u64,
    /// The epoch of its records.
    pub epoch: u64,
    /// The number of its first record.
    pub first_sequence: u64,
    /// The number of its last record.
    pub last_sequence: u64,
    /// Bytes of its records.
    pub payload_bytes: u64,
    /// Every epoch up to this one was durable in all logs when the group was written.
    pub durable_epoch: u64,
    /// Every record of this log up to this one was durable when the group was written.
    pub durable_sequence: u64,
    /// The vector of the epoch: for every shard the number of its log's last record of this epoch
    /// or an earlier one.
    pub vector: Vec<u64>,
}

impl Sealable for GroupHeader {
    const KIND: Kind = Kind { magic: *b"TGRP", version: 1 };
}

/// Bytes that a group's header takes when there are `shards` shards.
pub fn group_room(shards: usize) -> usize {
    let sample = GroupHeader {
        run: 0,
        epoch: 0,
        first_sequence: 0,
        last_sequence: 0,
        payload_bytes: 0,
        durable_epoch: 0,
        durable_sequence: 0,
        vector: vec![0; shards],
    };
    seal(&sample).len().next_multiple_of(16)
}

/// The first block of a segment.
pub fn segment_block(header: &SegmentHeader) -> RecordBuffer {
    let mut block = RecordBuffer::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(&seal(header));
    fill_block(&mut block);
    block
}

/// Appends zeros up to the next block's beginning.
fn fill_block(bytes: &mut RecordBuffer) {
    // A copy: without optimisation, as tests are built, `resize` goes byte by byte.
    let missing = bytes.len().next_multiple_of(BLOCK_BYTES) - bytes.len();
    bytes.extend_from_slice(&[0; BLOCK_BYTES][..missing]);
}

/// What the first block of a segment says.
///
/// # Errors
///
/// The block is not one.
pub fn read_segment_block(block: &[u8]) -> Result<SegmentHeader, EnvelopeError> {
    open(block).map(|(header, _)| header)
}

/// Turns the records of an epoch into a group, to be written from a block's beginning on.
///
/// # Panics
///
/// When the header needs more than `room` bytes, those that the journal has left free.
pub fn finish_group(chunk: &mut Chunk, room: usize, header: &GroupHeader) {
    let sealed = seal(header);
    chunk.bytes[..sealed.len()].copy_from_slice(&sealed);
    assert!(sealed.len() <= room, "the header does not fit in front of the records");
    fill_block(&mut chunk.bytes);
}

/// A group's place in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the group's beginning to its records.
    pub payload_start: u64,
    /// Bytes from the group's beginning to the next group.
    pub len: u64,
}

/// Reads the group header at the beginning of `block`.
///
/// # Errors
///
/// There is none, or it contradicts itself.
pub fn read_group_header(block: &[u8]) -> Result<(GroupHeader, Extent), EnvelopeError> {
    let (header, len): (GroupHeader, usize) = open(block)?;
    let GroupHeader { epoch, first_sequence, last_sequence, payload_bytes, .. } = header;
    let room = len.next_multiple_of(16) as u64;
    // So many records fit, and no number here or behind it exceeds its type.
    let records = last_sequence.checked_sub(first_sequence).map(|behind| behind.saturating_add(1));
    let is_sound = (1..=NUMBER_MAX).contains(&first_sequence)
        && last_sequence <= NUMBER_MAX
        && (1..=NUMBER_MAX).contains(&epoch)
        && payload_bytes <= NUMBER_MAX
        // What it calls durable was written before it.
        && header.durable_epoch < epoch
        && header.durable_sequence < first_sequence
        && records.is_some_and(|records| records <= payload_bytes / RECORD_BYTES_MIN);
    if !is_sound {
        return Err(EnvelopeError::Malformed);
    }
    let len = (room + payload_bytes).next_multiple_of(BLOCK_BYTES as u64);
    Ok((header, Extent { payload_start: room, len }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::envelope::SEAL_BYTES;

    fn header() -> GroupHeader {
        GroupHeader {
            run: 0x1122_3344_5566_7788,
            epoch: 9,
            first_sequence: 100,
            last_sequence: 120,
            payload_bytes: 5000,
            durable_epoch: 8,
            durable_sequence: 99,
            vector: vec![120, 77],
        }
    }

    #[test]
    fn a_group_is_read_where_it_was_written() {
        let room = group_room(2);
        let mut bytes = RecordBuffer::new();
        bytes.resize(room + 5000, 7);
        let mut chunk = Chunk { epoch: 9, first_sequence: 100, last_sequence: 120, bytes };
        finish_group(&mut chunk, room, &header());
        assert_eq!(chunk.bytes.len() % BLOCK_BYTES, 0);
        let (read, extent) = read_group_header(&chunk.bytes).expect("a header");
        assert_eq!(read, header());
        let start = extent.payload_start as usize;
        assert_eq!((start, extent.len as usize), (room, chunk.bytes.len()));
        assert!(chunk.bytes[start..start + 5000].iter().all(|&byte| byte == 7));
    }

    #[test]
    fn the_room_depends_on_the_number_of_shards_alone() {
        let mut wide = header();
        wide.vector = vec![u64::MAX; 256];
        assert_eq!(seal(&wide).len().next_multiple_of(16), group_room(256));
        assert!(group_room(256) < BLOCK_BYTES);
    }

    /// The bytes of version 1. They change with the form, and then the version must too.
    #[test]
    fn the_form_is_the_one_that_earlier_servers_have_written() {
        let sealed = seal(&header());
        let shown: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, include_str!("golden/group-1.hex").trim());
        let block = segment_block(&SegmentHeader {
            run: 5,
            shard: 1,
            shards: 2,
            number: 3,
            first_sequence: 400,
        });
        let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let shown: String = block[..end].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, include_str!("golden/segment-1.hex").trim());
    }

    #[test]
    fn damage_is_noticed_and_named() {
        let sealed = seal(&header());
        for len in 0..sealed.len() {
            assert_eq!(read_group_header(&sealed[..len]).err(), Some(EnvelopeError::Short));
        }
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_group_header(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(read_group_header(&[0; BLOCK_BYTES]).err(), Some(EnvelopeError::Magic));
        let newer = reseal(&sealed, |bytes| bytes[8] = 2);
        assert_eq!(read_group_header(&newer).err(), Some(EnvelopeError::Version(2)));
    }

    #[test]
    fn hostile_archives_with_a_right_checksum_do_no_harm() {
        let sealed = seal(&header());
        let mut random = crate::sys::random::Random::from_seed(3);
        for _ in 0..20_000 {
            let hostile = reseal(&sealed, |bytes| {
                for _ in 0..1 + random.below(4) {
                    let len = (bytes.len() - SEAL_BYTES) as u64;
                    bytes[SEAL_BYTES + random.below(len) as usize] = random.next_u64() as u8;
                }
            });
            if let Ok((header, extent)) = read_group_header(&hostile) {
                assert!(
                    header.vector.len() <= sealed.len() / 8 && extent.len >= BLOCK_BYTES as u64
                );
            }
        }
    }

    fn reseal(sealed: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = sealed.to_vec();
        change(&mut bytes);
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}
