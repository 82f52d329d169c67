//! One process at a time works on a data directory: two servers would write each other's manifest.
//!
//! The lock is the kernel's, on the directory itself (`flock`), so that nothing lies in it that a
//! copy or a hard link could carry along, and so that it ends with its process, however that ends.
//! Who holds it is looked up in /proc/locks, for the message alone.
//!
//! Within a process a directory is locked once: whoever opens it again shares the lock.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::{
    fs::{FlockOperation, flock, major, minor},
    io::Errno,
};

/// The locks that this process holds.
static HELD: Mutex<Vec<(PathBuf, Weak<DirectoryLock>)>> = Mutex::new(Vec::new());

/// Whether a directory may be shared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is read only, and others may read it.
    Read,
    /// Nobody else may use it.
    Write,
}

/// A directory that no other process uses in a way that does not fit, as long as this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Closing it ends the lock.
    _directory: File,
}

impl DirectoryLock {
    /// Locks the directory at `path`. On a file system without locks nothing is locked, and the log
    /// says so.
    ///
    /// # Errors
    ///
    /// It is in use, which the text says with the process's name and number; or the file system
    /// fails.
    pub fn take(path: &Path, purpose: Use) -> io::Result<Arc<Self>> {
        let path = path.canonicalize()?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, lock)| lock.strong_count() > 0);
        let own = held.iter().find(|(locked, _)| *locked == path);
        if let Some(lock) = own.and_then(|(_, lock)| lock.upgrade()) {
            return Ok(lock);
        }
        let directory = File::open(&path)?;
        let operation = match purpose {
            Use::Read => FlockOperation::NonBlockingLockShared,
            Use::Write => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&directory, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(&directory)),
            Err(error) => tracing::warn!(
                "{} cannot be locked ({error}): see to it that no other server uses it",
                path.display()
            ),
        }
        let lock = Arc::new(Self { _directory: directory });
        held.push((path, Arc::downgrade(&lock)));
        Ok(lock)
    }
}

fn in_use(directory: &File) -> io::Error {
    let who = match holder(directory) {
        Some(id) => {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            format!("process {id} ({})", name.trim_end())
        }
        None => "another process".to_owned(),
    };
    let text = format!("it is in use by {who}: two servers cannot share it");
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

/// The process that holds a lock on `directory`, if the kernel tells.
fn holder(directory: &File) -> Option<u32> {
    let data = directory.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = format!("{:02x}:{:02x}:", major(data.dev()), minor(data.dev()));
    // Some file systems call their devices otherwise there.
    find_holder(&locks, &device, data.ino()).or_else(|| find_holder(&locks, "", data.ino()))
}

/// The process that has locked the file of this number, on a device whose name begins so.
fn find_holder(locks: &str, device: &str, file: u64) -> Option<u32> {
    let is_it = |place: &str| {
        let number = place.rsplit(':').next().and_then(|number| number.parse().ok());
        place.starts_with(device) && number == Some(file)
    };
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, process, place, ..] if is_it(place) => process.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_in_a_process_and_free_afterwards() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let one = DirectoryLock::take(directory.path(), Use::Write).expect("it is free");
        let other = DirectoryLock::take(directory.path(), Use::Write).expect("it is ours");
        assert!(Arc::ptr_eq(&one, &other));
        let again = File::open(directory.path()).expect("a directory");
        let attempt = || flock(&again, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
        assert!(in_use(&again).to_string().contains(&format!("process {} (", std::process::id())));
        drop(one);
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
        drop(other);
        assert_eq!(attempt(), Ok(()));
    }

    #[test]
    fn the_holder_is_found_among_other_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fd:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fd:00:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fd:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  14 fd:00:77 0 EOF\n";
        assert_eq!(find_holder(locks, "fd:00:", 77), Some(14));
        assert_eq!(find_holder(locks, "fd:01:", 77), None);
        assert_eq!(find_holder(locks, "", 78), Some(12));
        assert_eq!(find_holder(locks, "", 79), None);
    }
}
