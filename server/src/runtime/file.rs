//! Files of background tasks: written beside the worker's turns, never during one.
//!
//! What: positioned writes and syncs go through the executor's ring; opening, renaming and what
//! else has no asynchronous form goes to the executor's thread for blocking calls. A task awaits
//! them, and its worker goes on meanwhile.
//!
//! Why through the page cache: a snapshot's file is made of pieces of any length that workers write
//! at any offsets, which direct I/O cannot do; the kernel's cache is not the server's memory; and
//! whatever is written counts only after [`File::sync`].
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glommio::{
    GlommioError,
    io::{BufferedFile, OpenOptions},
};

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
    pub async fn sync(&self) -> io::Result<()> {
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
