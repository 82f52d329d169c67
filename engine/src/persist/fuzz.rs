//! Entry functions of the fuzz targets for the files of the data directory; each panics when a
//! promise is broken, and only then.
//!
//! Checksums would keep a fuzzer out of everything behind them. So what it gives is not a directory
//! but what is done to a sound one (see [`Files::spoil`]): bytes are changed, with or without a right
//! checksum over them, blocks are moved, files cut and removed.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    base::load_base,
    cure::examine,
    inspect::{Inspection, inspect},
    manifest::{Base, FILE_NAME, Manifest, segment_name},
    rdb::{EntryHead, Options, Trailer, Writer, writer::put_header},
    recovery::{Loaded, NewShards, Progress, RecoveryError, load, plan, read_manifest},
    segment::{GroupHeader, SegmentHeader, finish_group, group_room, segment_block},
};
use crate::{
    journal::{
        Chunk,
        record::{BLOCK_BYTES, RecordBuffer, RecordHead, check_reading, encode},
    },
    shard::{Settings, Shard},
    sys::disk::Directory,
    value::Value,
};

const BASE: &str = "tessera-1.base.rdb";
/// Epochs of each run of a sound directory.
const EPOCHS: u64 = 6;
/// Groups of a segment.
const GROUPS_A_SEGMENT: u64 = 3;
/// Every refused record shortens what is left by an epoch.
const CURES_MAX: u64 = 2 * EPOCHS + 1;

/// However a log's directory is spoilt: recovery ends with shards or an error; the inspection says
/// the same; and what is cut where the cure says so can be loaded.
pub fn spoilt_logs_are_told_and_mended(orders: &[u8]) {
    let files = Files::sound(orders.first().is_some_and(|lag| lag % 2 == 1));
    orders.get(1..).unwrap_or_default().chunks_exact(5).for_each(|order| files.spoil(order));
    for _ in 0..CURES_MAX {
        let mut found = Inspection::default();
        let inspected =
            inspect(&files, &mut found).and_then(|()| found.load(&files, &owner).map(|_| ()));
        let recovered = recover(&files, found.databases()).map(|_| ());
        assert_eq!(inspected.is_ok(), recovered.is_ok(), "{inspected:?}, {recovered:?}");
        let refused = match inspected {
            Ok(()) => return,
            Err(RecoveryError::Corrupt(damage)) => damage,
            // Not to be mended by cutting something off.
            Err(_) => return,
        };
        let cure = examine(&files, &found.manifest, Some(&refused)).expect("memory can be read");
        assert!(!cure.is_needless(), "{refused:?}");
        for cut in &cure.cuts {
            files.cut(&cut.file, cut.keep as usize);
        }
        files.replace(FILE_NAME, &cure.new_manifest.to_bytes()).expect("memory takes it");
    }
    panic!("it is never whole");
}

/// Any bytes as a manifest: what is read is written again to the same.
pub fn manifests_are_read(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_bytes(&resealed(bytes)) {
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
    }
}

/// Any bytes as an RDB file: what is called whole can be loaded, unless it has a key twice.
pub fn bases_are_loaded(bytes: &[u8]) {
    let files = Files::default();
    files.replace(BASE, bytes).expect("memory takes it");
    let Ok(found) = Inspection::of_rdb(&files, BASE) else { return };
    match found.load(&files, &owner) {
        Ok(loaded) => {
            let keys = |shard: &Shard| -> usize {
                (0..found.databases()).map(|database| shard.keyspace.len(database)).sum()
            };
            let keys: usize = loaded.shards.iter().map(keys).sum();
            assert_eq!(keys as u64, found.base.as_ref().map_or(0, |base| base.keys()));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("twice") || text.contains("database"), "{text}");
        }
    }
}

/// Any bytes as records.
pub fn records_are_read(bytes: &[u8]) {
    check_reading(bytes);
}

/// What the server does at its start.
fn recover(files: &Files, databases: usize) -> Result<Loaded, RecoveryError> {
    let manifest = read_manifest(files)?;
    let settings = Settings { databases, ..Settings::default() };
    let (new, progress) =
        (NewShards { count: 2, seed: 0, now_us: 0, slots_of: None }, Progress::default());
    let plans: Vec<_> = manifest
        .generations
        .iter()
        .map(|generation| plan(files, generation))
        .collect::<Result<_, _>>()?;
    let base = match manifest.base.as_ref().and_then(|base| base.files.first()) {
        Some(name) => load_base(files, name, &settings, new, &owner, &progress.loaded_bytes)?,
        None => Loaded::default(),
    };
    load(files, base, &plans, &settings, new, &owner, &progress)
}

