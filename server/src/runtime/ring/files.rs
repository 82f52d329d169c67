//! Writing files through the ring: those of the log, and the one of a save.
//!
//! Bytes are whole blocks in memory that is aligned as direct I/O wants it, so nothing is copied on
//! their way. A write that must be durable says so itself (RWF_DSYNC), which costs one operation
//! where a write and a sync would cost two.
//!
//! Writes of a save begin on a thread of the kernel. Tried first in the system call of the worker, as
//! io_uring does by itself, they were seen to sleep in ext4's map of blocks for tens of milliseconds,
//! though they must not wait there: a save gets its blocks while it goes on, and whatever changes the
//! map locks it. The log's segments have their blocks before they are written to.
//!
//! Invariants:
//! - the bytes of a write are owned by this module and untouched until its completion;
//! - whoever submits keeps the file open until the completion.

use std::{io, os::fd::AsRawFd, os::fd::BorrowedFd};

use io_uring::{opcode, squeue, types};
use tessera_engine::{journal::record::RecordBuffer, sys::disk::DiskEvent};

use super::{Completion, Ring};
use crate::faults::{self, Access, Change, SyncPoint};

/// The most bytes that one operation writes; the kernel takes no more than 2 GiB.
const WRITE_BYTES_MAX: usize = 1 << 30;
const WRITE: u64 = 7 << 32;
const SYNC: u64 = 8 << 32;
const SET_ASIDE: u64 = 9 << 32;

/// What has become of an operation on the file of a save.
#[derive(Debug)]
pub enum SaveEvent {
    /// A piece is written, all of it, or could not be.
    Written {
        /// Its bytes come back.
        bytes: RecordBuffer,
        /// Whether it could.
        result: io::Result<()>,
    },
    /// What was written before is durable, or could not be made so.
    Synced(io::Result<()>),
    /// Room was set aside, or not: then writes find it by themselves.
    SetAside,
}

/// A write, a sync or another operation that is under way.
pub(super) struct Operation {
    descriptor: i32,
    owner: Owner,
    write: Option<Write>,
    /// Nothing for a sync that is left out, and for what changes no bytes.
    change: Option<Change>,
}

/// Whose file it is.
#[derive(Clone, Copy)]
enum Owner {
    Log { ticket: u64, segment: u32 },
    Save,
}

struct Write {
    bytes: RecordBuffer,
    offset: u64,
    /// How much is written.
    done: usize,
    durable: bool,
}

impl Ring {
    /// Writes all of `bytes` at `offset`; [`Completion::Disk`] tells when that is done, and durably
    /// done with `durable`. The file must stay open until then.
    pub fn write_file(
        &mut self,
        file: BorrowedFd<'_>,
        (ticket, segment): (u64, u32),
        offset: u64,
        bytes: RecordBuffer,
        durable: bool,
    ) {
        let durable = durable && !faults::skips(SyncPoint::Group);
        let write = Write { bytes, offset, done: 0, durable };
        self.start_write(file, Owner::Log { ticket, segment }, write);
    }

    /// Makes durable what was written to the file; [`Completion::Disk`] tells when that is done.
    pub fn sync_file(&mut self, file: BorrowedFd<'_>, segment: u32) {
        self.start_sync(file, Owner::Log { ticket: 0, segment }, SyncPoint::Group);
    }

    /// Writes a piece of a save; [`Completion::Save`] tells when that is done, as for all that
    /// follows.
    pub fn write_piece(&mut self, file: BorrowedFd<'_>, offset: u64, bytes: RecordBuffer) {
        self.start_write(file, Owner::Save, Write { bytes, offset, done: 0, durable: false });
    }

    /// Makes durable what was written to the file of a save, which is what `point` says.
    pub(crate) fn sync_pieces(&mut self, file: BorrowedFd<'_>, point: SyncPoint) {
        self.start_sync(file, Owner::Save, point);
    }

    /// Sets `len` bytes of the disk aside for the file of a save, from `offset` on.
    pub fn set_aside(&mut self, file: BorrowedFd<'_>, offset: u64, len: u64) {
        let entry = opcode::Fallocate::new(types::Fd(file.as_raw_fd()), len).offset(offset).build();
        let descriptor = file.as_raw_fd();
        let operation = Operation { descriptor, owner: Owner::Save, write: None, change: None };
        self.start(operation, SET_ASIDE, entry);
    }

