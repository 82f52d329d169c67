//! Hostile files cost no memory beyond their size: every allocation is counted while files are read
//! that claim more than they hold.
//!
//! "Beyond their size" leaves room for what bytes legitimately become: a compressed string grows
//! eighty-eightfold, and an element of two bytes becomes a record in a tree. What must never happen is
//! an allocation that follows from a number in the file: those are 2^31 and more here, in files of
//! some hundred bytes.
//!
//! One test, since the count is of the whole process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tessera_engine::{
    command::table,
    journal::record::BLOCK_BYTES,
    persist::{
        cure::examine,
        envelope::seal,
        inspect::{Inspection, inspect},
        manifest::{FILE_NAME, Generation, LogStart, Manifest, segment_name},
        rdb::{Encoder, Event, Options, Reader, payload},
        segment::{GroupHeader, SegmentHeader, segment_block},
    },
    shard::{Call, Caller, Settings, Shard},
    sys::{disk::Directory, random::Random},
    types::Thresholds,
};
use tessera_proto::{Args, Protocol, ReplyBuffer, Span};

/// Memory that a byte of a file may become.
const BYTES_A_BYTE: usize = 2_000;
/// Memory that reading a value takes besides, and reading a log with its windows.
const VALUE_BYTES: usize = 64 << 10;
const LOG_BYTES: usize = 2 << 20;
/// Spoilt files of each kind.
const ROUNDS: usize = 1_000;

/// The system's allocator, which counts.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is; counting touches no memory of
// the allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(live, SeqCst);
        // SAFETY: the caller's promises about `layout` are the ones that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above; `pointer` came from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads something of `len` bytes, and compares the memory that it takes meanwhile.
#[track_caller]
fn measured(len: usize, besides: usize, read: impl FnOnce()) {
    let before = LIVE.load(SeqCst);
    PEAK.store(before, SeqCst);
    read();
    let taken = PEAK.load(SeqCst).saturating_sub(before);
    let allowed = besides + len * BYTES_A_BYTE;
    assert!(taken <= allowed, "{len} bytes have taken {taken}");
}

#[test]
fn hostile_files_cost_no_memory_beyond_their_size() {
    let mut random = Random::from_seed(11);
    the_count_notices_an_allocation_by_a_claim();
    values(&mut random);
    rdb_files(&mut random);
    manifests(&mut random);
    logs(&mut random);
}

/// The check objects to what it is there for.
fn the_count_notices_an_allocation_by_a_claim() {
    let claim = 1_usize << 31;
    let careless = || measured(100, VALUE_BYTES, || drop(Vec::<u8>::with_capacity(claim)));
    let told = std::panic::catch_unwind(careless);
    assert!(told.is_err(), "an allocation of {claim} bytes was not noticed");
}

/// Payloads of DUMP: noise that is full of great lengths, and sound ones that were spoilt.
fn values(random: &mut Random) {
    let thresholds = Thresholds::default();
    let sound = sound_contents();
    for round in 0..ROUNDS * 4 {
        let sound = sound.get(round % (sound.len() * 2));
        let mut content = sound.cloned().unwrap_or_else(|| noise(random));
        spoil(&mut content, random);
        measured(content.len(), VALUE_BYTES, || {
            drop(payload::value_of(&content, &thresholds));
        });
    }
}

/// Files with one such value.
fn rdb_files(random: &mut Random) {
    let thresholds = Thresholds::default();
    for _ in 0..ROUNDS * 2 {
        let mut file = b"REDIS0011".to_vec();
        file.extend(noise(random));
        measured(file.len(), VALUE_BYTES, || {
            let mut reader = Reader::new(Some(file.len() as u64), true);
            reader.supply(&file);
            while let Ok(event) = reader.next(&thresholds, |_| true) {
                if matches!(event, Event::NeedMore(_) | Event::End) {
                    break;
                }
            }
        });
    }
}

/// A value's kind and bytes that like to begin with the marks of great lengths.
fn noise(random: &mut Random) -> Vec<u8> {
    let len = random.below(120);
    let mut bytes = vec![random.below(27) as u8];
    for _ in 0..len {
        match random.below(8) {
            0 => bytes.extend_from_slice(&[0x80, 0x7F, 0xFF, 0xFF, 0xF0]),
            1 => bytes.extend_from_slice(&[0x81, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF]),
            2 => bytes.extend_from_slice(&[0xC3, 5, 0x80, 0x7F, 0xFF, 0xFF, 0xFF]),
            _ => bytes.push(random.next_u64() as u8),
        }
    }
    bytes
}

/// Changes some bytes, the kind excepted, or cuts the end off.
fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    let len = bytes.len() as u64;
    for _ in 0..random.below(6).min(len - 1) {
        let at = 1 + random.below(len - 1) as usize;
        bytes[at] = match random.below(3) {
            0 => 0xFF,
            1 => 0x81,
            _ => random.next_u64() as u8,
        };
    }
    if random.below(4) == 0 {
        bytes.truncate(1 + random.below(len) as usize);
    }
}

