//! Streams there and back, and what no stream can be.
#![forbid(unsafe_code)]

use super::*;
use crate::types::{
    Stream, StreamId,
    stream::{BlockLimits, Consumer, Entry, Group, Pending},
};

/// Name; times seen and active; pending ids.
type ConsumerContent = (Vec<u8>, i64, Option<i64>, Vec<StreamId>);
/// Name, last id, entries read; pending; consumers.
type GroupContent =
    (Vec<u8>, StreamId, Option<u64>, Vec<(StreamId, i64, u64)>, Vec<ConsumerContent>);

/// All that a stream holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    entries: Vec<(StreamId, Vec<Vec<u8>>)>,
    /// Last, greatest deleted, and ever added.
    figures: (StreamId, StreamId, u64),
    groups: Vec<GroupContent>,
}

pub(super) fn content(stream: &Stream) -> Content {
    let words = |entry: Entry<'_>| {
        entry.pairs().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect()
    };
    let entries = &stream.entries;
    let all = entries.range(StreamId::MIN, StreamId::MAX);
    Content {
        entries: all.map(|entry| (entry.id, words(entry))).collect(),
        figures: (entries.last_id, entries.max_deleted_id, entries.added),
        groups: stream.groups().map(|(name, group)| group_content(name, group)).collect(),
    }
}

fn group_content(name: &[u8], group: &Group) -> GroupContent {
    let consumer = |each: &Consumer| {
        let ids = each.pending_from(StreamId::MIN).collect();
        (each.name().to_vec(), each.seen_ms, each.active_ms, ids)
    };
    let pending = group.pending_from(StreamId::MIN);
    let pending = pending.map(|(id, each)| (id, each.delivered_ms, each.deliveries)).collect();
    let consumers = group.consumers().map(consumer).collect();
    (name.to_vec(), group.last_id, group.entries_read, pending, consumers)
}

/// Entries by their pairs, which of them are deleted, and which are pending for whom.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let field = prop_oneof![3 => Just(b"temperature".to_vec()), 1 => text()];
    let pairs = vec((field, text()), 1..4);
    let entries = vec((pairs, 0..3_u64, 0..9_u8), 0..150);
    let pending = vec((0..150_usize, 0..3_u8, 1..300_u64), 0..40);
    (entries, pending, any::<bool>()).prop_map(|(entries, pending, is_known)| {
        let mut stream = Stream::new();
        let limits = BlockLimits { bytes_max: 4096, entries_max: 100 };
        let mut ids = Vec::new();
        let mut id = StreamId { ms: 1_700_000_000_000, seq: 5 };
        for (pairs, ms, _) in &entries {
            id = StreamId { ms: id.ms + ms, seq: if *ms == 0 { id.seq + 1 } else { 0 } };
            let pairs = pairs.iter().map(|(field, value)| (&field[..], &value[..]));
            stream.entries.append(id, pairs, limits);
            ids.push(id);
        }
        for (id, (_, _, fate)) in ids.iter().zip(&entries) {
            if *fate == 0 {
                stream.entries.delete(*id);
            }
        }
        let mut group = Group::new(id, is_known.then_some(7));
        for (entry, name, deliveries) in pending {
            let (consumer, _) = group.consumer_or_new(&[b'a' + name], 1_000);
            // Version 10 does not say when a consumer was active: then it is taken to be when it
            // was seen.
            group.set_times(consumer, 2_000, Some(2_000));
            if let Some(&id) = ids.get(entry) {
                let delivered_ms = 5 + entry as i64;
                group.assign(id, Pending { consumer, delivered_ms, deliveries });
            }
        }
        stream.add_group(b"group", group);
        stream.add_group(b"another", Group::new(StreamId::MIN, None));
        Value::Object(Box::new(Object::Stream(Box::new(stream))))
    })
}

