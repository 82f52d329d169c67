//! Changes to the files of the data directory, for those who may block.
//!
//! Why a module of its own: whatever is to survive a power cut is written, synced and named here, by
//! the log's ring (`runtime::ring`) or by background tasks (`runtime::file`), and nowhere else. So
//! the tests' build can note every change and every sync, and play the power cut (see `faults`).
#![forbid(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::faults::{self, SyncPoint};

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// An empty file for writing at `path`, in place of what was there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    faults::opened(path, &file);
    Ok(file)
}

/// The same, for writing past the page cache, if its file system can do that.
pub(crate) fn create_direct(path: &Path) -> io::Result<File> {
    direct(path, true).map(|(file, _)| file)
}

/// The file at `path`, made if it is not there, for writing past the page cache; whether its file
/// system can do that.
pub(crate) fn open_direct(path: &Path) -> io::Result<(File, bool)> {
    direct(path, false)
}

fn direct(path: &Path, is_emptied: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(is_emptied);
    let (file, is_direct) = match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (options.open(path)?, false),
        opened => (opened?, true),
    };
    faults::opened(path, &file);
    Ok((file, is_direct))
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let change = faults::writing(file, offset, bytes.len());
    file.write_all_at(bytes, offset)?;
    change.done();
    Ok(())
}

/// Makes durable all that was written to `file`.
pub(crate) fn sync(file: &File, point: SyncPoint) -> io::Result<()> {
    if let Some(change) = faults::syncing(point, file) {
        file.sync_all()?;
        change.done();
    }
    Ok(())
}

/// Makes durable which names are in `directory`, and for which files.
pub(crate) fn sync_directory(directory: &Path, point: SyncPoint) -> io::Result<()> {
    if let Some(change) = faults::syncing_directory(point, directory) {
        File::open(directory)?.sync_all()?;
        change.done();
    }
    Ok(())
}

/// Makes a directory.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    faults::making_directory(path);
    fs::create_dir(path)
}

/// Gives a file or directory another name, in place of whatever has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::renaming(from, to);
    fs::rename(from, to)
}

/// Removes a file. One that is not there is removed already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    faults::removing(path);
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Gives a file, which does not change any more, the name `to` as well; copies it where it cannot
/// have two.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    faults::linking(from, to);
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => copy(from, to),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, create(to)?);
    let (mut buffer, mut offset) = (vec![0; COPY_BYTES], 0);
    loop {
        match from.read_at(&mut buffer, offset)? {
            0 => return Ok(()),
            len => {
                write_all_at(&to, &buffer[..len], offset)?;
                offset += len as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_and_what_is_not_is_removed_already() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        for text in [&b"first"[..], b"2"] {
            let file = create(&one).unwrap();
            write_all_at(&file, text, 0).unwrap();
            sync(&file, SyncPoint::Dump).unwrap();
            rename(&one, &two).unwrap();
            sync_directory(directory.path(), SyncPoint::DumpDirectory).unwrap();
            assert_eq!(fs::read(&two).unwrap(), text);
        }
        assert!(remove(&one).is_ok() && remove(&two).is_ok());
        assert!(!two.exists());
    }

    #[test]
    fn a_copy_is_the_same_file_with_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        let bytes: Vec<u8> = (0..COPY_BYTES * 2 + 77).map(|n| (n / 7) as u8).collect();
        fs::write(&one, &bytes).unwrap();
        copy(&one, &two).unwrap();
        assert!(fs::read(&two).unwrap() == bytes);
        fs::remove_file(&two).unwrap();
        link_or_copy(&one, &two).unwrap();
        assert!(fs::read(&two).unwrap() == bytes);
    }
}