    fn start_write(&mut self, file: BorrowedFd<'_>, owner: Owner, write: Write) {
        let change = Some(faults::writing(&file, write.offset, write.bytes.len()));
        let (descriptor, write) = (file.as_raw_fd(), Some(write));
        let number = self.keep_operation(Operation { descriptor, owner, write, change });
        self.push_write(number);
    }

    fn start_sync(&mut self, file: BorrowedFd<'_>, owner: Owner, point: SyncPoint) {
        let descriptor = file.as_raw_fd();
        let change = faults::syncing(point, &file);
        let entry = match change {
            Some(_) => {
                opcode::Fsync::new(types::Fd(descriptor)).flags(types::FsyncFlags::DATASYNC).build()
            }
            None => opcode::Nop::new().build(),
        };
        self.start(Operation { descriptor, owner, write: None, change }, SYNC, entry);
    }

    /// Submits an operation that points to no memory.
    fn start(&mut self, operation: Operation, kind: u64, entry: squeue::Entry) {
        let number = self.keep_operation(operation);
        // SAFETY: syncing and setting room aside point to no memory.
        unsafe { self.push(entry.user_data(kind | number as u64)) };
        self.in_flight += 1;
    }

    fn keep_operation(&mut self, operation: Operation) -> usize {
        match self.files.iter().position(Option::is_none) {
            Some(free) => {
                self.files[free] = Some(Box::new(operation));
                free
            }
            None => {
                self.files.push(Some(Box::new(operation)));
                self.files.len() - 1
            }
        }
    }

    fn push_write(&mut self, number: usize) {
        let Some(operation) = &self.files[number] else { return };
        let Some(write) = &operation.write else { return };
        let rest = &write.bytes[write.done..];
        let len = rest.len().min(WRITE_BYTES_MAX) as u32;
        let flags = match operation.owner {
            Owner::Log { .. } => squeue::Flags::empty(),
            Owner::Save => squeue::Flags::ASYNC,
        };
        let entry = opcode::Write::new(types::Fd(operation.descriptor), rest.as_ptr(), len)
            .offset(write.offset + write.done as u64)
            .rw_flags(if write.durable { libc::RWF_DSYNC } else { 0 })
            .build()
            .flags(flags)
            .user_data(WRITE | number as u64);
        // SAFETY: the bytes are on the heap, owned by a boxed operation that stays in the table and
        // is not changed until its completion.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }

    /// What a completed operation on a file means, if the token is of one.
    pub(super) fn file_done(&mut self, kind: u64, number: u32, result: i32) -> Option<Completion> {
        match kind {
            WRITE => self.written(number as usize, result),
            SYNC => {
                let Operation { owner, change, .. } = *self.files[number as usize].take()?;
                let result = outcome(faults::device(Access::Sync, result));
                let result = result.map(|_| change.map_or((), Change::done));
                Some(match owner {
                    Owner::Log { segment, .. } => {
                        Completion::Disk(DiskEvent::Synced { segment, result })
                    }
                    Owner::Save => Completion::Save(SaveEvent::Synced(result)),
                })
            }
            SET_ASIDE => {
                self.files[number as usize].take()?;
                Some(Completion::Save(SaveEvent::SetAside))
            }
            _ => None,
        }
    }

    fn written(&mut self, number: usize, result: i32) -> Option<Completion> {
        let write = self.files[number].as_mut()?.write.as_mut()?;
        let result = match outcome(faults::device(Access::Write, result)) {
            // A medium that takes nothing has no room.
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                write.done += len;
                if write.done < write.bytes.len() {
                    self.push_write(number);
                    return None;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.push_write(number);
                return None;
            }
            Err(error) => Err(error),
        };
        let Operation { owner, write, change, .. } = *self.files[number].take()?;
        let Write { bytes, durable, .. } = write?;
        if let (Some(change), Ok(())) = (change, &result) {
            if durable { change.durable(SyncPoint::Group) } else { change.done() }
        }
        Some(match owner {
            Owner::Log { ticket, .. } => {
                Completion::Disk(DiskEvent::Written { ticket, bytes, result })
            }
            Owner::Save => Completion::Save(SaveEvent::Written { bytes, result }),
        })
    }
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