/// A stream of one block, whose listpack these integers and words make, and what comes behind it.
fn stream_of(kind: u8, elements: &[&str], behind: &[u8]) -> Result<Stream, RdbError> {
    let mut pack = packed::listpack::Builder::new();
    elements.iter().for_each(|text| pack.push(&crate::types::Element::Bytes(text.as_bytes())));
    let mut bytes = vec![kind, 1];
    let first = StreamId { ms: 10, seq: 0 };
    output::put_raw(&mut bytes, &first.to_number().to_be_bytes());
    output::put_raw(&mut bytes, &pack.finish());
    bytes.extend_from_slice(behind);
    let value = payload::value_of(&bytes, &Thresholds::default())?;
    match value {
        Value::Object(object) => match *object {
            Object::Stream(stream) => {
                stream.check();
                Ok(*stream)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Two entries with the shared field, a deleted one, and one with fields of its own.
const BLOCK: [&str; 24] = [
    "3", "1", "1", "f", "0", // live, deleted, fields
    "2", "0", "0", "one", "4", // same fields
    "3", "1", "0", "gone", "4", // deleted
    "0", "2", "5", "1", "g", "two", "6", // its own
    "2", "3",
];
const REST: [&str; 3] = ["0", "three", "4"];

fn block() -> Vec<&'static str> {
    [&BLOCK[..], &REST].concat()
}

#[test]
fn every_version_of_streams_is_read() {
    let one = [3, 13, 0, 0];
    let two = [3, 13, 0, 10, 0, 11, 0, 4, 0];
    for (kind, behind) in [
        (kind::STREAM_LISTPACKS, &one[..]),
        (kind::STREAM_LISTPACKS_2, &two),
        (kind::STREAM_LISTPACKS_3, &two),
    ] {
        let stream = stream_of(kind, &block(), behind).expect("it is well-formed");
        let content = content(&stream);
        let ids: Vec<(u64, u64)> = content.entries.iter().map(|(id, _)| (id.ms, id.seq)).collect();
        assert_eq!(ids, [(10, 0), (12, 5), (13, 0)]);
        assert_eq!(content.entries[1].1, texts(&["g", "two"]));
        assert_eq!(content.entries[2].1, texts(&["f", "three"]));
        let added = if kind == kind::STREAM_LISTPACKS { 3 } else { 4 };
        assert_eq!(content.figures.2, added);
    }
}

#[test]
fn groups_of_every_version_are_read() {
    let id = StreamId { ms: 10, seq: 0 }.to_number().to_be_bytes();
    let pending = [&[1][..], &id, &7_i64.to_le_bytes(), &[2]].concat();
    let seen = 8_i64.to_le_bytes();
    let ids = [&[1][..], &id].concat();
    let active = 9_i64.to_le_bytes();
    let never = (-1_i64).to_le_bytes();
    let unknown = [0x81, 255, 255, 255, 255, 255, 255, 255, 255];
    let figures = [3, 13, 0, 10, 0, 11, 0, 4, 0];
    let with = |kind: u8, read: &[u8], times: &[u8]| {
        let figures = if kind == kind::STREAM_LISTPACKS { &figures[..3] } else { &figures[..8] };
        let group = [b"\x01g\x0D\x00", read, &pending, b"\x01\x01c", times, &ids].concat();
        let behind = [figures, &[1], &group].concat();
        let stream = stream_of(kind, &block(), &behind).expect("it is well-formed");
        content(&stream).groups.remove(0)
    };
    let (_, last, read, pending, consumers) = with(kind::STREAM_LISTPACKS, &[], &seen);
    assert_eq!((last, read), (StreamId { ms: 13, seq: 0 }, Some(3)));
    assert_eq!(pending, [(StreamId { ms: 10, seq: 0 }, 7, 2)]);
    assert_eq!((consumers[0].1, consumers[0].2, consumers[0].3.len()), (8, Some(8), 1));
    let (_, _, read, _, consumers) = with(kind::STREAM_LISTPACKS_2, &unknown, &seen);
    assert_eq!((read, consumers[0].2), (None, Some(8)));
    let both = [seen, active].concat();
    let (_, _, read, _, consumers) = with(kind::STREAM_LISTPACKS_3, &[3], &both);
    assert_eq!((read, consumers[0].2), (Some(3), Some(9)));
    let both = [seen, never].concat();
    assert_eq!(with(kind::STREAM_LISTPACKS_3, &[3], &both).4[0].2, None);
}

#[test]
fn what_is_no_stream_is_refused() {
    let behind = [3, 13, 0, 0];
    let refused = |at: usize, text: &'static str| {
        let mut elements = block();
        elements[at] = text;
        stream_of(kind::STREAM_LISTPACKS, &elements, &behind).is_err()
    };
    // Counts, the mark, ids out of order, numbers of elements, words for numbers.
    let changes = [
        (0, "2"),
        (1, "0"),
        (2, "7"),
        (2, "-1"),
        (4, "1"),
        (16, "-9"),
        (9, "5"),
        (5, "x"),
        (18, "2"),
    ];
    for (at, text) in changes {
        assert!(refused(at, text), "{text} at {at}");
    }
    for behind in [&[2, 13, 0, 0][..], &[3, 12, 0, 0], &[3, 13, 0, 1], &[3, 13]] {
        assert!(stream_of(kind::STREAM_LISTPACKS, &block(), behind).is_err());
    }
    let id = StreamId { ms: 10, seq: 0 }.to_number().to_be_bytes();
    let pending = [&[1][..], &id, &[0; 8], &[1]].concat();
    let consumer = [b"\x01c", &[0; 8][..]].concat();
    let owned = [&[1][..], &id].concat();
    for parts in [
        // Pending for nobody, for one who does not have it, for two; a consumer twice.
        [&b"\x01g\0\0"[..], &pending, &[0]].concat(),
        [b"\x01g\0\0", &[0][..], &[1], &consumer, &owned].concat(),
        [b"\x01g\0\0", &pending[..], &[2], &consumer, &owned, b"\x01d", &[0; 8], &owned].concat(),
        [b"\x01g\0\0", &[0][..], &[2], &consumer, &[0], &consumer, &[0]].concat(),
    ] {
        let behind = [&[3, 13, 0, 1], &parts[..]].concat();
        assert!(stream_of(kind::STREAM_LISTPACKS, &block(), &behind).is_err());
    }
}

#[test]
fn few_bytes_cannot_stand_for_very_many() {
    let long = "f".repeat(200_000);
    let count = 3_000.to_string();
    let mut elements = vec![count.as_str(), "0", "1", long.as_str(), "0"];
    for _ in 0..3_000 {
        elements.extend(["2", "0", "0", "", "4"]);
    }
    let numbers: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    for (entry, number) in numbers.iter().enumerate() {
        elements[5 + 5 * entry + 2] = number;
    }
    let error = stream_of(kind::STREAM_LISTPACKS, &elements, &[0]).expect_err("600 MB of 200 KB");
    assert!(error.to_string().contains("long fields"), "{error}");
}
