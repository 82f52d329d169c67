//! Files of background tasks: opened, ended and renamed beside the worker's turns, never during one.
//!
//! What: positioned writes and syncs go through the executor's ring; opening, renaming and what
//! else has no asynchronous form goes to the executor's thread for blocking calls. A task awaits
//! them, and its worker goes on meanwhile.
//!
//! What is long, the pieces of a save, does not go this way but through the worker's own ring, past
//! the page cache ([`open_direct`]); only the ends of the file do, which are no whole blocks.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use glommio::{
    GlommioError,
    io::{BufferedFile, OpenOptions},
};
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    faults::{self, SyncPoint},
    storage,
};

/// A file that is open for writing.
pub struct File {
    file: BufferedFile,
    path: PathBuf,
    point: SyncPoint,
}

impl File {
    /// Opens the file at `path`, which must be absolute, for writing. Makes it if it is not there;
    /// what is in it stays. `point` says what its syncs are for.
    pub(crate) async fn open(path: &Path, point: SyncPoint) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).buffered_open(path).await;
        let file = file.map_err(plain)?;
        faults::opened(path, &file);
        Ok(Self { file, path: path.to_owned(), point })
    }

    /// Writes all of `bytes` at `offset`.
    pub async fn write(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let len = bytes.len();
        let change = faults::writing(&self.file, offset, len);
        let written = self.file.write_at(bytes, offset).await.map_err(plain)?;
        // Only a medium without room takes less than it was given.
        if written < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change.done();
        Ok(())
    }

    /// Makes the file `len` bytes long and waits until all that was written is durable.
    pub async fn finish(&self, len: u64) -> io::Result<()> {
        let path = self.path.clone();
        blocking(move || fs::OpenOptions::new().write(true).open(path)?.set_len(len)).await?;
        self.sync().await
    }

    /// Waits until all that was written is durable.
    async fn sync(&self) -> io::Result<()> {
        if let Some(change) = faults::syncing(self.point, &self.file) {
            self.file.fdatasync().await.map_err(plain)?;
            change.done();
        }
        Ok(())
    }

    /// Closes the file.
    pub async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(plain)
    }
}

/// A file whose blocks are written through the worker's ring.
#[derive(Debug)]
pub struct DirectFile {
    /// The file.
    pub descriptor: OwnedFd,
    /// Whether writes go past the page cache; some file systems cannot do that.
    pub is_direct: bool,
}

/// Opens the file at `path` for writing whole blocks past the page cache, and sets `room` aside for
/// them: an offset and a length. Makes the file if it is not there; what is in it stays. It blocks.
pub fn open_direct(path: &Path, room: Option<(u64, u64)>) -> io::Result<DirectFile> {
    let (file, is_direct) = storage::open_direct(path)?;
    if let Some((offset, len)) = room {
        // Without it, writes find their room by themselves, or tell that there is none.
        let _ = fallocate(&file, FallocateFlags::empty(), offset, len);
    }
    Ok(DirectFile { descriptor: file.into(), is_direct })
}

/// Gives the file `from` the name `to`, in place of whatever had it, and waits until that is durable.
pub(crate) async fn rename_durably(from: &Path, to: &Path, point: SyncPoint) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(move || {
        storage::rename(&from, &to)?;
        storage::sync_directory(to.parent().unwrap_or(Path::new("/")), point)
    })
    .await
}

/// Removes a file. One that is not there is removed already.
pub async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(move || storage::remove(&path)).await
}

/// Does what blocks on the executor's thread for that.
async fn blocking(call: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    glommio::executor().spawn_blocking(call).await
}

/// The operating system's error behind one of the executor's.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        GlommioError::EnhancedIoError { source, .. } => source,
        error => io::Error::other(error.to_string()),
    }
}
