//! A disk in memory that does what disks do to those who trust them too much.
//!
//! Writes that were not made durable survive a crash sector by sector, as the dice fall, and so do
//! those that were on their way. Operations complete in any order. On demand they fail: once, with an
//! error of the device, or all of them, as on a full disk. A failed write may have written any of its
//! sectors.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{BlockBuffer, Directory, DiskEvent, LogDisk};
use crate::sys::random::Random;

const SECTOR: usize = 512;

/// One file: what is durable, and what was written since, in order.
#[derive(Clone, Debug, Default)]
struct File {
    /// Its length at least; behind what was written there are zeros.
    size: usize,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

/// What a faulty disk is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// One in so many operations fails; none if 0.
    pub(crate) error_in: u64,
    /// Nothing can be written: the disk is full.
    pub(crate) full: bool,
    /// Syncs and durable writes say that they have succeeded and do nothing: a disk that lies, to
    /// show that the checks notice.
    pub(crate) lies: bool,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<String, File>,
    random: Random,
    faults: Faults,
}

/// The files of one machine.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let (files, random) = (BTreeMap::new(), Random::from_seed(seed));
        Self(Arc::new(Mutex::new(State { files, random, faults: Faults::default() })))
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The power fails: of what is not durable any sectors may be there.
    pub(crate) fn crash(&self, logs: &mut [SimLog]) {
        for log in logs {
            for operation in std::mem::take(&mut log.under_way) {
                if let Operation::Write { segment, offset, bytes, .. } = operation {
                    let name = (log.name_of)(segment);
                    self.state().file(&name).pending.push((offset, bytes.to_vec()));
                }
            }
        }
        let mut state = self.state();
        let State { files, random, .. } = &mut *state;
        for file in files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                // Often all or nothing, so that both whole and torn tails are seen.
                let fate = random.below(4);
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    if fate == 1 || (fate > 1 && random.below(2) == 0) {
                        overwrite(&mut file.durable, offset + number * SECTOR, sector);
                    }
                }
            }
        }
    }

    /// Changes one byte of a file, as a failing disk does.
    pub(crate) fn damage(&self, name: &str, offset: usize) {
        self.state().file(name).durable[offset] ^= 0x10;
    }

    /// Writes to a file that no sync has covered.
    pub(crate) fn unsynced_writes(&self, name: &str) -> usize {
        self.state().file(name).pending.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    fn verdict(&mut self, writes: bool) -> io::Result<()> {
        let Faults { error_in, full, .. } = self.faults;
        if full && writes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if error_in > 0 && self.random.below(error_in) == 0 {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset {
        file.resize(offset, 0);
    }
    let (over, behind) = bytes.split_at(bytes.len().min(file.len() - offset));
    file[offset..offset + over.len()].copy_from_slice(over);
    file.extend_from_slice(behind);
}

#[derive(Debug)]
enum Operation {
    Make {
        segment: u32,
        block: BlockBuffer,
        bytes: u64,
    },
    Write {
        ticket: u64,
        segment: u32,
        offset: usize,
        bytes: BlockBuffer,
        durable: bool,
    },
    /// With the number of writes that it covers.
    Sync {
        segment: u32,
        covered: usize,
    },
}

/// One log's files on the disk.
pub(crate) struct SimLog {
    disk: SimDisk,
    name_of: Box<dyn Fn(u32) -> String>,
    under_way: Vec<Operation>,
}

impl SimLog {
    pub(crate) fn new(disk: SimDisk, name_of: impl Fn(u32) -> String + 'static) -> Self {
        Self { disk, name_of: Box::new(name_of), under_way: Vec::new() }
    }

    /// Completes one operation, any of them.
    pub(crate) fn step(&mut self) -> Option<DiskEvent> {
        if self.under_way.is_empty() {
            return None;
        }
        let mut state = self.disk.state();
        let index = state.random.below(self.under_way.len() as u64) as usize;
        let operation = self.under_way.swap_remove(index);
        let lies = state.faults.lies;
        Some(match operation {
            Operation::Make { segment, block, bytes } => {
                let result = state.verdict(true);
                if result.is_ok() {
                    let durable = block.to_vec();
                    let file = File { size: bytes as usize, durable, pending: Vec::new() };
                    state.files.insert((self.name_of)(segment), file);
                }
                DiskEvent::Made { segment, result }
            }
            Operation::Write { ticket, segment, offset, bytes, durable } => {
                let result = state.verdict(true);
                let file = state.file(&(self.name_of)(segment));
                if durable && result.is_ok() && !lies {
                    overwrite(&mut file.durable, offset, &bytes);
                } else {
                    file.pending.push((offset, bytes.to_vec()));
                }
                DiskEvent::Written { ticket, bytes, result }
            }
            Operation::Sync { segment, covered } => {
                let result = state.verdict(false);
                let file = state.file(&(self.name_of)(segment));
                if result.is_ok() && !lies {
                    let covered = covered.min(file.pending.len());
                    let writes: Vec<_> = file.pending.drain(..covered).collect();
                    for (offset, bytes) in writes {
                        overwrite(&mut file.durable, offset, &bytes);
                    }
                }
                DiskEvent::Synced { segment, result }
            }
        })
    }
}

impl LogDisk for SimLog {
    fn make(&mut self, segment: u32, block: BlockBuffer, bytes: u64) {
        self.under_way.push(Operation::Make { segment, block, bytes });
    }

    fn write(&mut self, ticket: u64, segment: u32, offset: u64, bytes: BlockBuffer, durable: bool) {
        let offset = offset as usize;
        self.under_way.push(Operation::Write { ticket, segment, offset, bytes, durable });
    }

    fn sync(&mut self, segment: u32) {
        let name = (self.name_of)(segment);
        let covered = self.disk.state().file(&name).pending.len();
        self.under_way.push(Operation::Sync { segment, covered });
    }

    fn close(&mut self, segment: u32) {
        let busy = self.under_way.iter().any(|operation| match operation {
            Operation::Make { segment: number, .. }
            | Operation::Write { segment: number, .. }
            | Operation::Sync { segment: number, .. } => *number == segment,
        });
        assert!(!busy, "a segment was closed while something of it was under way");
    }
}

impl Directory for SimDisk {
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.state().files.get(name).map(|file| file.size.max(file.durable.len()) as u64))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = file.durable.get(offset as usize..).unwrap_or_default();
        let size = file.size.max(file.durable.len()).saturating_sub(offset as usize);
        let (written, len) = (rest.len().min(buffer.len()), size.min(buffer.len()));
        buffer[..written].copy_from_slice(&rest[..written]);
        buffer[written..len].fill(0);
        Ok(len)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = File { size: 0, durable: bytes.to_vec(), pending: Vec::new() };
        self.state().files.insert(name.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().files.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }
}