fn owner(key: &[u8], shards: usize) -> usize {
    key.first().map_or(0, |&byte| usize::from(byte) % shards)
}

/// Bytes with a right checksum in front, if they are long enough for one.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() > 4 {
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// A directory in memory.
#[derive(Default)]
pub struct Files(Mutex<BTreeMap<String, Vec<u8>>>);

impl Files {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A base, a run that has ended and one that has not, of two shards each. `lags` says that headers
    /// call little durable.
    pub fn sound(lags: bool) -> Self {
        let files = Self::default();
        let mut manifest = Manifest {
            base: Some(Base { epoch: 0, files: vec![BASE.into()] }),
            generations: Vec::new(),
        };
        files.files().insert(BASE.into(), base());
        for run in [7, 9] {
            let first = manifest.begin(run, 2).first_epoch;
            (0..2).for_each(|shard| files.put_log(run, shard, first, lags));
            if run == 7 {
                let ended = manifest.generations.last_mut().expect("it has begun");
                ended.end_epoch = Some(EPOCHS);
                ended.ends = vector(EPOCHS).to_vec();
            }
        }
        files.files().insert(FILE_NAME.into(), manifest.to_bytes());
        files
    }

    fn put_log(&self, run: u64, shard: u32, first_epoch: u64, lags: bool) {
        let mut segment = Vec::new();
        let mut number = 0;
        let mut last = 0;
        for step in 1..=EPOCHS {
            if (step - 1) % GROUPS_A_SEGMENT == 0 {
                if step > 1 {
                    let name = segment_name(run, shard, number);
                    self.files().insert(name, std::mem::take(&mut segment));
                    number += 1;
                }
                let first_sequence = last + 1;
                let header = SegmentHeader { run, shard, shards: 2, number, first_sequence };
                segment.extend_from_slice(&segment_block(&header));
            }
            let end = vector(step)[shard as usize];
            if end > last {
                let epoch = first_epoch + step - 1;
                let durable = if lags { first_epoch - 1 } else { epoch - 1 };
                segment.extend_from_slice(&group(
                    run,
                    shard,
                    (epoch, step),
                    (last + 1, end),
                    durable,
                ));
                last = end;
            }
        }
        // Room that is set aside.
        segment.resize(segment.len() + BLOCK_BYTES, 0);
        self.files().insert(segment_name(run, shard, number), segment);
    }

    /// Does to a file what five bytes say.
    fn spoil(&self, order: &[u8]) {
        let &[file, what, low, high, value] = order else { return };
        let at = usize::from(u16::from_le_bytes([low, high]));
        let mut files = self.files();
        let index = usize::from(file) % files.len().max(1);
        let Some((name, bytes)) = files.iter_mut().nth(index) else { return };
        let blocks = bytes.len() / BLOCK_BYTES;
        match what % 7 {
            0 => set(bytes, at, value),
            1 => change_sealed(bytes, at, value),
            2 => change_record(bytes, at, value),
            3 => bytes.truncate(at),
            4 if blocks > 0 => {
                let (from, to) = (at % blocks, usize::from(value) % blocks);
                bytes.copy_within(from * BLOCK_BYTES..(from + 1) * BLOCK_BYTES, to * BLOCK_BYTES);
            }
            5 => bytes.resize(bytes.len() + at % (3 * BLOCK_BYTES), value),
            6 if value % 8 == 0 => {
                let name = name.clone();
                files.remove(&name);
            }
            _ => {}
        }
    }