/// The payloads' contents of values of every type, small and large.
fn sound_contents() -> Vec<Vec<u8>> {
    let mut shard = Shard::new(1, Settings::default());
    let words = |count: usize, each: &str| -> String {
        (0..count).map(|n| each.replace('#', &(n + 1).to_string())).collect()
    };
    let mut contents = Vec::new();
    for (key, line) in [
        ("int", "SET int 12345".to_owned()),
        ("text", format!("SET text {}", "x".repeat(3_000))),
        ("list", format!("RPUSH list{}", words(5, " text:#"))),
        ("long", format!("RPUSH long{}", words(3_000, " text:#"))),
        ("ints", format!("SADD ints{}", words(300, " #000"))),
        ("set", format!("SADD set{}", words(700, " text:#"))),
        ("hash", format!("HSET hash{}", words(5, " field:# value"))),
        ("large", format!("HSET large{}", words(700, " field:# value"))),
        ("zset", format!("ZADD zset{}", words(5, " #.5 text:#"))),
        ("scores", format!("ZADD scores{}", words(700, " #.5 text:#"))),
        ("stream", "XADD stream 5-1 field value other text".to_owned()),
    ] {
        run(&mut shard, &line);
        if key == "stream" {
            (6..300).for_each(|n| run(&mut shard, &format!("XADD stream {n}-1 field {n}")));
            run(&mut shard, "XGROUP CREATE stream group 0");
            run(&mut shard, "XREADGROUP GROUP group alice COUNT 50 STREAMS stream >");
        }
        let entry = shard.keyspace.slot_of(0, key.as_bytes()).into_view().expect("it was made");
        let dumped = payload::dump(&mut Encoder::new(Options::default()), &entry.body());
        contents.push(payload::verify(&dumped).expect("it was sealed").to_vec());
    }
    contents
}

fn run(shard: &mut Shard, line: &str) {
    let (mut spans, mut start) = (Vec::new(), 0);
    for word in line.split(' ') {
        spans.push(Span { start, len: word.len() as u32 });
        start += word.len() as u32 + 1;
    }
    let args = Args::new(line.as_bytes(), &spans);
    let command = table().resolve(&args).expect("a command");
    let (protocol, caller) = (Protocol::Resp2, Caller::default());
    let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
    let outcome = shard.execute(&call, &mut ReplyBuffer::new());
    assert!(outcome.is_ok(), "{line}");
}

/// Manifests whose checksum is right.
fn manifests(random: &mut Random) {
    let sound = manifest().to_bytes();
    for _ in 0..ROUNDS {
        let mut bytes = sound.clone();
        for _ in 0..1 + random.below(4) {
            let at = 12 + random.below(bytes.len() as u64 - 12) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        reseal(&mut bytes);
        measured(bytes.len(), VALUE_BYTES, || drop(Manifest::from_bytes(&bytes)));
    }
}

fn manifest() -> Manifest {
    Manifest {
        base: None,
        generations: vec![Generation {
            run: 5,
            first_epoch: 1,
            logs: vec![LogStart::default(); 2],
            end_epoch: None,
            ends: Vec::new(),
        }],
    }
}

fn reseal(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Segments whose groups claim great numbers, with right checksums.
fn logs(random: &mut Random) {
    for _ in 0..ROUNDS / 10 {
        let directory = hostile_log(random);
        measured(directory.bytes(), LOG_BYTES, || {
            let mut found = Inspection::default();
            // What they answer is for other tests.
            drop(inspect(&directory, &mut found));
            drop(examine(&directory, &found.manifest, None));
        });
    }
}

fn hostile_log(random: &mut Random) -> Files {
    let mut files = BTreeMap::from([(FILE_NAME.to_owned(), manifest().to_bytes())]);
    for shard in 0..2 {
        let header = SegmentHeader { run: 5, shard, shards: 2, number: 0, first_sequence: 1 };
        let mut segment = segment_block(&header).to_vec();
        for group in 1..4 {
            let mut number = |sound: u64| match random.below(4) {
                0 => random.next_u64() >> random.below(64),
                _ => sound,
            };
            let header = GroupHeader {
                run: 5,
                epoch: number(group),
                first_sequence: number(group),
                last_sequence: number(group),
                payload_bytes: number(64),
                durable_epoch: number(group - 1),
                durable_sequence: number(group - 1),
                vector: vec![group, group],
            };
            segment.extend_from_slice(&seal(&header));
            segment.resize(segment.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        files.insert(segment_name(5, shard, 0), segment);
    }
    Files(files)
}

/// A directory in memory.
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl Directory for Files {
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.0.get(name).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn replace(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }
}
