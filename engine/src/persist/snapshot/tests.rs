//! Snapshots of shards that go on changing, read back from the file that their pieces make.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{super::rdb, PIECE_BYTES, Piece, Place, Snapshot, SnapshotOptions, Step, UsageKept};
use crate::{
    journal::record::BLOCK_BYTES,
    keyspace::{Body, Deadline, Keyspace, NewBody},
    persist::{
        rdb::{
            Encoder, Options, crc64, payload,
            reader::{Event, LoadedEntry, Reader},
            writer::{END, put_header},
        },
        snapshot::checksum::join,
    },
    sys::random::Random,
    types::{Hash, Thresholds},
    value::Object,
};

const NOW_MS: i64 = 1_700_000_000_000;

/// What a key holds, in the form of DUMP, and its deadline.
type Rows = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>)>;

fn dumped(body: &Body<'_, Object>) -> Vec<u8> {
    payload::dump(&mut Encoder::new(Options::default()), body)
}

/// Two keys of the same name never stand on two shards, so each shard's keys have its own letter.
fn name(shard: char, number: u32) -> Vec<u8> {
    format!("{shard}:{number}").into_bytes()
}

fn keyspace(shard: char, random: &mut Random) -> Keyspace {
    let mut keyspace = Keyspace::new(random.next_u64(), 3);
    keyspace.advance_clock_us(NOW_MS * 1_000);
    for number in 0..3_000 {
        put(&mut keyspace, shard, number, random);
    }
    put_object(&mut keyspace, 1, &name(shard, 3_001), Object::Hash(hash(20_000)));
    put_object(&mut keyspace, 2, &name(shard, 3_002), Object::String(noise(random, 900_000)));
    put_object(&mut keyspace, 0, &name(shard, 3_003), Object::Hash(hash(2_000)));
    keyspace
}

fn put(keyspace: &mut Keyspace, shard: char, number: u32, random: &mut Random) {
    let len = random_below(random, 300);
    let (key, bytes) = (name(shard, number), noise(random, len));
    let slot = keyspace.slot_of(number as usize % 3, &key);
    let deadline = match number % 5 {
        0 => Deadline::At(NOW_MS + 1_000 + i64::from(number)),
        _ => Deadline::Never,
    };
    slot.put(NewBody::Inline { kind: 0, bytes: &bytes }, deadline);
}

fn put_object(keyspace: &mut Keyspace, database: usize, key: &[u8], object: Object) {
    keyspace.slot_of(database, key).put(NewBody::Object(Box::new(object)), Deadline::Never);
}

fn random_below(random: &mut Random, bound: u64) -> usize {
    (random.next_u64() % bound) as usize
}

fn noise(random: &mut Random, len: usize) -> Bytes {
    (0..len).map(|_| random.next_u64() as u8).collect()
}

fn hash(fields: u32) -> Hash {
    let mut hash = Hash::new();
    for field in 0..fields {
        let value = format!("value of {field}");
        hash.set(&field.to_be_bytes(), value.as_bytes(), &Thresholds::default());
    }
    hash
}

fn rows(keyspaces: &mut [Keyspace]) -> Rows {
    let mut rows = Rows::new();
    for keyspace in keyspaces {
        for database in 0..3 {
            keyspace.select(database, true);
            keyspace.for_each(|entry| {
                let row = (dumped(&entry.body()), entry.deadline());
                rows.insert((database as u32, entry.key().to_vec()), row);
            });
        }
    }
    rows
}

/// A file that several shards write.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// Start, length and checksum of each piece.
    pieces: Vec<(usize, usize, u64)>,
    /// Where each shard's run goes on.
    next: BTreeMap<usize, usize>,
}

impl File {
    fn put(&mut self, shard: usize, piece: &Piece) {
        let at = match piece.place {
            Place::Next => self.next[&shard],
            Place::Anywhere => self.reserve(piece.bytes.len()),
            Place::Run { total } => self.reserve(total as usize),
        };
        self.bytes[at..at + piece.bytes.len()].copy_from_slice(&piece.bytes);
        self.pieces.push((at, piece.bytes.len(), piece.sum));
        self.next.insert(shard, at + piece.bytes.len());
    }

    fn reserve(&mut self, len: usize) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + len, 0xEE);
        at
    }

    /// The checksum of the whole, from those of the pieces, which must cover it.
    fn sum(&mut self) -> u64 {
        self.pieces.sort_unstable();
        let (mut end, mut sum) = (0, 0);
        for &(at, len, piece) in &self.pieces {
            assert_eq!(at, end, "pieces follow each other");
            end += len;
            sum = join(sum, piece, len as u64);
        }
        assert_eq!(end, self.bytes.len());
        sum
    }
}

