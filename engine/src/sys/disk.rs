//! The disk, as the engine sees it: submissions and completions for a log that is being written, and
//! a directory of files to read and to replace.
//!
//! The server's io_uring stands behind [`LogDisk`], its data directory behind [`Directory`]; a test's
//! [`simulated`] disk stands behind both, and tears, loses and refuses what it is given.
//!
//! # What is assumed of a disk
//!
//! - a write that has completed is read back by whoever reads it in the same run of the machine;
//! - what was written durably, or written and then synced, is there after the machine has lost its
//!   power; of all other writes any sectors of 512 bytes may be there, in any order;
//! - a write that has failed, or whose sync has failed, may have done anything to its own bytes and
//!   nothing to others.
#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) mod simulated;

use std::io;

use rkyv::util::AlignedVec;

/// Alignment of buffers that go to the disk without a copy, and the unit in which they do, in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes that go to the disk without a copy: memory that begins at a multiple of [`BLOCK_BYTES`].
pub type BlockBuffer = AlignedVec<BLOCK_BYTES>;

/// What became of a submission.
#[derive(Debug)]
pub enum DiskEvent {
    /// A write is done, all of it, or has failed.
    Written {
        /// The ticket of its submission.
        ticket: u64,
        /// Its bytes come back.
        bytes: BlockBuffer,
        /// Whether it succeeded.
        result: io::Result<()>,
    },
    /// A sync is done.
    Synced {
        /// The segment.
        segment: u32,
        /// Whether it succeeded.
        result: io::Result<()>,
    },
    /// A segment exists durably, its first block included, or could not be made.
    Made {
        /// The segment.
        segment: u32,
        /// Whether it could.
        result: io::Result<()>,
    },
}

/// The files of one log while it is written. Submissions return at once; what becomes of them is
/// told later, as a [`DiskEvent`], in any order.
pub trait LogDisk {
    /// Makes a segment whose first block is `block`, with `bytes` bytes set aside.
    fn make(&mut self, segment: u32, block: BlockBuffer, bytes: u64);

    /// Writes `bytes`, whole blocks, at `offset`, a block's beginning. With `durable` the write is
    /// done when it cannot be lost any more.
    fn write(&mut self, ticket: u64, segment: u32, offset: u64, bytes: BlockBuffer, durable: bool);

    /// Makes durable what was written to the segment before.
    fn sync(&mut self, segment: u32);

    /// Nothing more will be done with the segment, and nothing of it is under way.
    fn close(&mut self, segment: u32);
}

/// The files of the data directory, by name.
pub trait Directory: Sync {
    /// The length of a file in bytes; nothing if it is not there.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn len(&self, name: &str) -> io::Result<Option<u64>>;

    /// Reads from `offset` on what there is, up to the length of `buffer`; answers how much.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Puts a file with these bytes in the place of whatever is there, durably, all or nothing.
    ///
    /// # Errors
    ///
    /// Of the file system; the file before may then be there or not.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn names(&self) -> io::Result<Vec<String>>;
}

/// The whole of a file; nothing if it is not there.
///
/// # Errors
///
/// Of the file system.
pub fn read_whole(directory: &dyn Directory, name: &str) -> io::Result<Option<Vec<u8>>> {
    let Some(len) = directory.len(name)? else { return Ok(None) };
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut read = 0;
    while read < bytes.len() {
        match directory.read_at(name, read as u64, &mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(Some(bytes))
}
