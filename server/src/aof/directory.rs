//! The files of the data directory.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FallocateFlags, fallocate};
use tessera_engine::{journal::record::RecordBuffer, sys::disk::Directory};

use super::lock::{DirectoryLock, Use};

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
        match fs::create_dir(path) {
            Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/")))?,
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
    /// # Errors
    ///
    /// Of the file system; the file is then not there.
    pub fn make_segment(
        &self,
        name: &str,
        block: &RecordBuffer,
        bytes: u64,
    ) -> io::Result<OwnedFd> {
        let path = self.path.join(name);
        let made = self.fill_segment(&path, block, bytes);
        if made.is_err() {
            // It may not have been made at all.
            let _ = fs::remove_file(&path);
        }
        made
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
        if fs::hard_link(path, &here).is_err() {
            fs::copy(path, &here)?;
        }
        File::open(&here)?.sync_all()?;
        sync_directory(&self.path)
    }

    fn fill_segment(&self, path: &Path, block: &RecordBuffer, bytes: u64) -> io::Result<OwnedFd> {
        let file = open_direct(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // The file system cannot set room aside: the segment grows as it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        file.write_all_at(block, 0)?;
        file.sync_all()?;
        sync_directory(&self.path)?;
        Ok(file.into())
    }
}

/// Opens a file for writing past the page cache, if its file system can do that.
fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        opened => opened,
    }
}

/// Waits until what was made, renamed and removed in a directory is durable.
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
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(&self.path)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        entries.map(name).filter_map(Result::transpose).collect()
    }
}