/// Reads keys as they stand in a file, between its header and its end.
fn read(entries: &[u8]) -> Rows {
    let mut bytes = Vec::new();
    put_header(&mut bytes, &[]);
    bytes.extend_from_slice(entries);
    let sum = join(crc64(&bytes), crc64(&[END]), 1);
    bytes.push(END);
    bytes.extend_from_slice(&sum.to_le_bytes());
    let mut reader = Reader::new(Some(bytes.len() as u64), true);
    reader.supply(&bytes);
    let mut rows = Rows::new();
    loop {
        match reader.next(&Thresholds::default(), |_| true).expect("a file") {
            Event::Entry(entry) => {
                let LoadedEntry { key, value } = *entry;
                let row = (dumped(&value.body()), key.deadline);
                let before = rows.insert((key.database, key.key), row);
                assert!(before.is_none(), "a key stands twice in the file");
            }
            Event::End => return rows,
            Event::NeedMore(_) => panic!("the file is cut"),
            _ => {}
        }
    }
}

/// Snapshots all keyspaces into one file while they are changed.
fn take(keyspaces: &mut [Keyspace], is_alone: bool, random: &mut Random) -> File {
    let options = SnapshotOptions {
        values: Options::default(),
        checksum: true,
        usage: UsageKept::Nothing,
        is_alone,
    };
    let mut snapshots = Vec::new();
    for keyspace in keyspaces.iter_mut() {
        keyspace.begin_capture().expect("no other is under way");
        snapshots.push(Some(Snapshot::new(keyspace, options.clone())));
    }
    let mut file = File::default();
    while snapshots.iter().any(Option::is_some) {
        let shard = random_below(random, keyspaces.len() as u64);
        let keyspace = &mut keyspaces[shard];
        change(keyspace, ['a', 'b'][shard], random);
        let Some(snapshot) = &mut snapshots[shard] else { continue };
        let work = 1 + random_below(random, 60_000);
        match snapshot.step(keyspace, work) {
            Step::More => {}
            Step::Piece(piece) => {
                assert!((1..PIECE_BYTES * 2).contains(&piece.bytes.len()));
                assert!(piece.bytes.len().is_multiple_of(BLOCK_BYTES));
                file.put(shard, &piece);
                snapshot.recycle(piece.bytes);
            }
            Step::Done => snapshots[shard] = None,
        }
    }
    file
}

fn change(keyspace: &mut Keyspace, shard: char, random: &mut Random) {
    let number = random_below(random, 3_500) as u32;
    match random.next_u64() % 8 {
        0 => _ = keyspace.slot_of(number as usize % 3, &name(shard, number)).remove(),
        1 => {
            _ = keyspace.slot_of(1, &name(shard, 3_001)).change_object(|object| {
                let Object::Hash(hash) = object else { panic!("a hash") };
                hash.set(&number.to_be_bytes(), b"changed", &Thresholds::default());
            })
        }
        2 if number < 20 => _ = keyspace.flush(2),
        _ if number < 3_000 => put(keyspace, shard, number, random),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn a_file_holds_the_state_at_the_cut(seed: u64, is_alone: bool) {
        let mut random = Random::from_seed(seed);
        let shards: &[char] = if is_alone { &['a'] } else { &['a', 'b'] };
        let mut keyspaces: Vec<_> =
            shards.iter().map(|&shard| keyspace(shard, &mut random)).collect();
        let at_cut = rows(&mut keyspaces);
        let mut file = take(&mut keyspaces, is_alone, &mut random);
        prop_assert_eq!(file.sum(), crc64(&file.bytes));
        prop_assert!(read(&file.bytes) == at_cut);
        prop_assert_ne!(rows(&mut keyspaces), at_cut);
        keyspaces.iter().for_each(Keyspace::check);
    }
}

/// With this seed a large value begins in a piece that is full by its beginning.
#[test]
fn a_value_that_begins_at_the_end_of_a_piece_is_not_torn() {
    let mut random = Random::from_seed(5_974_030_859_909_890_140);
    let mut keyspaces: Vec<_> = ['a', 'b'].map(|shard| keyspace(shard, &mut random)).into();
    let at_cut = rows(&mut keyspaces);
    let file = take(&mut keyspaces, false, &mut random);
    assert!(read(&file.bytes) == at_cut);
}

#[test]
fn what_is_said_of_the_use_follows_the_policy() {
    for (usage, opcode) in [(UsageKept::Idle, 0xF8), (UsageKept::Frequency, 0xF9)] {
        let mut keyspace = Keyspace::new(1, 1);
        keyspace.advance_clock_us(NOW_MS * 1_000);
        keyspace.slot_of(0, b"k").put(NewBody::Int(7), Deadline::Never);
        keyspace.advance_clock_us((NOW_MS + 9_000) * 1_000);
        keyspace.begin_capture().expect("no other is under way");
        let values = Options::default();
        let options = SnapshotOptions { values, checksum: false, usage, is_alone: true };
        let mut snapshot = Snapshot::new(&keyspace, options);
        let Step::Piece(piece) = snapshot.step(&mut keyspace, 1_000) else { panic!("a piece") };
        let used = if usage == UsageKept::Idle { 9 } else { piece.bytes[3] };
        let entry = [0xFE, 0, opcode, used, rdb::kind::STRING, 1, b'k', 0xC0, 7];
        assert_eq!(piece.bytes[..entry.len()], entry);
        assert_eq!(piece.bytes[entry.len()], 0xFA, "the block is filled");
        assert!(matches!(snapshot.step(&mut keyspace, 1_000), Step::Done));
        assert_eq!(snapshot.keys(), 1);
    }
}
