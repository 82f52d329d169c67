//! The files of the data directory: read, replaced whole, and segments made ahead of the log.
//!
//! Invariants:
//! - who may write holds the directory's lock (see `lock`);
//! - a file that is replaced has its old content or its new one after a crash: written beside, synced,
//!   renamed, and the directory synced;
//! - a segment and its name are durable before anything is written behind its first block.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use rustix::fs::{FallocateFlags, fallocate};
use tessera_engine::{journal::record::RecordBuffer, sys::disk::Directory};

use super::lock::{DirectoryLock, Use};
use crate::{faults::SyncPoint, storage};

/// Zeros that are written at a time: what a durable write of others may have to wait for.
const ZEROS_BYTES: usize = 256 << 10;

/// A directory whose files are read and replaced whole, and in which segments are made.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Held by whoever may write.
    _lock: Option<Arc<DirectoryLock>>,
}

impl DataDirectory {
    /// The directory at `path`, made if it is not there, for nobody but this process.
    ///
    /// # Errors
    ///
    /// Another process uses it; or of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        match storage::create_directory(path) {
            Ok(()) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                storage::sync_directory(parent, SyncPoint::LogDirectory)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        let lock = DirectoryLock::take(path, Use::Write)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// The directory at `path`, whoever uses it, for reading.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a segment: a file with `block` in front and `bytes` bytes set aside, which is there
    /// after a crash. What had the name before is gone.
    ///
    /// With `zeroed` the bytes are written too, as zeros: a durable write to them later changes
    /// nothing but them, where one to bytes that were only set aside must wait for the file system's
    /// journal too. `tuning.md` has the figures.
    ///
    /// # Errors
    ///
    /// Of the file system; the file is then not there.
    pub fn make_segment(
        &self,
        name: &str,
        block: &RecordBuffer,
        bytes: u64,
        zeroed: bool,
    ) -> io::Result<OwnedFd> {
        let path = self.path.join(name);
        let made = self.fill_segment(&path, block, (bytes, zeroed));
        if made.is_err() {
            // It may not have been made at all.
            let _ = storage::remove(&path);
        }
        made
    }

    /// Makes durable what is in the segments of `run`. A server that was killed has left what it had
    /// written in the system's cache, where it is read like anything else, and lost with the power.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn sync_segments(&self, run: u64) -> io::Result<()> {
        let prefix = format!("tessera-{run:016x}-");
        for name in self.names()?.iter().filter(|name| name.starts_with(&prefix)) {
            storage::sync(&File::open(self.path.join(name))?, SyncPoint::Tail)?;
        }
        Ok(())
    }

    /// Gives the file at `path`, which is whole and does not change any more, the name `name` here
    /// too.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn adopt(&self, path: &Path, name: &str) -> io::Result<()> {
        self.remove(name)?;
        let here = self.path.join(name);
        storage::link_or_copy(path, &here)?;
        storage::sync(&File::open(&here)?, SyncPoint::Base)?;
        storage::sync_directory(&self.path, SyncPoint::BaseDirectory)
    }

    fn fill_segment(
        &self,
        path: &Path,
        block: &RecordBuffer,
        (bytes, zeroed): (u64, bool),
    ) -> io::Result<OwnedFd> {
        let file = storage::create_direct(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // The file system cannot set room aside: the segment grows as it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        if zeroed {
            write_zeros(&file, bytes)?;
        }
        storage::write_all_at(&file, block, 0)?;
        storage::sync(&file, SyncPoint::Segment)?;
        storage::sync_directory(&self.path, SyncPoint::SegmentDirectory)?;
        Ok(file.into())
    }
}

/// Writes `bytes` zeros, whole blocks, and leaves the disk to others half of the time.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let mut zeros = RecordBuffer::new();
    zeros.resize(ZEROS_BYTES, 0);
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(ZEROS_BYTES as u64);
        let start = Instant::now();
        // Nobody notes it: what was set aside reads as zeros before, too.
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
        thread::sleep(start.elapsed());
    }
    Ok(())
}

/// Makes durable which names are in a directory; for tools that work on one while no server does.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Directory for DataDirectory {
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path.join(name)) {
            Ok(data) => Ok(Some(data.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        File::open(self.path.join(name))?.read_at(buffer, offset)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let file = storage::create(&beside)?;
        storage::write_all_at(&file, bytes, 0)?;
        storage::sync(&file, SyncPoint::Manifest)?;
        storage::rename(&beside, &path)?;
        storage::sync_directory(&self.path, SyncPoint::ManifestDirectory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        storage::remove(&self.path.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        entries.map(name).filter_map(Result::transpose).collect()
    }
}