    fn cut(&self, name: &str, keep: usize) {
        let mut files = self.files();
        match keep {
            0 => _ = files.remove(name),
            _ => files.get_mut(name).expect("it is there").truncate(keep),
        }
    }
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

/// Changes a byte of the sealed archive at the beginning of a block, and its checksum. The 4096
/// possible places of `at` are taken by blocks and bytes of a header.
fn change_sealed(bytes: &mut [u8], at: usize, value: u8) {
    let block = (at / 256 * BLOCK_BYTES).min(bytes.len() / BLOCK_BYTES * BLOCK_BYTES);
    let sealed = &mut bytes[block..];
    let Some(len) = sealed.get(12..16).and_then(|len| len.first_chunk()) else { return };
    let len = 16 + u32::from_le_bytes(*len) as usize;
    if let Some(sealed) = sealed.get_mut(..len) {
        set(sealed, 4 + at % 256, value);
        let checksum = crc32c::crc32c(&sealed[4..]);
        sealed[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Changes a byte of the first record of the group that begins at a block, and its checksum.
fn change_record(bytes: &mut [u8], at: usize, value: u8) {
    let start = at / 256 * BLOCK_BYTES + group_room(2);
    let Some(record) = bytes.get_mut(start..) else { return };
    let Some(len) = record.get(4..8).and_then(|len| len.first_chunk()) else { return };
    let len = u32::from_le_bytes(*len) as usize;
    if let Some(record) = len.checked_add(8).and_then(|len| record.get_mut(..len)) {
        set(record, 8 + at % 256, value);
        let checksum = crc32c::crc32c(&record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The numbers of the last records of both logs at the end of the epoch of that number in its run:
/// the second log has records in every other epoch.
fn vector(step: u64) -> [u64; 2] {
    [2 * step, step / 2]
}

fn group(
    run: u64,
    shard: u32,
    (epoch, step): (u64, u64),
    (first_sequence, last_sequence): (u64, u64),
    durable_epoch: u64,
) -> RecordBuffer {
    let room = group_room(2);
    let mut bytes = RecordBuffer::new();
    bytes.resize(room, 0);
    for sequence in first_sequence..=last_sequence {
        let head = RecordHead { sequence, stamp: epoch, database: 0 };
        let key = format!("{shard}:{run}:{}", sequence % 3);
        let words: [&[u8]; 3] = match sequence % 2 {
            0 => [b"APPEND", key.as_bytes(), b"x"],
            _ => [b"SET", key.as_bytes(), b"1"],
        };
        encode(&mut bytes, head, words.len(), words.into_iter());
    }
    let header = GroupHeader {
        run,
        epoch,
        first_sequence,
        last_sequence,
        payload_bytes: (bytes.len() - room) as u64,
        durable_epoch,
        durable_sequence: first_sequence - 1,
        vector: vector(step).to_vec(),
    };
    let mut chunk = Chunk { epoch, first_sequence, last_sequence, bytes };
    finish_group(&mut chunk, room, &header);
    chunk.bytes
}

/// An RDB file with two keys.
fn base() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_header(&mut bytes, &[("redis-ver", "7.2.4")]);
    let mut writer = Writer::new(Options::default());
    for key in [&b"0:base"[..], b"1:base"] {
        let head = EntryHead { database: 0, key, deadline: None, usage: None };
        writer.entry(&head, &Value::string(b"text").body(), &mut bytes);
    }
    let mut trailer = Trailer::new(true);
    trailer.update(&bytes);
    bytes.extend_from_slice(&trailer.finish());
    bytes
}

impl Directory for Files {
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.files().get(name).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let files = self.files();
        let bytes = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_sound_directory_is_loaded_whole() {
        for lags in [false, true] {
            let files = Files::sound(lags);
            let loaded = recover(&files, 16).expect("it is sound");
            let keys: usize = loaded.shards.iter().map(|shard| shard.keyspace.len(0)).sum();
            assert_eq!(keys, 2 + 2 * (3 + 3));
            let mut found = Inspection::default();
            inspect(&files, &mut found).expect("it is sound");
            assert_eq!((found.records(), found.has_torn_tail()), (2 * (12 + 3), false));
            let cure = examine(&files, &found.manifest, None).expect("memory can be read");
            assert!(cure.is_needless(), "{cure:?}");
        }
    }

    proptest! {
        #[test]
        fn spoilt_directories_keep_the_promises(orders in vec(any::<u8>(), 0..40)) {
            spoilt_logs_are_told_and_mended(&orders);
        }

        #[test]
        fn noise_is_no_manifest(bytes in vec(any::<u8>(), 0..200)) {
            let kind = [&[0; 4][..], b"TMAN\x01\0\0\0"].concat();
            let len = (bytes.len() as u32).to_le_bytes();
            manifests_are_read(&[&kind[..], &len, &bytes].concat());
        }

        #[test]
        fn noise_is_no_base(bytes in vec(any::<u8>(), 0..200), kind in 0..26_u8) {
            bases_are_loaded(&[&b"REDIS0010"[..], &[kind, 1, b'k'], &bytes].concat());
        }

        #[test]
        fn noise_is_no_record(bytes in vec(any::<u8>(), 0..200)) {
            records_are_read(&bytes);
        }
    }
}
