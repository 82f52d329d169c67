//! The ledger: what has been done to files and is not known to be durable, for whoever wants to play
//! a power cut when the process has ended.
//!
//! It is a directory with the file `ledger` and, for each file that was opened for writing, replaced or
//! removed, a second name `kept-INODE`, under which its bytes can be reached whatever has become of
//! its first one. `ledger` is lines of words; in that of a write the bytes follow that were there
//! before, up to the end of the file as it was:
//!
//! ```text
//! run NUMBER                       a process begins; what one before it has written has ended
//! open INODE PATH                  a file is there that was not before, and is written to
//! write CHANGE INODE OFFSET LENGTH OLD   a write begins; OLD bytes follow the line
//! wrote CHANGE                     it has ended
//! lasting CHANGE                   it has ended, and is durable
//! sync CHANGE INODE LENGTH         a sync begins of a file that is so long
//! names CHANGE DIRECTORY           a sync of a directory begins
//! synced CHANGE                    it has ended
//! mkdir PATH                       a directory is going to be made
//! rename INODE OLD FROM<tab>TO     a file is going to be renamed, over the file OLD if that is not 0
//! link INODE PATH                  a file is going to get one more name
//! unlink INODE PATH                a name is going to be removed
//! ```
//!
//! # Invariants
//!
//! - a change is noted before it is made, its end after it has ended, and before anybody acts on
//!   that. So a process that is killed anywhere has noted at least what it has done, and nothing as
//!   durable that is not;
//! - a line is written with one call, so it is there or not; what a kill has cut off was not done.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::RawFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A ledger that is being written.
pub(super) struct Ledger {
    directory: PathBuf,
    book: Mutex<Book>,
}

struct Book {
    file: File,
    changes: u64,
    /// Inodes that have a second name.
    kept: HashSet<u64>,
}

impl Ledger {
    /// Begins a ledger in `directory`, which is there, or goes on with that of a process before.
    pub(super) fn begin(directory: PathBuf) -> io::Result<Self> {
        let path = directory.join("ledger");
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut kept = HashSet::new();
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            let inode = name.to_str().and_then(|name| name.strip_prefix("kept-"));
            kept.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
        // No earlier change has so high a number.
        let changes = file.metadata()?.len();
        let mut book = Book { file, changes, kept };
        book.line(&format!("run {changes}"))?;
        Ok(Self { directory, book: Mutex::new(book) })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a file a second name; answers whether it had none.
    fn keep(&self, book: &mut Book, inode: u64, path: &Path) -> io::Result<bool> {
        let is_new = book.kept.insert(inode);
        if is_new {
            fs::hard_link(path, self.kept(inode))?;
        }
        Ok(is_new)
    }

    fn kept(&self, inode: u64) -> PathBuf {
        self.directory.join(format!("kept-{inode}"))
    }

    pub(super) fn open(&self, path: &Path, file: RawFd) -> io::Result<()> {
        let inode = data_of(file)?.ino();
        let mut book = self.book();
        if self.keep(&mut book, inode, path)? {
            book.line(&format!("open {inode} {}", path.display()))?;
        }
        Ok(())
    }

    /// Notes a write; its number.
    pub(super) fn write(&self, file: RawFd, offset: u64, len: usize) -> io::Result<u64> {
        let inode = data_of(file)?.ino();
        let mut old = vec![0; len];
        let read = read_up_to(&File::open(self.kept(inode))?, &mut old, offset)?;
        let mut book = self.book();
        let change = book.next_change();
        let mut entry = format!("write {change} {inode} {offset} {len} {read}\n").into_bytes();
        entry.extend_from_slice(&old[..read]);
        book.file.write_all(&entry)?;
        Ok(change)
    }

    pub(super) fn end(&self, how: &str, change: u64) -> io::Result<()> {
        self.book().line(&format!("{how} {change}"))
    }

    pub(super) fn sync(&self, file: RawFd) -> io::Result<u64> {
        let data = data_of(file)?;
        let mut book = self.book();
        let change = book.next_change();
        book.line(&format!("sync {change} {} {}", data.ino(), data.len()))?;
        Ok(change)
    }

    pub(super) fn names(&self, directory: &Path) -> io::Result<u64> {
        let mut book = self.book();
        let change = book.next_change();
        book.line(&format!("names {change} {}", directory.display()))?;
        Ok(change)
    }

    pub(super) fn mkdir(&self, path: &Path) -> io::Result<()> {
        // What is there is not made.
        if path.exists() {
            return Ok(());
        }
        self.book().line(&format!("mkdir {}", path.display()))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = fs::metadata(from)?.ino();
        let mut book = self.book();
        let old = match fs::metadata(to) {
            Ok(data) => {
                self.keep(&mut book, data.ino(), to)?;
                data.ino()
            }
            Err(_) => 0,
        };
        book.line(&format!("rename {inode} {old} {}\t{}", from.display(), to.display()))
    }

    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = fs::metadata(from)?.ino();
        self.book().line(&format!("link {inode} {}", to.display()))
    }

    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        // What is not there is not removed.
        let Ok(data) = fs::metadata(path) else { return Ok(()) };
        let mut book = self.book();
        self.keep(&mut book, data.ino(), path)?;
        book.line(&format!("unlink {} {}", data.ino(), path.display()))
    }
}

impl Book {
    fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

fn data_of(file: RawFd) -> io::Result<Metadata> {
    fs::metadata(format!("/proc/self/fd/{file}"))
}

/// Reads from `offset` on until the buffer is full or the file ends; how much.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}
